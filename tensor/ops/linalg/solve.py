"""Inverses and systems of linear equations with one solution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensor import cuda
from tensor.autograd.tensor import Tensor
from tensor.ops.linalg.common import adjoint, check_square, check_triangular_pair, lapack, over_batch, raise_for, same_dtype
from tensor.ops.linalg.results import InvEx, SolveEx
from tensor.ops.record import Array, attach, composite, operator

__all__ = ["inv", "inv_ex", "inverse", "solve", "solve_ex", "solve_triangular", "tensorinv", "tensorsolve"]

SINGULAR = "the matrix is singular: pivot {code} of its LU decomposition is 0"


def _singular_pivots(a: Array) -> Array:
    """0, or which pivot of the LU decomposition is 0, for each matrix."""
    getrf = lapack("getrf", a.dtype)
    (info,) = over_batch(lambda m: [getrf(m)[2]], [a], [2], [((), np.int32)])
    return info


def _where_regular(function: Callable[..., Array], a: Array, *rest: Array) -> tuple[Array, Array]:
    """The function's results, nan for the singular matrices of the batch, and their ``info``."""
    try:
        return function(a, *rest), cuda.native(np.zeros, a)(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:  # some matrix of the batch: find which, and give the others what they should have
        info = _singular_pivots(a)
        bad = (info != 0)[..., None, None]
        r = function(np.where(bad, cuda.native(np.eye, a)(a.shape[-1], dtype=a.dtype), a), *rest)
        return np.where(bad, r.dtype.type(math.nan), r), info


# --- inverses --------------------------------------------------------------------------------------------------------


@operator({"A": lambda g, y: -(adjoint(y[0]) @ g[0] @ adjoint(y[0]))}, outputs=2, method=False, name="linalg._inv")
def _inv(A: Array) -> tuple[Array, Array]:
    """The inverse and whether there is one."""
    return _where_regular(np.linalg.inv, A)


@composite(method=False, name="linalg.inv_ex")
def inv_ex(A: Tensor, *, check_errors: bool = False) -> InvEx:
    """The inverse of square matrices [..., n, n], and for each 0 or the number of the pivot that is 0, instead of an error.

    >>> import tensor as T
    >>> T.linalg.inv_ex(T.tensor([[2.0, 0.0], [0.0, 4.0]])).inverse
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    check_square("linalg.inv_ex", A)
    result = InvEx(*_inv(A))
    if check_errors:
        raise_for("linalg.inv_ex", result.info, SINGULAR)
    return result


@composite(method=False, name="linalg.inv", aliases=["inverse"])
def inv(A: Tensor) -> Tensor:
    """The inverse of square matrices [..., n, n].

    Raises `LinAlgError` for a singular matrix, naming its place in the batch. To solve equations, `solve` is faster and more exact.

    >>> import tensor as T
    >>> T.linalg.inv(T.tensor([[0.0, 2.0], [1.0, 0.0]]))
    tensor([[0.0000, 1.0000],
            [0.5000, 0.0000]])
    """
    check_square("linalg.inv", A)
    inverse, info = _inv(A)
    raise_for("linalg.inv", info, SINGULAR)
    return inverse


inverse = inv


# --- systems of equations --------------------------------------------------------------------------------------------


def _solve_rule(g: Any, A: Tensor, y: Any) -> tuple[Tensor, Tensor]:
    right = _solve(adjoint(A), g[0])[0]
    return -(right @ adjoint(y[0])), right


@operator(_solve_rule, outputs=2, method=False, name="linalg._solve")
def _solve(A: Array, B: Array) -> tuple[Array, Array]:
    """X with A X = B, for matrices B, and whether there is one."""
    if cuda.device_of(A) is not None:  # CuPy broadcasts no batches
        batch = np.broadcast_shapes(A.shape[:-2], B.shape[:-2])
        A, B = (np.broadcast_to(m, batch + m.shape[-2:]) for m in (A, B))
    return _where_regular(np.linalg.solve, A, B)


def _solved(who: str, A: Tensor, B: Tensor, left: bool) -> tuple[Tensor, Tensor]:
    """Vectors as columns, and unknowns on the left as transposed equations."""
    check_square(who, A)
    same_dtype(who, A, B)
    vector = B.ndim == 1 or (B.ndim == A.ndim - 1 and B.shape == A.shape[:-1])
    if vector and not left:
        msg = f"{who}: expected left=True for a vector B, got left=False with shapes {tuple(A.shape)} and {tuple(B.shape)}"
        raise RuntimeError(msg)
    columns = B.unsqueeze(-1) if vector else B
    check_triangular_pair(who, A, columns, left)
    x, info = _solve(A, columns) if left else _solve(A.mT, columns.mT)
    return (x.squeeze(-1) if vector else x if left else x.mT), info


@composite(method=False, name="linalg.solve_ex")
def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> SolveEx:
    """`solve`, with 0 or the number of the pivot that is 0 for each matrix instead of an error.

    >>> import tensor as T
    >>> T.linalg.solve_ex(T.zeros(2, 2), T.ones(2)).info
    tensor(1, dtype=tensor.int32)
    """
    result = SolveEx(*_solved("linalg.solve_ex", A, B, left))
    if check_errors:
        raise_for("linalg.solve_ex", result.info, SINGULAR)
    return result


@composite(method=False, name="linalg.solve")
def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X with ``A X = B`` (``X A = B`` if not ``left``) for square A [..., n, n] and B [..., n, k] or vectors [..., n]; batches broadcast.

    Raises `LinAlgError` for a singular matrix, naming its place in the batch.

    >>> import tensor as T
    >>> T.linalg.solve(T.tensor([[2.0, 0.0], [0.0, 4.0]]), T.tensor([2.0, 2.0]))
    tensor([1.0000, 0.5000])
    """
    x, info = _solved("linalg.solve", A, B, left)
    raise_for("linalg.solve", info, SINGULAR)
    return x


# --- triangles -------------------------------------------------------------------------------------------------------


def triangle(x: Tensor, upper: bool, unit: bool = False) -> Tensor:
    """The upper or lower triangle of a matrix, without its diagonal if that is not looked at."""
    part: Tensor = x.triu(1 if unit else 0) if upper else x.tril(-1 if unit else 0)
    return part


def _triangular_rule(g: Tensor, A: Tensor, y: Tensor, upper: bool, left: bool, unit: bool) -> tuple[Tensor, Tensor]:
    right = _solve_triangular(adjoint(A), g, not upper, left, unit)
    whole = right @ adjoint(y) if left else adjoint(y) @ right
    return -triangle(whole, upper, unit), right


@operator(_triangular_rule, method=False, name="linalg._solve_triangular")
def _solve_triangular(A: Array, B: Array, upper: bool, left: bool, unit: bool) -> Array:
    """X with A X = B or X A = B, looking only at one triangle of A; a 0 on its diagonal gives infinities, no error."""
    shape = B.shape[-2:]
    if not math.prod(shape):
        return np.zeros_like(B, shape=np.broadcast_shapes(A.shape[:-2], B.shape[:-2]) + shape)
    trsm = lapack("trsm", B.dtype, "blas")
    # NumPy's rows are BLAS's columns: the transposed equations are solved, on the arrays as they lie in memory.
    (x,) = over_batch(lambda a, b: [trsm(1, a.T, b.T, int(left), int(upper), 0, int(unit)).T], [A, B], [2, 2], [(shape, B.dtype)])
    return x


@composite(method=False, name="linalg.solve_triangular")
def solve_triangular(A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """X with ``A X = B`` (``X A = B`` if not ``left``) for triangular A [..., n, n], of which only that triangle is read.

    ``unitriangular``: the diagonal counts as ones, whatever is there. A 0 on the diagonal gives infinities, no error.

    >>> import tensor as T
    >>> T.linalg.solve_triangular(T.tensor([[2.0, 0.0], [1.0, 1.0]]), T.tensor([[2.0], [3.0]]), upper=False)
    tensor([[1.],
            [2.]])
    """
    check_triangular_pair("linalg.solve_triangular", A, B, left)
    return _solve_triangular(A, B, upper, left, unitriangular)


# --- tensors as matrices ---------------------------------------------------------------------------------------------


@composite(method=False, name="linalg.tensorinv")
def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse of A as a map from its last dimensions to its first ``ind``: `tensordot` of both is the identity.

    >>> import tensor as T
    >>> tuple(T.linalg.tensorinv(T.eye(6).reshape(2, 3, 6), ind=2).shape)
    (6, 2, 3)
    """
    if ind < 1:
        msg = f"linalg.tensorinv: expected ind to be positive, got {ind}"
        raise RuntimeError(msg)
    rows, columns = A.shape[:ind], A.shape[ind:]
    if math.prod(rows) != math.prod(columns):
        msg = f"linalg.tensorinv: expected the first {ind} dimensions to hold as many elements as the others, got shape {tuple(A.shape)}"
        raise RuntimeError(msg)
    return inv(A.reshape(math.prod(rows), math.prod(columns))).reshape(*columns, *rows)


@composite(method=False, name="linalg.tensorsolve")
def tensorsolve(A: Tensor, B: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """X with ``tensordot(A, X, X.ndim) = B``; ``dims`` of A are moved to its end first.

    >>> import tensor as T
    >>> tuple(T.linalg.tensorsolve(T.eye(6).reshape(2, 3, 6), T.ones(2, 3)).shape)
    (6,)
    """
    if dims is not None:
        A = A.movedim(tuple(dims), tuple(range(-len(dims), 0)))
    unknown = A.shape[B.ndim :]
    if math.prod(unknown) != math.prod(B.shape):
        msg = f"linalg.tensorsolve: expected as many unknowns as equations, got A of shape {tuple(A.shape)} for B of shape {tuple(B.shape)}"
        raise RuntimeError(msg)
    x: Tensor = solve(A.reshape(-1, math.prod(unknown)), B.reshape(-1))
    return x.reshape(*unknown)


attach(inverse=inv)
