"""Searching, sorting, sets, and reading by index."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tensor import dtypes
from tensor.array_api.array import standard, tensors
from tensor.array_api.axes import axis_of
from tensor.array_api.elementwise import ALL, REAL, check
from tensor.autograd.tensor import Tensor
from tensor.ops import binary, index, reduce
from tensor.ops import sort as order

__all__ = [
    "argmax", "argmin", "argsort", "isin", "nonzero", "searchsorted", "sort", "take", "take_along_axis", "unique_all",
    "unique_counts", "unique_inverse", "unique_values", "where",
]  # fmt: skip


@standard
def argmax(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the first maximum along an axis, or in the flattened array."""
    check("argmax", REAL, x)
    return reduce.argmax(x, None if axis is None else axis_of("argmax", axis, x.ndim), keepdims)


@standard
def argmin(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the first minimum along an axis, or in the flattened array."""
    check("argmin", REAL, x)
    return reduce.argmin(x, None if axis is None else axis_of("argmin", axis, x.ndim), keepdims)


@standard
def nonzero(x: Tensor, /) -> tuple[Tensor, ...]:
    """The indices of nonzero elements, a vector for each dimension."""
    if not x.ndim:
        msg = "nonzero: expected at least one dimension, got a 0-d array"
        raise ValueError(msg)
    return index.nonzero(x, as_tuple=True)  # type: ignore[no-any-return]


@standard
def searchsorted(x1: Tensor, x2: Any, /, *, side: str = "left", sorter: Tensor | None = None) -> Tensor:
    """Where the values x2 go in the sorted vector x1: before equal elements ("left") or after them ("right")."""
    check("searchsorted", REAL, x1, x2)
    if x1.ndim != 1 or side not in ("left", "right"):
        msg = f"searchsorted: expected a vector and side 'left' or 'right', got {x1.ndim} dimensions and {side!r}"
        raise ValueError(msg)
    edges, values = tensors("searchsorted", x1, x2)
    return order.searchsorted(edges if sorter is None else edges[sorter], values, right=side == "right")


@standard
def where(condition: Tensor, x1: Any, x2: Any, /) -> Tensor:
    """x1 where the condition holds, else x2."""
    check("where", "bool", condition)
    return binary.select_where(condition, *tensors("where", x1, x2))


@standard
def sort(x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Sorted along an axis, always stable; nan counts as the largest."""
    check("sort", REAL, x)
    return order.sort(x, axis_of("sort", axis, x.ndim), descending, stable)[0]


@standard
def argsort(x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices that sort along an axis, always stable."""
    check("argsort", REAL, x)
    return order.argsort(x, axis_of("argsort", axis, x.ndim), descending, stable)


# --- sets ------------------------------------------------------------------------------------------------------------


class UniqueAll(NamedTuple):
    """The distinct elements, where each is first, which of them each element is, and how often each comes."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """The distinct elements and how often each comes."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """The distinct elements, and which of them each element is."""

    values: Tensor
    inverse_indices: Tensor


def _unique(x: Tensor) -> UniqueAll:
    _, first, inverse, counts = np.unique(x._array, return_index=True, return_inverse=True, return_counts=True, equal_nan=False)
    where = Tensor(first)
    return UniqueAll(x.reshape(-1)[where], where, Tensor(inverse.reshape(x.shape)), Tensor(counts))


@standard
def unique_all(x: Tensor, /) -> UniqueAll:
    """The distinct elements in order, with first indices, inverse indices and counts; every nan is distinct.

    >>> from tensor import array_api as xp
    >>> unique_all(xp.asarray([3, 1, 3])).counts
    tensor([1, 2])
    """
    return _unique(x)


@standard
def unique_counts(x: Tensor, /) -> UniqueCounts:
    """The distinct elements in order, and how often each comes."""
    found = _unique(x)
    return UniqueCounts(found.values, found.counts)


@standard
def unique_inverse(x: Tensor, /) -> UniqueInverse:
    """The distinct elements in order, and which of them each element is."""
    found = _unique(x)
    return UniqueInverse(found.values, found.inverse_indices)


@standard
def unique_values(x: Tensor, /) -> Tensor:
    """The distinct elements in order."""
    return _unique(x).values


@standard
def isin(x1: Any, x2: Any, /, *, invert: bool = False) -> Tensor:
    """True for each element of x1 that is among those of x2; the other way round where ``invert``."""
    check("isin", ALL, x1, x2)
    a, b = tensors("isin", x1, x2)
    return order.isin(a, b, invert=invert)


# --- by index --------------------------------------------------------------------------------------------------------


@standard
def take(x: Tensor, indices: Tensor, /, *, axis: int | None = None) -> Tensor:
    """The parts at ``indices`` (a vector) along an axis, which only a vector may leave away."""
    if (axis is None and x.ndim != 1) or indices.ndim != 1:
        msg = f"take: expected a vector of indices, and an axis for {x.ndim} dimensions, got {indices.ndim}-d indices and {axis}"
        raise ValueError(msg)
    along = axis_of("take", axis or 0, x.ndim)
    return index.index_select(x, along, _from_the_front(indices, x.shape[along]))


@standard
def take_along_axis(x: Tensor, indices: Tensor, /, *, axis: int = -1) -> Tensor:
    """The elements at ``indices`` along an axis, broadcast against each other elsewhere."""
    along = axis_of("take_along_axis", axis, x.ndim)
    return index.take_along_dim(x, _from_the_front(indices, x.shape[along]), along)


def _from_the_front(indices: Tensor, length: int) -> Tensor:
    """Indices counted from the end, which PyTorch's functions do not take, as those from the front."""
    whole = indices.to(dtypes.int64)
    return whole.where(whole >= 0, whole + length)
