"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tensor.autograd.tensor import Tensor
from tensor.nn.module import Module
from tensor.ops.conv import avg_pool2d, max_pool2d

__all__ = ["AvgPool2d", "MaxPool2d"]

Ints = int | Sequence[int]


class MaxPool2d(Module):
    """The maximum of each window: [n, channels, height, width] to [n, channels, rows, columns].

    ``stride`` is the window's size unless given; with ``return_indices`` also the place of each maximum in the
    flattened image.

    >>> import tensor as T
    >>> MaxPool2d(2)(T.arange(4.0).reshape(1, 1, 2, 2))
    tensor([[[[3.]]]])
    """

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        dilation: Ints = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.padding, self.dilation = kernel_size, padding, dilation
        self.stride = kernel_size if stride is None else stride
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, x: Tensor) -> Any:
        options = (self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices)
        return max_pool2d(x, self.kernel_size, *options)

    def extra_repr(self) -> str:
        sizes = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return f"{sizes}, dilation={self.dilation}, ceil_mode={self.ceil_mode}"


class AvgPool2d(Module):
    """The mean of each window: [n, channels, height, width] to [n, channels, rows, columns].

    ``stride`` is the window's size unless given.

    >>> import tensor as T
    >>> AvgPool2d(2)(T.arange(4.0).reshape(1, 1, 2, 2))
    tensor([[[[1.5000]]]])
    """

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.padding, self.ceil_mode = kernel_size, padding, ceil_mode
        self.stride = kernel_size if stride is None else stride
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, x: Tensor) -> Tensor:
        options = (self.stride, self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override)
        y: Tensor = avg_pool2d(x, self.kernel_size, *options)
        return y

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
