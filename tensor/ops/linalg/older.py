"""Linear algebra under PyTorch's older, top-level names; `tensor.linalg` has the newer forms."""

from __future__ import annotations

from typing import Any

from tensor.autograd.tensor import Tensor
from tensor.ops.linalg import factor, orthogonal, spectral
from tensor.ops.linalg.common import adjoint, check_triangular_pair
from tensor.ops.linalg.determinant import det, logdet, slogdet
from tensor.ops.linalg.factor import cholesky_inverse, cholesky_solve, lu_unpack
from tensor.ops.linalg.least import pinv
from tensor.ops.linalg.norms import matrix_norm, vector_norm
from tensor.ops.linalg.orthogonal import geqrf, orgqr, ormqr
from tensor.ops.linalg.products import matrix_exp, matrix_power
from tensor.ops.linalg.results import QR, OldSVD, TriangularSolution
from tensor.ops.linalg.solve import inverse, solve_triangular
from tensor.ops.record import composite
from tensor.ops.reduce import l2_norm

__all__ = [
    "cholesky", "cholesky_inverse", "cholesky_solve", "det", "frobenius_norm", "geqrf", "inverse", "logdet", "lu", "lu_solve", "lu_unpack", "matrix_exp",
    "matrix_power", "norm", "nuclear_norm", "orgqr", "ormqr", "pinverse", "qr", "slogdet", "svd", "triangular_solve",
]  # fmt: skip


@composite()
def cholesky(A: Tensor, upper: bool = False) -> Tensor:
    """The Cholesky factor of positive definite matrices: `linalg.cholesky` under its older name.

    >>> import tensor as T
    >>> T.cholesky(T.tensor([[4.0]]))
    tensor([[2.]])
    """
    return factor.cholesky(A, upper=upper)


@composite()
def triangular_solve(
    b: Tensor, A: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> TriangularSolution:
    """X with ``A X = b``, or ``A.T X = b``; the older form of `linalg.solve_triangular`, which see.

    >>> import tensor as T
    >>> T.triangular_solve(T.tensor([[4.0]]), T.tensor([[2.0]])).solution
    tensor([[2.]])
    """
    check_triangular_pair("triangular_solve", A, b)
    x = solve_triangular(A.mT if transpose else A, b, upper=upper != transpose, unitriangular=unitriangular)
    batch = tuple(x.shape[:-2])
    return TriangularSolution(x, A.expand(*batch, *A.shape[-2:]).clone())


@composite(name="lu")
def lu(A: Tensor, pivot: bool = True, get_infos: bool = False) -> tuple[Tensor, ...]:
    """`linalg.lu_factor` under its older name; with ``get_infos`` also 0 or the number of the pivot that is 0 for each matrix, and no error.

    >>> import tensor as T
    >>> T.lu(T.tensor([[0.0, 1.0], [2.0, 0.0]]))[1]
    tensor([2, 2], dtype=tensor.int32)
    """
    return tuple(factor.lu_factor_ex(A, pivot=pivot)) if get_infos else tuple(factor.lu_factor(A, pivot=pivot))


@composite(name="lu_solve")
def lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """X with ``A X = b`` by the factors of A: `linalg.lu_solve` with its older order of arguments.

    >>> import tensor as T
    >>> T.lu_solve(T.tensor([[4.0]]), *T.linalg.lu_factor(T.tensor([[2.0]])))
    tensor([[2.]])
    """
    return factor.lu_solve(LU_data, LU_pivots, b)


@composite(name="qr")
def qr(x: Tensor, some: bool = True) -> QR:
    """`linalg.qr` under its older name; ``some`` is its mode "reduced".

    >>> import tensor as T
    >>> tuple(T.qr(T.eye(2), some=False).Q.shape)
    (2, 2)
    """
    result: QR = orthogonal.qr(x, "reduced" if some else "complete")
    return result


@composite(name="svd")
def svd(x: Tensor, some: bool = True, compute_uv: bool = True) -> OldSVD:
    """U, S, V with ``x = U @ diag(S) @ V.mH``: the older form of `linalg.svd`. Without ``compute_uv`` U and V are zeros.

    >>> import tensor as T
    >>> T.svd(T.eye(2)).S
    tensor([1., 1.])
    """
    spectral.check_svd("svd", x, None)
    m, n = x.shape[-2:]
    if not compute_uv:
        batch = tuple(x.shape[:-2])
        return OldSVD(x.new_zeros((*batch, m, m)), spectral.svdvals(x), x.new_zeros((*batch, n, n)))
    U, S, Vh = spectral.svd(x, not some)
    return OldSVD(U, S, adjoint(Vh))


@composite()
def pinverse(x: Tensor, rcond: float = 1e-15) -> Tensor:
    """`linalg.pinv` with its older default tolerance.

    >>> import tensor as T
    >>> T.pinverse(T.tensor([[2.0]]))
    tensor([[0.5000]])
    """
    return pinv(x, rcond)


@composite()
def norm(x: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The p-norm of the elements over ``dim``; "fro" and None mean 2, "nuc" the sum of the singular values of matrices.

    >>> import tensor as T
    >>> T.norm(T.tensor([[3.0, 0.0], [0.0, 4.0]])), T.norm(T.ones(2, 2), "nuc")
    (tensor(5.), tensor(2.))
    """
    if dtype is not None:
        x = x.to(dtype)
    if x._array.dtype.kind not in "fc":
        msg = f"norm: expected a floating-point or complex tensor, got {x.dtype}"
        raise RuntimeError(msg)
    if p == "nuc":
        return matrix_norm(x, "nuc", tuple(range(x.ndim)) if dim is None else dim, keepdim)
    return l2_norm(x, dim, keepdim) if p in ("fro", None) else vector_norm(x, p, dim, keepdim)


@composite(method=False)
def nuclear_norm(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The sum of the singular values of matrices: `norm` with ``p="nuc"``.

    >>> import tensor as T
    >>> T.nuclear_norm(T.eye(3))
    tensor(3.)
    """
    return norm(x, "nuc", dim, keepdim)


@composite(method=False)
def frobenius_norm(x: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The root of the sum of squares over ``dim``.

    >>> import tensor as T
    >>> T.frobenius_norm(T.tensor([[3.0, 4.0]]))
    tensor(5.)
    """
    return norm(x, "fro", dim, keepdim)
