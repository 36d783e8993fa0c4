"""Reading and writing by index: basic, advanced, gather and scatter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor import dtypes
from tensor.autograd.inplace import assign, check_writable
from tensor.autograd.node import version_of
from tensor.autograd.tensor import Tensor
from tensor.ops.record import Array, attach, composite, operator
from tensor.ops.reduce import check_axis

__all__ = [
    "argwhere",
    "diagonal_scatter",
    "gather",
    "index_add",
    "index_copy",
    "index_fill",
    "index_put",
    "index_select",
    "masked_scatter",
    "masked_select",
    "nonzero",
    "put",
    "scatter",
    "scatter_add",
    "scatter_reduce",
    "select_scatter",
    "slice_scatter",
    "take",
    "take_along_dim",
]  # fmt: skip


def raw_index(index: Any) -> Any:
    """An index as NumPy takes it: tensors as their arrays, lists as arrays."""
    if isinstance(index, tuple):
        return tuple(raw_index(i) for i in index)
    if isinstance(index, Tensor):
        a = index._array
        return a.astype(bool) if a.dtype == np.uint8 else a
    if isinstance(index, (list, range)):
        return np.asarray([raw_index(i) for i in index]) if len(index) else np.zeros(0, np.int64)
    return index


def _is_basic(index: Any) -> bool:
    parts = index if type(index) is tuple else (index,)
    return all(type(i) in _BASIC_TYPES for i in parts)


_BASIC_TYPES = {int, slice, type(None), type(Ellipsis)}


def _check_steps(index: Any) -> None:
    for i in index if isinstance(index, tuple) else (index,):
        if isinstance(i, slice) and i.step is not None and int(i.step) <= 0:
            msg = f"step must be greater than zero, got {i.step}"
            raise ValueError(msg)


@operator({"x": lambda g, x_shape, index: g.zeros_with(x_shape, index)}, view=True, name="__getitem__")
def _getitem(x: Array, index: Any) -> Array:
    """The elements at an index: ints, slices, None and ... give views; tensors and lists of ints or bools copies."""
    raw = raw_index(index)
    _check_steps(raw)
    r = x[raw]
    if isinstance(r, np.generic):  # NumPy gives a scalar where a 0-d view is meant
        r = x[(*raw, ...) if isinstance(raw, tuple) else (raw, ...)]
    return r


@operator({"g": lambda gg, index: gg[index]})
def zeros_with(g: Array, shape: Sequence[int], index: Any) -> Array:
    """Zeros of ``shape`` with ``g`` added at an index: the gradient of reading it."""
    r = np.zeros_like(g, shape=tuple(shape))
    raw = raw_index(index)
    if _is_basic(raw):
        r[raw] = g
    else:
        np.add.at(r, raw, g)
    return r


def _setitem(self: Tensor, index: Any, value: Any) -> None:
    """Write a value at an index; differentiable in the tensor and in the value."""
    check_writable(self, "setitem")
    raw = raw_index(index)
    _check_steps(raw)
    if not isinstance(value, Tensor):
        if self._node is None and self._view is None:
            self._array[raw] = np.asarray(value)
            version_of(self).value += 1
            return
        value = self.new_tensor(value, dtype=self.dtype)
    if _is_basic(raw):
        region = self[index]
        shape = region._array.shape
        value = value.to(self.dtype)
        lead = value.ndim - len(shape)
        if lead > 0 and all(n == 1 for n in value.shape[:lead]):
            value = value.reshape(value.shape[lead:])
        assign(region, value.expand(shape))
    else:
        before = Tensor(self._array, self._node)
        before._version = version_of(self)
        assign(self, put_at(before, value.to(self.dtype), index, False))


def _without(g: Tensor, index: Any) -> Tensor:
    """Zero where an index points: what was written there hides the value below."""
    return put_at(g, g.new_zeros(()), index, False)


@operator({
    "x": lambda g, index, accumulate: g if accumulate else _without(g, index),
    "value": lambda g, index: g[index],
}, method=False)  # fmt: skip
def put_at(x: Array, value: Array, index: Any, accumulate: bool) -> Array:
    """A copy of x with a value written (or added) at an advanced index."""
    r = x.copy()
    raw = raw_index(index)
    if accumulate:
        np.add.at(r, raw, value)
    else:
        r[raw] = value
    return r


@composite(inplace=True)
def index_put(x: Tensor, indices: Sequence[Any], values: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of x with ``values`` written (or added) where the index tensors point."""
    return put_at(x, values, tuple(indices), accumulate)


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
    return x[_index_parts(x, d, index)]


@operator({"g": lambda gg, dim, index: gg.gather(dim, index)})
def gather_back(g: Array, index: Array, shape: tuple[int, ...], dim: int) -> Array:
    """Zeros with ``g`` added where `gather` read."""
    d = check_axis(dim, len(shape))
    if shape and index.shape[d] == 1 and d == len(shape) - 1 and shape[d] <= 8 and index.shape[:d] == shape[:d]:
        return np.where(index == np.arange(shape[d]), g, g.dtype.type(0))  # a choice among few: a mask is fastest
    r = np.zeros_like(g, shape=shape)
    if not shape:
        return r + g.sum(dtype=g.dtype)
    where = _index_parts(r, d, index)
    if index.shape[d] == 1:  # nothing is read twice, and writing is faster than adding
        r[where] = g
    else:
        np.add.at(r, where, g)
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
    np.add.at(
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
    """The product of all the others that meet at the same place; zeros are counted so that one zero is handled right."""
    zeros = scatter_add((x == 0).to(g.dtype), dim, index, (source == 0).to(g.dtype))
    safe = _scatter_prod(x.masked_fill(x == 0, 1), dim, index, source.masked_fill(source == 0, 1))
    gz, gs = zeros.gather(dim, index), (g * safe).gather(dim, index)
    is_zero = source == 0
    others_fine = (gz - is_zero.to(g.dtype)) == 0
    return gs / source.masked_fill(is_zero, 1) * others_fine.to(g.dtype)


def _scatter_prod_self(g: Tensor, x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    return g * _scatter_prod(x * 0 + 1, dim, index, source)


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


@operator({"x": lambda g, x_shape, dim, index: g.new_zeros(x_shape).index_add(dim, index, g)}, onnx="Gather")
def index_select(x: Array, dim: int, index: Array) -> Array:
    """The parts at ``index`` (a vector of ints) along ``dim``."""
    if not x.ndim:
        return x.copy()
    return np.take(x, index.reshape(-1), axis=check_axis(dim, x.ndim))


@composite(inplace=True)
def index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """A copy of x with the parts of ``alpha * source`` added at ``index`` along ``dim``."""
    source = source * alpha if alpha != 1 else source
    if not x.ndim:
        return x + source.reshape(-1).sum()
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
    hit = np.zeros(x.shape[dim] if x.ndim else 1, dtype=bool)
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


@composite()
def masked_select(x: Tensor, mask: Tensor) -> Tensor:
    """The elements where the broadcast mask is true, as a vector."""
    shape = np.broadcast_shapes(tuple(x.shape), tuple(mask.shape))
    return x.expand(shape)[mask.expand(shape)]


@composite(inplace=True)
def masked_scatter(x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """A copy of x with the first elements of ``source`` written where the mask is true."""
    shape = np.broadcast_shapes(tuple(x.shape), tuple(mask.shape))
    mask = mask.expand(shape)
    n = int(np.count_nonzero(mask._array))
    return put_at(x.expand(shape), source.reshape(-1)[:n], mask, False)


@composite()
def take(x: Tensor, index: Tensor) -> Tensor:
    """The elements of the flattened tensor at ``index``, in its shape."""
    return x.reshape(-1)[index]


@composite(inplace=True)
def put(x: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of x with ``source`` written (or added) at ``index`` of the flattened tensor."""
    return put_at(x.reshape(-1), source.reshape(index.shape), index, accumulate).reshape(x.shape)


@composite()
def take_along_dim(x: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """`gather` with broadcasting; without ``dim`` in the flattened tensor."""
    if dim is None:
        return x.reshape(-1).gather(0, indices.reshape(-1))
    d = check_axis(dim, x.ndim)
    common = list(np.broadcast_shapes(*([n if i != d else 1 for i, n in enumerate(s)] for s in (x.shape, indices.shape))))
    own, other = list(common), list(common)
    own[d], other[d] = x.shape[d], indices.shape[d]
    return x.expand(own).gather(d, indices.expand(other))


@operator(method=False)
def _nonzero(x: Array) -> Array:
    """The indices of nonzero elements, a row each."""
    return np.argwhere(x) if x.ndim else np.zeros((int(bool(x)), 0), np.int64)


@composite()
def nonzero(x: Tensor, *, as_tuple: bool = False) -> Any:
    """The indices (int64) of nonzero elements: a row each, or a vector for each dimension."""
    if as_tuple:
        return tuple(_nonzero(x if x.ndim else x.reshape(1)).unbind(1))
    return _nonzero(x)


@composite()
def argwhere(x: Tensor) -> Tensor:
    """The indices (int64) of nonzero elements, a row each."""
    return _nonzero(x)


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


attach(__setitem__=_setitem)
