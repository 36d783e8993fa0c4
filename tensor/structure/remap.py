"""One function that carries an array through a change of structure: parameter, moment, step count, trace or buffer."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["remap"]


def remap(array: Any, axis: int, index_map: Any, fill: Any = 0) -> Any:
    """A new array whose slices along ``axis`` are those numbered by ``index_map``; -1 stands for a new slice.

    ``fill`` is what new slices hold: anything that broadcasts to them, with as many slices as are new. Raises ValueError for an
    index that is not there.

    >>> import numpy as np
    >>> remap(np.array([1.0, 2.0, 3.0]), 0, [0, 2, -1], fill=9.0)
    array([1., 3., 9.])
    """
    index = np.asarray(index_map, dtype=np.intp)
    n = array.shape[axis]
    if index.size and (index.min() < -1 or index.max() >= n):
        msg = f"remap: expected indices from -1 to {n - 1}, got {index.min()} to {index.max()}"
        raise ValueError(msg)
    fresh = np.flatnonzero(index < 0)
    if n == 0:
        shape = (*array.shape[:axis], index.size, *array.shape[axis + 1 :])
        result = np.zeros_like(array, shape=shape)
    else:
        result = np.take(array, np.maximum(index, 0), axis=axis)
    if fresh.size:
        where = (slice(None),) * (axis % array.ndim) + (fresh,)
        result[where] = fill
    return result
