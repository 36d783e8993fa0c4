"""Reading and writing samples by index."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from tensor.autograd.batched import Batched, Level, NotBatchable, align, deepest

__all__ = ["advanced_index", "at", "read", "refuse", "value_of", "write"]


def refuse(why: str) -> NoReturn:
    """Leave it to the loop over samples."""
    msg = f"vmap: {why}"
    raise NotBatchable(msg)


def at(x: Any, level: Level) -> bool:
    """Whether x has a batch axis of this level."""
    return x.__class__ is Batched and x.level is level


def value_of(x: Any, level: Level) -> Any:
    """The value with the batch axis first, made where there was none."""
    if at(x, level):
        return x.value
    x = x if x.__class__ is Batched else np.asarray(x)
    return np.broadcast_to(x, (level.size, *x.shape))


def advanced_index(index: Any, ndim: int, level: Level) -> tuple[tuple[Any, ...], int | None, int]:
    """An index of a sample as an index of the batch.

    Also gives the number of dimensions that the index arrays make, None when there are none (a view), and how many dimensions of
    a sample's result come before those; in the batch's result they come right after the batch axis.
    """
    parts: list[Any] = []
    for part in index if type(index) is tuple else (index,):
        p = np.asarray(part) if isinstance(part, (list, np.generic)) else part
        if isinstance(p, (bool, np.bool)) or (p.__class__ is Batched and p.dtype.kind == "b"):
            refuse("an index by a mask gives another shape for each sample")
        parts += p.nonzero() if isinstance(p, np.ndarray) and p.dtype.kind == "b" else [p]
    arrays = [p for p in parts if isinstance(p, (np.ndarray, Batched))]
    if not arrays:
        return (slice(None), *parts), None, 0
    rank = max(p.ndim for p in arrays)
    taken = [i for i, p in enumerate(parts) if isinstance(p, (int, np.ndarray, Batched))]
    together = taken[-1] - taken[0] + 1 == len(taken)
    if not together and any(p is Ellipsis for p in parts[taken[0] : taken[-1]]):
        refuse("index arrays on both sides of an ellipsis")
    before = 0
    if together:
        used = sum(p is not None and p is not Ellipsis for p in parts)
        before = sum(ndim - used if p is Ellipsis else 1 for p in parts[: taken[0]])
    samples = np.arange(level.size).reshape(level.size, *(1,) * rank)
    return (samples, *(align(p, rank, level) for p in parts)), rank, before


def read(x: Batched, index: Any) -> Any:
    """``x[index]``."""
    level = deepest(x, index)
    assert level is not None
    if x.level is not level:
        x = Batched(value_of(x, level), level)
    full, rank, before = advanced_index(index, x.ndim, level)
    r = x.value[full]
    if rank and before:
        r = np.moveaxis(r, range(1, 1 + rank), range(1 + before, 1 + before + rank))
    return Batched(r, level)


def write(x: Batched, index: Any, new: Any) -> None:
    """``x[index] = new``."""
    level = deepest(x, index, new)
    assert level is not None
    if x.level is not level:
        refuse("samples cannot be written into an array without a batch axis")
    only = index[0] if type(index) is tuple and len(index) == 1 else index
    if only.__class__ is Batched and only.dtype.kind == "b":
        if np.ndim(new) if new.__class__ is not Batched else new.ndim:
            refuse("values written where a mask says")
        mask = value_of(only, level)
        np.copyto(x.value, align(new, x.ndim, level), where=mask[(...,) + (None,) * (x.ndim - only.ndim)])
        return
    full, rank, before = advanced_index(index, x.ndim, level)
    ndim = x.value[full].ndim - 1
    if rank is not None and before and (np.ndim(new) if new.__class__ is not Batched else new.ndim):
        refuse("values written at an index in the middle")
    while at(new, level) and new.ndim > ndim and new.shape[0] == 1:
        new = new[0]
    x.value[full] = align(new, ndim, level)
