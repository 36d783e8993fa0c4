"""An optimizer's step as machine code, for the optimizers in `RULES`: one pass over gradients, parameters and moments.

The step is the optimizer's own: it keeps counting in its buffers, options are read at every step, and whatever the code was not
made for (hooks, other options, parameters without a gradient, replaced buffers) is left to `FlatOptimizer.step`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import pairwise
from math import log, sqrt
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

__all__ = ["RULES", "FlatStep", "flat_step", "foresee_edits"]


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
Temporary = Callable[[], View]


class Rule(NamedTuple):
    """How an optimizer updates: the options it reads, which of their values decide what instructions there are, the numbers of
    each step, and the instructions.

    ``fixed(*options)``; ``numbers(base, *options)`` gives the numbers as a function of the step;
    ``write(lines, fixed, grad, data, rows, temporary, aged)`` writes the update of one parameter.

    Elements may count fewer steps than others. What their own count says through powers of options (``bases(*options)``) is
    1 - b^(a + n) = (1 - b^n) + b^n (1 - b^a), where a is the element's count when that of most was ``base``, and n the steps
    since: ``aged`` are views of 1 - b^a, made once; all else are numbers. Where all count alike ``base`` is None, and there are
    none.
    """

    options: tuple[str, ...]
    fixed: Callable[..., tuple[Any, ...]]
    bases: Callable[..., tuple[float, ...]]
    numbers: Callable[..., Numbers]
    write: Callable[..., None]


_ADAM = ("lr", "betas", "eps", "weight_decay", "decoupled_weight_decay", "amsgrad", "maximize")


def _adam_fixed(
    lr: float, betas: Any, eps: float, decay: float, decoupled: bool, amsgrad: bool, maximize: bool
) -> tuple[Any, ...]:
    return bool(decay), bool(decoupled), amsgrad, maximize


def _adam_bases(lr: float, betas: Any, *_: Any) -> tuple[float, ...]:
    return tuple(betas)


def _adam_numbers(base: int | None, lr: float, betas: Any, eps: float, decay: float, decoupled: bool, *_: bool) -> Numbers:
    beta1, beta2 = betas
    kept = [beta1, 1 - beta1, beta2, 1 - beta2, float(1 - lr * decay if decoupled else decay)]

    def numbers(step: int) -> list[float]:
        root = sqrt(1 - beta2**step)
        return [*kept, eps * root, lr * root / (1 - beta1**step)]

    def aged_numbers(step: int) -> list[float]:
        assert base is not None
        first, second = beta1 ** (step - base), beta2 ** (step - base)
        return [*kept, float(eps), float(lr), first, 1 - first, second, 1 - second]

    return numbers if base is None else aged_numbers


def _decay(w: Lines, fixed: tuple[Any, ...], g: View, data: View, t: View, number: Slot) -> View:
    """Weight decay; gives the gradient to go on with."""
    decays, decoupled = fixed[:2]
    if decays and decoupled:
        w.put("multiply", data, data, number)
    elif decays:
        w.put("multiply", t, data, number)
        return w.put("add", t, g, t)
    return g


def _correction(w: Lines, out: View, aged: View, power: int) -> View:
    """1 - b^(a + n) of each element, from 1 - b^a and the numbers b^n and 1 - b^n at ``power`` and after it."""
    return w.put("add", out, w.put("multiply", out, aged, Slot(power)), Slot(power + 1))


def _adam(
    w: Lines, fixed: tuple[Any, ...], g: View, data: View, rows: Sequence[View], temporary: Temporary, aged: Sequence[View]
) -> None:
    amsgrad, maximize = fixed[2:]
    corrections = [_correction(w, temporary(), each, power) for each, power in zip(aged, (7, 9), strict=False)]
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
    t = temporary()
    if corrections:
        second = w.put("divide", t, second, corrections[1])
    w.put("sqrt", t, second)
    w.put("add", t, t, Slot(5))
    if corrections:
        w.put("multiply", t, t, corrections[0])
    w.put("divide", t, m, t)
    w.put("multiply", t, t, Slot(6))
    w.put("subtract", data, data, t)


_SGD = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")


def _sgd_fixed(lr: float, momentum: float, dampening: float, decay: float, nesterov: bool, maximize: bool) -> tuple[Any, ...]:
    return bool(decay), False, bool(momentum), nesterov, maximize


def _sgd_numbers(base: int | None, lr: float, momentum: float, dampening: float, decay: float, *_: bool) -> Numbers:
    numbers = [float(momentum), float(1 - dampening), float(lr), float(decay)]
    return lambda step: numbers


def _sgd(
    w: Lines, fixed: tuple[Any, ...], g: View, data: View, rows: Sequence[View], temporary: Temporary, aged: Sequence[View]
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
    Adam: Rule(_ADAM, _adam_fixed, _adam_bases, _adam_numbers, _adam),
    AdamW: Rule(_ADAM, _adam_fixed, _adam_bases, _adam_numbers, _adam),
    SGD: Rule(_SGD, _sgd_fixed, lambda *_: (), _sgd_numbers, _sgd),
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


def _most(late: Late | None, behind: list[int] | None) -> int:
    """By how many steps the element that counts fewest is behind."""
    most: int = max([0, *(behind or ())])
    return most if late is None else most + int(late.lags.max())


def _aged(flat: Flat, bases: Sequence[float], late: Late | None, behind: list[int] | None) -> list[Any]:
    """1 - b^a for each base, as an array: a, how many steps an element counted when the last of them came.

    Of another moment the numbers would be others in their last digits, and a run that is continued not the same one.
    """
    step, sizes, result = _most(late, behind), np.diff(flat.offsets), []
    counts = [step] * len(sizes) if behind is None else [step - b for b in behind]
    for base in bases:
        array = np.repeat([1 - base**count for count in counts], sizes)
        if late is not None:
            ages = np.repeat(counts, sizes)[late.places] - late.lags
            array[late.places] = 1 - np.exp(ages * log(base)) if base else ages > 0
        result.append(array.astype(flat.data.dtype))
    return result


class FlatStep:
    """The step of an optimizer with one flat buffer; called with the gradients' arrays, it says whether it could be done.

    Moments that decay need no flushing here: machine code takes what is too small for zero.
    """

    __slots__ = (
        "_base", "_behind", "_first", "_fixed", "_flat", "_group", "_late", "_make_check", "_numbers", "_optimizer", "_options",
        "_read", "_rule", "_run", "_same", "_state",
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
        self._same: Check = _never

    def _take(self, late: Late | None, behind: list[int] | None) -> None:
        """Let elements and parameters count as many steps less."""
        flat, self._late, self._behind = self._flat, late, behind
        most = _most(late, behind)
        self._first = _FROM.get(type(self._optimizer), 1) + most
        self._state = [flat.data, *flat._whole.rows]
        self._base = most if self._apart else None
        if self._apart:
            self._state += _aged(flat, self._rule.bases(*self._options), late, behind)
        self._numbers = self._rule.numbers(self._base, *self._options)

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
            rule, before = self._rule, self._options
            if rule.fixed(*options) != self._fixed:
                return False
            self._options, self._numbers = options, rule.numbers(self._base, *options)
            if self._apart and rule.bases(*options) != rule.bases(*before):
                self._take(self._late, self._behind)
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
            self._run, self._fixed, self._options = made._run, made._fixed, made._options
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


def flat_step(optimizer: FlatOptimizer, make_check: Callable[..., Check | None], at_once: bool = False) -> FlatStep | None:
    """Machine code for an optimizer's step; None where there is none for its kind, its options or its parameters.

    ``at_once``: None also where it would have to be made first.
    """
    flat = _only_flat(optimizer)
    if flat is None:
        return None
    late, behind = flat.late, _behind(flat.steps)
    run = _run_of(optimizer, flat, late is not None or behind is not None, at_once)
    return None if run is None else FlatStep(optimizer, flat, run, make_check, late, behind)


def foresee_edits(optimizer: FlatOptimizer) -> None:
    """Have the machine code made for elements that count fewer steps than others, as there are after an edit of the network."""
    flat = _only_flat(optimizer)
    if flat is not None:
        _run_of(optimizer, flat, apart=True)


def _only_flat(optimizer: FlatOptimizer) -> Flat | None:
    """The buffer of an optimizer that has only one, if there is machine code for its kind."""
    flats = optimizer._flats
    if type(optimizer) not in RULES or len(flats) != 1 or len(flats[0]) != 1:
        return None
    dtype = flats[0][0].data.dtype
    return flats[0][0] if dtype.kind == "f" and dtype.itemsize >= 4 and flats[0][0].data.size else None


def _run_of(optimizer: FlatOptimizer, flat: Flat, apart: bool, at_once: bool = False) -> Callable[..., object] | None:
    """The update of all parameters; ``apart``: of elements that count different steps."""
    from tensor.jit import codegen  # which is there, since somebody wants machine code

    kind: Any = type(optimizer)
    rule = RULES[kind]
    options = itemgetter(*rule.options)(optimizer.param_groups[0])
    aged = len(rule.bases(*options)) if apart else 0
    scalars = len(rule.numbers(0 if apart else None, *options)(1))
    grads, state = len(flat.views), 1 + len(flat.names) + aged
    stretches = [
        codegen.Stretch(end - start, ((grad, 0), *((array, start) for array in range(grads, grads + state))))
        for grad, (start, end) in enumerate(pairwise(flat.offsets))
        if end > start
    ]
    name = kind, rule.fixed(*options), flat.data.dtype, len(flat.names), aged
    return codegen.compile_stretches(name, grads + state, scalars, partial(_update, *name), stretches, at_once)


@cache
def _update(kind: type, fixed: tuple[Any, ...], dtype: Any, rows: int, aged: int, length: int) -> Program:
    """The update of one parameter: its gradient, its data, its rows of moments, and what is ``aged`` are the external buffers."""
    w, shape = Lines(), (length,)
    grad, data, *others = (contiguous(w.buffer(dtype, length, "external"), shape) for _ in range(2 + rows + aged))

    def temporary() -> View:
        return contiguous(w.buffer(dtype, length, "temporary"), shape)

    RULES[kind].write(w, fixed, grad, data, others[:rows], temporary, others[rows:])
    return Program(tuple(w.buffers), tuple(w.instructions), MOST_NUMBERS)
