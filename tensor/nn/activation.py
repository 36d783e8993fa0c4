"""Activations as modules. With ``inplace`` the result is written into the input."""

from __future__ import annotations

from typing import Any

from tensor.autograd.tensor import Tensor
from tensor.nn.options import Options
from tensor.nn.parameter import Parameter
from tensor.ops import activation as ops
from tensor.ops.create import full
from tensor.ops.dropout import rrelu
from tensor.ops.record import OPERATORS

__all__ = [
    "CELU", "ELU", "GELU", "GLU", "SELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU",
    "LogSigmoid", "LogSoftmax", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SiLU", "Sigmoid", "Softmax", "Softmax2d",
    "Softmin", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink", "Threshold",
]  # fmt: skip


class _Plain(Options):
    """An activation whose only option is ``inplace``."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        if inplace:
            self.inplace = True


class ReLU(_Plain):
    """max(x, 0), any shape.

    >>> import tensor as T
    >>> ReLU()(T.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    on_array = staticmethod(OPERATORS["relu"].forward)

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu_(x) if self.inplace else x.relu()


class ReLU6(_Plain):
    """x kept in [0, 6], any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu6(x, self.inplace)


class SiLU(_Plain):
    """``x * sigmoid(x)``, any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.silu(x, self.inplace)


class Mish(_Plain):
    """``x * tanh(softplus(x))``, any shape (arXiv 1908.08681)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.mish(x, self.inplace)


class SELU(_Plain):
    """The self-normalising ELU, any shape (arXiv 1706.02515)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.selu(x, self.inplace)


class Hardsigmoid(_Plain):
    """x / 6 + 1 / 2 kept in [0, 1], any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.hardsigmoid(x, self.inplace)


class Hardswish(_Plain):
    """x times its hardsigmoid, any shape (arXiv 1905.02244)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.hardswish(x, self.inplace)


class Tanh(Options):
    """The hyperbolic tangent, any shape."""

    on_array = staticmethod(OPERATORS["tanh"].forward)

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh()


class Sigmoid(Options):
    """1 / (1 + exp(-x)), any shape."""

    on_array = staticmethod(OPERATORS["sigmoid"].forward)

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid()


class LogSigmoid(Options):
    """log(sigmoid(x)) without overflow, any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.logsigmoid(x)


class Softsign(Options):
    """x / (1 + |x|), any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.softsign(x)


class Tanhshrink(Options):
    """x - tanh(x), any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanhshrink(x)


class LeakyReLU(_Plain):
    """x above 0, ``negative_slope * x`` below, any shape.

    >>> LeakyReLU(0.1)
    LeakyReLU(negative_slope=0.1)
    """

    _shown = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope, self.inplace)


class ELU(_Plain):
    """x above 0, ``alpha * (exp(x) - 1)`` below, any shape (arXiv 1511.07289)."""

    _shown = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return ops.elu(x, self.alpha, self.inplace)


class CELU(_Plain):
    """x above 0, ``alpha * (exp(x / alpha) - 1)`` below, any shape. Raises ValueError for alpha 0."""

    _shown = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        if alpha == 0:
            msg = "CELU: alpha must not be 0"
            raise ValueError(msg)
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return ops.celu(x, self.alpha, self.inplace)


class GELU(Options):
    """x times the normal distribution's cumulative function, exact or by "tanh", any shape (arXiv 1606.08415)."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            msg = f"GELU: expected approximate 'none' or 'tanh', got {approximate!r}"
            raise ValueError(msg)
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Hardtanh(_Plain):
    """x kept in [min_val, max_val], any shape. Raises ValueError unless min_val < max_val."""

    _shown = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        if not min_val < max_val:
            msg = f"Hardtanh: expected min_val < max_val, got {min_val} and {max_val}"
            raise ValueError(msg)
        self.min_val, self.max_val = min_val, max_val

    def forward(self, x: Tensor) -> Tensor:
        return ops.hardtanh(x, self.min_val, self.max_val, self.inplace)


class Softplus(Options):
    """``log(1 + exp(beta * x)) / beta``, x itself where ``beta * x`` is above the threshold, any shape."""

    _shown = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, x: Tensor) -> Tensor:
        return ops.softplus(x, self.beta, self.threshold)


class Hardshrink(Options):
    """x where \\|x\\| > lambd, else 0, any shape."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, x: Tensor) -> Tensor:
        return ops.hardshrink(x, self.lambd)

    def extra_repr(self) -> str:
        return f"{self.lambd}"


class Softshrink(Options):
    """x moved towards 0 by lambd, 0 within it, any shape. Raises ValueError for a negative lambd."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        if lambd < 0:
            msg = f"Softshrink: expected lambd >= 0, got {lambd}"
            raise ValueError(msg)
        self.lambd = lambd

    def forward(self, x: Tensor) -> Tensor:
        return ops.softshrink(x, self.lambd)

    def extra_repr(self) -> str:
        return f"{self.lambd}"


class Threshold(_Plain):
    """x where it is above the threshold, else ``value``, any shape."""

    _shown = ("threshold", "value")

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.threshold, self.value = threshold, value

    def forward(self, x: Tensor) -> Tensor:
        return ops.threshold(x, self.threshold, self.value, self.inplace)


class _AlongDim(Options):
    """An activation along one dimension; the last for None."""

    _shown = ("dim",)

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim


class Softmax(_AlongDim):
    """``exp(x)`` scaled to add up to 1 along ``dim``, any shape.

    >>> import tensor as T
    >>> Softmax(dim=-1)(T.zeros(2))
    tensor([0.5000, 0.5000])
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(self.dim)


class LogSoftmax(_AlongDim):
    """``log(softmax(x))``, computed stably, any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return x.log_softmax(self.dim)


class Softmin(_AlongDim):
    """The softmax of -x, any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmin(x, self.dim)


class Softmax2d(Options):
    """`Softmax` over the channels of images, [n, channels, height, width] or [channels, height, width].

    >>> import tensor as T
    >>> Softmax2d()(T.zeros(2, 1, 1)).flatten()
    tensor([0.5000, 0.5000])
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim not in (3, 4):
            msg = f"Softmax2d: expected images [n, channels, height, width] or [channels, height, width], got {list(x.shape)}"
            raise ValueError(msg)
        return x.softmax(-3)


class RReLU(_Plain):
    """x above 0, below it x times a slope: drawn from [lower, upper] for each element while training, else their mean.

    Any shape (arXiv 1505.00853).
    """

    _shown = ("lower", "upper")

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.lower, self.upper = lower, upper

    def forward(self, x: Tensor) -> Tensor:
        return rrelu(x, self.lower, self.upper, self.training, self.inplace)


class GLU(Options):
    """The first half along ``dim`` times the sigmoid of the second: [..., 2 n, ...] to [..., n, ...]."""

    _shown = ("dim",)

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return ops.glu(x, self.dim)


class PReLU(Options):
    """x above 0, ``weight * x`` below, with one learnt weight or one for each channel (arXiv 1502.01852)."""

    _shown = ("num_parameters",)

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(full((num_parameters,), init, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return ops.prelu(x, self.weight)
