"""Convolutions, and transposed ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from tensor.autograd.tensor import Tensor
from tensor.naming import quoted
from tensor.nn import init
from tensor.nn.module import Module
from tensor.nn.options import numbers
from tensor.nn.parameter import Parameter
from tensor.ops import conv as ops
from tensor.ops.create import empty
from tensor.ops.padding import pad

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

Ints = int | Sequence[int]
_PAD_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """What convolutions and transposed ones share: over the last ``_n`` dimensions, a weight and a bias."""

    _n: ClassVar[int]
    bias: Parameter | None
    padding: str | tuple[int, ...]
    output_padding: tuple[int, ...]

    def __init__(
        self,
        channels: tuple[int, int],
        geometry: tuple[Ints, Ints, Ints],
        groups: int,
        bias: bool,
        padding_mode: str,
        transposed: bool,
        factory: dict[str, Any],
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.in_channels, self.out_channels = channels
        if groups < 1 or self.in_channels % groups or self.out_channels % groups:
            msg = f"{name}: expected channels divisible by {groups} groups, got {channels[0]} in and {channels[1]} out"
            raise ValueError(msg)
        modes = _PAD_MODES[:1] if transposed else _PAD_MODES
        if padding_mode not in modes:
            msg = f"{name}: expected padding_mode to be one of {quoted(modes)}, got {padding_mode!r}"
            raise ValueError(msg)
        self.groups, self.padding_mode = groups, padding_mode
        self.kernel_size, self.stride, self.dilation = (
            numbers(name, what, value, self._n)
            for what, value in zip(("kernel_size", "stride", "dilation"), geometry, strict=True)
        )
        self.output_padding = (0,) * self._n
        first, second = channels if transposed else reversed(channels)
        self.weight = Parameter(empty(first, second // groups, *self.kernel_size, **factory))
        self.register_parameter("bias", Parameter(empty(self.out_channels, **factory)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, uniform within 1 / sqrt(fan_in)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = math.prod(self.weight.shape[1:])
            bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        zero, one = (0,) * self._n, (1,) * self._n
        options = {
            "padding": (self.padding, zero),
            "dilation": (self.dilation, one),
            "output_padding": (self.output_padding, zero),
            "groups": (self.groups, 1),
            "bias": (self.bias is not None, True),
        }
        text += "".join(f", {name}={value}" for name, (value, usual) in options.items() if value != usual)
        return text if self.padding_mode == "zeros" else f"{text}, padding_mode={self.padding_mode}"


class _Conv(_Convolution):
    """Cross-correlation."""

    _function: ClassVar[Any]

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
        name = type(self).__name__
        if isinstance(padding, str) and padding not in ("same", "valid"):
            msg = f"{name}: expected padding numbers, 'same' or 'valid', got {padding!r}"
            raise ValueError(msg)
        factory = {"device": device, "dtype": dtype}
        geometry = (kernel_size, stride, dilation)
        super().__init__((in_channels, out_channels), geometry, groups, bias, padding_mode, False, factory)
        self.padding = padding if isinstance(padding, str) else numbers(name, "padding", padding, self._n)
        if padding == "same" and any(s != 1 for s in self.stride):
            msg = f"{name}: padding='same' needs stride 1, got {self.stride}"
            raise ValueError(msg)

    def _widths(self) -> list[int]:
        """The padding before and after each dimension, the last dimension first, as `pad` takes it."""
        if isinstance(self.padding, str):
            if self.padding == "valid":
                return [0, 0] * self._n
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            return [w for t in reversed(totals) for w in (t // 2, t - t // 2)]
        return [p for p in reversed(self.padding) for _ in range(2)]

    def forward(self, x: Tensor) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            x, padding = pad(x, self._widths(), self.padding_mode), 0
        y: Tensor = type(self)._function(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return y


class Conv1d(_Conv):
    """Cross-correlation: [n, in_channels, length] to [n, out_channels, places], or both without n.

    ``weight`` is [out_channels, in_channels / groups, kernel_size]. Raises ValueError for sizes that do not fit.

    >>> import tensor as T
    >>> Conv1d(2, 4, 3)(T.ones(1, 2, 8)).shape
    tensor.Size([1, 4, 6])
    """

    _n, _function = 1, ops.conv1d


class Conv2d(_Conv):
    """Cross-correlation of images: [n, in_channels, height, width] to [n, out_channels, rows, columns], or both without n.

    ``weight`` is [out_channels, in_channels / groups, *kernel_size]. Raises ValueError for sizes that do not fit.

    >>> import tensor as T
    >>> Conv2d(3, 8, 3, stride=2, padding=1)(T.ones(1, 3, 8, 8)).shape
    tensor.Size([1, 8, 4, 4])
    """

    _n, _function = 2, ops.conv2d


class Conv3d(_Conv):
    """Cross-correlation of volumes: [n, in_channels, depth, height, width] to [n, out_channels, ...], or both without n.

    ``weight`` is [out_channels, in_channels / groups, *kernel_size]. Raises ValueError for sizes that do not fit.

    >>> import tensor as T
    >>> Conv3d(1, 2, (1, 2, 3), padding="same")(T.ones(1, 1, 4, 4, 4)).shape
    tensor.Size([1, 2, 4, 4, 4])
    """

    _n, _function = 3, ops.conv3d


class _ConvTranspose(_Convolution):
    """What a convolution does to gradients: each element spread over the places that it was made from."""

    _function: ClassVar[Any]
    padding: tuple[int, ...]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: Ints = 0,
        output_padding: Ints = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Ints = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        factory = {"device": device, "dtype": dtype}
        geometry = (kernel_size, stride, dilation)
        super().__init__((in_channels, out_channels), geometry, groups, bias, padding_mode, True, factory)
        name = type(self).__name__
        self.padding = numbers(name, "padding", padding, self._n)
        self.output_padding = numbers(name, "output_padding", output_padding, self._n)

    def _extra(self, x: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """The output padding that leads to a size."""
        size, now = tuple(output_size)[-self._n :], x.shape[x.ndim - self._n :]
        extra = tuple(
            want - ((m - 1) * s - 2 * p + d * (k - 1) + 1)
            for want, m, s, p, d, k in zip(size, now, self.stride, self.padding, self.dilation, self.kernel_size, strict=True)
        )
        if any(not 0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
            least = tuple(want - e for want, e in zip(size, extra, strict=True))
            expected = f"an output_size from {least} to less than a stride {self.stride} above"
            msg = f"{type(self).__name__}: expected {expected}, got {size}"
            raise ValueError(msg)
        return extra

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        extra = self.output_padding if output_size is None else self._extra(x, output_size)
        options = (self.stride, self.padding, extra, self.groups, self.dilation)
        y: Tensor = type(self)._function(x, self.weight, self.bias, *options)
        return y


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution: [n, in_channels, length] to [n, out_channels, places], or both without n.

    ``weight`` is [in_channels, out_channels / groups, kernel_size]. Several sizes lead to the same input under a stride:
    ``output_padding``, or ``output_size`` when it is called, tells which. Raises ValueError for sizes that do not fit.

    >>> import tensor as T
    >>> ConvTranspose1d(2, 4, 3, stride=2)(T.ones(1, 2, 4)).shape
    tensor.Size([1, 4, 9])
    """

    _n, _function = 1, ops.conv_transpose1d


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of images: [n, in_channels, height, width] to [n, out_channels, rows, columns], or both without n.

    ``weight`` is [in_channels, out_channels / groups, *kernel_size]; sizes as for `ConvTranspose1d`.

    >>> import tensor as T
    >>> ConvTranspose2d(8, 3, 3, stride=2, padding=1)(T.ones(1, 8, 4, 4), output_size=(8, 8)).shape
    tensor.Size([1, 3, 8, 8])
    """

    _n, _function = 2, ops.conv_transpose2d


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of volumes: [n, in_channels, depth, height, width] to [n, out_channels, ...], or both without n.

    ``weight`` is [in_channels, out_channels / groups, *kernel_size]; sizes as for `ConvTranspose1d`.

    >>> import tensor as T
    >>> ConvTranspose3d(2, 1, 2, stride=2)(T.ones(1, 2, 2, 2, 2)).shape
    tensor.Size([1, 1, 4, 4, 4])
    """

    _n, _function = 3, ops.conv_transpose3d
