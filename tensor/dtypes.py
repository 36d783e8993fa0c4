"""Dtypes and promotion, with PyTorch's names and rules on NumPy's dtypes.

Promotion looks at three tiers of operands: tensors with dimensions, 0-d tensors, Python numbers. A lower tier only
counts when its *kind* (bool < integer < float < complex) is higher than every tier above it; a Python float then
means the default dtype (float32 unless `set_default_dtype` says otherwise).
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np

from tensor.cuda import scalar_types

__all__ = [
    "DTYPES",
    "as_dtype",
    "bool",
    "can_cast",
    "cdouble",
    "cfloat",
    "complex64",
    "complex128",
    "double",
    "dtype",
    "float",
    "float16",
    "float32",
    "float64",
    "get_default_dtype",
    "half",
    "int",
    "int8",
    "int16",
    "int32",
    "int64",
    "long",
    "numpy_dtype",
    "promote_types",
    "set_default_dtype",
    "short",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]

_bool: TypeAlias = bool
_int: TypeAlias = int
_float: TypeAlias = float
_complex: TypeAlias = complex
_KINDS = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


class dtype:
    """An element type, for example ``tensor.float32``. One object per type; compare with ``is`` or ``==``."""

    __slots__ = ("is_complex", "is_floating_point", "is_signed", "itemsize", "kind", "name", "numpy")

    def __init__(self, name: str) -> None:
        self.name = name
        self.numpy = np.dtype(name)
        self.itemsize = self.numpy.itemsize
        self.kind = _KINDS[self.numpy.kind]
        self.is_floating_point = self.kind == 2
        self.is_complex = self.kind == 3
        self.is_signed = self.numpy.kind not in "bu"

    def __repr__(self) -> str:
        return f"tensor.{self.name}"

    def __reduce__(self) -> str:
        return self.name

    def to_real(self) -> dtype:
        """The dtype of the parts of a complex number; itself for the others."""
        return {"complex64": float32, "complex128": float64}.get(self.name, self)

    def to_complex(self) -> dtype:
        """The complex dtype whose parts have this one."""
        return self if self.is_complex else complex128 if self.name == "float64" else complex64


uint8, uint16, uint32, uint64 = dtype("uint8"), dtype("uint16"), dtype("uint32"), dtype("uint64")
int8, int16, int32, int64 = dtype("int8"), dtype("int16"), dtype("int32"), dtype("int64")
float16, float32, float64 = dtype("float16"), dtype("float32"), dtype("float64")
complex64, complex128 = dtype("complex64"), dtype("complex128")
bool_ = dtype("bool")

#: From NumPy's dtype to ours.
DTYPES: dict[np.dtype[Any], dtype] = {
    d.numpy: d
    for d in (
        *(uint8, uint16, uint32, uint64, int8, int16, int32, int64),
        *(float16, float32, float64, complex64, complex128, bool_),
    )
}

_default = float32


def get_default_dtype() -> dtype:
    """The dtype of Python floats, and of results that turn integers into floats."""
    return _default


def set_default_dtype(d: dtype) -> None:
    """Set the default floating dtype: ``float16``, ``float32`` or ``float64``."""
    global _default
    if not d.is_floating_point:
        msg = f"set_default_dtype: expected a floating dtype, got {d}"
        raise TypeError(msg)
    _default = d


def default_complex() -> dtype:
    """The complex dtype whose parts have the default dtype."""
    return _default.to_complex()


_PYTHON = {_bool: bool_, _int: int64}


def as_dtype(d: Any) -> dtype:
    """Our dtype for one of ours, a NumPy dtype, or a Python type.

    >>> import numpy as np
    >>> as_dtype(np.float64)
    tensor.float64
    """
    if type(d) is dtype:
        return d
    if d is _float:
        return _default
    if d is _complex:
        return default_complex()
    known = _PYTHON.get(d)
    if known is not None:
        return known
    try:
        return DTYPES[np.dtype(d)]
    except (TypeError, KeyError):
        msg = f"expected a dtype such as tensor.float32, got {d!r}"
        raise TypeError(msg) from None


def numpy_dtype(d: Any) -> np.dtype[Any]:
    """NumPy's dtype for anything that `as_dtype` takes."""
    return as_dtype(d).numpy


@cache
def promote_numpy(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """Two NumPy dtypes of the same tier to the one that holds both, by PyTorch's table."""
    x, y = _KINDS[a.kind], _KINDS[b.kind]
    if x == y:
        return np.promote_types(a, b)
    if x < y:
        a, b, x, y = b, a, y, x
    if x == 3 and y == 2:  # a complex dtype with parts as wide as the float's
        return np.promote_types(a, as_dtype(b).to_complex().numpy)
    return a


def promote_types(a: dtype, b: dtype) -> dtype:
    """The smallest dtype that both can be cast to without leaving their kind.

    >>> promote_types(int64, float16)
    tensor.float16
    """
    return as_dtype(promote_numpy(a.numpy, b.numpy))


def can_cast(source: dtype, target: dtype) -> _bool:
    """Whether ``source`` may be cast to ``target`` in place: never down the kinds complex, float, integer, bool."""
    return source.kind <= target.kind and not (source.kind == target.kind == 1 and source.is_signed and not target.is_signed)


_SCALAR_KIND: dict[type, _int] = {_bool: 0, _int: 1, _float: 2, _complex: 3}


def _scalar_dtype(kind: _int) -> np.dtype[Any]:
    return (bool_, int64, _default, default_complex())[kind].numpy


def result_dtype(operands: tuple[Any, ...]) -> np.dtype[Any]:
    """The NumPy dtype of an operation on raw arrays and Python numbers.

    >>> import numpy as np
    >>> result_dtype((np.ones(3, "float32"), 2.5))
    dtype('float32')
    """
    tiers: list[np.dtype[Any] | None] = [None, None, None]  # arrays, 0-d arrays, numbers
    for x in operands:
        kind = _SCALAR_KIND.get(type(x))
        if kind is not None:
            tier, d = 2, _scalar_dtype(kind)
        elif isinstance(x, scalar_types):
            tier, d = 2, _scalar_dtype(_KINDS[x.dtype.kind])
        else:
            tier, d = 0 if x.ndim else 1, x.dtype
        have = tiers[tier]
        tiers[tier] = d if have is None else promote_numpy(have, d)
    result = None
    for found in tiers:
        if found is None:
            continue
        if result is None:
            result = found
        elif _KINDS[found.kind] > _KINDS[result.kind]:
            # A weaker operand of a higher kind decides the kind, never the width of a complex from a wider float.
            result = as_dtype(result).to_complex().numpy if found.kind == "c" and result.kind == "f" else found
    assert result is not None
    return result


# The short names come last: they hide Python's own in this module.
half, double, cfloat, cdouble = float16, float64, complex64, complex128
short, long = int16, int64
bool, int, float = bool_, int32, float32
