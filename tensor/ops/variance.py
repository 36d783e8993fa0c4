"""Variance and standard deviation: of complex numbers too, where they are real."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.dispatch import as_array
from tensor.ops.record import Array, composite, operator
from tensor.ops.reduce import Dims, as_floats, axes, count, numpy_axis, reduce_sum, restore

__all__ = ["std", "std_mean", "var", "var_mean"]


def _squares(d: Array, axis: Any, keepdim: bool) -> Array:
    """The sum of the squared lengths of ``d``, which is ours to write into."""
    if d.dtype.kind == "c":
        return reduce_sum(d.real**2 + d.imag**2, axis, keepdim)
    if axis is None and not keepdim and d.flags.c_contiguous and d.dtype != np.float16:
        flat = d.reshape(-1)
        return flat.dot(flat)  # one pass, by BLAS
    d *= d
    return reduce_sum(d, axis, keepdim)


def _divisor(shape: Any, dim: Dims, correction: float) -> float:
    return max(count(shape, dim) - correction, 0)


def _var_rule(g: Tensor, x: Tensor, dim: Dims, correction: float, keepdim: bool) -> Tensor:
    n = _divisor(x.shape, dim, correction)
    centred = x - x.mean(axes(dim, x.ndim), keepdim=True)
    return restore(g, x.shape, dim, keepdim) * centred * (2 / n if n else math.inf)


@operator({"x": _var_rule}, method=False)
def variance(x: Array, dim: Dims, correction: float, keepdim: bool) -> Array:
    """The operator behind `var`."""
    x = as_floats(x, None, "var")
    axis, n = numpy_axis(dim, x.ndim), x.dtype.type(count(x.shape, dim))
    total = _squares(as_array(x - reduce_sum(x, axis, True) / n), axis, keepdim)
    return total / total.dtype.type(_divisor(x.shape, dim, correction))


def _std_rule(g: Tensor, x: Tensor, y: Tensor, dim: Dims, correction: float, keepdim: bool) -> Tensor:
    """Where nothing deviates the gradient is 0."""
    return _var_rule((g / (y * 2)).masked_fill(y == 0, 0), x, dim, correction, keepdim)


@operator({"x": _std_rule}, method=False)
def deviation(x: Array, dim: Dims, correction: float, keepdim: bool) -> Array:
    """The operator behind `std`."""
    return np.sqrt(variance.operator.forward(x, dim, correction, keepdim))  # type: ignore[attr-defined]


def _arguments(dim: Any, unbiased: bool | None, correction: float | None) -> tuple[Any, float]:
    """The dimensions and the correction; ``var(x, False)`` means ``unbiased``."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    return dim, correction


@composite()
def var(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """The variance over ``dim``, dividing by n - 1 (``unbiased``) or n - ``correction``.

    >>> import tensor as T
    >>> T.var(T.tensor([1.0, 2.0, 3.0]), correction=0)
    tensor(0.6667)
    """
    return variance(x, *_arguments(dim, unbiased, correction), keepdim)


@composite()
def std(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """The square root of `var`."""
    return deviation(x, *_arguments(dim, unbiased, correction), keepdim)


@composite(method=False)
def var_mean(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> tuple[Tensor, Tensor]:
    """The pair (`var`, `mean`)."""
    dim, correction = _arguments(dim, unbiased, correction)
    return variance(x, dim, correction, keepdim), x.mean(dim if dim is not None else (), keepdim)


@composite(method=False)
def std_mean(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> tuple[Tensor, Tensor]:
    """The pair (`std`, `mean`)."""
    dim, correction = _arguments(dim, unbiased, correction)
    return deviation(x, dim, correction, keepdim), x.mean(dim if dim is not None else (), keepdim)
