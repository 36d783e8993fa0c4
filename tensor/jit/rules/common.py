"""What the rules share: their kind, and how a call's arguments are found."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from tensor.jit.instructions import Instruction as Recorded
from tensor.jit.instructions import Ref
from tensor.jit.program import Literal, Slot, View, c_strides
from tensor.jit.slots import Slots, decline

Rule = Callable[[Slots, Recorded], object]
Operand = View | Literal | Slot


def given(s: Slots, made: Recorded, target: Any = None) -> View:
    """What a call writes: its `out`, or what it made."""
    given = made.kwargs.get("out") if target is None else target
    if isinstance(given, tuple):
        (given,) = given
    if given is None and isinstance(made.out, int):
        return s.view(made.out)
    if type(given) is not Ref:
        decline("an output that is not followed")
    return s.view(given.slot)


def bound(made: Recorded, *names: str, start: int = 1) -> dict[str, Any]:
    """The arguments from the `start`th on by their names; NoLowering for any that has none."""
    if len(made.args) - start > len(names):
        decline("arguments of no known name")
    found = {**dict(zip(names, made.args[start:], strict=False)), **made.kwargs}
    unknown = [name for name in found if name not in names]
    if unknown:
        decline(f"the argument {unknown[0]}")
    return found


def flat(view: View) -> View:
    """All elements in C order along one axis."""
    if len(view.shape) == 1:
        return view
    long = [(n, t) for n, t in zip(view.shape, view.strides, strict=True) if n != 1]
    step = long[-1][1] if long else 1
    if [t for _, t in long] != [c * step for c in c_strides(tuple(n for n, _ in long))]:
        decline("elements that are not in one row")
    return View(view.buffer, view.offset, (prod(view.shape),), (step,))


def insert(view: View, axis: int) -> View:
    return View(
        view.buffer, view.offset, (*view.shape[:axis], 1, *view.shape[axis:]), (*view.strides[:axis], 0, *view.strides[axis:])
    )
