"""The linear algebra extension of the standard.

Matrices are the last two dimensions, what comes before them is a stack. Integers are not taken where the result is no integer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensor.array_api.array import as_array, promoted, standard
from tensor.array_api.axes import Axes, axis_of
from tensor.array_api.elementwise import FLOATS, NUMERIC, check
from tensor.array_api.products import matmul, matrix_transpose, tensordot, vecdot
from tensor.array_api.statistics import accumulated, reduced
from tensor.autograd.tensor import Tensor
from tensor.ops import matmul as products
from tensor.ops import reduce
from tensor.ops.linalg import determinant, factor, least, norms, orthogonal, spectral
from tensor.ops.linalg import products as powers
from tensor.ops.linalg import solve as equations
from tensor.ops.linalg.results import QR, SVD, Eig, SLogDet

__all__ = [
    "cholesky", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "inv", "matmul", "matrix_norm",
    "matrix_power", "matrix_rank", "matrix_transpose", "outer", "pinv", "qr", "slogdet", "solve", "svd", "svdvals", "tensordot",
    "trace", "vecdot", "vector_norm",
]  # fmt: skip


def _of_matrix(name: str, f: Callable[..., Tensor], doc: str) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor, /) -> Tensor:
        check(name, FLOATS, x)
        return as_array(f(x), (x,))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


det = _of_matrix("det", determinant.det, "The determinants of square matrices.")
eigvals = _of_matrix("eigvals", spectral.eigvals, "The eigenvalues of square matrices, complex, in no particular order.")
eigvalsh = _of_matrix("eigvalsh", spectral.eigvalsh, "The eigenvalues of symmetric or Hermitian matrices, real.")
inv = _of_matrix("inv", equations.inv, "The inverses of square matrices.")
svdvals = _of_matrix("svdvals", spectral.svdvals, "The singular values, largest first.")


@standard
def cholesky(x: Tensor, /, *, upper: bool = False) -> Tensor:
    """The triangular factor of positive definite matrices: ``L @ L.mH``, or with ``upper`` ``U.mH @ U``."""
    check("cholesky", FLOATS, x)
    return factor.cholesky(x, upper=upper)


@standard
def slogdet(x: Tensor, /) -> SLogDet:
    """The sign and the logarithm of the absolute value of determinants: (sign, logabsdet)."""
    check("slogdet", FLOATS, x)
    return determinant.slogdet(x)


@standard
def eig(x: Tensor, /) -> Eig:
    """The eigenvalues and eigenvectors (columns) of square matrices, complex: (eigenvalues, eigenvectors)."""
    check("eig", FLOATS, x)
    return spectral.eig(x)


@standard
def eigh(x: Tensor, /) -> Eig:
    """The eigenvalues and eigenvectors (columns) of symmetric or Hermitian matrices: (eigenvalues, eigenvectors)."""
    check("eigh", FLOATS, x)
    return spectral.eigh(x)


@standard
def qr(x: Tensor, /, *, mode: str = "reduced") -> QR:
    """Orthonormal columns times an upper triangle: (Q, R); ``mode`` "complete" gives a square Q."""
    check("qr", FLOATS, x)
    if mode not in ("reduced", "complete"):
        msg = f"qr: expected mode 'reduced' or 'complete', got {mode!r}"
        raise ValueError(msg)
    return orthogonal.qr(x, mode)


@standard
def svd(x: Tensor, /, *, full_matrices: bool = True) -> SVD:
    """Singular values and vectors: (U, S, Vh), with x equal to ``U @ diag(S) @ Vh``."""
    check("svd", FLOATS, x)
    return spectral.svd(x, full_matrices)


@standard
def solve(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The x with ``x1 @ x == x2``: a vector when x2 has one dimension, else matrices; stacks broadcast.

    >>> from tensor import array_api as xp
    >>> xp.linalg.solve(xp.asarray([[2.0, 0.0], [0.0, 4.0]]), xp.asarray([2.0, 2.0]))
    tensor([1.0000, 0.5000])
    """
    check("solve", FLOATS, x1, x2)
    a, b = promoted("solve", x1, x2)
    if b.ndim == 1:
        return equations.solve(a, b.reshape([1] * (a.ndim - 2) + [b.shape[0], 1]))[..., 0]
    # As many dimensions on the right as on the left, so that it is never taken for a stack of vectors, as PyTorch would.
    return equations.solve(a, b.reshape([1] * (a.ndim - b.ndim) + list(b.shape)))


@standard
def matrix_power(x: Tensor, n: int, /) -> Tensor:
    """Square matrices to a whole power; a negative one inverts them."""
    check("matrix_power", FLOATS, x)
    return powers.matrix_power(x, n)


@standard
def matrix_norm(x: Tensor, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """The norms of matrices: "fro", "nuc", 1, -1, 2, -2, inf or -inf."""
    check("matrix_norm", FLOATS, x)
    return norms.matrix_norm(x, "fro" if ord is None else ord, keepdim=keepdims)


@standard
def vector_norm(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """``sum(abs(x) ** ord) ** (1 / ord)`` over the axes; for infinities the largest or smallest, for 0 how many are not 0."""
    check("vector_norm", FLOATS, x)
    return reduced("vector_norm", lambda t: norms.vector_norm(t, ord, -1), x, axis, keepdims)


@standard
def matrix_rank(x: Tensor, /, *, rtol: Any = None) -> Tensor:
    """How many singular values exceed ``rtol`` (a number, or one for each matrix) times the largest."""
    check("matrix_rank", FLOATS, x)
    return least.matrix_rank(x, rtol=rtol)


@standard
def pinv(x: Tensor, /, *, rtol: Any = None) -> Tensor:
    """The Moore-Penrose inverse; singular values up to ``rtol`` times the largest count as 0."""
    check("pinv", FLOATS, x)
    return least.pinv(x, rtol=rtol)


@standard
def cross(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """The vector products along an axis of length 3; the rest broadcasts."""
    check("cross", NUMERIC, x1, x2)
    a, b = promoted("cross", x1, x2)
    ndim = max(a.ndim, b.ndim)
    along = axis_of("cross", axis, ndim) - ndim
    if along < -min(a.ndim, b.ndim) or not a.shape[along] == b.shape[along] == 3:
        msg = f"cross: expected length 3 along axis {axis}, got shapes {tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(msg)
    return products.cross(a, b, along)


@standard
def outer(x1: Tensor, x2: Tensor, /) -> Tensor:
    """All products of an element of one vector with one of the other."""
    check("outer", NUMERIC, x1, x2)
    return products.outer(*promoted("outer", x1, x2))


@standard
def diagonal(x: Tensor, /, *, offset: int = 0) -> Tensor:
    """The diagonals of matrices, ``offset`` above the main one, as the last dimension, a view."""
    return x.diagonal(_within(x, offset), -2, -1)


@standard
def trace(x: Tensor, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sums of the diagonals of matrices; small integers add up in 64 bits."""
    check("trace", NUMERIC, x)
    d = accumulated(x, dtype)
    return reduce.sum(x.diagonal(_within(x, offset), -2, -1), -1, dtype=d).to(d)


def _within(x: Tensor, offset: int) -> int:
    """An offset that NumPy can count to: beyond the corners there is nothing."""
    if x.ndim < 2:
        msg = f"diagonal: expected at least two dimensions, got {x.ndim}"
        raise ValueError(msg)
    rows, columns = x.shape[-2:]
    return max(-rows, min(offset, columns))
