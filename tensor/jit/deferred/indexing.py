"""Rules of reading and writing elements: by indices, by other arrays, one by one."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor.jit.deferred.outcomes import Args, Options, Outcome, called, copied, has_arrays, new_like

__all__ = ["added_at", "copy_to", "gathered", "item", "set_item", "taken", "writer"]

ndarray = np.ndarray


def item(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    a, index = args
    parts = index if type(index) is tuple else (index,)
    if any(isinstance(p, bool | np.bool_ | list) or getattr(p, "dtype", np.dtype(int)).kind not in "iu" for p in parts):
        return None
    if not any(isinstance(p, ndarray) for p in parts):
        if any(isinstance(v, ndarray) for p in parts if type(p) is slice for v in (p.start, p.stop, p.step)):
            return None
        result = a[index]
        return Outcome(view=result) if type(result) is ndarray else Outcome((np.empty((), a.dtype),), copied, True)
    return _picked(a, parts)


def _picked(a: Any, parts: Sequence[Any]) -> Outcome | None:
    """Elements by arrays of indices: their axes come where the first of them stood if they stand together, else first."""
    if Ellipsis in [p for p in parts if not isinstance(p, ndarray)]:
        at = next(i for i, p in enumerate(parts) if p is Ellipsis)
        missing = a.ndim - sum(p is not None and p is not Ellipsis for p in parts)
        parts = [*parts[:at], *[slice(None)] * missing, *parts[at + 1 :]]
    parts = [*parts, *[slice(None)] * (a.ndim - sum(p is not None for p in parts))]
    advanced = [i for i, p in enumerate(parts) if isinstance(p, ndarray | int | np.integer)]
    index_shape = np.broadcast_shapes(*(np.shape(parts[i]) for i in advanced))
    rest = tuple(slice(None) if i in advanced else p for i, p in enumerate(parts))
    basic = a[rest]
    sizes = [basic.shape[i] for i in range(len(parts)) if i not in advanced]
    if len(parts) != basic.ndim or 0 in a.shape:
        return None
    for i in advanced:  # numbers can be checked now
        if not isinstance(parts[i], ndarray) and not -basic.shape[i] <= parts[i] < basic.shape[i]:
            return None
    if not sizes:
        return Outcome((new_like(index_shape, a.dtype, [parts[i] for i in advanced if isinstance(parts[i], ndarray)]),), copied)
    out = np.empty((*index_shape, *sizes), a.dtype)
    together = advanced == list(range(advanced[0], advanced[-1] + 1))
    if together and advanced[0]:
        k, n = advanced[0], len(index_shape)
        out = out.transpose([*range(n, n + k), *range(n), *range(n + k, out.ndim)])
    return Outcome((out,), copied)


def set_item(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    target, index, value = args
    if type(target) is not ndarray:
        return None
    parts = index if type(index) is tuple else (index,)
    if any(type(p) is slice and has_arrays(p) for p in parts):
        return None
    masked = any(isinstance(p, bool | np.bool_) or (isinstance(p, ndarray) and p.dtype.kind == "b") for p in parts)
    if masked:
        if np.ndim(value):
            return None
    else:
        found = item(operator.getitem, (target, index), {})
        if found is None or isinstance(value, list):
            return None
        shape = () if found.scalar else found.outs[0].shape if found.outs else found.view.shape
        given = np.shape(value)
        while given and given[0] == 1:
            given = given[1:]
        if np.broadcast_shapes(shape, given) != shape:
            return None
    if hasattr(value, "dtype") and not np.can_cast(value.dtype, target.dtype, "same_kind"):
        return None
    if not isinstance(value, ndarray | np.generic | bool | int | float | complex):
        return None
    if isinstance(value, int | float | complex):
        target.dtype.type(value)  # which may raise
    return Outcome((), called, writes=(target,))


def writer(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    return Outcome((), called, writes=(args[0],)) if type(args[0]) is ndarray else None


def copy_to(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    target, source, *rest = args
    where = kwargs.get("where", True)
    dtype = getattr(source, "dtype", None)
    casting = rest[0] if rest else kwargs.get("casting", "same_kind")
    if type(target) is not ndarray or len(rest) > 1 or type(source) is list:
        return None
    if np.broadcast_shapes(target.shape, np.shape(source), np.shape(where)) != target.shape:
        return None
    if dtype is None:
        target.dtype.type(source)
    elif not np.can_cast(dtype, target.dtype, casting):
        return None
    return Outcome((), called, writes=(target,))


def taken(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    a, index, *rest = args
    axis = kwargs.get("axis", rest[0] if rest else -1)
    if axis is None or a.ndim != index.ndim or index.dtype.kind not in "iu":
        return None
    axis = range(a.ndim)[axis]
    n = index.shape[axis]
    shape = np.broadcast_shapes((*a.shape[:axis], n, *a.shape[axis + 1 :]), index.shape)
    same = shape == index.shape
    return Outcome((np.empty_like(index, dtype=a.dtype, subok=False) if same else np.empty(shape, a.dtype),), copied)


def gathered(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    a, index, *rest = args
    axis = kwargs.get("axis", rest[0] if rest else None)
    if kwargs.get("out") is not None or len(rest) > 1 or 0 in a.shape:
        return None
    shape = np.shape(index)
    if axis is not None:
        axis = range(a.ndim)[axis]
        shape = (*a.shape[:axis], *shape, *a.shape[axis + 1 :])
    return Outcome((np.empty(shape, a.dtype),), copied, scalar=not shape)


def added_at(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    """``ufunc.at``: indices are checked when it runs."""
    target = args[0]
    if type(target) is not ndarray or any(isinstance(p, list) for p in args):
        return None
    operands = [x for x in args[2:] if hasattr(x, "dtype")]
    return Outcome((), called, writes=(target,)) if all(np.can_cast(x.dtype, target.dtype) for x in operands) else None
