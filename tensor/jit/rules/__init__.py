"""What each of NumPy's functions is in a program's instructions: tables, a rule a function."""

from __future__ import annotations

import operator
from math import prod
from typing import Any

import numpy as np

from tensor.jit.instructions import Instruction as Recorded
from tensor.jit.program import Literal, Slot, View
from tensor.jit.rules import arithmetic, places
from tensor.jit.slots import Slots, decline

__all__ = ["lower_call", "lower_number"]


def lower_call(s: Slots, made: Recorded) -> None:
    """Write the instructions that do what a call does; none for a view. Raises NoLowering."""
    f: Any = made.function
    if made.errors and "raise" in made.errors.values():
        decline("floating-point errors that raise")
    owner = getattr(f, "__self__", None)
    if isinstance(f, np.ufunc):
        arithmetic.call_ufunc(s, f, made)
    elif isinstance(owner, np.ufunc):
        rule = _METHODS.get(f.__name__)
        if rule is None:
            decline(f"{owner.__name__}.{f.__name__}")
        rule(s, made)
    else:
        try:
            rule = _RULES.get(f)
        except TypeError:
            rule = None
        if rule is None:
            decline(f"no rule for {getattr(f, '__name__', f)}")
        rule(s, made)


def lower_number(s: Slots, made: Recorded) -> View:
    """Write Python's arithmetic on numbers that were read from arrays, in double precision as there."""
    f = made.function
    if f in (np.ndarray.item, float) and len(made.args) == 1:
        source = s.view(made.args[0].slot)
        if prod(source.shape) != 1 or s.dtype(source).kind not in "fiub":
            decline("a number of several")
        return s.copy(s.new((), np.float64), View(source.buffer, source.offset, (), ()))
    op = _NUMBERS.get(f)
    if op is None:
        decline(f"the number's {getattr(f, '__name__', f)}")
    compares = f in _COMPARISONS
    operands = [s.operand(x, ()) for x in made.args]
    if f is operator.truediv and isinstance(operands[1], View):  # Python raises where NumPy gives infinity
        s.put("logical_or", s.flag(), s.flag(), s.put("equal", s.new((), bool), operands[1], Literal(0.0)))
    elif f is operator.truediv and (isinstance(operands[1], Slot) or operands[1] in (Literal(0), Literal(0.0))):
        decline("a division that may be by zero")
    if not any(isinstance(x, View) for x in operands):
        decline("numbers from before")
    if any(isinstance(x, View) and s.dtype(x) != np.float64 for x in operands):
        decline("a number and an array")
    return s.put(op, s.new((), bool if compares else np.float64), *operands)


_NUMBERS = {
    operator.add: "add", operator.sub: "subtract", operator.mul: "multiply", operator.truediv: "divide",
    operator.neg: "negative", operator.abs: "absolute", operator.lt: "less", operator.le: "less_equal",
    operator.gt: "greater", operator.ge: "greater_equal", operator.eq: "equal", operator.ne: "not_equal",
}  # fmt: skip
_COMPARISONS = {operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne}
_RULES: dict[Any, Any] = {**arithmetic.RULES, **places.RULES}
_METHODS = {**arithmetic.METHODS, **places.METHODS}
