"""An optimizer's step as machine code, for the optimizers in `RULES`: one pass over gradients, parameters and moments.

The step is the optimizer's own: it keeps counting in its buffers, options are read at every step, and whatever the code was not
made for (hooks, other options, parameters without a gradient, replaced buffers) is left to `FlatOptimizer.step`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Any, NamedTuple

from tensor.jit.program import Buffer, Elementwise, Literal, Program, Slot, View, contiguous
from tensor.optim.adam import Adam, AdamW
from tensor.optim.flat import FLUSH_EVERY, Flat
from tensor.optim.flat_optimizer import SMALL_EPS, FlatOptimizer
from tensor.optim.sgd import SGD

__all__ = ["RULES", "FlatStep", "flat_step"]

Group = Mapping[str, Any]


class Lines:
    """Instructions over stretches of equal length, written one after the other."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.instructions: list[Any] = []

    def buffer(self, dtype: Any, size: int, kind: Any) -> Buffer:
        """One more buffer."""
        self.buffers.append(Buffer(len(self.buffers), dtype, size, kind))
        return self.buffers[-1]

    def put(self, op: str, out: View, *inputs: View | Slot | Literal) -> View:
        """``out = op(*inputs)``."""
        self.instructions.append(Elementwise(op, out, inputs))
        return out


class Rule(NamedTuple):
    """How an optimizer updates: the options that decide which instructions there are, the numbers of each step, and the
    instructions.

    ``write(lines, fixed, grad, data, rows, temporary)`` writes the update of one parameter.
    """

    fixed: Callable[[Group], tuple[Any, ...]]
    numbers: Callable[[Group, int], list[float]]
    write: Callable[..., None]


def _adam_fixed(group: Group) -> tuple[Any, ...]:
    return bool(group["weight_decay"]), bool(group["decoupled_weight_decay"]), group["amsgrad"], group["maximize"]


def _adam_numbers(group: Group, step: int) -> list[float]:
    beta1, beta2 = group["betas"]
    lr, decay = group["lr"], group["weight_decay"]
    root = sqrt(1 - beta2**step)
    shrink = 1 - lr * decay if group["decoupled_weight_decay"] else decay
    return [beta1, 1 - beta1, beta2, 1 - beta2, group["eps"] * root, lr * root / (1 - beta1**step), float(shrink)]


def _decay(w: Lines, fixed: tuple[Any, ...], g: View, data: View, t: View, number: Slot) -> View:
    """Weight decay; gives the gradient to go on with."""
    decays, decoupled = fixed[:2]
    if decays and decoupled:
        w.put("multiply", data, data, number)
    elif decays:
        w.put("multiply", t, data, number)
        return w.put("add", t, g, t)
    return g


def _adam(w: Lines, fixed: tuple[Any, ...], g: View, data: View, rows: Sequence[View], temporary: Callable[[], View]) -> None:
    amsgrad, maximize = fixed[2:]
    if maximize:
        g = w.put("negative", temporary(), g)
    g = _decay(w, fixed, g, data, temporary(), Slot(6))
    m, v = rows[:2]
    square = w.put("multiply", temporary(), g, g)
    w.put("multiply", m, m, Slot(0))
    w.put("add", m, m, w.put("multiply", temporary(), g, Slot(1)))
    w.put("multiply", v, v, Slot(2))
    w.put("add", v, v, w.put("multiply", square, square, Slot(3)))
    second = w.put("maximum", rows[2], rows[2], v) if amsgrad else v
    t = w.put("sqrt", temporary(), second)
    w.put("add", t, t, Slot(4))
    w.put("divide", t, m, t)
    w.put("multiply", t, t, Slot(5))
    w.put("subtract", data, data, t)


def _sgd_fixed(group: Group) -> tuple[Any, ...]:
    return bool(group["weight_decay"]), False, bool(group["momentum"]), group["nesterov"], group["maximize"]


def _sgd_numbers(group: Group, step: int) -> list[float]:
    return [float(group["momentum"]), 1 - group["dampening"], group["lr"], float(group["weight_decay"])]


def _sgd(w: Lines, fixed: tuple[Any, ...], g: View, data: View, rows: Sequence[View], temporary: Callable[[], View]) -> None:
    momentum, nesterov, maximize = fixed[2:]
    if maximize:
        g = w.put("negative", temporary(), g)
    g = _decay(w, fixed, g, data, temporary(), Slot(3))
    if momentum:
        (buffer,) = rows
        w.put("multiply", buffer, buffer, Slot(0))
        w.put("add", buffer, buffer, w.put("multiply", temporary(), g, Slot(1)))
        g = w.put("add", (t := temporary()), g, w.put("multiply", t, buffer, Slot(0))) if nesterov else buffer
    w.put("subtract", data, data, w.put("multiply", temporary(), g, Slot(2)))


RULES: dict[type, Rule] = {
    Adam: Rule(_adam_fixed, _adam_numbers, _adam),
    AdamW: Rule(_adam_fixed, _adam_numbers, _adam),
    SGD: Rule(_sgd_fixed, _sgd_numbers, _sgd),
}
#: The first step that the instructions describe: SGD's momentum starts as a copy of the gradient.
_FROM: dict[type, int] = {SGD: 2}


class FlatStep:
    """The step of an optimizer with one flat buffer; called with the gradients' arrays, it says whether it could be done."""

    __slots__ = ("_first", "_fixed", "_flat", "_group", "_optimizer", "_rule", "_run", "_views")

    def __init__(self, optimizer: FlatOptimizer, flat: Flat, run: Any) -> None:
        self._optimizer, self._flat, self._run = optimizer, flat, run
        self._group = optimizer.param_groups[0]
        self._rule = RULES[type(optimizer)]
        self._fixed = self._rule.fixed(self._group)
        self._first = _FROM.get(type(optimizer), 1)
        self._views = list(zip(flat.params, flat.views, strict=True))

    def __call__(self, grads: list[Any]) -> bool:
        """Update the parameters; False where the optimizer has to do it itself, and nothing has happened yet."""
        optimizer, flat, group = self._optimizer, self._flat, self._group
        flats, groups = optimizer._flats, optimizer.param_groups
        if (
            len(flats) != 1
            or len(flats[0]) != 1
            or flats[0][0] is not flat
            or groups[0] is not group
            or flat.late is not None  # some elements count fewer steps, since an edit of the network
            or "step" in vars(optimizer)
        ):
            return False
        if flat.steps.__class__ is not int or self._rule.fixed(group) != self._fixed:
            return False
        for p, view in self._views:
            if p._array is not view:
                return False
        step = flat.steps + 1
        if step < self._first:
            return False
        numbers = self._rule.numbers(group, step)
        flat.steps = step
        for version in flat.versions:
            version.value += 1
        self._run([*grads, flat.data, *flat._whole.rows], numbers)
        if not step % FLUSH_EVERY and optimizer.flushes and group.get("eps", 1) > SMALL_EPS:
            flat._whole.flush()
        return True


def flat_step(optimizer: FlatOptimizer, compile_program: Callable[[Program], Any]) -> FlatStep | None:
    """Machine code for an optimizer's step; None where there is none for its kind, its options or its parameters."""
    rule = RULES.get(type(optimizer))
    flats = optimizer._flats
    if rule is None or len(flats) != 1 or len(flats[0]) != 1:
        return None
    (flat,), group = flats[0], optimizer.param_groups[0]
    dtype = flat.data.dtype
    if dtype.kind != "f" or dtype.itemsize < 4 or flat.data.size == 0 or flat.late is not None:
        return None
    w = Lines()
    grads = [w.buffer(dtype, view.size, "external") for view in flat.views]
    data = w.buffer(dtype, flat.data.size, "external")
    rows = [w.buffer(dtype, flat.data.size, "external") for _ in flat.names]
    for grad, start, end in zip(grads, flat.offsets, flat.offsets[1:], strict=False):
        shape = (end - start,)

        def temporary(shape: tuple[int, ...] = shape) -> View:
            return contiguous(w.buffer(dtype, shape[0], "temporary"), shape)

        if end > start:
            rule.write(w, rule.fixed(group), contiguous(grad, shape), contiguous(data, shape, start),
                       [contiguous(row, shape, start) for row in rows], temporary)  # fmt: skip
    numbers = rule.numbers(group, 1)
    program = Program(tuple(w.buffers), tuple(w.instructions), len(numbers))
    return FlatStep(optimizer, flat, compile_program(program).run)
