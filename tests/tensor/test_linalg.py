"""Linear algebra: laws, errors and edges. Values and gradients of each function are in `tests/operator_cases/linalg.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import tensor as T
from tensor.autograd import gradcheck, gradgradcheck
from tensor.ops import OPERATORS

L = T.linalg
DTYPES = [T.float32, T.float64, T.complex64, T.complex128]


def numbers(*shape: int, dtype: Any = T.float64, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if dtype.is_complex else 0)
    return T.tensor(a.astype(dtype.numpy))


def close(a: Any, b: Any, dtype: Any = T.float64) -> None:
    tolerance = 1e-4 if dtype in (T.float32, T.complex64) else 1e-9
    np.testing.assert_allclose(a.detach().cpu().numpy(), b.detach().cpu().numpy(), rtol=tolerance, atol=tolerance)


SHAPES = st.tuples(st.lists(st.integers(0, 3), max_size=2), st.integers(1, 4), st.integers(1, 4))


# --- laws ------------------------------------------------------------------------------------------------------------


@given(SHAPES, st.sampled_from(DTYPES), st.integers(0, 9))
def test_factors_multiply_to_the_matrix(shape: Any, dtype: Any, seed: int) -> None:
    batch, m, n = shape
    A = numbers(*batch, m, n, dtype=dtype, seed=seed)
    P, lower, upper = L.lu(A)
    close(P @ lower @ upper, A, dtype)
    Q, R = L.qr(A)
    close(Q @ R, A, dtype)
    close(Q.mH @ Q, T.eye(min(m, n), dtype=dtype).expand(*batch, -1, -1), dtype)
    U, S, Vh = L.svd(A, full_matrices=False)
    close((U * S.to(dtype).unsqueeze(-2)) @ Vh, A, dtype)
    assert S.dtype is dtype.to_real()
    assert L.svd(A).U.shape == (*batch, m, m)


@given(SHAPES, st.sampled_from(DTYPES), st.integers(0, 9))
def test_square_factors_multiply_to_the_matrix(shape: Any, dtype: Any, seed: int) -> None:
    batch, n, _ = shape
    A = numbers(*batch, n, n, dtype=dtype, seed=seed)
    hermitian, positive = A + A.mH, A @ A.mH + T.eye(n, dtype=dtype)
    for upper in (False, True):
        factor = L.cholesky(positive, upper=upper)
        close(factor.mH @ factor if upper else factor @ factor.mH, positive, dtype)
    values, V = L.eigh(hermitian)
    close((V * values.to(dtype).unsqueeze(-2)) @ V.mH, hermitian, dtype)
    assert values.dtype is dtype.to_real()
    values, V = L.eig(A)
    assert values.dtype is dtype.to_complex()
    close(A.to(values.dtype) @ V, V * values.unsqueeze(-2), dtype)
    close(L.matrix_exp(A) @ L.matrix_exp(-A), T.eye(n, dtype=dtype).expand(*batch, -1, -1), T.float32)


@given(SHAPES, st.sampled_from(DTYPES), st.booleans(), st.integers(0, 9))
def test_solutions_solve(shape: Any, dtype: Any, left: bool, seed: int) -> None:
    batch, n, k = shape
    A = numbers(*batch, n, n, dtype=dtype, seed=seed) + 3 * T.eye(n, dtype=dtype)
    B = numbers(*batch, *((n, k) if left else (k, n)), dtype=dtype, seed=seed + 1)

    def product(a: Any, x: Any) -> Any:
        return a @ x if left else x @ a

    close(product(A, L.solve(A, B, left=left)), B, dtype)
    for adjoint in (False, True):
        close(product(A.mH if adjoint else A, L.lu_solve(*L.lu_factor(A), B, left=left, adjoint=adjoint)), B, dtype)
    for upper in (False, True):
        triangle = A.triu() if upper else A.tril()
        close(product(triangle, L.solve_triangular(A, B, left=left, upper=upper)), B, dtype)
        unit = triangle - triangle.diagonal(0, -2, -1).diag_embed() + T.eye(n, dtype=dtype)
        close(product(unit, L.solve_triangular(A, B, left=left, upper=upper, unitriangular=True)), B, dtype)
    if left:
        for hermitian in (False, True):
            symmetric = A + (A.mH if hermitian else A.mT)
            close(symmetric @ L.ldl_solve(*L.ldl_factor(symmetric, hermitian=hermitian), B, hermitian=hermitian), B, dtype)


@given(SHAPES, st.sampled_from(DTYPES), st.integers(0, 9))
def test_the_pseudo_inverse_satisfies_penrose(shape: Any, dtype: Any, seed: int) -> None:
    batch, m, n = shape
    A = numbers(*batch, m, n, dtype=dtype, seed=seed)
    P = L.pinv(A)
    close(A @ P @ A, A, dtype)
    close(P @ A @ P, P, T.float32)
    close(A @ P, (A @ P).mH, dtype)
    close(P @ A, (P @ A).mH, dtype)


@given(SHAPES, st.integers(0, 9))
def test_reflections_give_the_q_of_qr(shape: Any, seed: int) -> None:
    batch, n, extra = shape
    A = numbers(*batch, n + extra, n, dtype=T.complex128, seed=seed)
    a, tau = T.geqrf(A)
    Q = L.householder_product(a, tau)
    close(Q @ a.triu()[..., :n, :], A)
    whole = T.ormqr(a, tau, T.eye(n + extra, dtype=T.complex128).expand(*batch, -1, -1))
    close(whole[..., :n], Q)
    close(T.ormqr(a, tau, whole, transpose=True), T.eye(n + extra, dtype=T.complex128).expand(*batch, -1, -1))
    close(T.ormqr(a, tau, whole.mH, left=False), T.eye(n + extra, dtype=T.complex128).expand(*batch, -1, -1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_determinants_multiply(dtype: Any) -> None:
    A, B = numbers(2, 3, 3, dtype=dtype), numbers(2, 3, 3, dtype=dtype, seed=1)
    close(L.det(A @ B), L.det(A) * L.det(B), dtype)
    sign, logabsdet = L.slogdet(A)
    close(sign * logabsdet.exp(), L.det(A), dtype)
    assert logabsdet.dtype is dtype.to_real()
    close(T.logdet(A @ A.mH).real, 2 * logabsdet, dtype)


@pytest.mark.parametrize("driver", ["gelsy", "gels", "gelsd", "gelss"])
def test_least_squares_by_each_driver(driver: str) -> None:
    A, B = numbers(2, 5, 3), numbers(2, 5, 2, seed=1)
    result = L.lstsq(A, B, driver=driver)
    close(result.solution, L.pinv(A) @ B)
    expected = {
        "gelsy": ((0,), (2,), (0,)),
        "gels": ((2, 2), (0,), (0,)),
        "gelsd": ((2, 2), (2,), (2, 3)),
        "gelss": ((2, 2), (2,), (2, 3)),
    }
    assert tuple(tuple(t.shape) for t in result[1:]) == expected[driver]
    if result.residuals.numel():
        close(result.residuals, ((A @ result.solution - B) ** 2).sum(-2))


def test_multi_dot_takes_the_cheap_order(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = numbers(10, 2), numbers(2, 10), numbers(10, 1)
    seen = []
    multiply = T.Tensor.__matmul__
    monkeypatch.setattr(T.Tensor, "__matmul__", lambda x, y: seen.append(tuple(x.shape)) or multiply(x, y))
    close(L.multi_dot([a, b, c]), multiply(multiply(a, b), c))
    assert seen == [(2, 10), (10, 2)]


# --- edges -----------------------------------------------------------------------------------------------------------


def test_empty_matrices() -> None:
    none = T.zeros(2, 0, 0)
    close(L.det(none), T.ones(2))
    assert L.inv(none).shape == (2, 0, 0)
    assert L.svdvals(T.zeros(0, 3)).shape == (0,)
    assert L.pinv(T.zeros(0, 3)).shape == (3, 0)
    assert L.matrix_rank(T.zeros(2, 0, 3)).tolist() == [0, 0]
    assert L.cholesky(none).shape == (2, 0, 0)
    assert L.lu_factor(T.zeros(0, 3)).pivots.shape == (0,)
    assert L.solve(none, T.zeros(2, 0, 1)).shape == (2, 0, 1)
    assert T.cholesky_solve(T.zeros(0, 2), T.zeros(0, 0)).shape == (0, 2)
    assert L.solve_triangular(T.zeros(3, 0, 0), T.zeros(0, 2), upper=True).shape == (3, 0, 2)
    assert L.matrix_exp(none).shape == (2, 0, 0)
    assert L.lstsq(T.zeros(0, 2), T.zeros(0, 3)).solution.shape == (2, 3)


def test_gradients_of_empty_matrices() -> None:
    for function in (L.inv, L.det, L.cholesky, L.svdvals, L.eigvalsh, L.pinv, L.matrix_exp, lambda a: L.solve(a, a), lambda a: L.lu_factor(a).LU, T.logdet, lambda a: L.qr(a).R, lambda a: L.eigh(a).eigenvectors, lambda a: L.svd(a).U, lambda a: L.eig(a).eigenvectors.abs()):  # fmt: skip
        none = T.zeros(2, 0, 0, dtype=T.float64, requires_grad=True)
        (g,) = T.autograd.grad(function(none).sum(), none, create_graph=True)
        assert g.shape == (2, 0, 0)


def test_empty_norms() -> None:
    none = T.zeros(0, 0)
    assert [L.matrix_norm(none, p).item() for p in ("fro", "nuc", 1, 2, float("inf"))] == [0.0] * 5
    with pytest.raises(RuntimeError, match=r"linalg.matrix_norm: expected matrices with elements for the smallest of a norm"):
        L.matrix_norm(none, -2)
    with pytest.raises(RuntimeError, match=r"linalg.vector_norm: no -1.0-norm of no elements, got shape \(0,\)"):
        L.vector_norm(T.zeros(0), -1)


def test_one_bad_matrix_leaves_the_others() -> None:
    A = T.stack([T.eye(2) * 2, T.ones(2, 2), T.eye(2) * 4])
    inverse, info = L.inv_ex(A)
    assert info.tolist() == [0, 2, 0]
    close(inverse[::2], T.stack([T.eye(2) / 2, T.eye(2) / 4]))
    assert inverse[1].isnan().all()
    result, info = L.solve_ex(A, T.ones(2))
    assert info.tolist() == [0, 2, 0]
    close(result[2], T.full((2,), 0.25))
    factor, info = L.cholesky_ex(T.stack([T.eye(2), -T.eye(2)]))
    assert info.tolist() == [0, 1]
    close(factor[0], T.eye(2))


def test_a_singular_matrix_has_a_determinant_with_a_gradient() -> None:
    A = T.tensor([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 1.0, 1.0]], dtype=T.float64, requires_grad=True)
    y = L.det(A)
    assert y.item() == 0
    assert gradcheck(L.det, (A,))
    assert gradgradcheck(L.det, (A,))
    (slope,) = T.autograd.grad(y, A, create_graph=True)
    (slope,) = T.autograd.grad(slope.sum(), A, create_graph=True)
    with pytest.raises(L.LinAlgError, match=r"linalg.inv: the matrix is singular: pivot 3"):
        slope.sum().backward()


@pytest.mark.parametrize("p", [0, 0.5, 1, 1.5, 2, 3, -1, float("inf"), float("-inf")])
def test_the_gradient_of_a_norm_at_zero_is_zero(p: float) -> None:
    x = T.zeros(3, requires_grad=True)
    L.vector_norm(x, p).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.0, 0.0]


def test_ties_share_the_gradient_of_the_largest() -> None:
    x = T.tensor([3.0, -3.0, 1.0], requires_grad=True)
    L.vector_norm(x, float("inf")).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.5, -0.5, 0.0]


def test_full_matrices_ignore_the_gradient_of_what_is_arbitrary() -> None:
    A = numbers(4, 2).requires_grad_()
    (whole,) = T.autograd.grad(L.svd(A).U[:, :2].abs().sum(), A)
    (thin,) = T.autograd.grad(L.svd(A, full_matrices=False).U.abs().sum(), A)
    close(whole, thin)


def test_higher_order() -> None:
    """The third and fourth derivative: a function that is itself a second derivative, checked to second order."""

    def second(a: Any) -> Any:
        with T.enable_grad():
            a = a if a.requires_grad else a.detach().requires_grad_()
            (slope,) = T.autograd.grad(L.svdvals(L.cholesky(positive(a))).prod(), a, create_graph=True)
            return T.autograd.grad(slope.square().sum(), a, create_graph=True)[0]

    A = numbers(2, 2).requires_grad_()
    assert gradcheck(second, (A,))
    assert gradgradcheck(second, (A,), atol=1e-3)


# --- complex matrices ------------------------------------------------------------------------------------------------


def pairwise(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of complex matrices with real results, as one of pairs of real numbers, which finite differences see."""
    return lambda pairs: function(T.view_as_complex(pairs))


def spread(y: Any) -> Any:
    """Complex results as pairs."""
    return T.view_as_real(y)


def hermitian(a: Any) -> Any:
    return a + a.mH


def positive(a: Any) -> Any:
    return a @ a.mH + T.eye(a.shape[-1], dtype=a.dtype)


COMPLEX: dict[str, Callable[[Any], Any]] = {
    "inv": lambda a: spread(L.inv(a)),
    "solve": lambda a: spread(L.solve(a, a[..., :1] * 2, left=True)),
    "solve_triangular": lambda a: spread(L.solve_triangular(a, a[:1] * 2, upper=False, left=False)),
    "det": lambda a: spread(L.det(a)),
    "cofactor_change": lambda a: spread(OPERATORS["linalg.cofactor_change"].function(a, a.mT)),
    "slogdet": lambda a: (spread(L.slogdet(a).sign), L.slogdet(a).logabsdet),
    "logdet": lambda a: spread(T.logdet(positive(a))),
    "cholesky": lambda a: spread(L.cholesky(positive(a))),
    "cholesky_solve": lambda a: spread(T.cholesky_solve(a[..., :1], L.cholesky(positive(a)))),
    "lu": lambda a: tuple(spread(y) for y in L.lu(a)[1:]),
    "lu_wide": lambda a: spread(L.lu_factor(a[:2]).LU),
    "lu_tall": lambda a: spread(L.lu_factor(a[:, :2]).LU),
    "lu_solve": lambda a: spread(L.lu_solve(*L.lu_factor(a), a[:, :1], adjoint=True)),
    "qr": lambda a: tuple(y.abs() for y in L.qr(a)),
    "qr_wide": lambda a: tuple(y.abs() for y in L.qr(a[:2])),
    "qr_tall": lambda a: spread(L.qr(a[:, :2]).Q @ L.qr(a[:, :2]).Q.mH),
    "householder_product": lambda a: spread(L.householder_product(a, a[0])),
    "ormqr": lambda a: spread(T.ormqr(a[:, :2], a[0, :2], a, transpose=True)),
    "eigh": lambda a: tuple(y.abs() for y in L.eigh(hermitian(a))),
    "eigvalsh": lambda a: L.eigvalsh(hermitian(a)),
    "eig": lambda a: tuple(y.abs() for y in L.eig(a)),
    "eigvals": lambda a: L.eigvals(a).abs(),
    "svd": lambda a: tuple(y.abs() for y in L.svd(a)),
    "svd_wide": lambda a: (lambda U, S, Vh: (S, spread(U @ Vh)))(*L.svd(a[:2], full_matrices=False)),
    "svdvals": L.svdvals,
    "pinv": lambda a: spread(L.pinv(a[:, :2])),
    "pinv_hermitian": lambda a: spread(L.pinv(hermitian(a), hermitian=True)),
    "lstsq": lambda a: spread(L.lstsq(a[:, :2], a).solution),
    "matrix_exp": lambda a: spread(L.matrix_exp(a)),
    "matrix_power": lambda a: spread(L.matrix_power(a, -3)),
    "vector_norm": lambda a: L.vector_norm(a, 3, dim=0),
    "vector_norm_2": lambda a: L.vector_norm(a, dim=0),
    "vector_norm_inf": lambda a: L.vector_norm(a, float("inf"), dim=0),
    "nuclear": lambda a: L.matrix_norm(a, "nuc"),
    "cond": L.cond,
    "vecdot": lambda a: spread(L.vecdot(a, a.mT)),
    "ldl_solve": lambda a: spread(L.ldl_solve(*L.ldl_factor(numbers(3, 3, dtype=T.complex128)), a)),
}


@pytest.mark.parametrize("name", list(COMPLEX))
def test_gradients_of_complex_matrices(name: str) -> None:
    A = T.view_as_real(numbers(3, 3, dtype=T.complex128, seed=3)).clone().requires_grad_()
    assert gradcheck(pairwise(COMPLEX[name]), (A,))
    assert gradgradcheck(pairwise(COMPLEX[name]), (A,), atol=1e-4)


@pytest.mark.parametrize(
    "name, loss",
    [
        (
            "linalg.eigh: the loss depends on the phase of the eigenvectors",
            lambda a: L.eigh(hermitian(a)).eigenvectors.real.sum(),
        ),
        ("linalg.eig: the loss depends on the phase of the eigenvectors", lambda a: L.eig(a).eigenvectors.real.sum()),
        ("linalg.svd: the loss depends on the phase of the singular vectors", lambda a: L.svd(a).U.real.sum()),
    ],
)
def test_a_loss_that_depends_on_phases_has_no_gradient(name: str, loss: Callable[[Any], Any]) -> None:
    A = numbers(3, 3, dtype=T.complex128, seed=3).requires_grad_()
    with pytest.raises(RuntimeError, match=f"{name}, which is arbitrary"):
        loss(A).backward()


# --- errors ----------------------------------------------------------------------------------------------------------

SINGULAR = T.stack([T.eye(2), T.ones(2, 2)])
ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "singular": (lambda: L.inv(SINGULAR), L.LinAlgError, r"linalg.inv: the matrix is singular: pivot 2 of its LU decomposition is 0 \(batch element 1\)"),
    "singular equations": (lambda: L.solve(T.zeros(2, 2), T.ones(2)), L.LinAlgError, r"linalg.solve: the matrix is singular: pivot 1"),
    "not positive": (
        lambda: L.cholesky(T.stack([T.eye(2), T.tensor([[1.0, 2.0], [2.0, 1.0]])]).unsqueeze(0)),
        L.LinAlgError,
        r"linalg.cholesky: the matrix is not positive definite: its leading minor of order 2 is not \(batch element 0, 1\)",
    ),
    "checked": (lambda: L.inv_ex(SINGULAR, check_errors=True), L.LinAlgError, r"linalg.inv_ex: the matrix is singular"),
    "lu": (lambda: L.lu_factor(SINGULAR), L.LinAlgError, r"linalg.lu_factor: U has a 0 on its diagonal, at 2.*\(batch element 1\)"),
    "no pivots": (lambda: L.lu(T.eye(2), pivot=False), RuntimeError, r"linalg.lu: expected pivot=True"),
    "not square": (lambda: L.det(T.ones(2, 3)), RuntimeError, r"linalg.det: expected a square matrix or a batch of them, got shape \(2, 3\)"),
    "vector": (lambda: L.inv(T.ones(2)), RuntimeError, r"linalg.inv: expected a matrix or a batch of matrices \[..., m, n\], got shape \(2,\)"),
    "integers": (lambda: L.eigh(T.eye(2).long()), RuntimeError, r"linalg.eigh: expected a tensor of float32, .*, got tensor.int64"),
    "half": (lambda: L.svd(T.eye(2).half()), RuntimeError, r"linalg.svd: expected a tensor of float32, .*, got tensor.float16"),
    "no tensor": (lambda: L.inv([[1.0]]), TypeError, r"linalg.inv: expected a tensor, got list"),
    "dtypes": (lambda: L.solve(T.eye(2), T.ones(2).double()), RuntimeError, r"linalg.solve: expected operands of one dtype, got tensor.float32 and tensor.float64"),
    "rows": (lambda: L.solve(T.eye(2), T.ones(3, 1)), RuntimeError, r"linalg.solve: expected B with 2 rows, as A has, got shapes \(2, 2\) and \(3, 1\)"),
    "columns": (lambda: L.solve_triangular(T.eye(2), T.ones(2, 3), upper=True, left=False), RuntimeError, r"linalg.solve_triangular: expected B with 2 columns"),
    "not finite": (lambda: L.svdvals(T.full((2, 1, 1), float("nan"))), L.LinAlgError, r"linalg.svdvals: expected finite elements.*\(batch element 0\)"),
    "uplo": (lambda: L.eigvalsh(T.eye(2), "X"), RuntimeError, r"linalg.eigvalsh: expected UPLO to be 'L' or 'U', got 'X'"),
    "qr mode": (lambda: L.qr(T.eye(2), "full"), RuntimeError, r"linalg.qr: expected mode to be one of 'reduced', 'complete', 'r', got 'full'"),
    "qr r": (lambda: L.qr(T.eye(2).requires_grad_(), "r").R.sum().backward(), RuntimeError, r"linalg.qr: no gradient with mode='r'"),
    "qr complete": (
        lambda: L.qr(T.ones(3, 2).requires_grad_(), "complete").R.sum().backward(),
        RuntimeError,
        r"linalg.qr: no gradient with mode='complete' of a tall matrix, here 3 by 2",
    ),
    "svd driver": (lambda: L.svd(T.eye(2), driver="gesvd"), RuntimeError, r"linalg.svd: expected driver=None"),
    "lstsq driver": (lambda: L.lstsq(T.eye(2), T.eye(2), driver="qr"), RuntimeError, r"linalg.lstsq: expected driver to be one of 'gelsy', 'gels', 'gelsd', 'gelss', got 'qr'"),
    "gels": (lambda: L.lstsq(T.ones(2, 2), T.eye(2), driver="gels"), L.LinAlgError, r"linalg.lstsq: driver 'gels' expects A of full rank"),
    "lstsq rows": (lambda: L.lstsq(T.ones(2, 2), T.ones(3, 2)), RuntimeError, r"linalg.lstsq: expected B with 2 rows"),
    "reflectors": (lambda: L.householder_product(T.ones(2, 3), T.ones(2)), RuntimeError, r"linalg.householder_product: expected vectors \[..., m, n\] with m >= n"),
    "ormqr": (lambda: T.ormqr(T.ones(3, 2), T.ones(2), T.ones(2, 2)), RuntimeError, r"ormqr: expected 3 rows to multiply with Q"),
    "norm order": (lambda: L.matrix_norm(T.eye(2), 3), RuntimeError, r"linalg.matrix_norm: expected ord to be 'fro', 'nuc', inf, -inf, 1, -1, 2 or -2, got 3"),
    "norm dims": (lambda: L.matrix_norm(T.eye(2), dim=(0, -2)), RuntimeError, r"linalg.matrix_norm: expected two different dimensions, got dim \(0, -2\)"),
    "vector order": (lambda: L.vector_norm(T.ones(2), "fro"), TypeError, r"linalg.vector_norm: expected ord to be a number, got 'fro'"),
    "integer norm": (lambda: L.vector_norm(T.ones(2).long()), RuntimeError, r"linalg.vector_norm: expected a floating-point or complex tensor, got tensor.int64"),
    "norm of three": (lambda: L.norm(T.ones(2, 2, 2), 1), RuntimeError, r"linalg.norm: expected a vector or a matrix, or dim to name them"),
    "integer old norm": (lambda: T.norm(T.ones(2).long()), RuntimeError, r"norm: expected a floating-point or complex tensor, got tensor.int64"),
    "cross": (lambda: L.cross(T.ones(2), T.ones(2)), RuntimeError, r"linalg.cross: expected vectors of 3 elements along dim -1, got shapes \(2,\) and \(2,\)"),
    "vander": (lambda: L.vander(T.ones(2), N=1), RuntimeError, r"linalg.vander: expected N > 1, got 1"),
    "multi_dot one": (lambda: L.multi_dot([T.eye(2)]), RuntimeError, r"linalg.multi_dot: expected at least two tensors, got 1"),
    "multi_dot": (lambda: L.multi_dot([T.ones(2, 3), T.ones(2)]), RuntimeError, r"linalg.multi_dot: expected matrices that can be multiplied.*got shapes \(2, 3\), \(2,\)"),
    "power": (lambda: L.matrix_power(T.ones(2, 3), 2), RuntimeError, r"linalg.matrix_power: expected a square matrix"),
    "exp": (lambda: L.matrix_exp(T.eye(2).long()), RuntimeError, r"matrix_exp: expected square matrices of floating-point or complex numbers, got int64"),
    "tensorinv": (lambda: L.tensorinv(T.ones(2, 3), ind=1), RuntimeError, r"linalg.tensorinv: expected the first 1 dimensions to hold as many elements"),
    "tensorinv ind": (lambda: L.tensorinv(T.ones(2, 2), ind=0), RuntimeError, r"linalg.tensorinv: expected ind to be positive, got 0"),
    "tensorsolve": (lambda: L.tensorsolve(T.ones(2, 3), T.ones(2)), RuntimeError, r"linalg.tensorsolve: expected as many unknowns as equations"),
    "pivots": (lambda: T.lu_unpack(T.eye(2), T.ones(2).long()), RuntimeError, r"lu_unpack: expected pivots of int32, counted from 1, got tensor.int64"),
    "vecdot": (lambda: L.vecdot(T.ones(2), T.ones(2).double()), RuntimeError, r"linalg.vecdot: expected operands of one dtype"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ERRORS))
def test_errors(name: str) -> None:
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match="^" + text):
        call()


# --- names -----------------------------------------------------------------------------------------------------------


def test_results_have_pytorchs_field_names() -> None:
    A = T.eye(2)
    fields = {
        "eigh": "eigenvalues eigenvectors", "eig": "eigenvalues eigenvectors", "svd": "U S Vh", "qr": "Q R", "slogdet": "sign logabsdet",
        "lu": "P L U", "lu_factor": "LU pivots", "lu_factor_ex": "LU pivots info", "inv_ex": "inverse info", "cholesky_ex": "L info",
        "ldl_factor": "LD pivots", "ldl_factor_ex": "LD pivots info",
    }  # fmt: skip
    assert {name: " ".join(getattr(L, name)(A)._fields) for name in fields} == fields
    assert L.solve_ex(A, A)._fields == ("result", "info")
    assert L.lstsq(A, A)._fields == ("solution", "residuals", "rank", "singular_values")
    assert T.svd(A)._fields == ("U", "S", "V")
    assert T.geqrf(A)._fields == ("a", "tau")
    assert T.triangular_solve(A, A)._fields == ("solution", "cloned_coefficient")


def test_older_names_and_methods() -> None:
    A = numbers(3, 3) + 3 * T.eye(3, dtype=T.float64)
    close(A.inverse(), L.inv(A))
    close(A.det(), L.det(A))
    close(A.slogdet().logabsdet, A.logdet())
    close(T.matrix_power(A, 2), A @ A)
    close(A.matrix_exp(), L.matrix_exp(A))
    U, S, V = A.svd()
    close(U @ S.diag() @ V.T, A)
    close(A.svd(compute_uv=False).S, S)
    close(A.lu_solve(*A.lu()), T.eye(3, dtype=T.float64))
    close(A.pinverse(), L.pinv(A))
    assert A.matrix_power(0).tolist() == T.eye(3).tolist()


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "inv": L.inv, "det": L.det, "svdvals": L.svdvals, "matrix_exp": L.matrix_exp, "pinv": L.pinv, "lu": lambda a: L.lu(a).U, "qr": lambda a: L.qr(a).R.abs(),
    "eigvalsh": lambda a: L.eigvalsh(a + a.mT), "eigvals": lambda a: L.eigvals(a).abs().sum(-1), "solve": lambda a: L.solve(a, a.mT),
    "solve_triangular": lambda a: L.solve_triangular(a, a.mT, upper=True), "cholesky": lambda a: L.cholesky(a @ a.mT), "cond": lambda a: L.cond(a, 1),
    "lstsq": lambda a: L.lstsq(a, a.mT).solution, "rank": L.matrix_rank, "norm": L.norm,
}  # fmt: skip


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_results_stay_on_the_device(name: str, device: str) -> None:
    A = numbers(2, 3, 3)
    y = FUNCTIONS[name](A.to(device))
    assert y.device.type == T.device(device).type
    close(y, FUNCTIONS[name](A))
