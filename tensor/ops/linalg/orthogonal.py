"""QR, and products of Householder reflections."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.naming import quoted
from tensor.ops.complex_numbers import cj
from tensor.ops.join import cat
from tensor.ops.linalg.common import adjoint, check_matrix, identity_like, lapack, over_batch, same_dtype
from tensor.ops.linalg.results import QR, Reflectors
from tensor.ops.linalg.solve import solve_triangular
from tensor.ops.record import Array, attach, composite, operator

__all__ = ["geqrf", "householder_product", "orgqr", "ormqr", "qr"]

Mode: TypeAlias = Literal["reduced", "complete", "r"]

MODES: dict[str, Mode] = {"reduced": "reduced", "complete": "complete", "r": "r"}


def _qr_rule(g: Any, y: Any, mode: str) -> Tensor:
    """Differentiate A = Q R with orthonormal Q (Walter, Lehmann, Lamour 2012); columns right of the square part are Q times what is in R."""
    if mode == "r":
        msg = "linalg.qr: no gradient with mode='r', which does not compute Q; use mode='reduced'"
        raise RuntimeError(msg)
    (Q, R), (g_q, g_r) = y, g
    m, n = Q.shape[-2], R.shape[-1]
    if mode == "complete" and m > n:
        msg = f"linalg.qr: no gradient with mode='complete' of a tall matrix, here {m} by {n}; use mode='reduced'"
        raise RuntimeError(msg)
    g_q = Q * 0 if g_q is None else g_q
    g_r = R * 0 if g_r is None else g_r
    if n > m:
        outside = g_r[..., m:]
        g_q = g_q + Q @ R[..., m:] @ adjoint(outside)
        return cat([_square_qr_rule(Q, R[..., :m], g_q, g_r[..., :m]), Q @ outside], -1)
    return _square_qr_rule(Q, R, g_q, g_r)


def _square_qr_rule(Q: Tensor, R: Tensor, g_q: Tensor, g_r: Tensor) -> Tensor:
    middle = (g_r @ adjoint(R) - adjoint(Q) @ g_q).triu() * (identity_like(R, R.shape[-1]) * -0.5 + 1)
    return solve_triangular(adjoint(R), g_q + Q @ (middle + adjoint(middle)), upper=False, left=False)


@operator({"A": _qr_rule}, outputs=2, method=False, name="linalg._qr")
def _qr(A: Array, mode: Mode) -> tuple[Array, Array]:
    """Q and R; no Q in mode "r"."""
    if mode == "r":
        return np.zeros_like(A, shape=(0,)), np.linalg.qr(A, "r")
    q, r = np.linalg.qr(A, mode)
    return q, r


@composite(method=False, name="linalg.qr")
def qr(A: Tensor, mode: str = "reduced") -> QR:
    """Q with orthonormal columns and an upper triangle R with ``Q @ R = A``, of matrices [..., m, n].

    ``mode``: "reduced" gives Q [..., m, k] and R [..., k, n] with k = min(m, n); "complete" Q [..., m, m] and R [..., m, n]; "r" only R.

    >>> import tensor as T
    >>> Q, R = T.linalg.qr(T.tensor([[3.0], [4.0]]))
    >>> R.abs()
    tensor([[5.]])
    """
    check_matrix("linalg.qr", A)
    if mode not in MODES:
        msg = f"linalg.qr: expected mode to be one of {quoted(MODES)}, got {mode!r}"
        raise RuntimeError(msg)
    return QR(*_qr(A, MODES[mode]))


@operator(outputs=2, name="_geqrf", method=False)
def _geqrf(A: Array) -> tuple[Array, Array]:
    """R, Householder vectors and their scales."""
    m, n = A.shape[-2:]
    outputs = [((m, n), A.dtype), ((min(m, n),), A.dtype)]
    if not m * n:
        return np.zeros_like(A), np.zeros_like(A, shape=(*A.shape[:-2], 0))
    routine = lapack("geqrf", A.dtype)
    packed, tau = over_batch(lambda a: routine(a)[:2], [A], [2], outputs)
    return packed, tau


@composite()
def geqrf(A: Tensor) -> Reflectors:
    """LAPACK's QR: R with the Householder vectors below its diagonal, and their scales; not differentiable.

    >>> import tensor as T
    >>> a, tau = T.geqrf(T.tensor([[3.0], [4.0]]))
    >>> tuple(a.shape), tuple(tau.shape)
    ((2, 1), (1,))
    """
    check_matrix("geqrf", A)
    return Reflectors(*_geqrf(A))


def _reflect(A: Tensor, tau: Tensor, x: Tensor, order: Any, adjoined: bool = False) -> Tensor:
    """Reflections I - tau v v^H applied to the columns of ``x``, one after the other; v is a column of A below a diagonal of ones."""
    k = tau.shape[-1]
    vectors = A[..., :k].tril(-1) + identity_like(A, A.shape[-2], k)
    scales = cj(tau) if adjoined else tau
    for i in order:
        v = vectors[..., i : i + 1]
        x = x - scales[..., i : i + 1].unsqueeze(-1) * (v @ (adjoint(v) @ x))
    return x


def _check_reflectors(who: str, A: Tensor, tau: Tensor) -> None:
    check_matrix(who, A)
    same_dtype(who, A, tau)
    m, n = A.shape[-2:]
    if m < n or tau.shape[-1] > n or tau.shape[:-1] != A.shape[:-2]:
        msg = f"{who}: expected vectors [..., m, n] with m >= n and scales [..., k] with k <= n, got shapes {tuple(A.shape)} and {tuple(tau.shape)}"
        raise RuntimeError(msg)


@composite(method=False, name="linalg.householder_product", aliases=["orgqr"])
def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first n columns of a product of Householder reflections, from what `geqrf` returns: the Q of QR.

    >>> import tensor as T
    >>> T.linalg.householder_product(*T.geqrf(T.tensor([[3.0], [4.0]]))).abs()
    tensor([[0.6000],
            [0.8000]])
    """
    _check_reflectors("linalg.householder_product", A, tau)
    m, n = A.shape[-2:]
    start = identity_like(A, m, n).expand(*A.shape[:-2], m, n)
    return _reflect(A, tau, start, reversed(range(tau.shape[-1])))


@composite()
def ormqr(A: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False) -> Tensor:
    """``Q @ other`` (``other @ Q`` if not ``left``; the adjoint of Q if ``transpose``) for the square Q of the reflections that `geqrf` returns.

    >>> import tensor as T
    >>> x = T.tensor([[3.0], [4.0]])
    >>> T.ormqr(*T.geqrf(x), x, transpose=True).abs().round(decimals=4)
    tensor([[5.],
            [0.]])
    """
    check_matrix("ormqr", A)
    same_dtype("ormqr", A, other)
    if not left:  # C Q is the adjoint of Q^H C^H
        return adjoint(ormqr(A, tau, adjoint(other), True, not transpose))
    if other.shape[-2] != A.shape[-2]:
        msg = f"ormqr: expected {A.shape[-2]} rows to multiply with Q of shape {A.shape[-2]} by {A.shape[-2]}, got shape {tuple(other.shape)}"
        raise RuntimeError(msg)
    steps = range(tau.shape[-1])
    return _reflect(A, tau, other, steps if transpose else reversed(steps), transpose)


orgqr = householder_product
attach(orgqr=householder_product)
