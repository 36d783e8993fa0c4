"""Shapes, and what ``t.size`` is."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["ElementCount", "Size"]


class Size(tuple[int, ...]):
    """A shape: a tuple with `numel`, that prints itself."""

    __slots__ = ()

    def numel(self) -> int:
        """The number of elements."""
        n = 1
        for s in self:
            n *= s
        return n

    def __repr__(self) -> str:
        return f"tensor.Size({list(self)})"


class ElementCount(int):
    """What ``t.size`` is: a number to the Array API standard and NumPy, a method to PyTorch: ``t.size()``, ``t.size(0)``."""

    shape: tuple[int, ...]

    def __new__(cls, shape: tuple[int, ...]) -> ElementCount:
        count = super().__new__(cls, math.prod(shape))
        count.shape = shape
        return count

    def __call__(self, dim: int | None = None) -> Any:
        return Size(self.shape) if dim is None else self.shape[dim]
