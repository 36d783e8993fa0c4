"""One function that carries an array through a change of structure: parameter, moment, step count, trace or buffer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

__all__ = ["Slices", "remap"]

#: With more stretches of neighbouring slices than this, gathering is faster than copying stretch by stretch.
MANY = 64


class Slices:
    """An index map: for each slice of a result which of the old slices it is, -1 for a new one."""

    def __init__(self, index_map: Any) -> None:
        index = self.index = np.asarray(index_map, dtype=np.intp)
        old = index >= 0
        jump = (index[1:] - index[:-1] != old[1:]) | (old[1:] != old[:-1])
        starts = [0, *(np.flatnonzero(jump) + 1).tolist(), index.size] if index.size else [0]
        self.runs = [(a, b, int(index[a])) for a, b in pairwise(starts)]
        self.fresh = np.flatnonzero(~old)
        ends = [(first, first + b - a - 1 if first >= 0 else first) for a, b, first in self.runs]
        self.bounds = (min(first for first, _ in ends), max(last for _, last in ends)) if ends else (0, -1)

    def check(self, n: int) -> None:
        """Raise ValueError for indices that n slices do not have."""
        if self.bounds[0] < -1 or self.bounds[1] >= n:
            msg = f"remap: expected indices from -1 to {n - 1}, got {self.bounds[0]} to {self.bounds[1]}"
            raise ValueError(msg)

    def apply(self, array: Any, axis: int, fill: Any = 0, out: Any = None) -> Any:
        """`remap`, into ``out`` where it is given."""
        self.check(array.shape[axis])
        before = (slice(None),) * axis
        if out is None:
            out = np.empty_like(array, shape=(*array.shape[:axis], self.index.size, *array.shape[axis + 1 :]), order="C")
        if np.ndim(fill):
            fill = np.asarray(fill, like=out)  # drawn on the host
        if len(self.runs) > MANY and array.shape[axis]:
            out[...] = np.take(array, np.maximum(self.index, 0), axis=axis)
            if self.fresh.size:
                out[(*before, self.fresh)] = fill
            return out
        if self.fresh.size and np.ndim(fill):
            fill = np.broadcast_to(fill, (*array.shape[:axis], self.fresh.size, *array.shape[axis + 1 :]))
        filled = 0
        for a, b, first in self.runs:
            if first >= 0:
                out[(*before, slice(a, b))] = array[(*before, slice(first, first + b - a))]
            else:
                part = (*before, slice(filled, filled + b - a))
                out[(*before, slice(a, b))] = fill[part] if np.ndim(fill) else fill
                filled += b - a
        return out

    def places(self, places: Any, shape: tuple[int, ...], axis: int) -> tuple[Any, Any]:
        """Where elements of an array of ``shape`` (by flat numbers) lie afterwards, and for each which of them it was.

        An element may go, or be there several times. New elements come last, with -1.
        """
        inner = int(np.prod(shape[axis + 1 :], dtype=np.intp))
        outer, n, m = int(np.prod(shape[:axis], dtype=np.intp)), shape[axis], self.index.size
        fresh = ((np.arange(outer)[:, None, None] * m + self.fresh[:, None]) * inner + np.arange(inner)).ravel()
        if not places.size:
            return fresh, np.full(fresh.size, -1, np.intp)
        block: Any = places // (n * inner)  # several times as fast as divmod
        rest = places - block * (n * inner)
        at: Any = rest // inner
        inside = rest - at * inner
        counts = np.bincount(self.index[self.index >= 0], minlength=n)
        order = np.argsort(self.index, kind="stable")[self.fresh.size :]  # where the old slices are, those of the first first
        first, times = (np.cumsum(counts) - counts)[at], counts[at]
        source = np.repeat(np.arange(places.size), times)
        which: Any = np.arange(source.size) - np.repeat(np.cumsum(times) - times, times)
        moved = (block[source] * m + order[first[source] + which]) * inner + inside[source]
        return np.concatenate([moved, fresh]), np.concatenate([source, np.full(fresh.size, -1, np.intp)])


def remap(array: Any, axis: int, index_map: Any, fill: Any = 0) -> Any:
    """A new array whose slices along ``axis`` are those numbered by ``index_map``; -1 stands for a new slice.

    ``fill`` is what new slices hold: anything that broadcasts to them, with as many slices as are new. Raises ValueError for an
    index that is not there.

    >>> import numpy as np
    >>> remap(np.array([1.0, 2.0, 3.0]), 0, [0, 2, -1], fill=9.0)
    array([1., 3., 9.])
    """
    return Slices(index_map).apply(array, axis % array.ndim, fill)
