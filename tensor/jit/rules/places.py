"""Where elements come from and go to: copies, fills, indices, joins."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from tensor.jit.instructions import Instruction as Recorded
from tensor.jit.instructions import Ref, references
from tensor.jit.program import Gather, Literal, Scatter, View, c_strides
from tensor.jit.rules.common import Operand, Rule, bound, flat, given, insert
from tensor.jit.slots import Slots, broadcast, decline, overlap

# --- copies --------------------------------------------------------------------------------------------------------------


def _copied(s: Slots, made: Recorded) -> None:
    order = made.kwargs.get("order")
    out, source = given(s, made), s.operand(made.args[0])
    if isinstance(source, View) and source.shape != out.shape:  # reshaped, in C order
        if order not in (None, "C", "K") or prod(source.shape) != prod(out.shape):
            decline("a copy in another order")
        out = flat(out)
        out = View(out.buffer, out.offset, source.shape, tuple(t * out.strides[0] for t in c_strides(source.shape)))
    s.copy(out, source)


def _nothing(s: Slots, made: Recorded) -> None:
    s.view(made.out)


def _filled(value: int) -> Rule:
    return lambda s, made: s.copy(given(s, made), Literal(value))


def _full_like(s: Slots, made: Recorded) -> None:
    s.copy(given(s, made), _value(s, made.args[1] if len(made.args) > 1 else made.kwargs.get("fill_value"), s.view(made.out)))


def _fill(s: Slots, made: Recorded) -> None:
    target = s.view(made.args[0].slot)
    s.copy(target, _value(s, made.args[1], target))


def _copyto(s: Slots, made: Recorded) -> None:
    options = bound(made, "casting", "where", start=2)
    target = s.view(made.args[0].slot)
    value = _value(s, made.args[1], target)
    if options.get("where", True) is True:
        s.copy(target, value)
    else:
        s.put("where", target, s.cast(s.operand(options["where"], target.shape), np.dtype(bool)), value, target)


def _value(s: Slots, x: Any, target: View) -> Operand:
    """What is assigned, over the shape and in the element type of the target; axes of one in front do not count."""
    operand = s.operand(x)
    if not isinstance(operand, View):
        return operand
    extra = len(operand.shape) - len(target.shape)
    if extra > 0 and operand.shape[:extra] == (1,) * extra:
        operand = View(operand.buffer, operand.offset, operand.shape[extra:], operand.strides[extra:])
    return broadcast(operand, target.shape)


def _get(s: Slots, made: Recorded) -> None:
    source, index = s.view(made.args[0].slot), made.args[1]
    out = given(s, made)
    if not any(True for _ in references(index)):
        s.copy(out, s.part(source, index))
        return
    _gather(s, out, *s.chosen(source, index))


def _gather(s: Slots, out: View, whole: View, indices: tuple[View, ...], fault: View | None) -> None:
    if 0 in out.shape:
        return
    into = (
        out
        if s.dtype(out) == s.dtype(whole) and not any(overlap(out, v) for v in (whole, *indices))
        else s.new(out.shape, s.dtype(whole))
    )
    s.lines.append(Gather(View(into.buffer, into.offset, whole.shape[: len(out.shape)], into.strides), whole, indices, fault))
    s.copy(out, into)


def _set(s: Slots, made: Recorded) -> None:
    target, index, value = made.args
    view = s.view(target.slot)
    if not any(True for _ in references(index)):
        part = s.part(view, index)
        s.copy(part, _value(s, value, part))
    elif type(index) is Ref and s.shapes[index.slot][1] == np.dtype(bool):
        mask = s.operand(index)
        single = not isinstance(value, Ref) or prod(s.shapes[value.slot][0]) == 1
        if not isinstance(mask, View) or not single or mask.shape != view.shape[: len(mask.shape)]:
            decline("a mask with several values")
        rest = len(view.shape) - len(mask.shape)
        wide = View(mask.buffer, mask.offset, (*mask.shape, *view.shape[len(mask.shape) :]), (*mask.strides, *([0] * rest)))
        s.put("where", view, wide, s.cast(_value(s, value, view), s.dtype(view)), view)
    else:
        _scatter(s, "set", value, *s.chosen(view, index))


def _scatter(s: Slots, op: str, value: Any, whole: View, indices: tuple[View, ...], fault: View | None) -> None:
    space = View(whole.buffer, whole.offset, indices[0].shape, (0,) * len(indices[0].shape))
    options = s.cast(_value(s, value, space), s.dtype(whole))
    if isinstance(options, View) and overlap(whole, options):
        options = s.copy(s.new(options.shape, s.dtype(whole)), options)
    if any(overlap(whole, i) for i in indices):
        decline("indices that are overwritten")
    if 0 not in space.shape:
        s.lines.append(Scatter(op, whole, indices, options, fault))


def _at(s: Slots, made: Recorded) -> None:
    op = made.function.__self__.__name__
    if op not in ("add", "subtract", "multiply", "maximum", "minimum") or len(made.args) != 3:
        decline(f"{op}.at")
    _scatter(s, op, made.args[2], *s.chosen(s.view(made.args[0].slot), made.args[1]))


def _take(s: Slots, made: Recorded) -> None:
    options = bound(made, "axis", "out", "mode", start=2)
    source, axis = s.view(made.args[0].slot), options.get("axis")
    if options.get("mode", "raise") != "raise" or type(made.args[1]) is not Ref:
        decline("take in another mode")
    if axis is None:
        source, axis = flat(source), 0
    index = (*[slice(None)] * (axis % len(source.shape)), made.args[1])
    _gather(s, given(s, made, options.get("out")), *s.chosen(source, index))


def _along(s: Slots, view: View, index: Any, axis: int) -> tuple[View, tuple[View, ...], View | None]:
    """What `take_along_axis` and `put_along_axis` choose from."""
    i = s.operand(index)
    if not isinstance(i, View) or s.dtype(i).kind not in "iu" or axis is None or len(i.shape) != len(view.shape):
        decline("an index along no axis")
    axis %= len(view.shape)
    space = tuple(n if a == axis else max(n, m) for a, (n, m) in enumerate(zip(i.shape, view.shape, strict=True)))
    i = broadcast(i, space)
    strides = tuple(0 if a == axis or n == 1 else t for a, (n, t) in enumerate(zip(view.shape, view.strides, strict=True)))
    size = view.shape[axis]
    whole = View(view.buffer, view.offset, (*space, size), (*strides, view.strides[axis]))
    return whole, (i,), s.faults([(i, size)])


def _take_along(s: Slots, made: Recorded) -> None:
    options = bound(made, "indices", "axis")
    _gather(s, given(s, made), *_along(s, s.view(made.args[0].slot), options["indices"], options.get("axis", -1)))


def _put_along(s: Slots, made: Recorded) -> None:
    options = bound(made, "indices", "values", "axis")
    _scatter(s, "set", options["values"], *_along(s, s.view(made.args[0].slot), options["indices"], options["axis"]))


def _concatenate(s: Slots, made: Recorded) -> None:
    options = bound(made, "axis")
    _join(s, given(s, made), [s.view(x.slot) for x in made.args[0]], options.get("axis", 0))


def _stack(s: Slots, made: Recorded) -> None:
    options = bound(made, "axis")
    out = given(s, made)
    axis = options.get("axis", 0) % len(out.shape)
    _join(s, out, [insert(s.view(x.slot), axis) for x in made.args[0]], axis)


def _join(s: Slots, out: View, parts: Sequence[Any], axis: Any) -> None:
    if axis is None:
        at, step = 0, out.strides[0]
        for x in parts:
            strides = tuple(step * t for t in c_strides(x.shape))
            s.copy(View(out.buffer, out.offset + at * step, x.shape, strides), x)
            at += prod(x.shape)
        return
    axis, at = axis % len(out.shape), 0
    for x in parts:
        if 0 not in x.shape:
            s.copy(View(out.buffer, out.offset + at * out.strides[axis], x.shape, out.strides), x)
        at += x.shape[axis]


def _roll(s: Slots, made: Recorded) -> None:
    options = bound(made, "shift", "axis")
    out, source = given(s, made), s.view(made.args[0].slot)
    shift, axis = s.static(options["shift"]), options.get("axis")
    if axis is None:
        out, source, axis = flat(out), flat(source), 0
    shifts = list(shift) if isinstance(shift, (tuple, list)) else [shift]
    axes = list(axis) if isinstance(axis, (tuple, list)) else [axis]
    if len(shifts) != len(axes) or 0 in out.shape:
        decline("roll of nothing, or by one shift along several axes")
    pieces = [(out, source)]
    for by, along in zip(shifts, axes, strict=True):
        n = out.shape[along]
        cut = int(by) % n
        pieces = [
            (_piece(o, along, a, length), _piece(i, along, b, length))
            for o, i in pieces
            for a, b, length in ((cut, 0, n - cut), (0, n - cut, cut))
            if length
        ]
    for o, i in pieces:
        s.copy(o, i)


def _piece(view: View, axis: int, start: int, length: int) -> View:
    axis %= len(view.shape)
    shape = (*view.shape[:axis], length, *view.shape[axis + 1 :])
    return View(view.buffer, view.offset + start * view.strides[axis], shape, view.strides)


_COPIES = (
    np.ndarray.copy, np.copy, np.ndarray.astype, np.ascontiguousarray, np.asarray, np.array, np.reshape, np.ndarray.reshape,
    np.ravel, np.ndarray.ravel, np.ndarray.flatten,
)  # fmt: skip
RULES: dict[Any, Rule] = {
    **dict.fromkeys(_COPIES, _copied),
    np.empty_like: _nothing,
    np.zeros_like: _filled(0),
    np.ones_like: _filled(1),
    np.full_like: _full_like,
    np.ndarray.fill: _fill,
    np.copyto: _copyto,
    operator.getitem: _get,
    operator.setitem: _set,
    **dict.fromkeys((np.take, np.ndarray.take), _take),
    np.take_along_axis: _take_along,
    np.put_along_axis: _put_along,
    np.concatenate: _concatenate,
    np.stack: _stack,
    np.roll: _roll,
}
METHODS: dict[str, Rule] = {"at": _at}
