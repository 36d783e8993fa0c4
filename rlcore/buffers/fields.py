"""What the buffers share: named arrays declared by a spec, and their exact state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Fields", "allocate", "restore", "wrong_names"]

#: Field name to (shape of one entry, dtype), for example ``{"observation": ((4,), np.float32), "reward": ((), "f4")}``.
Fields: TypeAlias = Mapping[str, tuple[tuple[int, ...], DTypeLike]]

Arrays: TypeAlias = dict[str, NDArray[Any]]


def allocate(fields: Fields, leading: tuple[int, ...]) -> Arrays:
    """One zeroed array per field, of shape ``leading + shape``.

    Zeroed by the operating system on first touch, so a large buffer costs no memory before it is filled.
    """
    return {name: np.zeros(leading + tuple(shape), dtype) for name, (shape, dtype) in fields.items()}


def wrong_names(given: Mapping[str, Any], arrays: Arrays) -> TypeError:
    """The error for entries whose names are not exactly the declared ones."""
    return TypeError(f"expected the fields {', '.join(map(repr, arrays))}; got {', '.join(map(repr, given)) or 'none'}")


def restore(arrays: Arrays, size: int, saved: Mapping[str, NDArray[Any]]) -> None:
    """Copy saved entries to the start of ``arrays``.

    Raises:
        ValueError: other names, shapes or dtypes than declared: the state is of a different buffer.
    """
    if saved.keys() != arrays.keys():
        message = f"the saved buffer has the fields {', '.join(map(repr, saved))}, this one {', '.join(map(repr, arrays))}"
        raise ValueError(message)
    for name, array in arrays.items():
        if size > len(array):
            message = f"the saved buffer has {size} entries, this one room for {len(array)}"
            raise ValueError(message)
        part, expected = saved[name], (size, *array.shape[1:])
        if part.shape != expected or part.dtype != array.dtype:
            message = f"field {name!r}: saved {part.shape} {part.dtype}, expected {expected} {array.dtype}"
            raise ValueError(message)
        array[:size] = part
