"""The arguments of a call as something hashable, with holes for arrays, and back."""

from __future__ import annotations

from collections.abc import Iterator
from math import copysign
from typing import Any

import numpy as np

from tensor.jit.deferred.array import Deferred

__all__ = ["FLOATS", "form_of", "without_holes"]

#: Functions whose Python floats may differ from one run of a graph to the next: they are given to machine code when it runs.
FLOATS = frozenset({np.add, np.subtract, np.multiply, np.true_divide, np.maximum, np.minimum})


class _Mark:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


_HOLE, _NUMBER = _Mark("array"), _Mark("number")


def form_of(x: Any, arrays: list[Any], numbers: bool) -> Any:
    """The form of nested arguments; ``arrays`` gets what fills the holes: arrays, and with ``numbers`` floats.

    Raises TypeError for arrays of other kinds.
    """
    kind = type(x)
    if kind is Deferred or kind is np.ndarray:
        arrays.append(x)
        return _HOLE
    if kind is float:
        if numbers:
            arrays.append(x)
            return _NUMBER
        return (kind, x, copysign(1.0, x))
    if kind is tuple or kind is list:
        return (kind, *[form_of(v, arrays, numbers) for v in x])
    if kind is dict:
        return (kind, *[(k, form_of(v, arrays, numbers)) for k, v in x.items()])
    if kind is slice:
        return (kind, *[form_of(v, arrays, numbers) for v in (x.start, x.stop, x.step)])
    if hasattr(kind, "__array_function__") or hasattr(kind, "_array"):
        msg = f"an operand of type {kind.__name__}"
        raise TypeError(msg)
    return (kind, x)


def without_holes(form: Any, filling: Iterator[Any]) -> Any:
    """The arguments that have this form, with the given things in the holes."""
    if type(form) is _Mark:
        return next(filling)
    kind = form[0]
    if kind is tuple or kind is list:
        return kind([without_holes(v, filling) for v in form[1:]])
    if kind is dict:
        return {k: without_holes(v, filling) for k, v in form[1:]}
    if kind is slice:
        return slice(*[without_holes(v, filling) for v in form[1:]])
    return form[1]
