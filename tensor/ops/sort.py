"""Order: sorting, searching, finding what is different."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensor import cuda, dtypes
from tensor.autograd.tensor import Tensor
from tensor.ops.dispatch import as_array
from tensor.ops.record import Array, composite, operator
from tensor.ops.reduce import check_axis
from tensor.ops.results import ValuesIndices

__all__ = ["argsort", "bucketize", "isin", "msort", "searchsorted", "sort", "topk", "unique", "unique_consecutive"]


@operator()
def argsort(x: Array, dim: int = -1, descending: bool = False, stable: bool = False) -> Array:
    """The indices (int64) that sort along ``dim``; equal elements keep their order; nan counts as the largest."""
    if not x.ndim:
        return np.zeros((), np.int64)
    axis = check_axis(dim, x.ndim)
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    # Sorting the reversed order ascending and reversing again keeps equal elements in place.
    n = x.shape[axis]
    return np.flip(n - 1 - np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis).copy()


@composite()
def sort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> ValuesIndices:
    """The pair (sorted values, indices) along ``dim``."""
    index = argsort(x, dim, descending, stable)
    return ValuesIndices(x.gather(dim, index) if x.ndim else x.clone(), index)


@composite()
def msort(x: Tensor) -> Tensor:
    """Sorted along dimension 0."""
    return sort(x, 0)[0]


@composite()
def topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesIndices:
    """The named pair (values, indices) of the ``k`` largest (smallest) along ``dim``."""
    n = x.shape[dim] if x.ndim else 1
    if not 0 <= k <= n:
        msg = f"topk: expected 0 <= k <= {n}, got {k}"
        raise RuntimeError(msg)
    if not x.ndim:
        return ValuesIndices(x.clone(), x.new_zeros((), dtype=dtypes.int64))
    index = Tensor(_top(x._array, k, check_axis(dim, x.ndim), largest))
    return ValuesIndices(x.gather(dim, index), index)


def _top(a: Array, k: int, axis: int, largest: bool) -> Array:
    """The indices of the ``k`` largest (smallest), in order; of equal elements the first comes first."""
    n = a.shape[axis]
    order: Any = argsort.operator.forward  # type: ignore[attr-defined]
    if not k or n < 256 or 8 * k > n:
        return order(a, axis, largest)[(slice(None),) * axis + (slice(k),)].copy()
    # A few of many: only those are sorted.
    found = np.argpartition(a, n - k if largest else k - 1, axis=axis)
    found = np.sort(found[(slice(None),) * axis + (slice(n - k, n) if largest else slice(k),)], axis=axis)
    return np.take_along_axis(found, order(np.take_along_axis(a, found, axis), axis, largest), axis)


@operator(method=False)
def searchsorted_raw(edges: Array, values: Array, right: bool) -> Array:
    """The operator behind `searchsorted`: rows of edges, rows of values."""
    side: Any = "right" if right else "left"
    if edges.ndim == 1:
        return as_array(np.searchsorted(edges, values, side=side))
    if not values.size:
        return np.zeros(values.shape, np.int64)
    flat, wanted = edges.reshape(-1, edges.shape[-1]), values.reshape(-1, values.shape[-1])
    rows = [np.searchsorted(e, v, side=side) for e, v in zip(flat, wanted, strict=True)]
    return np.stack(rows).reshape(values.shape)


@composite(method=False)
def searchsorted(
    sorted_sequence: Tensor,
    values: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where values would go in sorted rows: before equal elements, or after them with ``right``."""
    if sorter is not None:
        sorted_sequence = sorted_sequence.gather(-1, sorter)
    if not isinstance(values, Tensor):
        values = sorted_sequence.new_tensor(values)
    r = searchsorted_raw(sorted_sequence.detach(), values.detach(), right or side == "right")
    return r.to(dtypes.int32 if out_int32 else dtypes.int64)


@composite(method=False)
def bucketize(values: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The bucket that each value falls into, between sorted boundaries."""
    return searchsorted(boundaries, values, out_int32=out_int32, right=right)


@composite(method=False)
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """True for each element that is among the test elements."""
    a, b = (t._array if isinstance(t, Tensor) else t for t in (elements, test_elements))
    return Tensor(as_array(np.isin(a, b, invert=invert)))


def _unique(a: Any, dim: int | None) -> Any:
    return np.unique(a, return_index=True, return_inverse=True, return_counts=True, axis=dim)


@composite()
def unique(
    x: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The distinct elements (or slices along ``dim``), sorted; with the inverse indices and the counts when asked for."""
    values, _, inverse, counts = _unique(x._array, dim)
    inverse = inverse.reshape(x._array.shape if dim is None else -1)
    found = [values, *([inverse] if return_inverse else []), *([counts] if return_counts else [])]
    return Tensor(found[0]) if len(found) == 1 else tuple(Tensor(a) for a in found)


@composite()
def unique_consecutive(x: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None) -> Any:
    """The elements (or slices along ``dim``) without immediate repetitions."""
    a = x._array.reshape(-1) if dim is None else np.moveaxis(x._array, dim, 0)
    n = a.shape[0]
    rows = a.reshape(n, -1) if n else a.reshape(0, 1)
    new = np.concatenate([cuda.native(np.ones, a)(min(n, 1), bool), (rows[1:] != rows[:-1]).any(1)])
    starts = np.flatnonzero(new)
    values = a[starts] if dim is None else np.moveaxis(a[starts], 0, dim)
    inverse = np.cumsum(new) - 1
    counts = np.diff(np.append(starts, n))
    if dim is None:
        inverse = inverse.reshape(x._array.shape)
    found = [values, *([inverse] if return_inverse else []), *([counts] if return_counts else [])]
    return Tensor(found[0]) if len(found) == 1 else tuple(Tensor(b.copy()) for b in found)
