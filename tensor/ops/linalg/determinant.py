"""Determinants."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensor import cuda
from tensor.autograd.tensor import Tensor
from tensor.ops.complex_numbers import cj
from tensor.ops.linalg.common import adjoint, check_square, identity_like
from tensor.ops.linalg.results import SLogDet
from tensor.ops.linalg.solve import inv, inv_ex
from tensor.ops.record import Array, attach, composite, operator

__all__ = ["cofactor", "cofactor_change", "det", "logdet", "slogdet"]


def _each(x: Tensor) -> Tensor:
    """One number a matrix, against matrices."""
    matrices: Tensor = x.unsqueeze(-1).unsqueeze(-1)
    return matrices


def _trace(x: Tensor) -> Tensor:
    return _each(x.diagonal(0, -2, -1).sum(-1))


def _unitary_parts(A: Array) -> tuple[Array, Array, Array, Array]:
    """Singular vectors and values, and the determinant of the vectors: that of A is its product with the values."""
    u, s, vh = np.linalg.svd(A, full_matrices=False)
    return u, s.astype(A.dtype), vh, (np.linalg.det(u) * np.linalg.det(vh))[..., None, None]


def _change_by_matrix(g: Tensor, A: Tensor, E: Tensor) -> Tensor:
    """The third derivative of the determinant, for matrices that have an inverse."""
    inverse = inv(A)
    p, q = inverse @ E, inverse @ cj(g)
    both = p @ q
    traces = _trace(p) * _trace(q) - _trace(both)
    inner = traces * identity_like(A, A.shape[-1]) - p * _trace(q) - q * _trace(p) + both + q @ p
    change: Tensor = _each(_det(A)) * (inner @ inverse).mT
    return cj(change)


def _change_by_direction(g: Tensor, A: Tensor) -> Tensor:
    """Second derivatives are symmetric."""
    change: Tensor = cj(cofactor_change(A, cj(g)))
    return change


@operator({"A": _change_by_matrix, "E": _change_by_direction}, method=False, name="linalg.cofactor_change")
def cofactor_change(A: Array, E: Array) -> Array:
    """How `cofactor` changes with A in the direction E; by products of all singular values but two."""
    u, s, vh, turn = _unitary_parts(A)
    n = A.shape[-1]
    inner = np.conj(np.swapaxes(u, -1, -2)) @ E @ np.conj(np.swapaxes(vh, -1, -2))
    others = np.ones_like(inner)
    for k in range(n):
        factor = np.broadcast_to(s[..., k, None, None], inner.shape).copy()
        factor[..., k, :] = factor[..., :, k] = 1
        others *= factor
    same = cuda.native(np.eye, A)(n, dtype=bool)
    sums = np.where(same, 0, others) @ np.diagonal(inner, axis1=-2, axis2=-1)[..., None]
    return turn * np.conj(u) @ np.where(same, sums, -others * np.swapaxes(inner, -1, -2)) @ np.conj(vh)


@operator({"A": _change_by_direction}, method=False, name="linalg.cofactor")
def cofactor(A: Array) -> Array:
    """The derivative of the determinant by each element, of singular matrices too.

    It is ``det(A) * inv(A).T`` without dividing: by the singular values, each replaced with the product of the others.
    """
    u, s, vh, turn = _unitary_parts(A)
    others = np.where(cuda.native(np.eye, A)(A.shape[-1], dtype=bool), 1, s[..., None, :]).prod(-1)
    return turn * (np.conj(u) * others[..., None, :] @ np.conj(vh))


@operator({"A": lambda g, A: _each(g) * cj(cofactor(A))}, method=False, name="linalg._det")
def _det(A: Array) -> Array:
    """The determinant."""
    return np.linalg.det(A)


@composite(method=False, name="linalg.det", aliases=["det"])
def det(A: Tensor) -> Tensor:
    """The determinant of square matrices [..., n, n].

    Its first and second gradients hold at singular matrices; higher ones need an inverse, and raise `LinAlgError` where there is none.

    >>> import tensor as T
    >>> T.linalg.det(T.tensor([[2.0, 1.0], [0.0, 3.0]]))
    tensor(6.)
    """
    check_square("linalg.det", A)
    return _det(A)


def _slogdet_rule(g: Any, A: Tensor, y: Any) -> Tensor:
    """Both outputs change with tr(inv(A) dA): the logarithm with its real part, the phase with its imaginary part."""
    g_sign, g_log = g
    weight = g_log if g_log is not None else y[1] * 0
    if A._array.dtype.kind == "c":
        weight = weight.to(A.dtype)
        if g_sign is not None:
            weight = weight - (g_sign.conj() * y[0]).imag.to(A.dtype) * 1j
    return _each(weight) * adjoint(inv_ex(A).inverse)


@operator({"A": _slogdet_rule}, outputs=2, method=False, name="linalg._slogdet")
def _slogdet(A: Array) -> tuple[Array, Array]:
    """The sign and the logarithm of the absolute value of the determinant."""
    sign, logabsdet = np.linalg.slogdet(A)
    return sign, logabsdet


@composite(method=False, name="linalg.slogdet", aliases=["slogdet"])
def slogdet(A: Tensor) -> SLogDet:
    """The sign of the determinant (of complex matrices its phase), and the logarithm of its absolute value: no overflow.

    >>> import tensor as T
    >>> T.linalg.slogdet(T.eye(3) * -1e20).sign
    tensor(-1.)
    """
    check_square("linalg.slogdet", A)
    return SLogDet(*_slogdet(A))


@composite()
def logdet(A: Tensor) -> Tensor:
    """The logarithm of the determinant: -inf where it is 0, nan where it is negative.

    >>> import tensor as T
    >>> T.logdet(T.eye(3))
    tensor(0.)
    """
    check_square("logdet", A)
    sign, logabsdet = _slogdet(A)
    if A._array.dtype.kind == "c":
        return sign.log() + logabsdet
    return logabsdet.masked_fill(sign == -1, float("nan"))


attach(det=det, slogdet=slogdet)
