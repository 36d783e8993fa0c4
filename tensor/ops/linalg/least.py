"""Pseudo-inverses, ranks and least squares: what singular values decide."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.naming import quoted
from tensor.ops.dispatch import as_array
from tensor.ops.linalg.common import adjoint, check_finite, check_matrix, check_square, over_batch, raise_for, same_dtype
from tensor.ops.linalg.results import Lstsq
from tensor.ops.linalg.spectral import eigvalsh, svdvals
from tensor.ops.record import Array, composite, operator

__all__ = ["lstsq", "matrix_rank", "pinv"]

#: The drivers of least squares on a CPU, LAPACK's, and what each tells beside the solution.
DRIVERS = {
    "gelsy": {"rank"},
    "gels": {"residuals"},
    "gelsd": {"rank", "singular_values", "residuals"},
    "gelss": {"rank", "singular_values", "residuals"},
}


def _raw(x: Any) -> Any:
    return x._array if isinstance(x, Tensor) else x


def _tolerances(atol: Any, rtol: Any, shape: Any, dtype: Any) -> tuple[Any, Any]:
    """Absolute and relative tolerance: by default relative, as many roundings as there are rows or columns, unless only ``atol`` is given."""
    atol, rtol = _raw(atol), _raw(rtol)
    if rtol is None:
        default = max(shape[-2:]) * np.finfo(dtype).eps
        rtol = default if atol is None else np.where(atol > 0, 0.0, default)
    return 0.0 if atol is None else atol, rtol


def _cutoff(values: Array, atol: Any, rtol: Any) -> Array:
    """What singular values must exceed, one number a matrix with a dimension of 1 after it."""
    top = values.max(-1) if values.shape[-1] else np.zeros_like(values, shape=values.shape[:-1])
    return np.maximum(atol, rtol * top)[..., None]


# --- pseudo-inverse --------------------------------------------------------------------------------------------------


def _pinv_rule(g: Tensor, A: Tensor, y: Tensor) -> Tensor:
    """For changes of A that keep its rank (Golub and Pereyra 1973); ordered so that the small products come first."""
    yh, gh = adjoint(y), adjoint(g)
    if A.shape[-2] <= A.shape[-1]:
        k = gh @ y
        kyh = k @ yh
        return kyh - adjoint(y @ k) - (A @ y) @ kyh + (yh @ y) @ (gh - k @ A)
    k = y @ gh
    yhk = yh @ k
    return yhk - adjoint(k @ y) - yhk @ (y @ A) + ((gh - A @ k) @ y) @ yh


@operator({"A": _pinv_rule}, method=False, name="linalg._pinv")
def _pinv(A: Array, atol: Any, rtol: Any, hermitian: bool) -> Array:
    """By the singular values, or by the eigenvalues of Hermitian matrices, that are large enough."""
    if hermitian:
        values, u = np.linalg.eigh(A)
        right = np.conj(np.swapaxes(u, -1, -2))
        size = np.abs(values)
        rows, columns = u, right
    else:
        u, values, vh = np.linalg.svd(A, full_matrices=False)
        size = values
        rows, columns = np.conj(np.swapaxes(vh, -1, -2)), np.conj(np.swapaxes(u, -1, -2))
    keep = size > _cutoff(size, atol, rtol)
    scale = np.where(keep, 1 / np.where(keep, values, 1), 0).astype(A.dtype)
    return (rows * scale[..., None, :]) @ columns


@composite(method=False, name="linalg.pinv")
def pinv(A: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """The Moore-Penrose inverse of matrices [..., m, n]; singular values up to ``max(atol, rtol * largest)`` count as 0.

    The tolerances are numbers or tensors with one number a matrix. ``rcond`` is an older name of ``rtol``. ``hermitian``: A is, only its lower
    triangle is read.

    >>> import tensor as T
    >>> T.linalg.pinv(T.tensor([[2.0, 0.0], [0.0, 0.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.0000]])
    """
    check_matrix("linalg.pinv", A)
    if hermitian:
        check_square("linalg.pinv", A)
    check_finite("linalg.pinv", A)
    if not A._array.size:
        return A.mT * 1
    return _pinv(A, *_tolerances(atol, rcond if rtol is None else rtol, A.shape, A._array.real.dtype), hermitian)


# --- rank ------------------------------------------------------------------------------------------------------------


@composite(method=False, name="linalg.matrix_rank")
def matrix_rank(A: Tensor, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """How many singular values of matrices [..., m, n] exceed ``max(atol, rtol * largest)``. ``tol`` is an older name of ``atol``.

    >>> import tensor as T
    >>> T.linalg.matrix_rank(T.ones(3, 3))
    tensor(1)
    """
    check_matrix("linalg.matrix_rank", A)
    A = A.detach()
    values = eigvalsh(A)._array if hermitian else svdvals(A)._array
    size = np.abs(values)
    if tol is not None:
        atol, rtol = tol, 0.0
    cutoff = _cutoff(size, *_tolerances(atol, rtol, A.shape, size.dtype))
    return Tensor(as_array((size > cutoff).sum(-1, dtype=np.int64)))


# --- least squares ---------------------------------------------------------------------------------------------------


def _lstsq_rule(g: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """The solution is pinv(A) B."""
    inverse = pinv(A)
    return _pinv_rule(g @ adjoint(B), A, inverse), adjoint(inverse) @ g


@operator(_lstsq_rule, method=False, name="linalg._lstsq")
def _lstsq(A: Array, B: Array, rcond: float) -> Array:
    """The shortest X with the smallest |A X - B|."""
    n, k = A.shape[-1], B.shape[-1]
    if A.shape[-2] == 0 or not n * k:
        return np.zeros_like(B, shape=(*np.broadcast_shapes(A.shape[:-2], B.shape[:-2]), n, k))
    (x,) = over_batch(lambda a, b: [np.linalg.lstsq(a, b, rcond)[0]], [A, B], [2, 2], [((n, k), B.dtype)])
    return x


@composite(method=False, name="linalg.lstsq")
def lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None) -> Lstsq:
    """X with the smallest ``|A @ X - B|`` for matrices A [..., m, n] and B [..., m, k] (or vectors [..., m]); batches broadcast.

    Of several the shortest. What the driver does not tell is empty: "gelsy" (the default) tells the rank; "gelsd" and "gelss" also the singular values
    and, for A of full rank with m > n, the residuals, which are the squared distances of the columns; "gels" tells only those, and raises
    `LinAlgError` for A without full rank.

    >>> import tensor as T
    >>> A = T.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    >>> T.linalg.lstsq(A, T.tensor([[1.0], [3.0], [5.0]])).solution.round(decimals=4)
    tensor([[1.],
            [2.]])
    """
    who = "linalg.lstsq"
    check_matrix(who, A)
    same_dtype(who, A, B)
    driver = "gelsy" if driver is None else driver
    if driver not in DRIVERS:
        msg = f"{who}: expected driver to be one of {quoted(DRIVERS)}, got {driver!r}"
        raise RuntimeError(msg)
    vector = B.ndim == 1 or (B.ndim == A.ndim - 1 and B.shape == A.shape[:-1])
    columns = B.unsqueeze(-1) if vector else B
    if columns.shape[-2] != A.shape[-2]:
        msg = f"{who}: expected B with {A.shape[-2]} rows, as A has, got shapes {tuple(A.shape)} and {tuple(B.shape)}"
        raise RuntimeError(msg)
    check_finite(who, A)
    m, n = A.shape[-2:]
    eps = float(np.finfo(A._array.dtype).eps) * max(m, n) if rcond is None else float(rcond)
    x = _lstsq(A, columns, eps)
    tells = DRIVERS[driver]
    rank = matrix_rank(A, rtol=eps)
    full = rank == min(m, n)
    if driver == "gels":
        raise_for(who, Tensor((~full._array).astype(np.int32)), "driver 'gels' expects A of full rank; 'gelsy' takes any")
    none: Tensor = x.new_empty((0,), dtype=x.dtype.to_real())
    return Lstsq(
        x.squeeze(-1) if vector else x,
        (A @ x - columns).abs().square().sum(-2) if "residuals" in tells and m > n and bool(full.all()) else none,
        rank if "rank" in tells else none.to(rank.dtype),
        svdvals(A).detach() if "singular_values" in tells else none,
    )
