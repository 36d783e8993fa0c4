"""An optimizer's step as machine code, for the optimizers in `RULES`: one pass over gradients, parameters and moments.

The step is the optimizer's own: it keeps counting in its buffers, options are read at every step, and whatever the code was not
made for (hooks, other options, parameters without a gradient, replaced buffers) is left to `FlatOptimizer.step`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from math import inf, log, sqrt
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from tensor.jit import watch
from tensor.jit.program import Buffer, Elementwise, Literal, Program, Slot, View, contiguous
from tensor.optim.adam import Adam, AdamW
from tensor.optim.flat import Flat
from tensor.optim.flat_late import Late
from tensor.optim.flat_optimizer import FlatOptimizer
from tensor.optim.sgd import SGD

__all__ = ["RULES", "FlatStep", "flat_step"]


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


Numbers = Callable[[int], list[float]]


class Rule(NamedTuple):
    """How an optimizer updates: the options it reads, which of their values decide what instructions there are, the numbers of
    each step, and the instructions.

    ``fixed(*options)``; ``numbers(late, *options)`` gives the numbers as a function of the step;
    ``write(lines, fixed, grad, data, rows, temporary, lag)`` writes the update of one parameter. ``lag`` is None, or by how many
    steps each element is behind, as a view.
    """

    options: tuple[str, ...]
    fixed: Callable[..., tuple[Any, ...]]
    numbers: Callable[..., Numbers]
    write: Callable[..., None]


_ADAM = ("lr", "betas", "eps", "weight_decay", "decoupled_weight_decay", "amsgrad", "maximize")


def _adam_fixed(
    lr: float, betas: Any, eps: float, decay: float, decoupled: bool, amsgrad: bool, maximize: bool
) -> tuple[Any, ...]:
    return bool(decay), bool(decoupled), amsgrad, maximize


def _adam_numbers(late: bool, lr: float, betas: Any, eps: float, decay: float, decoupled: bool, *_: bool) -> Numbers:
    beta1, beta2 = betas
    kept = [beta1, 1 - beta1, beta2, 1 - beta2, float(1 - lr * decay if decoupled else decay)]
    of_ages = [log(beta1) if beta1 else -inf, log(beta2) if beta2 else -inf, float(eps), float(lr)]

    def numbers(step: int) -> list[float]:
        root = sqrt(1 - beta2**step)
        return [*kept, eps * root, lr * root / (1 - beta1**step)]

    def late_numbers(step: int) -> list[float]:
        return [*kept, *of_ages, float(step)]

    return late_numbers if late else numbers


def _decay(w: Lines, fixed: tuple[Any, ...], g: View, data: View, t: View, number: Slot) -> View:
    """Weight decay; gives the gradient to go on with."""
    decays, decoupled = fixed[:2]
    if decays and decoupled:
        w.put("multiply", data, data, number)
    elif decays:
        w.put("multiply", t, data, number)
        return w.put("add", t, g, t)
    return g


def _ages(w: Lines, lag: View, temporary: Callable[[], View]) -> tuple[View, View]:
    """Of elements with ages of their own, what `_adam_numbers` says for all: eps and the rate, with their corrections."""
    age = w.put("subtract", temporary(), Slot(9), lag)
    first, second = (w.put("expm1", (t := temporary()), w.put("multiply", t, age, Slot(place))) for place in (5, 6))
    root = w.put("sqrt", second, w.put("negative", second, second))
    rate = w.put("divide", first, w.put("multiply", temporary(), root, Slot(8)), w.put("negative", first, first))
    return w.put("multiply", root, root, Slot(7)), rate


def _adam(
    w: Lines, fixed: tuple[Any, ...], g: View, data: View, rows: Sequence[View], temporary: Callable[[], View], lag: View | None
) -> None:
    amsgrad, maximize = fixed[2:]
    if maximize:
        g = w.put("negative", temporary(), g)
    g = _decay(w, fixed, g, data, temporary(), Slot(4))
    m, v = rows[:2]
    square = w.put("multiply", temporary(), g, g)
    w.put("multiply", m, m, Slot(0))
    w.put("add", m, m, w.put("multiply", temporary(), g, Slot(1)))
    w.put("multiply", v, v, Slot(2))
    w.put("add", v, v, w.put("multiply", square, square, Slot(3)))
    second = w.put("maximum", rows[2], rows[2], v) if amsgrad else v
    eps, rate = (Slot(5), Slot(6)) if lag is None else _ages(w, lag, temporary)
    t = w.put("sqrt", temporary(), second)
    w.put("add", t, t, eps)
    w.put("divide", t, m, t)
    w.put("multiply", t, t, rate)
    w.put("subtract", data, data, t)


_SGD = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")


def _sgd_fixed(lr: float, momentum: float, dampening: float, decay: float, nesterov: bool, maximize: bool) -> tuple[Any, ...]:
    return bool(decay), False, bool(momentum), nesterov, maximize


def _sgd_numbers(late: bool, lr: float, momentum: float, dampening: float, decay: float, *_: bool) -> Numbers:
    numbers = [float(momentum), float(1 - dampening), float(lr), float(decay)]
    return lambda step: numbers


def _sgd(
    w: Lines, fixed: tuple[Any, ...], g: View, data: View, rows: Sequence[View], temporary: Callable[[], View], lag: View | None
) -> None:
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
    Adam: Rule(_ADAM, _adam_fixed, _adam_numbers, _adam),
    AdamW: Rule(_ADAM, _adam_fixed, _adam_numbers, _adam),
    SGD: Rule(_SGD, _sgd_fixed, _sgd_numbers, _sgd),
}
#: The first step that the instructions describe: SGD's momentum starts as a copy of the gradient.
_FROM: dict[type, int] = {SGD: 2}

#: No update has more numbers.
MOST_NUMBERS = 16
Check = Callable[..., bool]


def _never() -> bool:
    return False


def _behind(steps: int | list[int]) -> list[int] | None:
    """By how many steps each parameter is behind the one with the most; None where all have as many."""
    return None if isinstance(steps, int) else [max(steps) - s for s in steps]


def _lags(flat: Flat, late: Late | None, behind: list[int] | None) -> list[Any]:
    """By how many steps each element is behind, as an array; none if none is."""
    if late is None and behind is None:
        return []
    lags = np.repeat(behind or [0] * len(flat.params), np.diff(flat.offsets))
    if late is not None:
        lags[late.places] += late.lags
    return [lags.astype(flat.data.dtype)]


class FlatStep:
    """The step of an optimizer with one flat buffer; called with the gradients' arrays, it says whether it could be done.

    Moments that decay need no flushing here: machine code takes what is too small for zero.
    """

    __slots__ = (
        "_behind", "_first", "_fixed", "_flat", "_group", "_late", "_make_check", "_numbers", "_optimizer", "_options", "_read",
        "_rule", "_run", "_same", "_state",
    )  # fmt: skip

    def __init__(
        self,
        optimizer: FlatOptimizer,
        flat: Flat,
        run: Any,
        make_check: Callable[..., Check | None],
        late: Late | None,
        behind: list[int] | None,
    ) -> None:
        self._optimizer, self._flat, self._run, self._make_check = optimizer, flat, run, make_check
        self._group = optimizer.param_groups[0]
        self._rule = RULES[type(optimizer)]
        self._read = itemgetter(*self._rule.options)
        self._options = self._read(self._group)
        self._fixed = self._rule.fixed(*self._options)
        self._take(late, behind)
        self._numbers = self._rule.numbers(self._apart, *self._options)
        self._same: Check = _never

    def _take(self, late: Late | None, behind: list[int] | None) -> None:
        """Let elements and parameters count as many steps less."""
        flat, self._late, self._behind = self._flat, late, behind
        lags = _lags(flat, late, behind)
        self._first = _FROM.get(type(self._optimizer), 1) + (int(lags[0].max()) if lags else 0)
        self._state = [flat.data, *flat._whole.rows, *lags]

    @property
    def _apart(self) -> bool:
        """Whether there are elements that count fewer steps than others."""
        return self._late is not None or self._behind is not None

    def __call__(self, grads: list[Any]) -> bool:
        """Update the parameters; False where the optimizer has to do it itself, and nothing has happened yet."""
        flat = self._flat
        if not self._same() and not self._watched():
            return False
        steps = flat.steps
        alike = steps.__class__ is int
        if not (alike and self._behind is None) and _behind(steps) != self._behind and not self._follow():
            return False
        step: int = steps if alike else max(steps)  # type: ignore[assignment, arg-type]
        if step + 1 < self._first:
            return False
        options = self._read(self._group)
        if options != self._options:
            if self._rule.fixed(*options) != self._fixed:
                return False
            self._options, self._numbers = options, self._rule.numbers(self._apart, *options)
        flat.steps = step + 1 if alike else [s + 1 for s in steps]  # type: ignore[union-attr]
        for version in flat.versions:
            version.value += 1
        self._run(grads + self._state, self._numbers(step + 1))
        return True

    def _follow(self) -> bool:
        """Take on which elements count fewer steps, after an edit in place; False where there is no machine code for that.

        Only where none did before, or none does now, are there other instructions.
        """
        flat, late, behind = self._flat, self._flat.late, _behind(self._flat.steps)
        if (late is not None or behind is not None) != self._apart:
            made = flat_step(self._optimizer, self._make_check)
            if made is None or made._flat is not flat:
                return False
            self._run, self._numbers, self._fixed, self._options = made._run, made._numbers, made._fixed, made._options
        self._take(late, behind)
        return True

    def _unchanged(self, *, but_late: bool = False) -> bool:
        """Whether optimizer, buffer and parameters belong together as they did."""
        optimizer, flat = self._optimizer, self._flat
        flats, groups = optimizer._flats, optimizer.param_groups
        return (
            len(flats) == 1
            and len(flats[0]) == 1
            and flats[0][0] is flat
            and len(groups) == 1
            and groups[0] is self._group
            and (but_late or flat.late is self._late)  # the elements that count fewer steps, since an edit of the network
            and "step" not in vars(optimizer)
            and all(p._array is view for p, view in zip(flat.params, flat.views, strict=True))
        )

    def _watched(self) -> bool:
        """The same, and what it depends on is watched in memory from now on."""
        optimizer, flat = self._optimizer, self._flat
        if flat.late is not self._late and not (self._unchanged(but_late=True) and self._follow()):
            return False
        kept = (optimizer, optimizer._flats, optimizer._flats[0], optimizer.param_groups)
        found = [
            *(watch.entry_row(vars(optimizer), name) for name in ("_flats", "param_groups", "step")),
            *(watch.list_rows(x) for x in kept[1:]),
            watch.attribute_row(flat, "late"),
            *(watch.attribute_row(p, "_array") for p in flat.params),
        ]
        check = self._make_check([row for rows in found for row in rows or ()], kept)
        if not self._unchanged():  # looked at after the rows were made, so that these are of a moment when all was well
            return False
        self._same = check if check is not None and None not in found else self._unchanged
        return True


def flat_step(optimizer: FlatOptimizer, make_check: Callable[..., Check | None]) -> FlatStep | None:
    """Machine code for an optimizer's step; None where there is none for its kind, its options or its parameters."""
    from tensor.jit import codegen  # which is there, since somebody wants machine code

    rule = RULES.get(type(optimizer))
    flats = optimizer._flats
    if rule is None or len(flats) != 1 or len(flats[0]) != 1:
        return None
    (flat,), group = flats[0], optimizer.param_groups[0]
    dtype = flat.data.dtype
    if dtype.kind != "f" or dtype.itemsize < 4 or flat.data.size == 0:
        return None
    options, late, behind = itemgetter(*rule.options)(group), flat.late, _behind(flat.steps)
    apart = late is not None or behind is not None
    w = Lines()
    grads = [w.buffer(dtype, view.size, "external").index for view in flat.views]
    state = [w.buffer(dtype, flat.data.size, "external").index for _ in range(1 + len(flat.names) + apart)]
    whole = Program(tuple(w.buffers), (), len(rule.numbers(apart, *options)(1)))
    stretches = [
        codegen.Stretch(end - start, {0: (grad, 0)} | {1 + i: (buffer, start) for i, buffer in enumerate(state)})
        for grad, start, end in zip(grads, flat.offsets, flat.offsets[1:], strict=False)
        if end > start
    ]
    kind: Any = type(optimizer)
    program = partial(_update, kind, rule.fixed(*options), dtype, len(flat.names), apart)
    run = codegen.compile_stretches(whole, program, stretches)
    return None if run is None else FlatStep(optimizer, flat, run, make_check, late, behind)


@cache
def _update(kind: type, fixed: tuple[Any, ...], dtype: Any, rows: int, late: bool, length: int) -> Program:
    """The update of one parameter: its gradient, its data, its rows of moments, and its lags are the external buffers."""
    w, shape = Lines(), (length,)
    grad, data, *others = (contiguous(w.buffer(dtype, length, "external"), shape) for _ in range(2 + rows + late))

    def temporary() -> View:
        return contiguous(w.buffer(dtype, length, "temporary"), shape)

    RULES[kind].write(w, fixed, grad, data, others[:rows], temporary, others[rows] if late else None)
    return Program(tuple(w.buffers), tuple(w.instructions), MOST_NUMBERS)
