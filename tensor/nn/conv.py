"""Convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from tensor.autograd.tensor import Tensor
from tensor.nn import init
from tensor.nn.module import Module
from tensor.nn.parameter import Parameter
from tensor.ops import conv as ops
from tensor.ops.create import empty

__all__ = ["Conv1d", "Conv2d"]

Ints = int | Sequence[int]
_PAD_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """Cross-correlation over the last ``_n`` dimensions."""

    _n: ClassVar[int]
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: Ints | str = 0,
        dilation: Ints = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if in_channels % groups or out_channels % groups:
            msg = f"{name}: expected channels divisible by {groups} groups, got {in_channels} in and {out_channels} out"
            raise ValueError(msg)
        if padding_mode not in _PAD_MODES:
            msg = f"{name}: expected padding_mode {', '.join(_PAD_MODES)}, got {padding_mode!r}"
            raise ValueError(msg)
        if isinstance(padding, str) and padding not in ("same", "valid"):
            msg = f"{name}: expected padding numbers, 'same' or 'valid', got {padding!r}"
            raise ValueError(msg)
        self.in_channels, self.out_channels, self.groups, self.padding_mode = (
            in_channels,
            out_channels,
            groups,
            padding_mode,
        )
        self.kernel_size, self.stride, self.dilation = (self._tuple(x) for x in (kernel_size, stride, dilation))
        self.padding: str | tuple[int, ...] = padding if isinstance(padding, str) else self._tuple(padding)
        if padding == "same" and any(s != 1 for s in self.stride):
            msg = f"{name}: padding='same' needs stride 1, got {self.stride}"
            raise ValueError(msg)
        self.weight = Parameter(empty(out_channels, in_channels // groups, *self.kernel_size, device=device, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(out_channels, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def _tuple(self, x: Ints) -> tuple[int, ...]:
        values = (x,) * self._n if isinstance(x, int) else tuple(x)
        if len(values) != self._n:
            msg = f"{type(self).__name__}: expected a number or {self._n} numbers, got {x!r}"
            raise ValueError(msg)
        return values

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, uniform within 1 / sqrt(fan_in)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = math.prod(self.weight.shape[1:])
            bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
            init.uniform_(self.bias, -bound, bound)

    def _widths(self) -> list[int]:
        """The padding before and after each dimension, the last dimension first, as `pad` takes it."""
        if isinstance(self.padding, str):
            if self.padding == "valid":
                return [0, 0] * self._n
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            return [w for t in reversed(totals) for w in (t // 2, t - t // 2)]
        return [p for p in reversed(self.padding) for _ in range(2)]

    def forward(self, x: Tensor) -> Tensor:
        convolve = (ops.conv1d, ops.conv2d)[self._n - 1]
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            x, padding = ops.pad(x, self._widths(), self.padding_mode), 0
        y: Tensor = convolve(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return y

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        zero, one = (0,) * self._n, (1,) * self._n
        options = {
            "padding": (self.padding, zero),
            "dilation": (self.dilation, one),
            "groups": (self.groups, 1),
            "bias": (self.bias is not None, True),
        }
        text += "".join(f", {name}={value}" for name, (value, usual) in options.items() if value != usual)
        return text if self.padding_mode == "zeros" else f"{text}, padding_mode={self.padding_mode}"


class Conv1d(_Conv):
    """Cross-correlation: [n, in_channels, length] to [n, out_channels, places].

    ``weight`` is [out_channels, in_channels / groups, kernel_size]. Raises ValueError for sizes that do not fit.

    >>> import tensor as T
    >>> Conv1d(2, 4, 3)(T.ones(1, 2, 8)).shape
    tensor.Size([1, 4, 6])
    """

    _n = 1


class Conv2d(_Conv):
    """Cross-correlation of images: [n, in_channels, height, width] to [n, out_channels, rows, columns].

    ``weight`` is [out_channels, in_channels / groups, *kernel_size]. Raises ValueError for sizes that do not fit.

    >>> import tensor as T
    >>> Conv2d(3, 8, 3, stride=2, padding=1)(T.ones(1, 3, 8, 8)).shape
    tensor.Size([1, 8, 4, 4])
    """

    _n = 2
