"""What an edit does to arrays: which slices of an axis stay, come and go, for one parameter or buffer at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tensor.structure.remap import Slices

__all__ = ["Change", "Changes"]


@dataclass(frozen=True)
class Change:
    """What happens to one axis of one parameter or buffer: `remap`'s arguments, and a factor for each of its slices."""

    name: str
    axis: int
    index: Any
    fill: Any = 0.0
    factor: Any = None

    @cached_property
    def slices(self) -> Slices:
        """The index map, looked at once for all arrays that follow it."""
        return Slices(self.index)

    def scale(self, array: Any) -> None:
        """Multiply an array's slices by the factor."""
        if self.factor is not None:
            concerned = np.flatnonzero(self.factor != 1)
            factor = self.factor[concerned].reshape(-1, *[1] * (array.ndim - self.axis - 1)).astype(array.dtype)
            array[(*[slice(None)] * self.axis, concerned)] *= np.asarray(factor, like=array)


class Changes:
    """All changes of one array of ``before``'s shape, one after the other; what `tensor.optim` calls a move."""

    def __init__(self, changes: Sequence[Change], before: tuple[int, ...]) -> None:
        self.changes, self.before = changes, before
        shape = list(before)
        for change in changes:
            shape[change.axis] = change.slices.index.size
        self.shape = tuple(shape)

    def values(self, array: Any, out: Any = None) -> Any:
        """The array itself after the changes, with its new slices filled."""
        for change in self.changes:
            last = change is self.changes[-1]
            array = change.slices.apply(array, change.axis, change.fill, out if last else None)
            change.scale(array)
        return array

    def carry(self, array: Any, out: Any = None, lead: int = 0) -> Any:
        """Anything that follows the array (a moment, a trace): new slices are zero; ``lead`` axes come before the array's own."""
        for change in self.changes:
            last = change is self.changes[-1]
            array = change.slices.apply(array, change.axis + lead, 0, out if last else None)
        return array

    def places(self, places: Any) -> tuple[Any, Any]:
        """Where elements lie afterwards, and for each which of them it was, -1 for new ones."""
        shape = list(self.before)
        source = np.arange(places.size)
        for change in self.changes:
            places, step = change.slices.places(places, tuple(shape), change.axis)
            source = np.append(source, -1)[step]
            shape[change.axis] = change.slices.index.size
        return places, source
