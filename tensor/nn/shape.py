"""Layers that only change the shape."""

from __future__ import annotations

from collections.abc import Sequence

from tensor.autograd.tensor import Tensor
from tensor.nn.module import Module

__all__ = ["Flatten", "Unflatten"]


class Flatten(Module):
    """Dimensions from ``start_dim`` to ``end_dim`` as one; by default all but the first.

    >>> import tensor as T
    >>> Flatten()(T.ones(2, 3, 4)).shape
    tensor.Size([2, 12])
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Dimension ``dim`` as several, whose product is its length (one may be -1).

    >>> import tensor as T
    >>> Unflatten(1, (3, 4))(T.ones(2, 12)).shape
    tensor.Size([2, 3, 4])
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
