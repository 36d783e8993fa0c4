"""Norms of vectors and matrices, and condition numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.linalg.common import check_matrix, check_square
from tensor.ops.linalg.solve import inv_ex
from tensor.ops.linalg.spectral import svdvals
from tensor.ops.record import Array, composite, operator
from tensor.ops.reduce import axes, l2_norm, numpy_axis, restore

__all__ = ["cond", "matrix_norm", "norm", "vector_norm"]

Dims = int | Sequence[int] | None


def _slope(x: Tensor, p: float) -> Tensor:
    """sgn(x) |x|^(p - 1)."""
    if p < 2:
        powers = x.abs() ** (p - 1)
        return x.sgn() * (powers.masked_fill(x == 0, 0) if p < 1 else powers)
    return x * x.abs() ** (p - 2)


def _p_norm_rule(g: Tensor, x: Tensor, y: Tensor, p: float, dim: Dims, keepdim: bool) -> Tensor:
    """At 0, where there is no derivative, 0; where several elements are the largest, they share."""
    g, y = restore(g, x.shape, dim, keepdim), restore(y, x.shape, dim, keepdim)
    if p == 0:
        return g * x * 0
    if p == 1:
        return x.sgn() * g
    if math.isinf(p):
        chosen = (x.abs() == y).to(g.dtype)
        return x.sgn() * (chosen * (g / chosen.sum(tuple(axes(dim, x.ndim)), keepdim=True)))
    return _slope(x, p) * (g / y ** (p - 1)).masked_fill(y == 0, 0)


#: The norms that are no root of a sum of powers.
SPECIAL: dict[float, Callable[..., Array]] = {math.inf: np.max, -math.inf: np.min, 0: np.sum, 1: np.sum}


@operator({"x": _p_norm_rule}, method=False, name="linalg._p_norm")
def _p_norm(x: Array, p: float, dim: Dims, keepdim: bool) -> Array:
    """The p-norm over dimensions."""
    size = np.abs(x)
    axis = numpy_axis(dim, x.ndim)
    special = SPECIAL.get(p)
    if special is not None:
        return special(size if p else (size != 0).astype(size.dtype), axis=axis, keepdims=keepdim)
    return (size**p).sum(axis=axis, keepdims=keepdim) ** (1 / p)


@composite(method=False, name="linalg.vector_norm")
def vector_norm(x: Tensor, ord: float = 2, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """``sum(|x| ** ord) ** (1 / ord)`` over ``dim`` (all of them); the largest or smallest for infinities; how many are not 0 for 0.

    >>> import tensor as T
    >>> T.linalg.vector_norm(T.tensor([3.0, 4.0]))
    tensor(5.)
    """
    if isinstance(ord, str) or not isinstance(ord, (int, float, np.number)):
        msg = f"linalg.vector_norm: expected ord to be a number, got {ord!r}"
        raise TypeError(msg)
    if dtype is not None:
        x = x.to(dtype)
    if x._array.dtype.kind not in "fc":
        msg = f"linalg.vector_norm: expected a floating-point or complex tensor, got {x.dtype}"
        raise RuntimeError(msg)
    p = float(ord)
    if p < 0 or p == math.inf:
        for d in axes(dim, x.ndim):
            if x.ndim and not x.shape[d]:
                msg = f"linalg.vector_norm: no {p}-norm of no elements, got shape {tuple(x.shape)} and dim {dim}"
                raise RuntimeError(msg)
    return l2_norm(x, dim, keepdim) if p == 2 else _p_norm(x, p, dim, keepdim)


def _reduced(values: Tensor, reduce: str, dim: int, keepdim: bool) -> Tensor:
    """The sum, the largest or the smallest; the largest of no norms is 0, as their sum is."""
    if values.shape[dim]:
        y: Tensor = getattr(values, reduce)(dim, keepdim)
        return y
    if reduce == "amin":
        msg = f"linalg.matrix_norm: expected matrices with elements for the smallest of a norm, got {tuple(values.shape)} to choose from"
        raise RuntimeError(msg)
    return values.sum(dim, keepdim)


def _of_values(A: Tensor, dims: tuple[int, int], keepdim: bool, reduce: str) -> Tensor:
    """What singular values say, with the matrices' dimensions kept or not."""
    y = _reduced(svdvals(A.movedim(dims, (-2, -1))), reduce, -1, False)
    for d in sorted(dims) if keepdim else ():
        y = y.unsqueeze(d)
    return y


def _of_sums(A: Tensor, along: int, over: int, keepdim: bool, reduce: str) -> Tensor:
    """The largest or smallest of the sums of absolute values along one dimension."""
    y = _reduced(vector_norm(A, 1, along, True), reduce, over, True)
    return y if keepdim else y.squeeze((along, over))


#: Which of `matrix_norm`'s orders are of singular values, and which of sums along rows or columns.
BY_VALUES: dict[Any, str] = {"nuc": "sum", 2: "amax", -2: "amin"}
BY_SUMS: dict[Any, tuple[int, str]] = {1: (0, "amax"), -1: (0, "amin"), math.inf: (1, "amax"), -math.inf: (1, "amin")}


@composite(method=False, name="linalg.matrix_norm")
def matrix_norm(
    A: Tensor, ord: float | str = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """A norm of the matrices in two dimensions of A.

    ``ord``: "fro" (root of the sum of squares), "nuc" (sum of the singular values), 2 and -2 (the largest and smallest singular value), inf and -inf
    (sums of absolute values along rows, the largest or smallest), 1 and -1 (along columns).

    >>> import tensor as T
    >>> T.linalg.matrix_norm(T.tensor([[3.0, 0.0], [0.0, -4.0]]), "nuc")
    tensor(7.)
    """
    who = "linalg.matrix_norm"
    if dtype is not None:
        A = A.to(dtype)
    check_matrix(who, A)
    if len(dim) != 2 or dim[0] % A.ndim == dim[1] % A.ndim:
        msg = f"{who}: expected two different dimensions, got dim {tuple(dim)} of shape {tuple(A.shape)}"
        raise RuntimeError(msg)
    rows, columns = dim[0] % A.ndim, dim[1] % A.ndim
    if ord == "fro":
        return l2_norm(A, (rows, columns), keepdim)
    if ord in BY_VALUES:
        return _of_values(A, (rows, columns), keepdim, BY_VALUES[ord])
    if ord in BY_SUMS:
        first, reduce = BY_SUMS[ord]
        along, over = (rows, columns) if first == 0 else (columns, rows)
        return _of_sums(A, along, over, keepdim, reduce)
    msg = f"{who}: expected ord to be 'fro', 'nuc', inf, -inf, 1, -1, 2 or -2, got {ord!r}"
    raise RuntimeError(msg)


@composite(method=False, name="linalg.norm")
def norm(A: Tensor, ord: Any = None, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """A vector norm over one dimension, a matrix norm over two; without ``ord`` the 2-norm of all elements in ``dim``.

    >>> import tensor as T
    >>> A = T.tensor([[3.0, 0.0], [0.0, 4.0]])
    >>> T.linalg.norm(A), T.linalg.norm(A, 2), T.linalg.norm(A, dim=0)
    (tensor(5.), tensor(4.), tensor([3., 4.]))
    """
    dims = None if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    if ord is None:
        return vector_norm(A, 2, dims, keepdim, dtype=dtype)
    count = A.ndim if dims is None else len(dims)
    if count not in (1, 2):
        msg = f"linalg.norm: expected a vector or a matrix, or dim to name them, for ord {ord!r}; got shape {tuple(A.shape)} and dim {dim}"
        raise RuntimeError(msg)
    if count == 1:
        return vector_norm(A, ord, dims, keepdim, dtype=dtype)
    return matrix_norm(A, ord, dims or (0, 1), keepdim, dtype=dtype)


@composite(method=False, name="linalg.cond")
def cond(A: Tensor, p: Any = None) -> Tensor:
    """The condition number of matrices in a norm: how much errors can grow in solving equations; infinite for a singular matrix.

    ``p``: None or 2 (the ratio of the largest to the smallest singular value), -2 (the inverse of that), or, for square matrices, an order of
    `matrix_norm`.

    >>> import tensor as T
    >>> T.linalg.cond(T.tensor([[1.0, 0.0], [0.0, 0.5]]))
    tensor(2.)
    """
    who = "linalg.cond"
    check_matrix(who, A)
    if p in (None, 2, -2):
        values = svdvals(A)
        if not values.shape[-1]:
            return values.sum(-1)
        first, last = values[..., 0], values[..., -1]
        return last / first if p == -2 else first / last
    check_square(who, A)
    if not A.shape[-1]:
        return A.abs().sum((-2, -1))
    inverse, info = inv_ex(A)
    infinite = float("inf")
    result: Tensor = matrix_norm(A, p) * matrix_norm(inverse.masked_fill((info != 0).unsqueeze(-1).unsqueeze(-1), infinite), p)
    return result
