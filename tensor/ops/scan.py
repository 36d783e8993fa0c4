"""Scans: what a sum, a product or an extreme was so far, and the differences of neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensor import cuda, dtypes
from tensor.autograd.tensor import Tensor
from tensor.ops.binary import log_of_sum
from tensor.ops.complex_numbers import cj
from tensor.ops.record import Array, composite, operator
from tensor.ops.reduce import accumulator, check_axis
from tensor.ops.results import ValuesIndices

__all__ = ["cummax", "cummin", "cumprod", "cumsum", "diff", "logcumsumexp"]


def reverse_cumsum(g: Tensor, dim: int) -> Tensor:
    """The cumulative sum from the end."""
    return g.flip(dim).cumsum(dim).flip(dim) if g.ndim else g


@operator({"x": lambda g, dim: reverse_cumsum(g, dim)}, inplace=True, onnx="CumSum")
def cumsum(x: Array, dim: int, dtype: Any = None) -> Array:
    """Running sums along ``dim``; integers in int64.

    >>> import tensor as T
    >>> T.cumsum(T.tensor([1, 2, 3]), 0)
    tensor([1, 3, 6])
    """
    x, axis = accumulator(x, dtype), check_axis(dim, x.ndim)
    if not x.ndim:
        return x.copy()
    if (
        x.size >= 65536
        and x.dtype.kind == "f"
        and x.dtype.itemsize >= 4
        and x.shape[axis] >= 8 * _BLOCK
        and cuda.device_of(x) is None
    ):
        r = _block_cumsum(np.ascontiguousarray(np.moveaxis(x, axis, -1)))
        if r is not None:
            return np.moveaxis(r, -1, axis)
    return np.cumsum(x, axis=axis)


_BLOCK = 16  # the lengths nearby that divide a dimension do as well, without a copy
_BLOCKS = (_BLOCK, 20, 25, 10)


def _block_cumsum(x: Array) -> Array | None:
    """Running sums along the last axis: of short blocks as a product with a triangle of ones, then of the blocks.

    Three times as fast as a loop that waits for each sum. None where a sum is not finite: an infinite number times 0 would spoil its block.
    """
    n = x.shape[-1]
    size = next((b for b in _BLOCKS if n % b == 0), _BLOCK)
    whole = n - n % size
    triangle = np.triu(np.ones_like(x, shape=(size, size)))
    blocks = x[..., :whole].reshape(-1, size).dot(triangle).reshape(-1, whole // size, size)
    before = np.cumsum(blocks[:, :, -1], axis=1)
    if not np.isfinite(before).all():
        return None
    blocks[:, 1:] += before[:, :-1, None]
    if whole == n:
        return blocks.reshape(x.shape)
    r = np.empty_like(x)
    r[..., :whole] = blocks.reshape(*x.shape[:-1], whole)
    r[..., whole:] = np.cumsum(x[..., whole:], axis=-1)
    r[..., whole:] += r[..., whole - 1 : whole]
    return r


def _cumprod_rule(g: Tensor, x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Without zeros what follows each element over that element; else each element left out in turn, so that zeros are right too."""
    if not x.ndim:
        return g
    if not bool((x == 0).any()):
        return reverse_cumsum(g * cj(y), dim) / cj(x)
    n = x.shape[dim]
    x, g = cj(x).movedim(dim, -1), g.movedim(dim, -1)
    parts = []
    for k in range(n):
        before = x[..., :k].prod(-1, keepdim=True)
        tail = before.cat_with(x[..., k + 1 :], -1).cumprod(-1)
        parts.append((tail * g[..., k:]).sum(-1, keepdim=True))
    return (parts[0].cat_with(*parts[1:], -1) if n > 1 else parts[0]).movedim(-1, dim)


@operator({"x": _cumprod_rule}, inplace=True)
def cumprod(x: Array, dim: int, dtype: Any = None) -> Array:
    """Running products along ``dim``; integers in int64."""
    x, axis = accumulator(x, dtype), check_axis(dim, x.ndim)
    return np.cumprod(x, axis=axis) if x.ndim else x.copy()


@composite()
def logcumsumexp(x: Tensor, dim: int) -> Tensor:
    """Running ``log(sum(exp))`` along ``dim``."""
    if not x.ndim or not x.numel():
        return x.clone()
    top = x.detach().real.amax(dim, keepdim=True)
    return scan_logaddexp(x, dim) if not bool(top.isfinite().all()) else scan_logaddexp(x - top, dim) + top


def _scan_logaddexp_rule(g: Tensor, x: Tensor, y: Tensor, dim: int) -> Tensor:
    return reverse_cumsum(g * cj((-y).exp()), dim) * cj(x.exp())


@operator({"x": _scan_logaddexp_rule}, method=False)
def scan_logaddexp(x: Array, dim: int) -> Array:
    """The scan behind `logcumsumexp`."""
    axis = check_axis(dim, x.ndim)
    if x.dtype.kind != "c":
        return running(np.logaddexp, x, axis)
    r = np.moveaxis(x.copy(), axis, 0)
    for i in range(1, len(r)):
        r[i] = log_of_sum(r[i - 1], r[i])
    return np.moveaxis(r, 0, axis)


def running(ufunc: Any, x: Array, axis: int) -> Array:
    """``ufunc.accumulate``; by the host where the array is on a CUDA device, as CuPy's ufuncs have none."""
    found: Array = cuda.on_host(ufunc.accumulate, (x, axis)) if cuda.device_of(x) is not None else ufunc.accumulate(x, axis=axis)
    return found


def _running(extreme: Any, x: Tensor, dim: int) -> ValuesIndices:
    dim = check_axis(dim, x.ndim)
    if not x.ndim:
        return ValuesIndices(x.clone(), x.new_zeros((), dtype=dtypes.int64))
    a = x._array
    best = running(extreme, a, dim)
    steps = np.arange(a.shape[dim], like=a).reshape([-1 if i == dim else 1 for i in range(a.ndim)])
    # The last place that equals the running extreme; nan is the extreme from its first place on.
    reached = (a == best) | (np.isnan(a) & np.isnan(best)) if a.dtype.kind == "f" else a == best
    index = Tensor(running(np.maximum, np.where(reached, steps, 0), dim))
    return ValuesIndices(x.gather(dim, index), index)


@composite()
def cummax(x: Tensor, dim: int) -> ValuesIndices:
    """The running maximum along ``dim`` and where it was last reached."""
    return _running(np.maximum, x, dim)


@composite()
def cummin(x: Tensor, dim: int) -> ValuesIndices:
    """The running minimum along ``dim`` and where it was last reached."""
    return _running(np.minimum, x, dim)


@composite()
def diff(x: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None) -> Tensor:
    """The n-th difference of neighbours along ``dim``, after ``prepend`` and ``append`` were put at the ends (if n > 0)."""
    if not x.ndim:
        msg = "diff: expected a tensor of at least one dimension, got a 0-d tensor"
        raise RuntimeError(msg)
    if n < 0:
        msg = f"diff: expected an order n of at least 0, got {n}"
        raise RuntimeError(msg)
    if n == 0:
        return x.clone()
    if prepend is not None:
        x = prepend.cat_with(x, dim)
    if append is not None:
        x = x.cat_with(append, dim)
    for _ in range(n):
        size = x.shape[dim]
        later, earlier = x.narrow(dim, min(1, size), max(size - 1, 0)), x.narrow(dim, 0, max(size - 1, 0))
        x = later ^ earlier if x.dtype is dtypes.bool_ else later - earlier
    return x
