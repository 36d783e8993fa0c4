"""Linear algebra. Where a result is determined up to signs or phases, what does not depend on them is compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg as sl

import tensor as T
from operator_cases.case import Case, Composite
from operator_cases.through import Through, same, symmetric

RNG = np.random.default_rng(12)


def x(*shape: int) -> Any:
    return RNG.uniform(-1, 1, shape)


def regular(*batch: int, n: int = 3) -> Any:
    """Matrices far from singular."""
    return x(*batch, n, n) + 2 * np.eye(n)


def triangular(*batch: int) -> Any:
    return np.tril(regular(*batch))


def flat(*results: Any) -> Any:
    """Several results as `Case` compares them."""
    return np.concatenate([np.ravel(r) for r in results])


def no_failure(y: Any, *batch: int) -> Any:
    """A result and ``info``."""
    return flat(y, np.zeros(batch))


def size(y: Any) -> Any:
    return y.abs()


def spectrum(decompose: Callable[..., Any], change: Callable[[Any], Any] = lambda a: a) -> Callable[..., Any]:
    """Absolute values of all that a decomposition gives."""
    return lambda a, *_: np.abs(flat(*decompose(change(a))))


def with_transpose(a: Any) -> Any:
    return a + a.mT


def packed(a: Any) -> Any:
    lu, pivots = sl.lu_factor(a)
    return flat(lu, pivots + 1, [0])


def positive(a: Any) -> Any:
    """A positive definite matrix."""
    return a @ a.mT + T.eye(a.shape[-1], dtype=a.dtype, device=a.device)


def positive_array(a: Any) -> Any:
    return a @ a.mT + np.eye(a.shape[-1])


LDL = sl.lapack.dsytrf(with_transpose(regular()), lower=1)
LDL_PIVOTS = LDL[1].astype(np.int32)


def cofactor_difference(a: Any, e: Any) -> Any:
    """The cofactors of matrices are quadratic in each direction for n = 3, so that a central difference is exact."""

    def cofactors(m: Any) -> Any:
        return np.linalg.det(m)[:, None, None] * np.linalg.inv(m).mT

    return (cofactors(a + e) - cofactors(a - e)) / 2


RULED: dict[str, Case] = {
    "linalg._inv": Case(regular(2), ref=lambda a: no_failure(np.linalg.inv(a), 2)),
    "linalg._solve": Case(regular(2), x(1, 3, 2), ref=lambda a, b: no_failure(np.linalg.solve(a, b), 2)),
    "linalg._solve_triangular": Case(regular(2), x(2, 3), False, False, True, ref=lambda a, b, *_: b @ np.linalg.inv(np.tril(a, -1) + np.eye(3))),
    "linalg.cofactor": Case(regular(2), ref=lambda a: np.linalg.det(a)[:, None, None] * np.linalg.inv(a).mT),
    "linalg.cofactor_change": Case(regular(2), x(2, 3, 3), ref=cofactor_difference), "linalg._det": Case(x(2, 3, 3), ref=np.linalg.det), "linalg._slogdet": Case(x(2, 3, 3), ref=lambda a: flat(*np.linalg.slogdet(a))),
    "linalg._cholesky": Through([positive], same, x(2, 3, 3), False, ref=lambda a, u: no_failure(np.linalg.cholesky(positive_array(a)), 2)),
    "linalg._cholesky_solve": Through([same, T.tril], same, x(3, 2), triangular(), False, ref=lambda b, c, u: np.linalg.solve(c @ c.T, b)),
    "linalg._lu_factor": Case(x(3, 2), ref=packed),
    "linalg._ldl_solve": Through([same], same, x(3, 2), T.tensor(LDL[0]), T.tensor(LDL_PIVOTS), False, ref=None),
    "linalg._qr": Through([same], size, x(2, 4), "reduced", ref=spectrum(np.linalg.qr)),
    "linalg._eigh": Through([symmetric], size, x(3, 3), "L", ref=spectrum(np.linalg.eigh, with_transpose)),
    "linalg._eigvalsh": Through([symmetric], same, x(2, 3, 3), "U", ref=lambda a, u: np.linalg.eigvalsh(with_transpose(a))),
    "linalg._eig": Through([same], size, x(3, 3), ref=spectrum(np.linalg.eig)), "linalg._eigvals": Through([same], size, x(3, 3), ref=lambda a: abs(np.linalg.eigvals(a))),
    "linalg._svd": Through([same], size, x(3, 2), False, ref=spectrum(lambda a: np.linalg.svd(a, full_matrices=False))),
    "linalg._svdvals": Case(x(2, 3, 2), ref=lambda a: np.linalg.svd(a, compute_uv=False)),
    "linalg._pinv": Case(x(2, 2, 3), 0.0, 1e-12, False, ref=lambda a, *_: np.linalg.pinv(a)),
    "linalg._lstsq": Case(x(3, 2), x(3, 2), 1e-12, ref=lambda a, b, _: np.linalg.lstsq(a, b, None)[0]),
    "linalg._p_norm": Case(x(2, 3), 3.0, 1, False, ref=lambda a, p, d, k: np.linalg.norm(a, p, d)),
    "matrix_exp": Case(x(2, 3, 3), ref=sl.expm),
}  # fmt: skip


def invariant(decompose: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Absolute values of all results of a decomposition of a symmetric matrix."""
    return lambda a: tuple(y.abs() for y in decompose(symmetric(a)))


L = T.linalg
A22, A33, WIDE, TALL = regular(n=2), regular(2), x(2, 3), x(4, 2)
VECTORS = np.tril(x(3, 2), -1)
INDEFINITE = T.tensor(LDL[0])


def reflections(a: Any, tau: Any) -> Any:
    """The product of reflections, written out."""
    q = np.eye(3)
    for i in range(len(tau)):
        v = np.r_[np.zeros(i), 1, a[i + 1 :, i]]
        q = q @ (np.eye(3) - tau[i] * np.outer(v, v))
    return q


def ldl_solved(b: Any) -> Any:
    return L.ldl_solve(INDEFINITE.to(b.dtype), T.tensor(LDL_PIVOTS), b)


COMPOSITES: dict[str, Composite] = {
    # equations
    "linalg.inv": (L.inv, [A33], np.linalg.inv), "linalg.inv_ex": (lambda a: L.inv_ex(a).inverse, [A33], np.linalg.inv),
    "linalg.solve": (lambda a, b: L.solve(a, b, left=False), [A33, x(2, 1, 3)], lambda a, b: b @ np.linalg.inv(a)),
    "linalg.solve_ex": (lambda a, b: L.solve_ex(a, b).result, [A33, x(2, 3)], lambda a, b: np.linalg.solve(a, b[..., None])[..., 0]),
    "linalg.solve_triangular": (lambda a, b: L.solve_triangular(a, b, upper=True), [A33, x(3, 1)], lambda a, b: np.linalg.inv(np.triu(a)) @ b),
    "triangular_solve": (lambda b, a: T.triangular_solve(b, a, transpose=True), [x(3, 1), A33], lambda b, a: np.linalg.inv(np.triu(a).mT) @ b),
    "linalg.tensorinv": (lambda a: L.tensorinv(a, ind=1), [x(4, 2, 2)], lambda a: np.linalg.tensorinv(a, 1)),
    "linalg.tensorsolve": (L.tensorsolve, [x(2, 2, 4), x(2, 2)], np.linalg.tensorsolve),
    # determinants
    "linalg.det": (L.det, [A33], np.linalg.det), "linalg.slogdet": (lambda a: L.slogdet(a).logabsdet, [A33], lambda a: np.linalg.slogdet(a)[1]),
    "logdet": (T.logdet, [A33], lambda a: np.log(np.linalg.det(a))),
    # factors
    "linalg.cholesky": (lambda a: L.cholesky(positive(a), upper=True), [A33], lambda a: np.linalg.cholesky(positive_array(a)).mT),
    "linalg.cholesky_ex": (lambda a: L.cholesky_ex(positive(a)).L, [A33], lambda a: np.linalg.cholesky(positive_array(a))),
    "cholesky": (lambda a: T.cholesky(positive(a)), [A33], lambda a: np.linalg.cholesky(positive_array(a))),
    "cholesky_solve": (lambda b, c: T.cholesky_solve(b, c.tril()), [x(3, 1), triangular()], lambda b, c: np.linalg.solve(c @ c.T, b)),
    "cholesky_inverse": (lambda c: T.cholesky_inverse(c.triu(), upper=True), [triangular().T.copy()], lambda c: np.linalg.inv(c.T @ c)),
    "linalg.lu_factor": (lambda a: L.lu_factor(a).LU, [A22], lambda a: sl.lu_factor(a)[0]), "linalg.lu_factor_ex": (lambda a: L.lu_factor_ex(a).LU, [WIDE]),
    "lu": (lambda a: T.lu(a, get_infos=True)[0], [A22], lambda a: sl.lu_factor(a)[0]),
    "lu_unpack": (lambda a: T.lu_unpack(*L.lu_factor(a))[1:], [A22], lambda a: sl.lu(a)[1]), "linalg.lu": (lambda a: L.lu(a)[1:], [TALL], lambda a: sl.lu(a)[1]),
    "linalg.lu_solve": (lambda a, b: L.lu_solve(*L.lu_factor(a), b, left=False, adjoint=True), [A22, x(1, 2)], lambda a, b: b @ np.linalg.inv(a.T)),
    "lu_solve": (lambda b, a: T.lu_solve(b, *L.lu_factor(a)), [x(2, 1), A22], lambda b, a: np.linalg.solve(a, b)),
    "linalg.ldl_solve": (ldl_solved, [x(3, 1)]),
    "linalg.qr": (lambda a: tuple(y.abs() for y in L.qr(a)), [TALL], lambda a: abs(np.linalg.qr(a)[0])),
    "qr": (lambda a: tuple(y.abs() for y in T.qr(a, some=False)), [WIDE], lambda a: abs(np.linalg.qr(a)[0])),
    "linalg.householder_product": (L.householder_product, [VECTORS, x(2)], lambda a, tau: reflections(a, tau)[:, :2]),
    "ormqr": (lambda a, tau, b: T.ormqr(a, tau, b, False, True), [VECTORS, x(2), x(2, 3)], lambda a, tau, b: b @ reflections(a, tau).T),
    # eigenvalues and singular values
    "linalg.eigh": (invariant(L.eigh), [x(3, 3)], lambda a: abs(np.linalg.eigvalsh(a + a.T))),
    "linalg.eigvalsh": (lambda a: L.eigvalsh(symmetric(a)), [A33], lambda a: np.linalg.eigvalsh(with_transpose(a))),
    "linalg.eig": (lambda a: tuple(y.abs() for y in L.eig(a)), [x(3, 3)], lambda a: abs(np.linalg.eig(a)[0])),
    "linalg.eigvals": (lambda a: L.eigvals(a).abs(), [x(3, 3)], lambda a: abs(np.linalg.eigvals(a))),
    "linalg.svd": (lambda a: tuple(y.abs() for y in L.svd(a, full_matrices=False)), [TALL], lambda a: abs(np.linalg.svd(a, full_matrices=False)[0])),
    "svd": (lambda a: tuple(y.abs() for y in T.svd(a)), [WIDE], lambda a: abs(np.linalg.svd(a, full_matrices=False)[0])),
    "linalg.svdvals": (L.svdvals, [TALL], lambda a: np.linalg.svd(a)[1]),
    "linalg.pinv": (L.pinv, [TALL], np.linalg.pinv), "pinverse": (T.pinverse, [WIDE], np.linalg.pinv),
    "linalg.lstsq": (lambda a, b: L.lstsq(a, b, driver="gelsd")[:2], [TALL, x(4, 2)], lambda a, b: np.linalg.lstsq(a, b)[0]),
    # norms
    "linalg.vector_norm": (lambda a: L.vector_norm(a, 2.5), [WIDE], lambda a: (abs(a) ** 2.5).sum() ** 0.4),
    "linalg.matrix_norm": (lambda a: L.matrix_norm(a, "nuc"), [A33], lambda a: np.linalg.norm(a, "nuc", (1, 2))),
    "linalg.norm": (lambda a: L.norm(a, float("inf"), (0, 2), keepdim=True), [A33], lambda a: np.linalg.norm(a, np.inf, (0, 2), True)),
    "norm": (lambda a: T.norm(a, 3, 1), [WIDE], lambda a: np.linalg.norm(a, 3, 1)), "nuclear_norm": (T.nuclear_norm, [WIDE], lambda a: np.linalg.norm(a, "nuc")),
    "frobenius_norm": (lambda a: T.frobenius_norm(a, 1), [WIDE], lambda a: np.linalg.norm(a, axis=1)),
    "linalg.cond": (lambda a: L.cond(a, "fro"), [A33], lambda a: np.linalg.cond(a, "fro")),
    # products
    "linalg.cross": (L.cross, [x(2, 3), x(1, 3)], np.cross), "linalg.vecdot": (L.vecdot, [x(2, 3), x(3)], lambda a, b: (a * b).sum(-1)),
    "linalg.diagonal": (L.diagonal, [A33], lambda a: np.diagonal(a, axis1=-2, axis2=-1)),
    "linalg.vander": (lambda a: L.vander(a, N=3), [x(3)], lambda a: np.vander(a, 3, True)),
    "linalg.multi_dot": (lambda *m: L.multi_dot(m), [x(3), x(3, 2), x(2, 4)], lambda *m: np.linalg.multi_dot(m)),
    "linalg.matrix_power": (lambda a: L.matrix_power(a, -5), [A22], lambda a: np.linalg.matrix_power(a, -5)),
}  # fmt: skip

NO_GRADIENT = {"linalg.matrix_rank", "linalg.ldl_factor", "linalg.ldl_factor_ex", "geqrf"}
