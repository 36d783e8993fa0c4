"""Complex numbers: their parts, made from parts, and what their gradients need.

The gradient of a real value by a complex ``z = x + iy`` is PyTorch's, ``dL/dx + i dL/dy``: the direction in which to go uphill. So
the rule of a function with a derivative is ``g * conj(f'(z))``, and rules conjugate what they saved with `cj`.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np

from tensor import dtypes
from tensor.autograd.tensor import Tensor
from tensor.ops.elementwise import unary
from tensor.ops.record import Array, attach, operator

__all__ = [
    "angle", "complex", "conj", "conj_physical", "imag", "is_conj", "polar", "real", "resolve_conj", "resolve_neg", "sgn", "view_as_complex",
    "view_as_real",
]  # fmt: skip


V = TypeVar("V")


def cj(x: V) -> V:
    """The conjugate of a complex value, a tensor, an array or a number; a real one itself."""
    if isinstance(x, Tensor):
        return x.conj() if x._array.dtype.kind == "c" else x  # type: ignore[return-value]
    if isinstance(x, np.ndarray) and x.dtype.kind != "c":
        return x
    return x.conjugate()  # type: ignore[attr-defined, no-any-return]


def _sgn_rule(g: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Only what is at right angles to x turns the sign; nothing passes at 0, and nothing at all for real numbers."""
    if x._array.dtype.kind != "c":
        return g * 0
    length = x.abs()
    along = (g * y.conj()).real
    return ((g - y * along) / length.masked_fill(length == 0, 1)).masked_fill(length == 0, 0)


def _sign(x: Array) -> Array:
    if x.dtype.kind != "c":
        return np.sign(x) if x.dtype.kind != "b" else x.copy()
    length = np.abs(x)
    return np.divide(x, length, out=np.zeros_like(x), where=length != 0)


sgn = unary("sgn", _sign, _sgn_rule, "The sign; of a complex number x / |x|.", dtype="same")


def _angle_rule(g: Tensor, x: Tensor) -> Tensor:
    if x._array.dtype.kind != "c":
        return g * 0
    squared = (x * x.conj()).real
    return (x * 1j * (g / squared.masked_fill(squared == 0, 1))).masked_fill(squared == 0, 0)


@operator({"x": _angle_rule})
def angle(x: Array) -> Array:
    """The argument of a complex number in radians; of a real one 0 or pi.

    >>> import tensor as T
    >>> T.angle(T.tensor([1j, 1 - 1j]))
    tensor([ 1.5708, -0.7854])
    """
    if x.dtype.kind in "biu":
        x = x.astype(dtypes.get_default_dtype().numpy)
    if x.dtype.kind == "c":
        return np.angle(x)
    return np.where(np.isnan(x), x, np.where(x < 0, x.dtype.type(math.pi), x.dtype.type(0)))


# The engine gives a gradient the dtype of its input: a real one becomes complex, and of a complex one the real part is taken.
@operator({"x": lambda g: g}, view=True)
def real(x: Array) -> Array:
    """The real part, a view."""
    return x.real if x.dtype.kind == "c" else x


@operator({"x": lambda g: g * 1j}, view=True)
def imag(x: Array) -> Array:
    """The imaginary part of a complex tensor, a view."""
    if x.dtype.kind != "c":
        msg = f"imag: expected a complex tensor, got {x.dtype}"
        raise RuntimeError(msg)
    return x.imag


@operator({"x": lambda g: cj(g)}, view=True, aliases=["conj_physical"])
def conj(x: Array) -> Array:
    """The complex conjugate, a copy; of a real tensor a view of it."""
    return np.conj(x) if x.dtype.kind == "c" else x


conj_physical = conj


def resolve_conj(x: Tensor) -> Tensor:
    """The tensor itself: conjugates are computed at once here, never put off."""
    return x


resolve_neg = resolve_conj


def is_conj(x: Tensor) -> bool:
    """Whether the conjugate of the memory is meant: never, since conjugates are computed at once."""
    return False


def _part(parts: tuple[Any, Any], who: str) -> Any:
    """The complex dtype for two real arrays of one floating dtype."""
    a, b = parts
    if a.dtype != b.dtype or a.dtype.kind != "f":
        msg = f"{who}: expected two tensors of one floating-point dtype, got {a.dtype} and {b.dtype}"
        raise RuntimeError(msg)
    return np.complex128 if a.dtype == np.float64 else np.complex64


@operator({"real": lambda g: g.real, "imag": lambda g: g.imag}, method=False)
def complex(real: Array, imag: Array) -> Array:
    """Complex numbers from their parts, broadcast.

    >>> import tensor as T
    >>> T.complex(T.tensor([1.0]), T.tensor([2.0]))
    tensor([1.+2.j])
    """
    shape = np.broadcast_shapes(real.shape, imag.shape)
    r = np.empty_like(real, shape=shape, dtype=_part((real, imag), "complex"), order="C")
    r.real[...], r.imag[...] = real, imag
    return r


def _polar_angle(g: Tensor, y: Tensor) -> Tensor:
    return (g * (y * 1j).conj()).real


def _polar_length(g: Tensor, angle: Tensor) -> Tensor:
    return g.real * angle.cos() + g.imag * angle.sin()


@operator({"abs": _polar_length, "angle": _polar_angle}, method=False)
def polar(abs: Array, angle: Array) -> Array:
    """Complex numbers from their lengths and angles (in radians), broadcast."""
    shape = np.broadcast_shapes(abs.shape, angle.shape)
    r = np.empty_like(abs, shape=shape, dtype=_part((abs, angle), "polar"), order="C")
    r.real[...], r.imag[...] = abs * np.cos(angle), abs * np.sin(angle)
    return r


def _from_pairs(g: Tensor) -> Tensor:
    return view_as_complex(g.contiguous())


@operator({"x": _from_pairs}, method=False, view=True)
def view_as_real(x: Array) -> Array:
    """Complex numbers as pairs, a last dimension of 2, a view."""
    if x.dtype.kind != "c":
        msg = f"view_as_real: expected a complex tensor, got {x.dtype}"
        raise RuntimeError(msg)
    return x[..., None].view(x.real.dtype)


@operator({"x": lambda g: view_as_real(g)}, method=False, view=True)
def view_as_complex(x: Array) -> Array:
    """Pairs in the last dimension as complex numbers, a view."""
    if x.dtype.kind != "f" or not x.ndim or x.shape[-1] != 2:
        msg = f"view_as_complex: expected a floating-point tensor with a last dimension of 2, got {x.dtype}{list(x.shape)}"
        raise RuntimeError(msg)
    return x.view(np.result_type(x.dtype, np.complex64))[..., 0]


attach(
    real=property(real),
    imag=property(imag),
    is_conj=is_conj,
    is_neg=is_conj,
    resolve_conj=resolve_conj,
    resolve_neg=resolve_neg,
)
