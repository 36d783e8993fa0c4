"""Affine maps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.nn import init
from tensor.nn.module import Module
from tensor.nn.parameter import Parameter
from tensor.ops.create import empty
from tensor.ops.matmul import linear
from tensor.ops.normalization import bilinear
from tensor.ops.record import OPERATORS

linear_forward = OPERATORS["linear"].forward

__all__ = ["Bilinear", "Identity", "Linear"]


class Identity(Module):
    """The input itself; takes, and ignores, any arguments. A place-holder for a layer left out.

    >>> Identity()(3)
    3
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        return input


class Linear(Module):
    """``x @ weight.T + bias``: [..., in_features] to [..., out_features].

    ``weight`` is [out_features, in_features], ``bias`` [out_features]; both start uniform within
    1 / sqrt(in_features). Calling it raises RuntimeError for another last dimension or dtype.

    >>> import tensor as T
    >>> Linear(3, 2)(T.ones(5, 3)).shape
    tensor.Size([5, 2])
    """

    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        for given in (in_features, out_features):
            if not isinstance(given, (int, np.integer)) or given < 0:
                msg = f"Linear: expected whole numbers of features, got {in_features!r} and {out_features!r}"
                raise TypeError(msg)
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(empty(out_features, in_features, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_features, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)

    def on_array(self, a: Any) -> Any:
        bias = self.bias
        return linear_forward(a, self.weight._array, None if bias is None else bias._array)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """``x1 @ weight[k] @ x2 + bias[k]``: [..., in1_features], [..., in2_features] to [..., out_features].

    >>> import tensor as T
    >>> Bilinear(3, 4, 2)(T.ones(5, 3), T.ones(5, 4)).shape
    tensor.Size([5, 2])
    """

    bias: Parameter | None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = Parameter(empty(out_features, in1_features, in2_features, device=device, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(out_features, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, uniform within 1 / sqrt(in1_features)."""
        bound = 1 / math.sqrt(self.in1_features)
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        sizes = f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}"
        return f"{sizes}, bias={self.bias is not None}"
