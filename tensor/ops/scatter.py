"""Reading and writing along a dimension: gather and scatter, whole parts at an index, and copies with one region replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor import cuda, dtypes
from tensor.autograd.inplace import assign
from tensor.autograd.tensor import Tensor
from tensor.ops.complex_numbers import cj
from tensor.ops.record import Array, composite, operator
from tensor.ops.reduce import check_axis, constant

__all__ = [
    "as_strided_scatter", "diagonal_scatter", "gather", "index_add", "index_copy", "index_fill", "index_reduce", "scatter", "scatter_add", "scatter_reduce",
    "select_scatter", "slice_scatter",
]  # fmt: skip


def _index_parts(x: Array, dim: int, index: Array) -> tuple[Any, ...]:
    """The advanced index that means: along ``dim`` as ``index`` says, elsewhere in place."""
    parts = [
        index if i == dim else np.arange(index.shape[i]).reshape([-1 if k == i else 1 for k in range(index.ndim)])
        for i in range(x.ndim)
    ]
    return tuple(parts)


def _gather_rule(g: Tensor, x_shape: Any, dim: int, index: Tensor) -> Tensor:
    return g.gather_back(index, x_shape, dim)


@operator({"x": _gather_rule}, onnx="GatherElements")
def gather(x: Array, dim: int, index: Array, sparse_grad: bool = False) -> Array:
    """``y[i][j] = x[index[i][j]][j]`` for dim 0: along ``dim`` an element for each entry of ``index`` (int64)."""
    if not x.ndim:
        return np.broadcast_to(x, index.shape).copy()
    if not index.ndim:
        return x[index]
    d = check_axis(dim, x.ndim)
    # Elsewhere than in this process's memory asking would wait for the device.
    if index.__class__ is np.ndarray and index.size and (index.min() < 0 or index.max() >= x.shape[d]):
        wrong = index[(index < 0) | (index >= x.shape[d])].reshape(-1)[0]
        msg = f"gather: index {wrong} is out of bounds for dimension {dim} with size {x.shape[d]}"
        raise RuntimeError(msg)
    if d == x.ndim - 1 and index.size > 64 and index.shape[:-1] == x.shape[:-1] and x.flags.c_contiguous:
        # One flat index an element: a third of the time of one index a dimension.
        rows = np.arange(0, x.size, x.shape[d]).reshape(*x.shape[:-1], 1)
        return np.take(x.reshape(-1), index + rows)
    return x[_index_parts(x, d, index)]


@operator({"g": lambda gg, dim, index: gg.gather(dim, index)})
def gather_back(g: Array, index: Array, shape: tuple[int, ...], dim: int) -> Array:
    """Zeros with ``g`` added where `gather` read."""
    d = check_axis(dim, len(shape))
    if shape and index.shape[d] == 1 and d == len(shape) - 1 and shape[d] <= 8 and index.shape[:d] == shape[:d]:
        return np.where(index == np.arange(shape[d]), g, g.dtype.type(0))  # a choice among few: a mask is fastest
    r = constant(g, shape, 0)
    if not shape:
        return r + g.sum(dtype=g.dtype)
    where = _index_parts(r, d, index)
    if index.shape[d] == 1:  # nothing is read twice, and writing is faster than adding
        r[where] = g
    else:
        cuda.native(np.add, r).at(r, where, g)
    return r


def _as_source(x: Any, source: Any, index: Any) -> Any:
    if isinstance(source, Tensor):
        return source
    return x.new_full(index.shape, source, dtype=x.dtype)


@operator({
    "x": lambda g, dim, index: g.scatter(dim, index, 0),
    "source": lambda g, dim, index, source_shape: _crop_back(g.gather(dim, index), source_shape),
}, method=False, onnx="ScatterElements")  # fmt: skip
def _scatter(x: Array, dim: int, index: Array, source: Array) -> Array:
    """The operator behind `scatter`."""
    r = x.copy()
    if not x.ndim:
        return source.reshape(()).copy() if index.size else r
    where = _index_parts(x, check_axis(dim, x.ndim), index)
    r[where] = source[tuple(slice(0, n) for n in index.shape)] if source.ndim else source
    return r


def _crop_back(g: Tensor, shape: Sequence[int]) -> Tensor:
    """Scatter reads only the corner of the source that the index covers."""
    for d, n in enumerate(shape):
        if g.shape[d] != n:
            padded = list(g.shape)
            padded[d] = n
            g = g.pad_back(padded, d, 0)
    return g


@composite(inplace=True)
def scatter(x: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Tensor:
    """A copy of x with ``src`` (a tensor or a number) written along ``dim`` where ``index`` says; or added or multiplied."""
    source = _as_source(x, value if src is None else src, index)
    if reduce is not None:
        return scatter_reduce(x, dim, index, source, {"add": "sum", "multiply": "prod"}[reduce])
    return _scatter(x, dim, index, source)


@operator({"x": lambda g: g, "source": lambda g, dim, index, source_shape: _crop_back(g.gather(dim, index), source_shape)}, inplace=True)  # fmt: skip
def scatter_add(x: Array, dim: int, index: Array, source: Array) -> Array:
    """A copy of x with ``source`` added along ``dim`` where ``index`` says; repeated indices add up."""
    r = x.copy()
    if not x.ndim:
        return r + source.sum(dtype=r.dtype)
    cuda.native(np.add, r).at(
        r,
        _index_parts(x, check_axis(dim, x.ndim), index),
        source[tuple(slice(0, n) for n in index.shape)] if source.ndim else source,
    )
    return r


@composite(inplace=True)
def scatter_reduce(x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True) -> Tensor:
    """A copy of x with ``src`` combined along ``dim`` by "sum", "prod", "mean", "amax" or "amin"."""
    if not x.ndim:
        return scatter_reduce(x.reshape(1), 0, index.reshape(-1), src.reshape(-1), reduce, include_self=include_self).reshape(())
    src = src[tuple(slice(0, n) for n in index.shape)]
    if not include_self:
        start = {"sum": 0, "mean": 0, "prod": 1}.get(reduce)
        if start is None:
            start = lowest(x) if reduce == "amax" else highest(x)
        x = scatter(x, dim, index, start)
    if reduce == "sum":
        return scatter_add(x, dim, index, src)
    if reduce == "mean":
        counts = scatter_add(
            x.new_ones(x.shape) if include_self else scatter(x.new_ones(x.shape), dim, index, 0),
            dim,
            index,
            src.new_ones(src.shape),
        )
        total = scatter_add(x, dim, index, src)
        return total / counts if x.is_floating_point() else total.div(counts, rounding_mode="floor")
    if reduce == "prod":
        return _scatter_prod(x, dim, index, src)
    if reduce not in ("amax", "amin"):
        msg = f"scatter_reduce: expected reduce 'sum', 'prod', 'mean', 'amax' or 'amin', got {reduce!r}"
        raise RuntimeError(msg)
    return _scatter_extreme(x, dim, index, src, reduce == "amax")


def lowest(x: Tensor) -> Any:
    """The least value of x's dtype."""
    return -np.inf if x.is_floating_point() else False if x.dtype is dtypes.bool_ else int(np.iinfo(x._array.dtype).min)


def highest(x: Tensor) -> Any:
    """The greatest value of x's dtype."""
    return np.inf if x.is_floating_point() else True if x.dtype is dtypes.bool_ else int(np.iinfo(x._array.dtype).max)


def _scatter_prod_source(g: Tensor, x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """The product of all the others that meet at the same place: the whole over each, or where one is zero the whole without it."""
    is_zero = source == 0
    zeros = scatter_add(x.new_zeros(x.shape, dtype=dtypes.int64), dim, index, is_zero.to(dtypes.int64)).gather(dim, index)
    alone = is_zero & (zeros == 1)
    without = _scatter_prod(x, dim, index, source.masked_fill(alone, 1))
    whole = _scatter_prod(x, dim, index, source)
    over = (g * cj(whole)).gather(dim, index) / cj(source.masked_fill(is_zero, 1))
    return (g * cj(without)).gather(dim, index).where(alone, over)


def _scatter_prod_self(g: Tensor, x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    return g * cj(_scatter_prod(x.new_ones(x.shape), dim, index, source))


@operator({"x": _scatter_prod_self, "source": _scatter_prod_source}, method=False)
def _scatter_prod(x: Array, dim: int, index: Array, source: Array) -> Array:
    """The operator behind `scatter_reduce` with "prod"."""
    r = x.copy()
    np.multiply.at(r, _index_parts(x, check_axis(dim, x.ndim), index), source)
    return r


def _extreme_self(g: Tensor, x: Tensor, y: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    mine, count = _extreme_ties(x, y, dim, index, source)
    return g * mine / count


def _extreme_source(g: Tensor, x: Tensor, y: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    _, count = _extreme_ties(x, y, dim, index, source)
    return (g / count).gather(dim, index) * (source == y.gather(dim, index)).to(g.dtype)


def _extreme_ties(x: Tensor, y: Tensor, dim: int, index: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    mine = (x == y).to(y.dtype)
    count = scatter_add(mine, dim, index, (source == y.gather(dim, index)).to(y.dtype))
    return mine, count.clamp_min(1)


@operator({"x": _extreme_self, "source": _extreme_source}, method=False)
def _scatter_extreme(x: Array, dim: int, index: Array, source: Array, largest: bool) -> Array:
    """The operator behind `scatter_reduce` with "amax" and "amin"; ties share the gradient."""
    r = x.copy()
    (np.maximum if largest else np.minimum).at(r, _index_parts(x, check_axis(dim, x.ndim), index), source)
    return r


def _along(x: Tensor, dim: int, index: Tensor, like: Sequence[int]) -> Tensor:
    """A vector of indices along ``dim`` as the full index that gather and scatter want."""
    d = check_axis(dim, len(like))
    return index.reshape([-1 if i == d else 1 for i in range(len(like))]).expand(
        [index.numel() if i == d else n for i, n in enumerate(like)]
    )


@composite(inplace=True)
def index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """A copy of x with the parts of ``alpha * source`` added at ``index`` along ``dim``."""
    source = source * alpha if alpha != 1 else source
    if not x.ndim:
        return scatter_add(x, 0, index.reshape(-1), source.reshape(-1))
    return scatter_add(x, dim, _along(x, dim, index, source.shape), source)


@composite(inplace=True)
def index_copy(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """A copy of x with the parts of ``source`` written at ``index`` along ``dim``."""
    if not x.ndim:
        return source.reshape(()) + x * 0
    return scatter(x, dim, _along(x, dim, index, source.shape), source)


@composite(inplace=True)
def index_fill(x: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """A copy of x with ``value`` at ``index`` along ``dim``."""
    hit = np.zeros_like(index._array, shape=(x.shape[dim] if x.ndim else 1,), dtype=bool)
    hit[index._array.reshape(-1)] = True
    mask = Tensor(hit.reshape([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)]) if x.ndim else hit.reshape(()))
    return x.masked_fill(mask, value)


@composite(inplace=True)
def index_reduce(x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True) -> Tensor:
    """A copy of x with the parts of ``source`` combined at ``index`` along ``dim`` by "prod", "mean", "amax" or "amin"."""
    if not x.ndim:
        x1 = scatter_reduce(x.reshape(1), 0, index.reshape(-1), source.reshape(-1), reduce, include_self=include_self)
        return x1.reshape(())
    return scatter_reduce(x, dim, _along(x, dim, index, source.shape), source, reduce, include_self=include_self)


def _write(x: Tensor, region: Any, source: Tensor) -> Tensor:
    r = x.clone()
    assign(region(r), source)
    return r


@composite()
def select_scatter(x: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of x with ``src`` at ``index`` along ``dim``."""
    return _write(x, lambda r: r.select(dim, index), src)


@composite()
def slice_scatter(
    x: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """A copy of x with ``src`` in a slice along ``dim``."""
    where = (slice(None),) * check_axis(dim, x.ndim) + (slice(start, end, step),)
    return _write(x, lambda r: r[where], src)


@composite()
def diagonal_scatter(x: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A copy of x with ``src`` on a diagonal."""
    return _write(x, lambda r: r.diagonal(offset, dim1, dim2), src)


@composite()
def as_strided_scatter(
    x: Tensor, src: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """A copy of x with ``src`` where `as_strided` would read."""
    return _write(x, lambda r: r.as_strided(size, stride, storage_offset), src)
