"""The operators of which small networks are made, as a compiler knows them: what a backward pass in machine code goes by.

One line an operator: the kernel of `tensor.jit.backward.kernels` that does what the operator's rules say, to the last bit, and
what it is given of the values that a node keeps. An operator that is not here is no loss but of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensor.ops.record import Operator

__all__ = ["KERNELS", "KINDS", "OPERATORS", "word"]

#: Operator to (kernel, the operands it is given). ``None:`` before a name: it has to be None; ``axis:``: it is a dimension.
OPERATORS: dict[str, tuple[str, ...]] = {
    "linear": ("linear", "x", "weight"),
    "cat": ("cat", "axis:dim"),
    "tanh": ("tanh", "y"),
    "sigmoid": ("sigmoid", "y"),
    "relu": ("relu", "y"),
    "exp": ("exp", "y"),
    "expm1": ("expm1", "y"),
    "log": ("log", "x"),
    "log1p": ("log1p", "x"),
    "sqrt": ("sqrt", "y"),
    "reciprocal": ("reciprocal", "y"),
    "neg": ("neg",),
    "add": ("add",),
    "sub": ("sub",),
    "mul": ("mul", "a", "b"),
    "div": ("div", "b", "y"),
    "pow": ("square", "a", "b"),
    "square": ("twice", "x"),
    "sum": ("sum", "None:dim"),
    "mean": ("mean", "None:dim"),
    "mean_square": ("mean_square", "x", "target"),
    "clone": ("same",),
    "reshape": ("same",),
    "view": ("same",),
    "squeeze": ("same",),
    "unsqueeze": ("same",),
}
KERNELS = tuple(dict.fromkeys(kernel for kernel, *_ in OPERATORS.values()))

#: What an operand is in a word.
KINDS = {"value": 1, "output": 2, "None": 3, "axis": 4}


def word(op: Operator, slots: Sequence[int]) -> int:
    """A plan in one number, 0 where there is no kernel: the kernel, whether values are kept, and where the operands are kept.

    ``slots``: what a node keeps, in this order. Eight bits each: kernel + 1, 1 if anything is to be released, then kind and place
    of each operand.
    """
    ours = all(rule is None or rule.__module__.startswith("tensor.") for rule, _ in op.rules)
    if op.name not in OPERATORS or not ours:  # an operator of somebody else may have the same name
        return 0
    kernel, *operands = OPERATORS[op.name]
    parts = [1 + KERNELS.index(kernel), int(op.holds_values)]
    for operand in operands:
        kind, _, name = operand.rpartition(":")
        found = [i for i, s in enumerate(slots) if op.slot_names[s] == name]
        parts += [KINDS[kind or op.names[slots[found[0]]][0]], found[0]] if found else [0, 0]
    return sum(part << 8 * i for i, part in enumerate(parts))
