"""Patches of images as columns, and back."""

from __future__ import annotations

from collections.abc import Sequence

from tensor.autograd.tensor import Tensor
from tensor.nn.options import Options
from tensor.ops import windows

__all__ = ["Fold", "Unfold"]

Ints = int | Sequence[int]


class Unfold(Options):
    """The patches of images as columns: [n, channels, height, width] to [n, channels * kernel, places].

    >>> import tensor as T
    >>> Unfold(2)(T.ones(1, 3, 4, 4)).shape
    tensor.Size([1, 12, 9])
    """

    _shown = ("kernel_size", "dilation", "padding", "stride")

    def __init__(self, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1) -> None:
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, x: Tensor) -> Tensor:
        return windows.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(Options):
    """Columns of patches added up to images: [n, channels * kernel, places] to [n, channels, *output_size].

    >>> import tensor as T
    >>> Fold((4, 4), 2, stride=2)(T.ones(1, 12, 4)).shape
    tensor.Size([1, 3, 4, 4])
    """

    _shown = ("output_size", "kernel_size", "dilation", "padding", "stride")

    def __init__(self, output_size: Ints, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1) -> None:
        super().__init__()
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, x: Tensor) -> Tensor:
        return windows.fold(x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)
