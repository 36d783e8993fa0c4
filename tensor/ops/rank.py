"""Elements by their rank or their frequency: the median, the k-th smallest, the most frequent."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensor import dtypes
from tensor.autograd.tensor import Tensor
from tensor.ops.record import composite
from tensor.ops.reduce import check_axis, values_at
from tensor.ops.results import ValuesIndices
from tensor.ops.scan import running
from tensor.ops.sort import argsort

__all__ = ["kthvalue", "median", "mode", "nanmedian"]


def _single(x: Tensor) -> ValuesIndices:
    """A number is its own median and mode, at index 0."""
    return ValuesIndices(x.clone(), x.new_zeros((), dtype=dtypes.int64))


@composite()
def kthvalue(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """The pair (value, index) of the ``k``-th smallest along ``dim``, counting from 1.

    >>> import tensor as T
    >>> T.kthvalue(T.tensor([5, 7, 6]), 2)[0]
    tensor(6)
    """
    d, n = check_axis(dim, x.ndim), x.shape[dim] if x.ndim else 1
    if not 1 <= k <= n:
        msg = f"kthvalue: expected k from 1 to {n}, the length of dimension {dim}, got {k}"
        raise RuntimeError(msg)
    return values_at(x, argsort(x, d).narrow(d, k - 1, 1), d, keepdim) if x.ndim else _single(x)


def _median(x: Tensor, dim: int | None, keepdim: bool, ignore_nan: bool) -> Any:
    if dim is None:
        flat = x.reshape(-1)
        return _median(flat, 0, False, ignore_nan)[0] if flat.numel() else x.new_full((), np.nan)
    if not x.ndim:
        return _single(x)
    d = check_axis(dim, x.ndim)
    if not x.shape[d]:
        msg = f"median: expected a dimension of at least one element, got shape {list(x.shape)} and dim {dim}"
        raise IndexError(msg)
    order, a = np.moveaxis(argsort(x, d)._array, d, -1), np.moveaxis(x._array, d, -1)
    n = a.shape[-1]
    strange = np.isnan(a).sum(-1, keepdims=True) if a.dtype.kind == "f" else np.zeros((*a.shape[:-1], 1), np.int64)
    # Sorted, nan comes last: without it the median is in the middle of the rest, else it is the first nan.
    place = np.maximum(n - strange - 1, 0) // 2 if ignore_nan else np.where(strange, n - strange, (n - 1) // 2)
    return values_at(x, Tensor(np.moveaxis(np.take_along_axis(order, place, -1), -1, d)), d, keepdim)


@composite()
def median(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median of all elements; with ``dim`` a pair (values, indices). A nan among the elements is the median.

    >>> import tensor as T
    >>> T.median(T.tensor([4.0, 1.0, 3.0, 2.0]))
    tensor(2.)
    """
    return _median(x, dim, keepdim, ignore_nan=False)


@composite()
def nanmedian(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """`median` of the elements that are not nan."""
    return _median(x, dim, keepdim, ignore_nan=True)


@composite()
def mode(x: Tensor, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """The pair (most frequent value along ``dim``, its last index); the smallest value where several are equally frequent.

    >>> import tensor as T
    >>> [t.item() for t in T.mode(T.tensor([3, 1, 3, 1, 2]))]
    [1, 3]
    """
    d = check_axis(dim, x.ndim)
    if not x.ndim:
        return _single(x)
    if not x.shape[d]:
        msg = f"mode: expected a dimension of at least one element, got shape {list(x.shape)} and dim {dim}"
        raise IndexError(msg)
    order, a = np.moveaxis(argsort(x, d)._array, d, -1), np.moveaxis(x._array, d, -1)
    ordered = np.take_along_axis(a, order, -1)
    # How many equal elements end at each place of the sorted row; the first of the largest counts ends the mode.
    steps = np.arange(a.shape[-1], like=a)
    starts = np.concatenate([np.ones_like(ordered[..., :1], bool), ordered[..., 1:] != ordered[..., :-1]], -1)
    run = steps - running(np.maximum, np.where(starts, steps, 0), -1)
    best = np.argmax(run, axis=-1, keepdims=True)
    return values_at(x, Tensor(np.moveaxis(np.take_along_axis(order, best, -1), -1, d)), d, keepdim)
