"""Walks over the arguments of calls: the arrays among them, and what is left of them without, as something hashable."""

from __future__ import annotations

from collections.abc import Iterator
from math import copysign
from typing import Any

import numpy as np

from tensor.jit.deferred.array import Deferred

__all__ = ["FLOATS", "deferred_in", "form_of", "held", "held_and_seen", "replaced", "without_holes"]

#: Functions whose Python floats may differ from one run of a graph to the next: they are given to machine code when it runs.
FLOATS = frozenset({np.add, np.subtract, np.multiply, np.true_divide, np.maximum, np.minimum})

ndarray = np.ndarray
_PLAIN = frozenset({int, float, bool, str, complex, type(None), type(...), type, np.dtype})


class _Mark:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


_HOLE, _NUMBER = _Mark("array"), _Mark("number")


def held_and_seen(x: Any, seen: list[Any]) -> Any:
    """Nested arguments with the real arrays; ``seen`` gets all arrays, deferred and plain.

    Raises TypeError for arrays of other kinds.
    """
    kind = type(x)
    if kind is Deferred:
        seen.append(x)
        return x.held
    if kind in _PLAIN:
        return x
    if kind is ndarray:
        seen.append(x)
        return x
    if kind is tuple or kind is list:
        return kind([held_and_seen(v, seen) for v in x])
    if kind is dict:
        return {k: held_and_seen(v, seen) for k, v in x.items()}
    if kind is slice:
        return slice(*[held_and_seen(v, seen) for v in (x.start, x.stop, x.step)])
    if hasattr(kind, "__array_function__") or hasattr(kind, "_array"):
        msg = f"an operand of type {kind.__name__}"
        raise TypeError(msg)
    return x


def held(x: Any) -> Any:
    """Nested arguments with the real arrays, whatever else they have."""
    return _mapped(x, lambda v: v.held if type(v) is Deferred else v)


def replaced(x: Any, others: dict[int, Any]) -> Any:
    """Nested arguments with other arrays in the place of those with these ids."""
    return _mapped(x, lambda v: others.get(id(v), v))


def _mapped(x: Any, change: Any) -> Any:
    kind = type(x)
    if kind is tuple or kind is list:
        return kind([_mapped(v, change) for v in x])
    if kind is dict:
        return {k: _mapped(v, change) for k, v in x.items()}
    if kind is slice:
        return slice(*[_mapped(v, change) for v in (x.start, x.stop, x.step)])
    return change(x)


def deferred_in(x: Any) -> Iterator[Deferred]:
    """The deferred arrays among nested arguments."""
    kind = type(x)
    if kind is Deferred:
        yield x
    elif kind is tuple or kind is list:
        for v in x:
            yield from deferred_in(v)
    elif kind is dict:
        yield from deferred_in(list(x.values()))
    elif kind is slice:
        yield from deferred_in((x.start, x.stop, x.step))


def form_of(x: Any, arrays: list[Any], numbers: bool) -> Any:
    """The form of nested arguments; ``arrays`` gets what fills the holes: arrays, and with ``numbers`` floats."""
    kind = type(x)
    if kind is ndarray:
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
