"""Layers that only move elements, or only change the shape."""

from __future__ import annotations

from collections.abc import Sequence

from tensor.autograd.tensor import Tensor
from tensor.nn.options import Options
from tensor.ops import shuffle

__all__ = ["ChannelShuffle", "Flatten", "PixelShuffle", "PixelUnshuffle", "Unflatten"]


class Flatten(Options):
    """Dimensions from ``start_dim`` to ``end_dim`` as one; by default all but the first.

    >>> import tensor as T
    >>> Flatten()(T.ones(2, 3, 4)).shape
    tensor.Size([2, 12])
    """

    _shown = ("start_dim", "end_dim")

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(self.start_dim, self.end_dim)


class Unflatten(Options):
    """Dimension ``dim`` as several, whose product is its length (one may be -1).

    >>> import tensor as T
    >>> Unflatten(1, (3, 4))(T.ones(2, 12)).shape
    tensor.Size([2, 3, 4])
    """

    _shown = ("dim", "unflattened_size")

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(self.dim, self.unflattened_size)


class PixelShuffle(Options):
    """Channels spread over places: [..., c * r * r, h, w] to [..., c, h * r, w * r], r the factor (arXiv 1609.05158).

    >>> import tensor as T
    >>> PixelShuffle(2)(T.ones(1, 8, 3, 3)).shape
    tensor.Size([1, 2, 6, 6])
    """

    _shown = ("upscale_factor",)

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, x: Tensor) -> Tensor:
        return shuffle.pixel_shuffle(x, self.upscale_factor)


class PixelUnshuffle(Options):
    """The reverse of `PixelShuffle`: [..., c, h * r, w * r] to [..., c * r * r, h, w]."""

    _shown = ("downscale_factor",)

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, x: Tensor) -> Tensor:
        return shuffle.pixel_unshuffle(x, self.downscale_factor)


class ChannelShuffle(Options):
    """Channels [n, c, ...] of the groups interleaved (arXiv 1707.01083)."""

    _shown = ("groups",)

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return shuffle.channel_shuffle(x, self.groups)
