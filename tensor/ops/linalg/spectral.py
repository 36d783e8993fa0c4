"""Eigenvalues and singular values.

Eigenvectors and singular vectors are determined up to a factor (a sign, a phase; a rotation where values repeat). Their gradients hold for losses that
do not depend on it; for complex ones it is checked. Formulas: Giles 2008; Boeddeker et al. 2017 for complex matrices.
"""

from __future__ import annotations

from typing import Any, Literal, NoReturn

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.linalg.common import adjoint, check_finite, check_matrix, check_square, diagonal_matrix, identity_like
from tensor.ops.linalg.results import SVD, Eig
from tensor.ops.linalg.solve import solve_ex
from tensor.ops.record import Array, composite, operator

__all__ = ["eig", "eigh", "eigvals", "eigvalsh", "svd", "svdvals"]


def _gauge(who: str, what: str) -> NoReturn:
    msg = f"{who}: the loss depends on the phase of the {what}, which is arbitrary, so it has no gradient"
    raise RuntimeError(msg)


def _check_phase(who: str, what: str, products: Tensor, g: Tensor) -> None:
    """For a loss that does not depend on phases, the diagonal of V^H gV is real."""
    if products._array.dtype.kind != "c" or not products._array.size:
        return
    imaginary = np.abs(np.diagonal(products._array, axis1=-2, axis2=-1).imag).max()
    tolerance = 1e-2 if products._array.dtype.itemsize == 8 else 1e-5
    if imaginary > tolerance * max(1.0, float(np.abs(g._array).max())):
        _gauge(who, what)


def _gaps(values: Tensor) -> Tensor:
    """values[j] - values[i], and 1 on the diagonal."""
    n = values.shape[-1]
    return values.unsqueeze(-2) - values.unsqueeze(-1) + identity_like(values, n)


# --- eigenvalues of Hermitian matrices -------------------------------------------------------------------------------


def symmetric(x: Tensor) -> Tensor:
    """The Hermitian part: the gradient by a matrix that is Hermitian, whichever triangle is read."""
    return (x + adjoint(x)) * 0.5


def _eigh_rule(g: Any, y: Any) -> Tensor:
    (values, V), (g_values, g_V) = y, g
    if g_V is None:
        return symmetric((V * g_values.to(V.dtype).unsqueeze(-2)) @ adjoint(V))
    products = adjoint(V) @ g_V
    _check_phase("linalg.eigh", "eigenvectors", products, g_V)
    n = V.shape[-1]
    inner = products / _gaps(values) * (1 - identity_like(values, n))
    if g_values is not None:
        inner = inner + diagonal_matrix(g_values, V)
    return symmetric(V @ inner @ adjoint(V))


@operator({"A": _eigh_rule}, outputs=2, method=False, name="linalg._eigh")
def _eigh(A: Array, UPLO: Literal["L", "U"]) -> tuple[Array, Array]:
    """Eigenvalues and eigenvectors, by one triangle."""
    values, vectors = np.linalg.eigh(A, UPLO)
    return values, vectors


def _check_uplo(who: str, UPLO: str) -> Literal["L", "U"]:
    if UPLO.upper() not in ("L", "U"):
        msg = f"{who}: expected UPLO to be 'L' or 'U', got {UPLO!r}"
        raise RuntimeError(msg)
    return "L" if UPLO.upper() == "L" else "U"


@composite(method=False, name="linalg.eigh")
def eigh(A: Tensor, UPLO: str = "L") -> Eig:
    """Eigenvalues, in ascending order, and orthonormal eigenvectors of symmetric or Hermitian matrices [..., n, n].

    Only the lower triangle is read (the upper one with ``UPLO="U"``). The gradient by the eigenvectors is infinite where eigenvalues repeat.

    >>> import tensor as T
    >>> T.linalg.eigh(T.tensor([[2.0, 0.0], [0.0, 1.0]])).eigenvalues
    tensor([1., 2.])
    """
    check_square("linalg.eigh", A)
    check_finite("linalg.eigh", A)
    return Eig(*_eigh(A, _check_uplo("linalg.eigh", UPLO)))


def _eigvalsh_rule(g: Tensor, A: Tensor, UPLO: Literal["L", "U"]) -> Tensor:
    V = _eigh(A, UPLO)[1]
    return symmetric((V * g.to(V.dtype).unsqueeze(-2)) @ adjoint(V))


@operator({"A": _eigvalsh_rule}, method=False, name="linalg._eigvalsh")
def _eigvalsh(A: Array, UPLO: Literal["L", "U"]) -> Array:
    """Eigenvalues, by one triangle."""
    return np.linalg.eigvalsh(A, UPLO)


@composite(method=False, name="linalg.eigvalsh")
def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """Eigenvalues of symmetric or Hermitian matrices [..., n, n], real and in ascending order.

    >>> import tensor as T
    >>> T.linalg.eigvalsh(T.tensor([[0.0, 2.0], [2.0, 0.0]])).round(decimals=4)
    tensor([-2.,  2.])
    """
    check_square("linalg.eigvalsh", A)
    check_finite("linalg.eigvalsh", A)
    return _eigvalsh(A, _check_uplo("linalg.eigvalsh", UPLO))


# --- eigenvalues of any square matrices ------------------------------------------------------------------------------


def _from_right(V: Tensor, inner: Tensor) -> Tensor:
    """V^-H inner V^H."""
    return solve_ex(adjoint(V), inner @ adjoint(V)).result


def _eig_rule(g: Any, y: Any) -> Tensor:
    (values, V), (g_values, g_V) = y, g
    inner = None if g_values is None else g_values.diag_embed()
    if g_V is not None:
        products = adjoint(V) @ g_V
        _check_phase("linalg.eig", "eigenvectors", products, g_V)
        n = V.shape[-1]
        # Eigenvectors have length 1: what would change their length is taken away.
        along = products.diagonal(0, -2, -1).real.to(V.dtype)
        turned = products - adjoint(V) @ (V * along.unsqueeze(-2))
        turned = turned / _gaps(values).conj() * (1 - identity_like(values, n))
        inner = turned if inner is None else inner + turned
    assert inner is not None
    return _from_right(V, inner)


def _complex(x: Array) -> Array:
    """NumPy's results are real where they can be; PyTorch's are always complex."""
    return x.astype(np.result_type(x.dtype, np.complex64), copy=False)


@operator({"A": _eig_rule}, outputs=2, method=False, name="linalg._eig")
def _eig(A: Array) -> tuple[Array, Array]:
    """Complex eigenvalues and eigenvectors."""
    values, vectors = np.linalg.eig(A)
    return _complex(values), _complex(vectors)


@composite(method=False, name="linalg.eig")
def eig(A: Tensor) -> Eig:
    """Eigenvalues and eigenvectors (columns of length 1) of square matrices [..., n, n]: always complex, in no order.

    >>> import tensor as T
    >>> T.linalg.eig(T.tensor([[2.0, 0.0], [0.0, 3.0]])).eigenvalues
    tensor([2.+0.j, 3.+0.j])
    """
    check_square("linalg.eig", A)
    check_finite("linalg.eig", A)
    return Eig(*_eig(A))


def _eigvals_rule(g: Tensor, A: Tensor) -> Tensor:
    V = _eig(A)[1]
    return _from_right(V, g.diag_embed())


@operator({"A": _eigvals_rule}, method=False, name="linalg._eigvals")
def _eigvals(A: Array) -> Array:
    """Complex eigenvalues."""
    return _complex(np.linalg.eigvals(A))


@composite(method=False, name="linalg.eigvals")
def eigvals(A: Tensor) -> Tensor:
    """Eigenvalues of square matrices [..., n, n]: always complex, in no order.

    >>> import tensor as T
    >>> T.linalg.eigvals(T.tensor([[0.0, 1.0], [-1.0, 0.0]])).imag
    tensor([ 1., -1.])
    """
    check_square("linalg.eigvals", A)
    check_finite("linalg.eigvals", A)
    return _eigvals(A)


# --- singular values -------------------------------------------------------------------------------------------------


def _skew(x: Tensor) -> Tensor:
    return x - adjoint(x)


def _between(U: Tensor, numbers: Tensor, Vh: Tensor) -> Tensor:
    """U diag(numbers) Vh."""
    product: Tensor = (U * numbers.to(U.dtype).unsqueeze(-2)) @ Vh
    return product


def _svd_rule(g: Any, y: Any) -> Tensor:
    (U, S, Vh), (g_U, g_S, g_Vh) = y, g
    k = S.shape[-1]
    # Of full matrices, the vectors beyond the k-th are an arbitrary basis: their gradients are ignored.
    U, Vh = U[..., :k], Vh[..., :k, :]
    if g_U is None and g_Vh is None:
        return _between(U, g_S, Vh)
    g_U = U * 0 if g_U is None else g_U[..., :k]
    g_V = adjoint(Vh * 0 if g_Vh is None else g_Vh[..., :k, :])
    V = adjoint(Vh)
    left, right = adjoint(U) @ g_U, Vh @ g_V
    _check_phase("linalg.svd", "singular vectors", left + right, g_U)
    numbers = S.to(U.dtype)
    gaps = _gaps((S * S).to(U.dtype))
    columns, rows = numbers.unsqueeze(-2), numbers.unsqueeze(-1)
    inner = _skew(left) / gaps * columns + rows * (_skew(right) / gaps)
    off = 1 - identity_like(U, k)
    inner = inner * off
    if U._array.dtype.kind == "c":  # what turns the phases of both vectors of a pair together
        inner = inner + (_skew(left).diagonal(0, -2, -1) / (numbers * 2)).diag_embed()
    if g_S is not None:
        inner = inner + diagonal_matrix(g_S, U)
    result: Tensor = U @ inner @ Vh
    if U.shape[-2] > k:
        outside = g_U / columns
        result = result + (outside - U @ (adjoint(U) @ outside)) @ Vh
    if Vh.shape[-1] > k:
        outside = g_V / columns
        result = result + U @ adjoint(outside - V @ (Vh @ outside))
    return result


@operator({"A": _svd_rule}, outputs=3, method=False, name="linalg._svd")
def _svd(A: Array, full_matrices: bool) -> tuple[Array, Array, Array]:
    """Singular vectors and values."""
    u, s, vh = np.linalg.svd(A, full_matrices=full_matrices)
    return u, s, vh


@composite(method=False, name="linalg.svd")
def svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> SVD:
    """U, S, Vh with ``A = U @ diag(S) @ Vh`` of matrices [..., m, n]: S real, descending; U and Vh orthonormal, square if ``full_matrices``.

    The gradient by the vectors is infinite where singular values repeat or, for matrices that are not square, are 0.

    >>> import tensor as T
    >>> T.linalg.svd(T.tensor([[0.0, 2.0], [1.0, 0.0]])).S
    tensor([2., 1.])
    """
    check_svd("linalg.svd", A, driver)
    return SVD(*_svd(A, full_matrices))


def check_svd(who: str, A: Tensor, driver: str | None) -> None:
    check_matrix(who, A)
    if driver is not None:
        msg = f"{who}: expected driver=None, since drivers exist only on CUDA devices, got {driver!r}"
        raise RuntimeError(msg)
    check_finite(who, A)


def _svdvals_rule(g: Tensor, A: Tensor) -> Tensor:
    U, _, Vh = _svd(A, False)
    return _between(U, g, Vh)


@operator({"A": _svdvals_rule}, method=False, name="linalg._svdvals")
def _svdvals(A: Array) -> Array:
    """Singular values."""
    return np.linalg.svd(A, compute_uv=False)


@composite(method=False, name="linalg.svdvals")
def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """Singular values of matrices [..., m, n], in descending order.

    >>> import tensor as T
    >>> T.linalg.svdvals(T.tensor([[0.0, 2.0], [1.0, 0.0]]))
    tensor([2., 1.])
    """
    check_svd("linalg.svdvals", A, driver)
    return _svdvals(A)
