"""Reductions over dimensions."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor import cuda, dtypes
from tensor.autograd.tensor import Tensor
from tensor.ops.complex_numbers import cj
from tensor.ops.record import Array, composite, operator
from tensor.ops.results import MinMax, ValuesIndices

__all__ = [
    "all", "amax", "amin", "aminmax", "any", "argmax", "argmin", "count_nonzero", "log_softmax", "logsumexp", "max", "mean", "min", "nanmean",
    "nansum", "prod", "softmax", "sum",
]  # fmt: skip

Dims = int | Sequence[int] | None
_max, _min = builtins.max, builtins.min


def axes(dim: Dims, ndim: int) -> tuple[int, ...]:
    """The axes that ``dim`` means, as a sorted tuple of numbers >= 0; all of them for None and ()."""
    if dim is None:
        return tuple(range(ndim))
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    if not dims:
        return tuple(range(ndim))
    return tuple(sorted(check_axis(d, ndim) for d in dims))


def check_axis(d: int, ndim: int) -> int:
    """One axis as a number >= 0, or PyTorch's error."""
    if d.__class__ is int and -ndim <= d < ndim:
        return d if d >= 0 else d + ndim
    n = _max(ndim, 1)
    if not -n <= d < n:
        msg = f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {d})"
        raise IndexError(msg)
    return int(d % n)


def reduce_sum(x: Array, axis: Any, keepdims: bool) -> Array:
    """NumPy's sum; straight to the ufunc, whose overloads know no plain bool for ``keepdims``."""
    return _add_reduce(x, axis=axis, keepdims=keepdims)


_add_reduce: Any = np.add.reduce

#: Up to this length a last axis is folded column by column.
_SHORT = 8
#: From this size on BLAS adds up three times as fast as a reduction; rows of this length keep its rounding errors small.
_LARGE, _ROW = 16384, 1024


def large_sum(x: Array, dim: Dims, keepdim: bool) -> Array | None:
    """The sum of all of a large contiguous array, or along its last dimension, as a product with ones; None where that is no gain."""
    if not x.flags.c_contiguous or x.dtype.itemsize < 4 or x.dtype.kind != "f":
        return None
    if dim is None and not keepdim:
        flat, whole = x.reshape(-1), x.size - x.size % _ROW
        rows = flat[:whole].reshape(-1, _ROW)
        return _add_reduce(rows.dot(_ones(x, _ROW))) + _add_reduce(flat[whole:])
    n = x.shape[-1] if x.ndim else 0
    if dim in (-1, x.ndim - 1) and _SHORT < n <= 4 * _ROW:
        total = x.reshape(-1, n).dot(_ones(x, n))
        return total.reshape((*x.shape[:-1], 1) if keepdim else x.shape[:-1])
    return None


def constant(like: Array, shape: Any, value: float) -> Array:
    """A row-major array of one value, of the kind of another array: in a third of the time of ``np.zeros_like``."""
    r = np.empty_like(like, shape=shape, order="C")
    r.fill(value)
    return r


def _ones(like: Array, n: int) -> Array:
    return constant(like, n, 1)


def float_sum(x: Array, dim: Dims, keepdim: bool) -> Array:
    """The sum of a floating-point array by the fastest way."""
    if x.size >= _LARGE and cuda.device_of(x) is None:
        total = large_sum(x, dim, keepdim)
        if total is not None:
            return total
    return _add_reduce(x, axis=None if dim is None else numpy_axis(dim, x.ndim), keepdims=keepdim)


def numpy_axis(dim: Dims, ndim: int) -> Any:
    """What NumPy wants as ``axis``: nothing for a 0-d array."""
    if dim is None or (not isinstance(dim, int) and not len(dim)):
        return None
    return axes(dim, ndim) if ndim else None


def restore(g: Tensor, shape: Sequence[int], dim: Dims, keepdim: bool) -> Tensor:
    """Give a reduced tensor its reduced dimensions back, with length 1."""
    if keepdim or not len(shape):
        return g
    gone = axes(dim, len(shape))
    return g.reshape(tuple(1 if i in gone else n for i, n in enumerate(shape)))


def spread(g: Tensor, shape: Sequence[int], dim: Dims, keepdim: bool) -> Tensor:
    """The gradient of a sum: the same for every element."""
    if not g._array.ndim:
        return filled(g, tuple(shape))
    return restore(g, shape, dim, keepdim).expand(shape)


@operator({"x": lambda g, divisor: g.sum() / divisor}, method=False)
def filled(x: Array, shape: tuple[int, ...], divisor: float = 1) -> Array:
    """A 0-d value over ``divisor``, repeated: a third of the time of a broadcast view, and what follows runs faster."""
    return constant(x, shape, x / divisor)


def count(shape: Sequence[int], dim: Dims) -> int:
    """How many elements each result of a reduction is made of."""
    n: int = 1
    for i in axes(dim, len(shape)):
        n *= shape[i] if shape else 1
    return n


def accumulator(x: Array, dtype: Any) -> Array:
    """Sums of bools and integers are int64; a dtype asked for is cast to first."""
    if dtype is not None:
        return x.astype(dtypes.numpy_dtype(dtype), copy=False)
    return x.astype(np.int64) if x.dtype.kind in "bui" and x.dtype != np.int64 else x


def as_floats(x: Array, dtype: Any, who: str) -> Array:
    if dtype is not None:
        return x.astype(dtypes.numpy_dtype(dtype), copy=False)
    if x.dtype.kind not in "fc":
        msg = f"{who}: expected a floating-point or complex tensor, got {x.dtype}"
        raise RuntimeError(msg)
    return x


@operator({"x": lambda g, x_shape, dim, keepdim: spread(g, x_shape, dim, keepdim)}, onnx="ReduceSum")
def sum(x: Array, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> Array:
    """The sum over ``dim`` (all when None); integers add up in int64.

    >>> import tensor as T
    >>> T.ones(2, 3).sum(dim=1)
    tensor([3., 3.])
    """
    if x.dtype.kind != "f" or dtype is not None:
        x = accumulator(x, dtype)
    if dim == -1 and x.ndim > 1 and 1 < x.shape[-1] <= _SHORT:
        total = _fold(np.add, x, x.ndim - 1)
        return total if keepdim else total[..., 0]
    return float_sum(x, dim, keepdim)


@operator({"x": lambda g, x, dim, keepdim: spread(g, x.shape, dim, keepdim).masked_fill(x.isnan(), 0)})
def nansum(x: Array, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> Array:
    """The sum of the elements that are not nan."""
    x = accumulator(x, dtype)
    return np.nansum(x, axis=numpy_axis(dim, x.ndim), keepdims=keepdim)


def _mean_rule(g: Tensor, x_shape: tuple[int, ...], dim: Dims, keepdim: bool) -> Tensor:
    n = count(x_shape, dim)
    return spread(g / n, x_shape, dim, keepdim) if g._array.ndim else filled(g, x_shape, n)


@operator({"x": _mean_rule}, onnx="ReduceMean")
def mean(x: Array, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> Array:
    """The arithmetic mean over ``dim`` (all when None) of a floating-point tensor."""
    if x.dtype.kind != "f" or dtype is not None:
        x = as_floats(x, dtype, "mean")
    if dim is None:
        return float_sum(x, None, keepdim) / x.size if x.size else reduce_sum(x, None, keepdim) / x.dtype.type(0)
    return float_sum(x, dim, keepdim) / x.dtype.type(count(x.shape, dim))


@composite()
def nanmean(x: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean of the elements that are not nan."""
    there = (~x.isnan()).sum(dim, keepdim)
    return nansum(x, dim, keepdim, dtype) / there


def _prod_rule(g: Tensor, x: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    """The product of all others: products before times products after, right also at zeros."""
    if dim is None or x.ndim == 0:
        flat: Tensor = _prod_rule(g.reshape(()), x.reshape(-1), 0, False)
        return flat.reshape(x.shape)
    n = x.shape[dim]
    if n == 0:
        return x * 0
    one = x.narrow(dim, 0, 1).fill(1)
    before = one if n == 1 else one.cat_with(x.narrow(dim, 0, n - 1), dim).cumprod(dim)
    after = one if n == 1 else one.cat_with(x.narrow(dim, 1, n - 1).flip(dim), dim).cumprod(dim).flip(dim)
    return restore(g, x.shape, dim, keepdim) * cj(before * after)


@operator({"x": _prod_rule}, onnx="ReduceProd")
def prod(x: Array, dim: int | None = None, keepdim: bool = False, dtype: Any = None) -> Array:
    """The product over ``dim`` (all when None); integers multiply in int64."""
    x = accumulator(x, dtype)
    return np.prod(x, axis=numpy_axis(dim, x.ndim), keepdims=keepdim, dtype=x.dtype)


def _extreme_rule(g: Tensor, x: Tensor, y: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """Elements that tie for the extreme share its gradient evenly."""
    tied = (x == restore(y, x.shape, dim, keepdim)).to(g.dtype)
    return restore(g, x.shape, dim, keepdim) * tied / tied.sum(axes(dim, x.ndim), keepdim=True)


@operator({"x": _extreme_rule}, onnx="ReduceMax")
def amax(x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
    """The maximum over ``dim`` (one, several, or all); ties share the gradient."""
    return np.max(x, axis=numpy_axis(dim, x.ndim), keepdims=keepdim)


@operator({"x": _extreme_rule}, onnx="ReduceMin")
def amin(x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
    """The minimum over ``dim`` (one, several, or all); ties share the gradient."""
    return np.min(x, axis=numpy_axis(dim, x.ndim), keepdims=keepdim)


def _arg(reduce: Any, x: Array, dim: int | None, keepdim: bool) -> Array:
    if dim is None or not x.ndim:
        r = reduce(x)
        r = r if isinstance(r, np.ndarray) else r.reshape(())
        return r.reshape((1,) * x.ndim) if keepdim else r
    return reduce(x, axis=check_axis(dim, x.ndim), keepdims=keepdim)


@operator(onnx="ArgMax")
def argmax(x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """The index (int64) of the first maximum along ``dim``, or in the flattened tensor."""
    return _arg(np.argmax, x, dim, keepdim)


@operator(onnx="ArgMin")
def argmin(x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """The index (int64) of the first minimum along ``dim``, or in the flattened tensor."""
    return _arg(np.argmin, x, dim, keepdim)


def values_at(x: Tensor, index: Tensor, dim: int, keepdim: bool) -> ValuesIndices:
    """The values at the indices (which kept the dimension), and the indices."""
    values = x.gather(dim, index) if x.ndim else x.clone()
    return ValuesIndices(values, index) if keepdim or not x.ndim else ValuesIndices(values.squeeze(dim), index.squeeze(dim))


def _extreme(x: Tensor, dim: Any, keepdim: bool, other: Any, whole: Any, pairwise: str, arg: Any) -> Any:
    if isinstance(dim, Tensor) or other is not None:
        return getattr(x, pairwise)(dim if other is None else other)
    if dim is None:
        return whole(x)
    return values_at(x, arg(x, dim, True), dim, keepdim)


@composite()
def max(x: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The maximum of all elements; with ``dim`` the named pair (values, indices); with a tensor the elementwise maximum."""
    return _extreme(x, dim, keepdim, other, amax, "maximum", argmax)


@composite()
def min(x: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The minimum of all elements; with ``dim`` the named pair (values, indices); with a tensor the elementwise minimum."""
    return _extreme(x, dim, keepdim, other, amin, "minimum", argmin)


@composite()
def aminmax(x: Tensor, *, dim: int | None = None, keepdim: bool = False) -> MinMax:
    """The named pair (min, max)."""
    return MinMax(amin(x, dim, keepdim), amax(x, dim, keepdim))


@operator(onnx=None)
def any(x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
    """True where an element along ``dim`` is nonzero; uint8 stays uint8."""
    r = np.any(x, axis=numpy_axis(dim, x.ndim), keepdims=keepdim)
    return r.astype(np.uint8) if x.dtype == np.uint8 else r


@operator(onnx=None)
def all(x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
    """True where every element along ``dim`` is nonzero; uint8 stays uint8."""
    r = np.all(x, axis=numpy_axis(dim, x.ndim), keepdims=keepdim)
    return r.astype(np.uint8) if x.dtype == np.uint8 else r


@operator()
def count_nonzero(x: Array, dim: Dims = None) -> Array:
    """How many elements along ``dim`` are not zero, int64."""
    found = np.count_nonzero(x, axis=numpy_axis(dim, x.ndim))
    return found.astype(np.int64, copy=False) if hasattr(found, "astype") else np.asarray(found, np.int64)


def _l2_rule(g: Tensor, x: Tensor, y: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    length = restore(y, x.shape, dim, keepdim)
    return (x * (restore(g, x.shape, dim, keepdim) / length)).masked_fill(length == 0, 0)


@operator({"x": _l2_rule}, method=False, onnx="ReduceL2")
def l2_norm(x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
    """The Euclidean norm over ``dim``; its gradient at 0 is 0."""
    if x.dtype.kind not in "fc":
        msg = f"norm: expected a floating-point or complex tensor, got {x.dtype}"
        raise RuntimeError(msg)
    a = np.abs(x) if x.dtype.kind == "c" else x
    return np.sqrt(reduce_sum(a * a, numpy_axis(dim, x.ndim), keepdim))


# --- softmax and friends ---------------------------------------------------------------------------------------------


def _logsumexp(x: Array, axis: Any, keepdims: bool) -> Array:
    top = np.max(x.real, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, np.zeros_like(top))
    total = np.log(np.add.reduce(np.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else total.reshape(tuple(n for i, n in enumerate(x.shape) if axis is not None and i not in axis))


@operator({"x": lambda g, x, y, dim, keepdim: restore(g, x.shape, dim, keepdim) * cj((x - restore(y, x.shape, dim, keepdim)).exp())}, dtype="float", onnx="ReduceLogSumExp")  # fmt: skip
def logsumexp(x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
    """``log(sum(exp(x)))`` over ``dim`` without overflow."""
    if not x.ndim:
        return np.log(np.exp(x - x.real)) + x.real if x.dtype.kind == "c" else x.copy()
    return _logsumexp(x, axes(dim, x.ndim), keepdim)


def _fold(ufunc: Any, x: Array, axis: int) -> Array:
    """``ufunc.reduce`` with the axis kept; a short last axis column by column, which is four times faster."""
    n = x.shape[axis]
    if axis != x.ndim - 1 or not 1 < n <= _SHORT:
        if ufunc is np.maximum and cuda.device_of(x) is not None:  # CuPy's ufunc has no reduction
            return np.max(x, axis=axis, keepdims=True)
        whole: Array = ufunc.reduce(x, axis=axis, keepdims=True)
        return whole
    total = ufunc(x[..., 0:1], x[..., 1:2])
    for i in range(2, n):
        ufunc(total, x[..., i : i + 1], out=total)
    return total


def _along(x: Array, dim: int | None, dtype: Any, who: str) -> tuple[Array, int]:
    x = as_floats(x, dtype, who)
    return (x.reshape(1), 0) if not x.ndim else (x, check_axis(-1 if dim is None else dim, x.ndim))


@operator({"x": lambda g, y, dim: _softmax_rule(g, y, -1 if dim is None else dim)}, onnx="Softmax")
def softmax(x: Array, dim: int | None = None, dtype: Any = None) -> Array:
    """``exp(x)`` scaled to add up to 1 along ``dim``."""
    shape = x.shape
    x, axis = _along(x, dim, dtype, "softmax")
    if not x.size:
        return x.reshape(shape)
    if _in_rows(x, axis):
        return _by_blocks(_softmax_block, x)
    e = np.exp(x - _fold(np.maximum, x, axis))
    return (e / _fold(np.add, e, axis)).reshape(shape)


def _in_rows(x: Array, axis: int) -> bool:
    """Whether a large array is worked on by blocks of rows, which stay in the cache from one step to the next."""
    return bool(
        x.size >= _LARGE
        and axis == x.ndim - 1
        and x.flags.c_contiguous
        and x.dtype.kind == "f"
        and x.shape[-1] > _SHORT
        and cuda.device_of(x) is None
    )


def _by_blocks(work: Any, x: Array) -> Array:
    """``work(rows, out)`` over blocks of the rows of a contiguous array."""
    out, n = np.empty_like(x), x.shape[-1]
    rows, results, step = x.reshape(-1, n), out.reshape(-1, n), _max(8 * _LARGE // n, 1)
    for start in range(0, len(rows), step):
        work(rows[start : start + step], results[start : start + step])
    return out


def _softmax_block(x: Array, out: Array) -> None:
    np.subtract(x, np.maximum.reduce(x, axis=1, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= float_sum(out, 1, True)


def _log_softmax_block(x: Array, out: Array) -> None:
    np.subtract(x, np.maximum.reduce(x, axis=1, keepdims=True), out=out)
    out -= np.log(float_sum(np.exp(out), 1, True))


def _softmax_rule(g: Tensor, y: Tensor, dim: int) -> Tensor:
    if y._array.dtype.kind == "f" and y._array.ndim:
        return softmax_back(g, y, dim)
    gy = g * cj(y)
    return gy - cj(y) * gy.sum(dim, keepdim=True)


def _softmax_back_value(gg: Tensor, g: Tensor, value: Tensor, dim: int) -> Tensor:
    return gg * g - gg * (g * value).sum(dim, keepdim=True) - g * (gg * value).sum(dim, keepdim=True)


def _softmax_back_g(gg: Tensor, value: Tensor, dim: int) -> Tensor:
    return softmax_back(gg, value, dim)


@operator({"g": _softmax_back_g, "value": _softmax_back_value}, method=False)
def softmax_back(g: Array, value: Array, dim: int) -> Array:
    """``value * (g - sum(g * value))``: the gradient of softmax, whose value is given."""
    r = g * value
    r -= value * _fold(np.add, r, check_axis(dim, r.ndim))
    return r


def _log_softmax_rule(g: Tensor, y: Tensor, dim: int | None) -> Tensor:
    dim = -1 if dim is None else dim
    if y._array.dtype.kind == "f" and y._array.ndim:
        return log_softmax_back(g, y, dim)
    return g - cj(y.exp()) * g.sum(dim, keepdim=True)


def _log_softmax_back_g(gg: Tensor, log_y: Tensor, dim: int) -> Tensor:
    return gg - (gg * log_y.exp()).sum(dim, keepdim=True)


def _log_softmax_back_y(gg: Tensor, g: Tensor, log_y: Tensor, dim: int) -> Tensor:
    return -gg * log_y.exp() * g.sum(dim, keepdim=True)


@operator({"g": _log_softmax_back_g, "log_y": _log_softmax_back_y}, method=False)
def log_softmax_back(g: Array, log_y: Array, dim: int) -> Array:
    """``g - exp(log_y) * sum(g)``: the gradient of log_softmax, whose value is log_y."""
    r = np.exp(log_y)
    r *= _fold(np.add, g, check_axis(dim, g.ndim))
    return np.subtract(g, r, out=r)


@operator({"x": _log_softmax_rule}, onnx="LogSoftmax")
def log_softmax(x: Array, dim: int | None = None, dtype: Any = None) -> Array:
    """``log(softmax(x))``, computed stably."""
    shape = x.shape
    x, axis = _along(x, dim, dtype, "log_softmax")
    if not x.size:
        return x.reshape(shape)
    if _in_rows(x, axis):
        return _by_blocks(_log_softmax_block, x)
    shifted = x - _fold(np.maximum, x, axis)
    return (shifted - np.log(_fold(np.add, np.exp(shifted), axis))).reshape(shape)
