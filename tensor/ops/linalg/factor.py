"""Factors that solve equations: Cholesky, LU with pivots, and LDL."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensor import cuda, dtypes
from tensor.autograd.tensor import Tensor
from tensor.ops.join import cat
from tensor.ops.linalg.common import (
    adjoint,
    check_matrix,
    check_square,
    check_triangular_pair,
    identity_like,
    lapack,
    over_batch,
    raise_for,
)  # fmt: skip
from tensor.ops.linalg.results import LDL, LU, CholeskyEx, LDLEx, LUFactor, LUFactorEx
from tensor.ops.linalg.solve import solve_triangular
from tensor.ops.record import Array, composite, operator

__all__ = [
    "cholesky", "cholesky_ex", "cholesky_inverse", "cholesky_solve", "ldl_factor", "ldl_factor_ex", "ldl_solve", "lu", "lu_factor", "lu_factor_ex",
    "lu_solve", "lu_unpack",
]  # fmt: skip

NOT_POSITIVE = "the matrix is not positive definite: its leading minor of order {code} is not"
PIVOT = "U has a 0 on its diagonal, at {code}: dividing by it will fail"


# --- Cholesky --------------------------------------------------------------------------------------------------------


def _cholesky_rule(g: Any, y: Any, upper: bool) -> Tensor:
    """Symmetric, since the input is: differentiate A = L L^H and keep the triangle of L^-1 dA L^-H (Murray 2016)."""
    L, g_lower = (adjoint(y[0]), adjoint(g[0])) if upper else (y[0], g[0])
    lower = (adjoint(L) @ g_lower).tril()
    middle = (lower + adjoint(lower.tril(-1))) * 0.5
    down = solve_triangular(adjoint(L), middle, upper=True)
    return solve_triangular(L, down, upper=False, left=False)


@operator({"A": _cholesky_rule}, outputs=2, method=False, name="linalg._cholesky")
def _cholesky(A: Array, upper: bool) -> tuple[Array, Array]:
    """The lower or upper factor, by that triangle, and whether there is one."""
    if upper:
        factor, info = _lower_cholesky(np.conj(np.swapaxes(A, -1, -2)))
        return np.conj(np.swapaxes(factor, -1, -2)), info
    return _lower_cholesky(A)


def _lower_cholesky(a: Array) -> tuple[Array, Array]:
    try:
        return np.linalg.cholesky(a), cuda.native(np.zeros, a)(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:  # some matrix of the batch: find which, and give the others what they should have
        potrf = lapack("potrf", a.dtype)
        factor, info = over_batch(lambda m: potrf(m, lower=1, clean=1), [a], [2], [(a.shape[-2:], a.dtype), ((), np.int32)])
        return factor, info


@composite(method=False, name="linalg.cholesky_ex")
def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> CholeskyEx:
    """`cholesky`, with 0 or the order of the leading minor that is not positive definite for each matrix instead of an error.

    >>> import tensor as T
    >>> T.linalg.cholesky_ex(T.tensor([[1.0, 0.0], [0.0, -1.0]])).info
    tensor(2, dtype=tensor.int32)
    """
    check_square("linalg.cholesky_ex", A)
    factor, info = _cholesky(A, upper)
    if check_errors:
        raise_for("linalg.cholesky_ex", info, NOT_POSITIVE)
    return CholeskyEx(factor, info)


@composite(method=False, name="linalg.cholesky")
def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """L with ``L @ L.mH = A`` (U with ``U.mH @ U = A`` if ``upper``) of positive definite matrices [..., n, n].

    Only the triangle that is asked for is read. Raises `LinAlgError` for a matrix that is not positive definite, naming its place in the batch.

    >>> import tensor as T
    >>> T.linalg.cholesky(T.tensor([[4.0, 2.0], [2.0, 5.0]]))
    tensor([[2., 0.],
            [1., 2.]])
    """
    check_square("linalg.cholesky", A)
    factor, info = _cholesky(A, upper)
    raise_for("linalg.cholesky", info, NOT_POSITIVE)
    return factor


def _cholesky_solve_rule(g: Tensor, L: Tensor, y: Tensor, upper: bool) -> tuple[Tensor, Tensor]:
    right = _cholesky_solve(g, L, upper)
    change = right @ adjoint(y)
    change = change + adjoint(change)
    return right, -(L @ change if upper else change @ L)


@operator(_cholesky_solve_rule, method=False, name="linalg._cholesky_solve")
def _cholesky_solve(B: Array, L: Array, upper: bool) -> Array:
    """X with L L^H X = B."""
    shape = B.shape[-2:]
    if not math.prod(shape):
        return np.zeros_like(B, shape=np.broadcast_shapes(L.shape[:-2], B.shape[:-2]) + shape)
    potrs = lapack("potrs", B.dtype)
    (x,) = over_batch(lambda b, c: [potrs(c, b, lower=int(not upper))[0]], [B, L], [2, 2], [(shape, B.dtype)])
    return x


@composite()
def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """X with ``L @ L.mH @ X = B``, by the Cholesky factor L of a matrix.

    >>> import tensor as T
    >>> T.cholesky_solve(T.tensor([[8.0]]), T.tensor([[2.0]]))
    tensor([[2.]])
    """
    check_triangular_pair("cholesky_solve", L, B)
    return _cholesky_solve(B, L, upper)


@composite()
def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """The inverse of ``L @ L.mH``, by the Cholesky factor L of a matrix.

    >>> import tensor as T
    >>> T.cholesky_inverse(T.tensor([[2.0]]))
    tensor([[0.2500]])
    """
    check_square("cholesky_inverse", L)
    return _cholesky_solve(identity_like(L, L.shape[-1]), L, upper)


# --- LU --------------------------------------------------------------------------------------------------------------


def _order(pivots: Array, rows: int) -> Array:
    """Pivots, one exchange of rows after the other, as the order that the rows end up in."""

    def exchange(p: Array) -> list[Array]:
        order = np.arange(rows)
        for i, j in enumerate(p - 1):
            order[[i, j]] = order[[j, i]]
        return [order]

    (order,) = over_batch(exchange, [pivots], [1], [((rows,), np.int64)])
    return order


def _permutation(pivots: Tensor, rows: int, dtype: Any) -> Tensor:
    """P with P L U = A."""
    order = _order(pivots._array, rows)
    return Tensor((order[..., None, :] == np.arange(rows, like=order)[:, None]).astype(dtype))


def _lu_parts(LU: Tensor) -> tuple[Tensor, Tensor]:
    """L, with ones on its diagonal, and U."""
    k = min(LU.shape[-2:])
    lower = LU[..., :k].tril(-1)
    return lower + identity_like(lower, lower.shape[-2], k), LU[..., :k, :].triu()


def _lu_rule(g: Any, y: Any) -> Tensor:
    """Differentiate A = P L U; what is left of the square part, right or below, is a triangular solve of its own."""
    packed, pivots, _ = y
    m, n = packed.shape[-2:]
    k = min(m, n)
    L, U = _lu_parts(packed)
    g_lower, g_upper = g[0][..., :k].tril(-1), g[0][..., :k, :].triu()
    L1, U1 = L[..., :k, :], U[..., :k]
    below = adjoint(L1) @ g_lower[..., :k, :]
    right = g_upper[..., :k] @ adjoint(U1)
    if n > k:
        below = below - g_upper[..., k:] @ adjoint(U[..., k:])
    if m > k:
        right = right - adjoint(L[..., k:, :]) @ g_lower[..., k:, :]
    middle = solve_triangular(adjoint(U1), below.tril(-1) + right.triu(), upper=False, left=False)
    if n > k:
        middle = cat([middle, g_upper[..., k:]], -1)
    whole = solve_triangular(adjoint(L1), middle, upper=True, unitriangular=True)
    if m > k:
        whole = cat([whole, solve_triangular(adjoint(U1), g_lower[..., k:, :], upper=False, left=False)], -2)
    return _permutation(pivots, m, packed._array.dtype) @ whole


@operator({"A": _lu_rule}, outputs=3, method=False, name="linalg._lu_factor")
def _lu_factor(A: Array) -> tuple[Array, Array, Array]:
    """L and U in one matrix, pivots from 1, and which pivot is 0."""
    m, n = A.shape[-2:]
    k = min(m, n)
    outputs = [((m, n), A.dtype), ((k,), np.int32), ((), np.int32)]
    if not k:
        return tuple(np.zeros_like(A, dtype, shape=A.shape[:-2] + shape) for shape, dtype in outputs)
    getrf = lapack("getrf", A.dtype)

    def factor(a: Array) -> tuple[Array, Array, Any]:
        packed, pivots, info = getrf(a)
        return packed, pivots + 1, info

    packed, pivots, info = over_batch(factor, [A], [2], outputs)
    return packed, pivots, info


def _factored(who: str, A: Tensor, pivot: bool) -> LUFactorEx:
    check_matrix(who, A)
    if not pivot:
        msg = f"{who}: expected pivot=True; LU without pivoting exists only on CUDA devices"
        raise RuntimeError(msg)
    return LUFactorEx(*_lu_factor(A))


@composite(method=False, name="linalg.lu_factor_ex")
def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> LUFactorEx:
    """`lu_factor`, with 0 or the number of the pivot that is 0 for each matrix instead of an error.

    >>> import tensor as T
    >>> T.linalg.lu_factor_ex(T.zeros(2, 2)).info
    tensor(1, dtype=tensor.int32)
    """
    result = _factored("linalg.lu_factor_ex", A, pivot)
    if check_errors:
        raise_for("linalg.lu_factor_ex", result.info, PIVOT)
    return result


@composite(method=False, name="linalg.lu_factor")
def lu_factor(A: Tensor, *, pivot: bool = True) -> LUFactor:
    """L and U of matrices [..., m, n] in one matrix, and the row that each was exchanged with, counted from 1: what `lu_solve` takes.

    >>> import tensor as T
    >>> T.linalg.lu_factor(T.tensor([[0.0, 1.0], [2.0, 0.0]])).pivots
    tensor([2, 2], dtype=tensor.int32)
    """
    result = _factored("linalg.lu_factor", A, pivot)
    raise_for("linalg.lu_factor", result.info, PIVOT)
    return LUFactor(result.LU, result.pivots)


@composite(method=False)
def lu_unpack(LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True) -> LU:
    """P, L and U from what `linalg.lu_factor` returns; the parts that are not wanted are empty.

    >>> import tensor as T
    >>> P, L, U = T.lu_unpack(*T.linalg.lu_factor(T.tensor([[0.0, 1.0], [2.0, 0.0]])))
    >>> P @ L @ U
    tensor([[0., 1.],
            [2., 0.]])
    """
    check_matrix("lu_unpack", LU_data)
    if unpack_pivots and LU_pivots.dtype is not dtypes.int32:
        msg = f"lu_unpack: expected pivots of int32, counted from 1, got {LU_pivots.dtype}"
        raise RuntimeError(msg)
    nothing: Tensor = LU_data.new_empty((0,))
    L, U = _lu_parts(LU_data) if unpack_data else (nothing, nothing)
    P = _permutation(LU_pivots, LU_data.shape[-2], LU_data._array.dtype) if unpack_pivots else nothing
    return LU(P, L, U)


@composite(method=False, name="linalg.lu")
def lu(A: Tensor, *, pivot: bool = True) -> LU:
    """P, L, U with ``P @ L @ U = A``, of matrices [..., m, n]: a permutation, a unit lower and an upper triangle.

    >>> import tensor as T
    >>> T.linalg.lu(T.tensor([[0.0, 1.0], [2.0, 0.0]])).U
    tensor([[2., 0.],
            [0., 1.]])
    """
    packed, pivots, _ = _factored("linalg.lu", A, pivot)
    result: LU = lu_unpack(packed, pivots)
    return result


@composite(method=False, name="linalg.lu_solve")
def lu_solve(LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False) -> Tensor:
    """X with ``A X = B`` (``X A = B`` if not ``left``; the adjoint of A if ``adjoint``) by the factors of A that `lu_factor` returns.

    >>> import tensor as T
    >>> T.linalg.lu_solve(*T.linalg.lu_factor(T.tensor([[0.0, 1.0], [2.0, 0.0]])), T.tensor([[1.0], [2.0]]))
    tensor([[1.],
            [1.]])
    """
    check_triangular_pair("linalg.lu_solve", LU, B, left)
    P = _permutation(pivots, LU.shape[-1], LU._array.dtype)
    if not left:  # X A = B says A^H X^H = B^H
        return _lu_solved(LU, P, B.mH, not adjoint).mH
    return _lu_solved(LU, P, B, adjoint)


def _lu_solved(packed: Tensor, P: Tensor, B: Tensor, adjoined: bool) -> Tensor:
    if adjoined:
        y = solve_triangular(packed.mH, B, upper=False)
        return P @ solve_triangular(packed.mH, y, upper=True, unitriangular=True)
    y = solve_triangular(packed, P.mT @ B, upper=False, unitriangular=True)
    return solve_triangular(packed, y, upper=True)


# --- LDL -------------------------------------------------------------------------------------------------------------


def _ldl_routine(name: str, dtype: Any, hermitian: bool) -> Any:
    return lapack(("he" if hermitian and dtype.kind == "c" else "sy") + name, dtype)


@operator(outputs=3, method=False, name="linalg._ldl_factor")
def _ldl_factor(A: Array, hermitian: bool) -> tuple[Array, Array, Array]:
    """LAPACK's Bunch-Kaufman factors of the lower triangle."""
    n = A.shape[-1]
    trf = _ldl_routine("trf", A.dtype, hermitian)
    outputs = [((n, n), A.dtype), ((n,), np.int32), ((), np.int32)]
    packed, pivots, info = over_batch(lambda a: trf(a, lower=1), [A], [2], outputs)
    return packed, pivots, info


@composite(method=False, name="linalg.ldl_factor_ex")
def ldl_factor_ex(A: Tensor, *, hermitian: bool = False, check_errors: bool = False) -> LDLEx:
    """`ldl_factor`, with 0 or the number of the singular block for each matrix instead of an error.

    >>> import tensor as T
    >>> T.linalg.ldl_factor_ex(T.eye(2)).info
    tensor(0, dtype=tensor.int32)
    """
    check_square("linalg.ldl_factor_ex", A)
    result = LDLEx(*_ldl_factor(A, hermitian))
    if check_errors:
        raise_for("linalg.ldl_factor_ex", result.info, "D is singular, at {code}")
    return result


@composite(method=False, name="linalg.ldl_factor")
def ldl_factor(A: Tensor, *, hermitian: bool = False) -> LDL:
    """L and D of symmetric matrices (Hermitian ones if ``hermitian``), with pivots, in LAPACK's layout: what `ldl_solve` takes.

    >>> import tensor as T
    >>> T.linalg.ldl_factor(T.tensor([[2.0, 2.0], [2.0, 5.0]])).LD.diagonal()
    tensor([2., 3.])
    """
    check_square("linalg.ldl_factor", A)
    packed, pivots, info = _ldl_factor(A, hermitian)
    raise_for("linalg.ldl_factor", info, "D is singular, at {code}")
    return LDL(packed, pivots)


def _ldl_solve_rule(g: Tensor, LD: Tensor, pivots: Tensor, hermitian: bool) -> Tensor:
    if hermitian or LD._array.dtype.kind != "c":
        return _ldl_solve(g, LD, pivots, hermitian)
    return _ldl_solve(g.conj(), LD, pivots, hermitian).conj()


@operator({"B": _ldl_solve_rule}, method=False, name="linalg._ldl_solve")
def _ldl_solve(B: Array, LD: Array, pivots: Array, hermitian: bool) -> Array:
    """X with A X = B, by LAPACK's Bunch-Kaufman factors of A."""
    shape = B.shape[-2:]
    if not math.prod(shape):
        return np.zeros_like(B, shape=np.broadcast_shapes(LD.shape[:-2], B.shape[:-2]) + shape)
    trs = _ldl_routine("trs", B.dtype, hermitian)
    (x,) = over_batch(lambda ld, p, b: [trs(ld, p, b, lower=1)[0]], [LD, pivots, B], [2, 1, 2], [(shape, B.dtype)])
    return x


@composite(method=False, name="linalg.ldl_solve")
def ldl_solve(LD: Tensor, pivots: Tensor, B: Tensor, *, hermitian: bool = False) -> Tensor:
    """X with ``A X = B`` by the factors of A that `ldl_factor` returns; differentiable by B alone.

    >>> import tensor as T
    >>> T.linalg.ldl_solve(*T.linalg.ldl_factor(T.tensor([[2.0]])), T.tensor([[4.0]]))
    tensor([[2.]])
    """
    check_triangular_pair("linalg.ldl_solve", LD, B)
    return _ldl_solve(B, LD, pivots, hermitian)
