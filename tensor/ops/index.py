"""Reading and writing by index: basic and advanced, masks, and where elements are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor import cuda
from tensor.autograd.inplace import assign, check_writable
from tensor.autograd.node import version_of
from tensor.autograd.tensor import Tensor
from tensor.ops.record import Array, attach, composite, operator
from tensor.ops.reduce import check_axis, constant

__all__ = [
    "argwhere", "index_put", "index_select", "masked_scatter", "masked_select", "nonzero", "nonzero_static", "put", "take", "take_along_dim",
    "unravel_index",
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
    if type(index) is not tuple:
        return type(index) in _BASIC_TYPES
    for i in index:  # noqa: SIM110  # a third of the time of all()
        if type(i) not in _BASIC_TYPES:
            return False
    return True


_BASIC_TYPES = {int, slice, type(None), type(Ellipsis)}


def _check_steps(index: Any) -> None:
    for i in index if isinstance(index, tuple) else (index,):
        if isinstance(i, slice) and i.step is not None and int(i.step) <= 0:
            msg = f"step must be greater than zero, got {i.step}"
            raise ValueError(msg)


def _is_whole_number(i: Any) -> bool:
    return type(i) is int or (isinstance(i, np.ndarray) and not i.ndim and i.dtype.kind in "iu")


def _is_many(i: Any) -> bool:
    return type(i) is bool or (isinstance(i, np.ndarray) and (i.ndim > 0 or i.dtype.kind == "b"))


def window(x: Array, raw: Any) -> tuple[Array, Any]:
    """The same place as a view of x and an index into it, whole numbers beside arrays taken first.

    To NumPy such a number is one more array, which moves the dimension of the arrays to the front where a slice lies between.
    """
    if type(raw) is not tuple or not any(map(_is_many, raw)) or not any(map(_is_whole_number, raw)):
        return x, raw
    first: list[Any] = []
    for i in raw:
        if _is_whole_number(i):
            first.append(int(i))
        elif isinstance(i, np.ndarray):
            first += [slice(None)] * (i.ndim if i.dtype.kind == "b" else 1)
        elif i is not None and type(i) is not bool:
            first.append(i if i is Ellipsis else slice(None))
    if not any(i is Ellipsis for i in first):
        first.append(...)  # of a single element a 0-d view, too
    return x[tuple(first)], tuple(i for i in raw if not _is_whole_number(i))


@operator({"x": lambda g, x_shape, index: g.zeros_with(x_shape, index)}, view=True, name="__getitem__")
def _getitem(x: Array, index: Any) -> Array:
    """The elements at an index: ints, slices, None and ... give views; tensors and lists of ints or bools copies."""
    if type(index) is int:  # a dataset's samples are taken like this
        return x[index, ...]
    if _is_basic(index):
        _check_steps(index)
        # With an ellipsis NumPy gives a 0-d view where it would give a scalar.
        return x[index] if type(index) is not tuple or Ellipsis in index else x[(*index, ...)]
    raw = raw_index(index)
    _check_steps(raw)
    if type(raw) is tuple:
        x, raw = window(x, raw)
    r = x[raw]
    parts = raw if type(raw) is tuple else (raw,)
    if not r.ndim and not any(i is Ellipsis for i in parts):  # NumPy gives a scalar where a 0-d view is meant
        r = x[(*parts, ...)]
    return r


@operator({"g": lambda gg, index: gg[index]})
def zeros_with(g: Array, shape: Sequence[int], index: Any) -> Array:
    """Zeros of ``shape`` with ``g`` added at an index: the gradient of reading it."""
    r = constant(g, tuple(shape), 0)
    raw = index if _is_basic(index) else raw_index(index)
    if _is_basic(raw):
        r[raw] = g
    else:
        place, rest = window(r, raw)
        cuda.native(np.add, place).at(place, rest, g)
    return r


def _setitem(self: Tensor, index: Any, value: Any) -> None:
    """Write a value at an index; differentiable in the tensor and in the value."""
    check_writable(self, "setitem")
    raw = raw_index(index)
    _check_steps(raw)
    if not isinstance(value, Tensor):
        if self._node is None and self._view is None:
            place, rest = window(self._array, raw)
            place[rest] = np.asarray(value)
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
        while value.ndim and value.shape[0] == 1:  # what broadcasts anyway, and a mask would refuse
            value = value.squeeze(0)
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
    place, rest = window(r, raw_index(index))
    if accumulate:
        cuda.native(np.add, place).at(place, rest, value)
    else:
        place[rest] = value
    return r


@composite(inplace=True)
def index_put(x: Tensor, indices: Sequence[Any], values: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of x with ``values`` written (or added) where the index tensors point."""
    return put_at(x, values, tuple(indices), accumulate)


@operator({"x": lambda g, x_shape, dim, index: g.new_zeros(x_shape).index_add(dim, index, g)}, onnx="Gather")
def index_select(x: Array, dim: int, index: Array) -> Array:
    """The parts at ``index`` (a vector of ints) along ``dim``."""
    if not x.ndim:
        return x.copy()
    return np.take(x, index.reshape(-1), axis=check_axis(dim, x.ndim))


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
        return take_along_dim(x.reshape(-1), indices.reshape(-1), 0)
    d = check_axis(dim, x.ndim)
    common = list(np.broadcast_shapes(*([n if i != d else 1 for i, n in enumerate(s)] for s in (x.shape, indices.shape))))
    own, other = list(common), list(common)
    own[d], other[d] = x.shape[d], indices.shape[d]
    a = indices._array  # negative indices count from the end, unlike in `gather`
    if a.size and a.min() < 0:
        indices = Tensor(np.where(a < 0, a + x.shape[d], a))
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


@composite()
def nonzero_static(x: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """`nonzero` with a fixed number of rows: cut off, or filled up with ``fill_value``."""
    found = _nonzero(x)
    rows = found.new_full((size, x.ndim), fill_value)
    n = min(size, found.shape[0])
    rows[:n] = found[:n]
    return rows


@composite(method=False)
def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """The coordinates, one tensor a dimension, of indices into a flattened tensor of ``shape``.

    >>> import tensor as T
    >>> T.unravel_index(T.tensor(5), (2, 3))
    (tensor(1), tensor(2))
    """
    if indices.is_floating_point() or indices.is_complex():
        msg = f"unravel_index: expected integers, got {indices.dtype}"
        raise TypeError(msg)
    lengths = shape.tolist() if isinstance(shape, Tensor) else shape
    lengths = (lengths,) if isinstance(lengths, int) else tuple(int(n) for n in lengths)
    flat, found = indices._array.astype(np.int64), []
    for n in reversed(lengths):
        flat, place = np.divmod(flat, n)
        found.append(Tensor(place))
    if flat.any():
        msg = f"unravel_index: index out of range for shape {lengths}"
        raise ValueError(msg)
    return tuple(reversed(found))


attach(__setitem__=_setitem)
