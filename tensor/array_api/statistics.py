"""Reductions and scans."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tensor import dtypes
from tensor.array_api.array import promoted, standard
from tensor.array_api.axes import Axes, axis_of, each_axis
from tensor.array_api.data_types import isdtype
from tensor.array_api.elementwise import NUMERIC, REAL, check
from tensor.autograd.tensor import Tensor
from tensor.ops import join, reduce, scan, variance

__all__ = [
    "all", "any", "count_nonzero", "cumulative_prod", "cumulative_sum", "diff", "max", "mean", "min", "prod", "std", "sum", "var",
]  # fmt: skip


def reduced(who: str, f: Callable[[Tensor], Tensor], x: Tensor, axis: Axes, keepdims: bool) -> Tensor:
    """A reduction of the last dimension, along any axes: these are brought to the end as one."""
    axes = each_axis(who, axis, x.ndim)
    kept = [i for i in range(x.ndim) if i not in axes]
    length = math.prod(x.shape[i] for i in axes)
    r = f(x.permute(*kept, *axes).reshape([x.shape[i] for i in kept] + [length]))
    return r.reshape([1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdims else r


def accumulated(x: Tensor, dtype: Any) -> dtypes.dtype:
    """The dtype of a sum: the one asked for; integers add up in int64 or uint64."""
    if dtype is not None:
        return dtypes.as_dtype(dtype)
    if isdtype(x.dtype, "unsigned integer"):
        return dtypes.uint64
    return dtypes.int64 if isdtype(x.dtype, ("bool", "signed integer")) else x.dtype


def _floats(who: str, x: Tensor) -> Tensor:
    check(who, NUMERIC, x)
    return x.to(dtypes.get_default_dtype()) if isdtype(x.dtype, "integral") else x


@standard
def sum(x: Tensor, /, *, axis: Axes = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over the axes (all when None); small integers add up in 64 bits.

    >>> from tensor import array_api as xp
    >>> sum(xp.asarray([200, 100], dtype=xp.uint8))
    tensor(300, dtype=tensor.uint64)
    """
    d = accumulated(x, dtype)
    return reduced("sum", lambda t: reduce.sum(t, -1, dtype=d).to(d), x.to(d), axis, keepdims)


@standard
def prod(x: Tensor, /, *, axis: Axes = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The product over the axes (all when None); small integers multiply in 64 bits."""
    d = accumulated(x, dtype)
    return reduced("prod", lambda t: reduce.prod(t, -1, dtype=d).to(d), x.to(d), axis, keepdims)


@standard
def max(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The maximum over the axes; nan where there is one."""
    check("max", REAL, x)
    return reduced("max", lambda t: reduce.amax(t, -1), x, axis, keepdims)


@standard
def min(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The minimum over the axes; nan where there is one."""
    check("min", REAL, x)
    return reduced("min", lambda t: reduce.amin(t, -1), x, axis, keepdims)


@standard
def mean(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean over the axes; integers are counted as floats."""
    return reduced("mean", lambda t: reduce.mean(t, -1), _floats("mean", x), axis, keepdims)


@standard
def var(x: Tensor, /, *, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The variance over the axes, dividing by their number minus ``correction``."""
    return reduced("var", lambda t: variance.var(t, -1, correction=correction), _floats("var", x), axis, keepdims)


@standard
def std(x: Tensor, /, *, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The square root of the variance."""
    return reduced("std", lambda t: variance.std(t, -1, correction=correction), _floats("std", x), axis, keepdims)


@standard
def all(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """True where every element along the axes is nonzero; of none at all, True."""
    return reduced("all", lambda t: reduce.all(t, -1), x != 0, axis, keepdims)


@standard
def any(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """True where an element along the axes is nonzero."""
    return reduced("any", lambda t: reduce.any(t, -1), x != 0, axis, keepdims)


@standard
def count_nonzero(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """How many elements along the axes are not zero."""
    return reduced("count_nonzero", lambda t: reduce.sum(t, -1), x != 0, axis, keepdims)


def _scanned(who: str, f: Any, start: int, x: Tensor, axis: int | None, dtype: Any, include_initial: bool) -> Tensor:
    if axis is None and x.ndim != 1:
        msg = f"{who}: expected an axis for {x.ndim} dimensions"
        raise ValueError(msg)
    along, d = axis_of(who, 0 if axis is None else axis, x.ndim), accumulated(x, dtype)
    r = f(x.to(d), along, dtype=d).to(d)
    if not include_initial:
        return r  # type: ignore[no-any-return]
    first = r.new_full([1 if i == along else n for i, n in enumerate(r.shape)], start, dtype=d)
    return join.cat([first, r], along)


@standard
def cumulative_sum(x: Tensor, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """Running sums along an axis, which only a vector may leave away; with 0 first where ``include_initial``."""
    return _scanned("cumulative_sum", scan.cumsum, 0, x, axis, dtype, include_initial)


@standard
def cumulative_prod(x: Tensor, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """Running products along an axis, which only a vector may leave away; with 1 first where ``include_initial``."""
    return _scanned("cumulative_prod", scan.cumprod, 1, x, axis, dtype, include_initial)


@standard
def diff(x: Tensor, /, *, axis: int = -1, n: int = 1, prepend: Tensor | None = None, append: Tensor | None = None) -> Tensor:
    """The n-th difference of neighbours along an axis, of what is put before and after it too."""
    along = axis_of("diff", axis, x.ndim)
    if n < 0:
        msg = f"diff: expected n >= 0, got {n}"
        raise ValueError(msg)
    parts = promoted("diff", *(t for t in (prepend, x, append) if t is not None))
    return scan.diff(join.cat(parts, along) if len(parts) > 1 else x, n, along) if n else x.clone()
