"""Dtypes: casting, promotion, kinds and limits."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from tensor import dtypes
from tensor.array_api.array import NUMBERS, standard
from tensor.autograd.interop import asarray
from tensor.autograd.tensor import Tensor

__all__ = ["astype", "can_cast", "finfo", "iinfo", "isdtype", "result_type"]

KINDS: TypeAlias = Any  # a dtype, the name of a kind, or a tuple of them

_SIGNED = (dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64)
_UNSIGNED = (dtypes.uint8, dtypes.uint16, dtypes.uint32, dtypes.uint64)
_REAL_FLOATS = (dtypes.float32, dtypes.float64)
_COMPLEX = (dtypes.complex64, dtypes.complex128)

#: The standard's names of groups of dtypes; float16 is not of the standard, but a float.
KIND_NAMES: dict[str, tuple[dtypes.dtype, ...]] = {
    "bool": (dtypes.bool_,),
    "signed integer": _SIGNED,
    "unsigned integer": _UNSIGNED,
    "integral": _SIGNED + _UNSIGNED,
    "real floating": _REAL_FLOATS,
    "complex floating": _COMPLEX,
    "numeric": _SIGNED + _UNSIGNED + _REAL_FLOATS + _COMPLEX,
}
_HALF_KINDS = ("real floating", "numeric")


def isdtype(dtype: Any, kind: KINDS) -> bool:
    """Whether a dtype is of a kind: a dtype, the name of a kind, or one of a tuple of these.

    The names are "bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating" and "numeric".

    >>> isdtype(dtypes.float32, ("integral", "real floating"))
    True
    """
    d = dtypes.as_dtype(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(d, k) for k in kind)
    if not isinstance(kind, str):
        return d is dtypes.as_dtype(kind)
    if kind not in KIND_NAMES:
        msg = f"isdtype: expected a kind among {', '.join(map(repr, KIND_NAMES))}, got {kind!r}"
        raise ValueError(msg)
    return d in KIND_NAMES[kind] or (d is dtypes.float16 and kind in _HALF_KINDS)


@standard
def astype(x: Tensor, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """x with another dtype, a copy unless ``copy`` is False and nothing changes; complex does not become real (TypeError)."""
    d = dtypes.as_dtype(dtype)
    if x.is_complex() and not d.is_complex and d is not dtypes.bool_:
        msg = f"astype: {x.dtype} cannot become {d}; take real() or imag() first"
        raise TypeError(msg)
    return asarray(x, dtype=d, device=device, copy=copy or None)


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether a dtype (or that of an array) becomes another without losing range, by the promotion of the standard."""
    source = from_.dtype if isinstance(from_, Tensor) else dtypes.as_dtype(from_)
    target = dtypes.as_dtype(to)
    if source.kind == target.kind or (source.is_floating_point and target.is_complex):
        return dtypes.promote_types(source, target) is target
    return False


def result_type(*arrays_and_dtypes: Any) -> dtypes.dtype:
    """The dtype of an operation on arrays, dtypes and Python numbers; the numbers count by their kind alone."""
    found = [x.dtype if isinstance(x, Tensor) else dtypes.as_dtype(x) for x in arrays_and_dtypes if type(x) not in NUMBERS]
    if not found:
        msg = "result_type: expected at least one array or dtype"
        raise ValueError(msg)
    d = functools.reduce(dtypes.promote_types, found)
    numbers = tuple(x for x in arrays_and_dtypes if type(x) in NUMBERS)
    return dtypes.as_dtype(dtypes.result_dtype((np.empty(1, d.numpy), *numbers)))


@dataclass(frozen=True)
class FloatInfo:
    """The limits of a floating dtype; of a complex one those of its parts, whose dtype is ``dtype``."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: dtypes.dtype


@dataclass(frozen=True)
class IntegerInfo:
    """The limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: dtypes.dtype


def _dtype_of(who: str, type: Any, kinds: KINDS) -> dtypes.dtype:
    d = type.dtype if isinstance(type, Tensor) else dtypes.as_dtype(type)
    if not isdtype(d, kinds):
        msg = f"{who}: expected a dtype that is {kinds if isinstance(kinds, str) else ' or '.join(kinds)}, got {d}"
        raise TypeError(msg)
    return d


def finfo(type: Any, /) -> FloatInfo:
    """The limits of a floating dtype, or of that of an array, as Python numbers.

    >>> finfo(dtypes.float32).eps
    1.1920928955078125e-07
    """
    part = _dtype_of("finfo", type, ("real floating", "complex floating")).to_real()
    info = np.finfo(part.numpy)
    return FloatInfo(info.bits, float(info.eps), float(info.max), float(info.min), float(info.smallest_normal), part)


def iinfo(type: Any, /) -> IntegerInfo:
    """The limits of an integer dtype, or of that of an array, as Python numbers.

    >>> iinfo(dtypes.uint8).max
    255
    """
    d = _dtype_of("iinfo", type, "integral")
    info = np.iinfo(d.numpy)
    return IntegerInfo(info.bits, int(info.max), int(info.min), d)
