"""Axes as the standard means them: None is all, an empty tuple none, and a 0-d array has no axis at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

__all__ = ["Axes", "axis_of", "each_axis"]

Axes: TypeAlias = int | Sequence[int] | None


def axis_of(who: str, axis: int, ndim: int) -> int:
    """One axis as a number >= 0; raises IndexError out of range."""
    if not -ndim <= axis < ndim:
        msg = f"{who}: axis {axis} is out of range for {ndim} dimensions"
        raise IndexError(msg)
    return axis % ndim


def each_axis(who: str, axis: Axes, ndim: int) -> tuple[int, ...]:
    """Axes as numbers >= 0, in the order given; raises IndexError out of range, ValueError where one comes twice."""
    if axis is None:
        return tuple(range(ndim))
    found = tuple(axis_of(who, a, ndim) for a in ((axis,) if isinstance(axis, int) else axis))
    if len(set(found)) < len(found):
        msg = f"{who}: expected each axis once, got {axis}"
        raise ValueError(msg)
    return found
