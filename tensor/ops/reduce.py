"""Reductions and scans."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor import dtypes
from tensor.autograd.tensor import Tensor
from tensor.ops.record import Array, composite, operator

__all__ = [
    "all", "amax", "amin", "aminmax", "any", "argmax", "argmin", "count_nonzero", "cummax", "cummin", "cumprod", "cumsum",
    "diff", "log_softmax", "logcumsumexp", "logsumexp", "max", "mean", "median", "min", "nanmean", "nansum", "norm", "prod",
    "softmax", "std", "std_mean", "sum", "var", "var_mean",
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
    n = _max(ndim, 1)
    if not -n <= d < n:
        msg = f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {d})"
        raise IndexError(msg)
    return int(d % n)


def reduce_sum(x: Array, axis: Any, keepdims: bool) -> Array:
    """NumPy's sum; straight to the ufunc, whose overloads know no plain bool for ``keepdims``."""
    return _add_reduce(x, axis=axis, keepdims=keepdims)


_add_reduce: Any = np.add.reduce


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
    r = np.empty_like(x, shape=shape)
    r.fill(x / divisor)
    return r


def count(shape: Sequence[int], dim: Dims) -> int:
    """How many elements each result of a reduction is made of."""
    n: int = 1
    for i in axes(dim, len(shape)):
        n *= shape[i] if shape else 1
    return n


def _accumulator(x: Array, dtype: Any) -> Array:
    """Sums of bools and integers are int64; a dtype asked for is cast to first."""
    if dtype is not None:
        return x.astype(dtypes.numpy_dtype(dtype), copy=False)
    return x.astype(np.int64) if x.dtype.kind in "bui" and x.dtype != np.int64 else x


def _float(x: Array, dtype: Any, who: str) -> Array:
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
        x = _accumulator(x, dtype)
    if dim == -1 and x.ndim > 1 and 1 < x.shape[-1] <= _SHORT:
        total = _fold(np.add, x, x.ndim - 1)
        return total if keepdim else total[..., 0]
    return reduce_sum(x, None if dim is None else numpy_axis(dim, x.ndim), keepdim)


@operator({"x": lambda g, x, dim, keepdim: spread(g, x.shape, dim, keepdim).masked_fill(x.isnan(), 0)})
def nansum(x: Array, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> Array:
    """The sum of the elements that are not nan."""
    x = _accumulator(x, dtype)
    return np.nansum(x, axis=numpy_axis(dim, x.ndim), keepdims=keepdim)


def _mean_rule(g: Tensor, x_shape: tuple[int, ...], dim: Dims, keepdim: bool) -> Tensor:
    n = count(x_shape, dim)
    return spread(g / n, x_shape, dim, keepdim) if g._array.ndim else filled(g, x_shape, n)


@operator({"x": _mean_rule}, onnx="ReduceMean")
def mean(x: Array, dim: Dims = None, keepdim: bool = False, dtype: Any = None) -> Array:
    """The arithmetic mean over ``dim`` (all when None) of a floating-point tensor."""
    if x.dtype.kind != "f" or dtype is not None:
        x = _float(x, dtype, "mean")
    if dim is None:
        return reduce_sum(x, None, keepdim) / x.size if x.size else reduce_sum(x, None, keepdim) / x.dtype.type(0)
    return reduce_sum(x, numpy_axis(dim, x.ndim), keepdim) / x.dtype.type(count(x.shape, dim))


@composite()
def nanmean(x: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean of the elements that are not nan."""
    there = (~x.isnan()).sum(dim, keepdim)
    return nansum(x, dim, keepdim, dtype) / there


def _prod_rule(g: Tensor, x: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    """The product of all others: products before times products after, right also at zeros."""
    if dim is None or x.ndim == 0:
        return _prod_rule(g, x.reshape(-1), 0, False).reshape(x.shape)
    n = x.shape[dim]
    if n == 0:
        return g * x
    one = x.narrow(dim, 0, 1) * 0 + 1
    before = one if n == 1 else one.cat_with(x.narrow(dim, 0, n - 1), dim).cumprod(dim)
    after = one if n == 1 else one.cat_with(x.narrow(dim, 1, n - 1).flip(dim), dim).cumprod(dim).flip(dim)
    return restore(g, x.shape, dim, keepdim) * before * after


@operator({"x": _prod_rule}, onnx="ReduceProd")
def prod(x: Array, dim: int | None = None, keepdim: bool = False, dtype: Any = None) -> Array:
    """The product over ``dim`` (all when None); integers multiply in int64."""
    x = _accumulator(x, dtype)
    return np.prod(x, axis=numpy_axis(dim, x.ndim), keepdims=keepdim)


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
        r = np.asarray(reduce(x))
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


def _values_at(x: Tensor, index: Tensor, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    """The values at the indices (which kept the dimension), and the indices, as a pair."""
    values = x.gather(dim, index) if x.ndim else x.clone()
    return (values, index) if keepdim or not x.ndim else (values.squeeze(dim), index.squeeze(dim))


def _extreme(x: Tensor, dim: Any, keepdim: bool, other: Any, whole: Any, pairwise: str, arg: Any) -> Any:
    if isinstance(dim, Tensor) or other is not None:
        return getattr(x, pairwise)(dim if other is None else other)
    if dim is None:
        return whole(x)
    return _values_at(x, arg(x, dim, True), dim, keepdim)


@composite()
def max(x: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The maximum of all elements; with ``dim`` a pair (values, indices); with a tensor the elementwise maximum."""
    return _extreme(x, dim, keepdim, other, amax, "maximum", argmax)


@composite()
def min(x: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """The minimum of all elements; with ``dim`` a pair (values, indices); with a tensor the elementwise minimum."""
    return _extreme(x, dim, keepdim, other, amin, "minimum", argmin)


@composite()
def aminmax(x: Tensor, *, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The pair (minimum, maximum)."""
    return amin(x, dim, keepdim), amax(x, dim, keepdim)


@composite()
def median(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median of all elements; with ``dim`` a pair (values, indices)."""
    if dim is None:
        flat = x.reshape(-1)
        return flat[flat.argsort(stable=True)[(flat.numel() - 1) // 2]]
    if not x.ndim:
        return x.clone(), x.new_zeros((), dtype=dtypes.int64)
    order = x.argsort(dim, stable=True)
    return _values_at(x, order.narrow(dim, (x.shape[dim] - 1) // 2, 1), dim, keepdim)


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
    return np.asarray(np.count_nonzero(x, axis=numpy_axis(dim, x.ndim)), dtype=np.int64)


def _correction(unbiased: bool | None, correction: float | None) -> float:
    return correction if correction is not None else (1 if unbiased is None or unbiased else 0)


@composite()
def var(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """The variance over ``dim``, dividing by n - 1 (``unbiased``) or n - ``correction``."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    mu = x.mean(dim if dim is not None else tuple(range(x.ndim)), keepdim=True)
    d = x - mu
    n = count(x.shape, dim) - _correction(unbiased, correction)
    return (d * d).sum(dim, keepdim) / builtins.max(n, 0)


@composite()
def std(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """The square root of `var`."""
    return var(x, dim, unbiased, keepdim, correction=correction).sqrt()


@composite(method=False)
def var_mean(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> tuple[Tensor, Tensor]:
    """The pair (`var`, `mean`)."""
    v = var(x, dim, unbiased, keepdim, correction=correction)
    return v, x.mean(None if isinstance(dim, bool) else dim, keepdim)


@composite(method=False)
def std_mean(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> tuple[Tensor, Tensor]:
    """The pair (`std`, `mean`)."""
    v, m = var_mean(x, dim, unbiased, keepdim, correction=correction)
    return v.sqrt(), m


@composite()
def norm(x: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The p-norm of the elements over ``dim``; "fro" and None mean 2."""
    if dtype is not None:
        x = x.to(dtype)
    if p in ("fro", None) or p == 2:
        return l2_norm(x, dim, keepdim)
    a = x.abs()
    if p == float("inf"):
        return a.amax(dim if dim is not None else (), keepdim)
    if p == float("-inf"):
        return a.amin(dim if dim is not None else (), keepdim)
    if p == 0:
        return (a != 0).sum(dim, keepdim).to(x.dtype)
    if p == 1:
        return a.sum(dim, keepdim)
    root: Tensor = (a**p).sum(dim, keepdim) ** (1 / p)
    return root


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
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, np.zeros_like(top))
    total = np.log(np.add.reduce(np.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else total.reshape(tuple(n for i, n in enumerate(x.shape) if axis is not None and i not in axis))


@operator({"x": lambda g, x, y, dim, keepdim: restore(g, x.shape, dim, keepdim) * (x - restore(y, x.shape, dim, keepdim)).exp()}, dtype="float", onnx="ReduceLogSumExp")  # fmt: skip
def logsumexp(x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
    """``log(sum(exp(x)))`` over ``dim`` without overflow."""
    if not x.ndim:
        return x.copy()
    return _logsumexp(x, axes(dim, x.ndim), keepdim)


_SHORT = 8


def _fold(ufunc: Any, x: Array, axis: int) -> Array:
    """``ufunc.reduce`` with the axis kept; a short last axis column by column, which is four times faster."""
    n = x.shape[axis]
    if axis != x.ndim - 1 or not 1 < n <= _SHORT:
        whole: Array = ufunc.reduce(x, axis=axis, keepdims=True)
        return whole
    total = ufunc(x[..., 0:1], x[..., 1:2])
    for i in range(2, n):
        ufunc(total, x[..., i : i + 1], out=total)
    return total


def _along(x: Array, dim: int | None, dtype: Any, who: str) -> tuple[Array, int]:
    x = _float(x, dtype, who)
    return (x.reshape(1), 0) if not x.ndim else (x, check_axis(-1 if dim is None else dim, x.ndim))


@operator({"x": lambda g, y, dim: _softmax_rule(g, y, -1 if dim is None else dim)}, onnx="Softmax")
def softmax(x: Array, dim: int | None = None, dtype: Any = None) -> Array:
    """``exp(x)`` scaled to add up to 1 along ``dim``."""
    shape = x.shape
    x, axis = _along(x, dim, dtype, "softmax")
    e = np.exp(x - _fold(np.maximum, x, axis)) if x.size else x.copy()
    return (e / _fold(np.add, e, axis)).reshape(shape)


def _softmax_rule(g: Tensor, y: Tensor, dim: int) -> Tensor:
    gy = g * y
    return gy - y * gy.sum(dim, keepdim=True)


@operator({"x": lambda g, y, dim: g - y.exp() * g.sum(-1 if dim is None else dim, keepdim=True)}, onnx="LogSoftmax")
def log_softmax(x: Array, dim: int | None = None, dtype: Any = None) -> Array:
    """``log(softmax(x))``, computed stably."""
    shape = x.shape
    x, axis = _along(x, dim, dtype, "log_softmax")
    if not x.size:
        return x.reshape(shape)
    shifted = x - _fold(np.maximum, x, axis)
    return (shifted - np.log(_fold(np.add, np.exp(shifted), axis))).reshape(shape)


# --- scans -----------------------------------------------------------------------------------------------------------


def reverse_cumsum(g: Tensor, dim: int) -> Tensor:
    """The cumulative sum from the end."""
    return g.flip(dim).cumsum(dim).flip(dim) if g.ndim else g


@operator({"x": lambda g, dim: reverse_cumsum(g, dim)}, inplace=True, onnx="CumSum")
def cumsum(x: Array, dim: int, dtype: Any = None) -> Array:
    """Running sums along ``dim``; integers in int64."""
    x = _accumulator(x, dtype)
    return np.cumsum(x, axis=check_axis(dim, x.ndim)).reshape(x.shape) if x.ndim else x.copy()


def _cumprod_rule(g: Tensor, x: Tensor, dim: int) -> Tensor:
    """Row i of a triangle of products: each element left out in turn, so that zeros are right too."""
    if not x.ndim:
        return g
    n = x.shape[dim]
    x, g = x.movedim(dim, -1), g.movedim(dim, -1)
    parts = []
    for k in range(n):
        before = x[..., :k].prod(-1, keepdim=True)
        tail = before.cat_with(x[..., k + 1 :], -1).cumprod(-1)
        parts.append((tail * g[..., k:]).sum(-1, keepdim=True))
    return (parts[0].cat_with(*parts[1:], -1) if n > 1 else parts[0] if n else g * x).movedim(-1, dim)


@operator({"x": _cumprod_rule}, inplace=True)
def cumprod(x: Array, dim: int, dtype: Any = None) -> Array:
    """Running products along ``dim``; integers in int64."""
    x = _accumulator(x, dtype)
    return np.cumprod(x, axis=check_axis(dim, x.ndim)).reshape(x.shape) if x.ndim else x.copy()


@composite()
def logcumsumexp(x: Tensor, dim: int) -> Tensor:
    """Running ``log(sum(exp))`` along ``dim``."""
    if not x.ndim:
        return x.clone()
    top = x.detach().amax(dim, keepdim=True)
    return scan_logaddexp(x, dim) if not bool(top.isfinite().all()) else scan_logaddexp(x - top, dim) + top


@operator({"x": lambda g, x, y, dim: reverse_cumsum(g * (-y).exp(), dim) * x.exp()}, method=False)
def scan_logaddexp(x: Array, dim: int) -> Array:
    """The scan behind `logcumsumexp`."""
    return np.logaddexp.accumulate(x, axis=check_axis(dim, x.ndim))


def _running(accumulate: Any, x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    if not x.ndim:
        return x.clone(), x.new_zeros((), dtype=dtypes.int64)
    a = x._array
    best = accumulate(a, axis=dim)
    n = a.shape[dim]
    steps = np.arange(n).reshape([-1 if i == dim % a.ndim else 1 for i in range(a.ndim)])
    # The last place that equals the running extreme.
    index = Tensor(np.maximum.accumulate(np.where((a == best) | (np.isnan(a) & np.isnan(best)) if a.dtype.kind == "f" else a == best, steps, 0), axis=dim))  # fmt: skip
    return x.gather(dim, index), index


@composite()
def cummax(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The running maximum along ``dim`` and where it was last reached."""
    return _running(np.maximum.accumulate, x, dim)


@composite()
def cummin(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The running minimum along ``dim`` and where it was last reached."""
    return _running(np.minimum.accumulate, x, dim)


@composite()
def diff(x: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None) -> Tensor:
    """The n-th difference of neighbours along ``dim``."""
    if prepend is not None:
        x = prepend.cat_with(x, dim)
    if append is not None:
        x = x.cat_with(append, dim)
    for _ in range(n):
        size = x.shape[dim]
        later, earlier = x.narrow(dim, _min(1, size), _max(size - 1, 0)), x.narrow(dim, 0, _max(size - 1, 0))
        x = later ^ earlier if x.dtype is dtypes.bool_ else later - earlier
    return x
