"""What each of NumPy's functions is in a program's instructions: one table, a rule a function."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from math import inf, prod
from typing import Any

import numpy as np
from scipy import special

from tensor.jit.program import (
    ArgReduce,
    Gather,
    Literal,
    MatMul,
    Reduce,
    Scan,
    Scatter,
    Slot,
    View,
    c_strides,
)
from tensor.jit.recorder import Instruction as Recorded
from tensor.jit.recorder import Ref, references
from tensor.jit.slots import NoLowering, Slots, broadcast, overlap

__all__ = ["lower_call", "lower_number"]

Rule = Callable[[Slots, Recorded], object]
Operand = View | Literal | Slot

#: Python's operators as the ufuncs that arrays make of them; those in place come by the same name with an i.
_OPERATORS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "floordiv": np.floor_divide,
    "mod": np.remainder, "pow": np.power, "matmul": np.matmul, "and_": np.bitwise_and, "or_": np.bitwise_or,
    "xor": np.bitwise_xor, "lshift": np.left_shift, "rshift": np.right_shift, "neg": np.negative, "pos": np.positive,
    "abs": np.absolute, "invert": np.invert, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal,
}  # fmt: skip
_POWERS = {2: "square", 0.5: "sqrt"}


def lower_call(s: Slots, made: Recorded) -> None:
    """Write the instructions that do what a call does; none for a view. Raises NoLowering."""
    f: Any = made.function
    if made.errors and "raise" in made.errors.values():
        raise NoLowering("floating-point errors that raise")
    owner = getattr(f, "__self__", None)
    if isinstance(f, np.ufunc):
        _call_ufunc(s, f, made)
    elif isinstance(owner, np.ufunc):
        rule = _METHODS.get(f.__name__)
        if rule is None:
            raise NoLowering(f"{owner.__name__}.{f.__name__}")
        rule(s, made)
    else:
        try:
            rule = _RULES.get(f)
        except TypeError:
            rule = None
        if rule is None:
            raise NoLowering(f"no rule for {getattr(f, '__name__', f)}")
        rule(s, made)


def lower_number(s: Slots, made: Recorded) -> View:
    """Write Python's arithmetic on numbers that were read from arrays, in double precision as there."""
    f = made.function
    if f in (np.ndarray.item, float) and len(made.args) == 1:
        source = s.view(made.args[0].slot)
        if prod(source.shape) != 1 or s.dtype(source).kind not in "fiub":
            raise NoLowering("a number of several")
        return s.copy(s.new((), np.float64), View(source.buffer, source.offset, (), ()))
    op = _NUMBERS.get(f)
    if op is None:
        raise NoLowering(f"the number's {getattr(f, '__name__', f)}")
    compares = f in _COMPARISONS
    operands = [s.operand(x, ()) for x in made.args]
    if f is operator.truediv and isinstance(operands[1], View):  # Python raises where NumPy gives infinity
        s.put("logical_or", s.flag(), s.flag(), s.put("equal", s.new((), bool), operands[1], Literal(0.0)))
    elif (f is operator.truediv and operands[1] in (Literal(0), Literal(0.0))) or isinstance(operands[-1], Slot):
        raise NoLowering("a number from before, or a division by zero")
    if any(isinstance(x, View) and s.dtype(x) != np.float64 for x in operands):
        raise NoLowering("a number and an array")
    return s.put(op, s.new((), bool if compares else np.float64), *operands)


_NUMBERS = {
    operator.add: "add", operator.sub: "subtract", operator.mul: "multiply", operator.truediv: "divide",
    operator.neg: "negative", operator.abs: "absolute", operator.lt: "less", operator.le: "less_equal",
    operator.gt: "greater", operator.ge: "greater_equal", operator.eq: "equal", operator.ne: "not_equal",
}  # fmt: skip
_COMPARISONS = {operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne}


def _given(s: Slots, made: Recorded, target: Any = None) -> View:
    """What a call writes: its `out`, or what it made."""
    given = made.kwargs.get("out") if target is None else target
    if isinstance(given, tuple):
        (given,) = given
    if given is None and isinstance(made.out, int):
        return s.view(made.out)
    if type(given) is not Ref:
        raise NoLowering("an output that is not followed")
    return s.view(given.slot)


def _bound(made: Recorded, *names: str, start: int = 1) -> dict[str, Any]:
    """The arguments from the `start`th on by their names; NoLowering for any that has none."""
    if len(made.args) - start > len(names):
        raise NoLowering("arguments of no known name")
    found = {**dict(zip(names, made.args[start:], strict=False)), **made.kwargs}
    unknown = [name for name in found if name not in names]
    if unknown:
        raise NoLowering(f"the argument {unknown[0]}")
    return found


# --- ufuncs --------------------------------------------------------------------------------------------------------------


def _call_ufunc(s: Slots, f: Any, made: Recorded) -> None:
    if set(made.kwargs) - {"out"} or f.nout != 1:
        raise NoLowering("a ufunc with several results, or special arguments")
    args = made.args
    if len(args) == f.nin + 1:  # the output may be given by place
        _apply(s, f, args[:-1], _given(s, made, args[-1]))
    else:
        _apply(s, f, args, _given(s, made))


def _apply(s: Slots, f: Any, args: Sequence[Any], out: View) -> None:
    if f is np.matmul:
        _matmul(s, args, out)
        return
    name: str = f.__name__
    if getattr(np, name, getattr(special, name, None)) is not f:
        raise NoLowering(f"{name} of another library")  # a program's operations are named, and this name means another one there
    try:
        loop = f.resolve_dtypes((*(s.kind_of(x) for x in args), None))
    except TypeError:
        raise NoLowering(f"{name} of such operands") from None
    if len(set(loop[:-1])) != 1 or any(d.kind not in "fiub" or (d.itemsize == 2 and d.kind == "f") for d in loop):
        raise NoLowering(f"{name} of {', '.join(map(str, loop[:-1]))}")
    inputs = [s.cast(s.operand(x, out.shape), loop[0]) for x in args]
    if not any(isinstance(x, View) for x in inputs) and loop[0] != s.dtype(out):
        raise NoLowering(f"{name} of numbers only")
    _write(s, name, out, inputs, loop[-1])


def _write(s: Slots, op: str, out: View, inputs: Sequence[Operand], dtype: Any) -> None:
    """An operation whose result is of `dtype`, to an output of any."""
    if s.dtype(out) == dtype:
        s.put(op, out, *inputs)
    else:
        s.copy(out, s.put(op, s.new(out.shape, dtype), *inputs))


def _operator(f: Any, inplace: bool) -> Rule:
    def rule(s: Slots, made: Recorded) -> None:
        args = made.args
        out = _given(s, made, args[0] if inplace else None)
        exponent = args[1] if f is np.power else None
        if type(exponent) in (int, float) and type(args[0]) is Ref and s.dtype(out).kind == "f" and exponent in _POWERS:
            s.put(_POWERS[exponent], out, s.cast(s.operand(args[0], out.shape), s.dtype(out)))
        else:
            _apply(s, f, args, out)

    return rule


def _clip(s: Slots, made: Recorded) -> None:
    given = _bound(made, "a_min", "a_max", "out", "min", "max")
    out = _given(s, made, given.get("out"))
    low, high = given.get("min", given.get("a_min")), given.get("max", given.get("a_max"))
    value = s.cast(s.operand(made.args[0], out.shape), s.dtype(out))
    for op, bound, idle in (("maximum", low, -inf), ("minimum", high, inf)):
        if bound is None or (type(bound) is float and bound == idle):
            continue
        limit = s.operand(bound, out.shape)
        value = s.put(op, out, value, s.cast(limit, s.dtype(out)))
    s.copy(out, value)


def _where(s: Slots, made: Recorded) -> None:
    if len(made.args) != 3 or made.kwargs:
        raise NoLowering("where with one argument")
    out = _given(s, made)
    condition, *chosen = (s.operand(x, out.shape) for x in made.args)
    s.put("where", out, s.cast(condition, np.dtype(bool)), *(s.cast(x, s.dtype(out)) for x in chosen))


# --- reductions ----------------------------------------------------------------------------------------------------------


def _reduction(op: str, divide: bool = False) -> Rule:
    def rule(s: Slots, made: Recorded) -> None:
        given = (
            _bound(made, "axis", "dtype", "out", "keepdims")
            if op not in _EXTREMES
            else _bound(made, "axis", "out", "keepdims", "initial")
        )
        _reduce(s, made, op, given, given.get("axis"), divide)

    return rule


_EXTREMES = {"maximum", "minimum", "logical_and", "logical_or"}


def _ufunc_reduce(s: Slots, made: Recorded) -> None:
    given = _bound(made, "axis", "dtype", "out", "keepdims")
    _reduce(s, made, made.function.__self__.__name__, given, given.get("axis", 0))


def _reduce(s: Slots, made: Recorded, op: str, given: dict[str, Any], axis: Any, divide: bool = False) -> None:
    source = s.operand(made.args[0])
    out = _given(s, made, given.get("out"))
    if not isinstance(source, View) or op not in {*_EXTREMES, "add", "multiply"}:
        raise NoLowering(f"the reduction {op}")
    dtype = np.dtype(bool) if op.startswith("logical") else s.dtype(out)
    if s.dtype(out) != dtype or (given.get("dtype") is not None and np.dtype(given["dtype"]) != dtype):
        raise NoLowering(f"a reduction in {given.get('dtype')} to {s.dtype(out)}")
    if 0 in source.shape or (dtype.kind == "b" and not op.startswith("logical")):
        raise NoLowering("a reduction of nothing, or in bool")
    axes = _axes(axis, len(source.shape))
    if given.get("keepdims"):
        out = View(
            out.buffer, out.offset, *(tuple(v for i, v in enumerate(t) if i not in axes) for t in (out.shape, out.strides))
        )
    source = s.cast(source, dtype)
    assert isinstance(source, View)
    into = s.new(out.shape, dtype) if overlap(out, source) else out
    s.lines.append(Reduce(op, into, source, axes))
    if divide:
        if dtype.kind != "f":
            raise NoLowering(f"a mean in {dtype}")
        s.put("divide", into, into, Literal(float(prod(source.shape[a] for a in axes))))
    if "initial" in given:
        s.put(op, into, into, s.operand(given["initial"], into.shape))
    s.copy(out, into)


def _axes(axis: Any, n: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(n))
    return tuple(sorted(a % n for a in (axis if isinstance(axis, tuple) else (axis,))))


def _arg_reduction(op: str) -> Rule:
    def rule(s: Slots, made: Recorded) -> None:
        given = _bound(made, "axis", "out", "keepdims")
        source, out, axis = s.operand(made.args[0]), _given(s, made, given.get("out")), given.get("axis")
        if not isinstance(source, View) or s.dtype(out) != np.int64 or 0 in source.shape:
            raise NoLowering(f"{op} of nothing")
        if axis is None:
            source, axis = _flat(source), 0
        axis %= len(source.shape)
        if given.get("keepdims"):
            out = View(
                out.buffer, out.offset, *(tuple(v for i, v in enumerate(t) if i != axis) for t in (out.shape, out.strides))
            )
        if overlap(out, source):
            raise NoLowering("a result over its source")
        s.lines.append(ArgReduce(op, out, source, axis))

    return rule


def _flat(view: View) -> View:
    """All elements in C order along one axis."""
    if len(view.shape) == 1:
        return view
    long = [(n, t) for n, t in zip(view.shape, view.strides, strict=True) if n != 1]
    step = long[-1][1] if long else 1
    if [t for _, t in long] != [c * step for c in c_strides(tuple(n for n, _ in long))]:
        raise NoLowering("elements that are not in one row")
    return View(view.buffer, view.offset, (prod(view.shape),), (step,))


def _scan(op: str) -> Rule:
    def rule(s: Slots, made: Recorded) -> None:
        given = _bound(made, "axis", "dtype", "out")
        source, out, axis = s.operand(made.args[0]), _given(s, made, given.get("out")), given.get("axis")
        dtype = s.dtype(out)
        if (given.get("dtype") is not None and np.dtype(given["dtype"]) != dtype) or not isinstance(source, View):
            raise NoLowering("a running result of another element type")
        if axis is None:
            source, axis = _flat(source), 0
        if not source.shape:
            raise NoLowering("a running result of one number")
        source = s.cast(source, dtype)
        assert isinstance(source, View)
        if overlap(out, source) and out != source:
            source = s.copy(s.new(source.shape, dtype), source)
        s.lines.append(Scan(op, out, source, axis % len(source.shape)))

    return rule


def _accumulate(s: Slots, made: Recorded) -> None:
    op = made.function.__self__.__name__
    if op not in {*_EXTREMES, "add", "multiply"}:
        raise NoLowering(f"{op}.accumulate")
    if len(made.args) < 2 and "axis" not in made.kwargs:
        made = Recorded("call", made.function, made.args, {**made.kwargs, "axis": 0}, made.out, made.writes)
    _scan(op)(s, made)


# --- products ------------------------------------------------------------------------------------------------------------


def _product(s: Slots, made: Recorded) -> None:
    given = _bound(made, "out", start=2)
    _matmul(s, made.args[:2], _given(s, made, given.get("out")), dot=made.function in (np.dot, np.ndarray.dot))


def _matmul(s: Slots, args: Sequence[Any], out: View, dot: bool = False) -> None:
    a, b = (s.operand(x) for x in args)
    if (
        not isinstance(a, View)
        or not isinstance(b, View)
        or {s.dtype(v) for v in (a, b)} != {s.dtype(out)}
        or s.dtype(out).kind != "f"
    ):
        raise NoLowering("a product of other element types")
    if 0 in (len(a.shape), len(b.shape)) or (dot and max(len(a.shape), len(b.shape)) > 2):
        raise NoLowering("a product with numbers, or over several axes")
    into = s.new(out.shape, s.dtype(out)) if overlap(out, a) or overlap(out, b) else out
    target = into
    if len(a.shape) == 1:
        a = _insert(a, 0)
        target = _insert(target, len(target.shape) - (len(b.shape) > 1))
    if len(b.shape) == 1:
        b, target = _insert(b, 1), _insert(target, len(target.shape))
    if a.shape[-1] == 0:
        raise NoLowering("a product of nothing")
    lead = target.shape[:-2]
    a, b = (broadcast(v, (*lead, *v.shape[-2:])) for v in (a, b))
    s.lines.append(MatMul(*_rows_joined(target, a, b)))
    s.copy(out, into)


def _rows_joined(out: View, a: View, b: View) -> tuple[View, View, View]:
    """A stack of products with one right-hand side as one product, where the rows of the left ones lie at equal distances."""
    while len(out.shape) > 2:
        (count, rows), steps = out.shape[-3:-1], (out.strides[-3:-1], a.strides[-3:-1])
        joins = all(rows == 1 or count == 1 or outer == rows * inner for outer, inner in steps)
        if (b.strides[-3] != 0 and count > 1) or not joins:
            break
        out, a = (
            View(
                v.buffer,
                v.offset,
                (*v.shape[:-3], count * rows, v.shape[-1]),
                (*v.strides[:-3], t[0] if rows == 1 else t[1], v.strides[-1]),
            )
            for v, t in zip((out, a), steps, strict=True)
        )
        b = View(b.buffer, b.offset, (*b.shape[:-3], *b.shape[-2:]), (*b.strides[:-3], *b.strides[-2:]))
    return out, a, b


def _insert(view: View, axis: int) -> View:
    return View(
        view.buffer, view.offset, (*view.shape[:axis], 1, *view.shape[axis:]), (*view.strides[:axis], 0, *view.strides[axis:])
    )


# --- copies --------------------------------------------------------------------------------------------------------------


def _copied(s: Slots, made: Recorded) -> None:
    order = made.kwargs.get("order")
    out, source = _given(s, made), s.operand(made.args[0])
    if isinstance(source, View) and source.shape != out.shape:  # reshaped, in C order
        if order not in (None, "C", "K") or prod(source.shape) != prod(out.shape):
            raise NoLowering("a copy in another order")
        out = _flat(out)
        out = View(out.buffer, out.offset, source.shape, tuple(t * out.strides[0] for t in c_strides(source.shape)))
    s.copy(out, source)


def _nothing(s: Slots, made: Recorded) -> None:
    s.view(made.out)


def _filled(value: int) -> Rule:
    return lambda s, made: s.copy(_given(s, made), Literal(value))


def _full_like(s: Slots, made: Recorded) -> None:
    s.copy(_given(s, made), _value(s, made.args[1] if len(made.args) > 1 else made.kwargs.get("fill_value"), s.view(made.out)))


def _fill(s: Slots, made: Recorded) -> None:
    target = s.view(made.args[0].slot)
    s.copy(target, _value(s, made.args[1], target))


def _copyto(s: Slots, made: Recorded) -> None:
    given = _bound(made, "casting", "where", start=2)
    target = s.view(made.args[0].slot)
    value = _value(s, made.args[1], target)
    if given.get("where", True) is True:
        s.copy(target, value)
    else:
        s.put("where", target, s.cast(s.operand(given["where"], target.shape), np.dtype(bool)), value, target)


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
    out = _given(s, made)
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
    elif type(index) is Ref and s.shapes[index.slot][1] == bool:
        mask = s.operand(index)
        single = not isinstance(value, Ref) or prod(s.shapes[value.slot][0]) == 1
        if not isinstance(mask, View) or not single or mask.shape != view.shape[: len(mask.shape)]:
            raise NoLowering("a mask with several values")
        rest = len(view.shape) - len(mask.shape)
        wide = View(mask.buffer, mask.offset, (*mask.shape, *view.shape[len(mask.shape) :]), (*mask.strides, *([0] * rest)))
        s.put("where", view, wide, s.cast(_value(s, value, view), s.dtype(view)), view)
    else:
        _scatter(s, "set", value, *s.chosen(view, index))


def _scatter(s: Slots, op: str, value: Any, whole: View, indices: tuple[View, ...], fault: View | None) -> None:
    space = View(whole.buffer, whole.offset, indices[0].shape, (0,) * len(indices[0].shape))
    given = s.cast(_value(s, value, space), s.dtype(whole))
    if isinstance(given, View) and overlap(whole, given):
        given = s.copy(s.new(given.shape, s.dtype(whole)), given)
    if any(overlap(whole, i) for i in indices):
        raise NoLowering("indices that are overwritten")
    if 0 not in space.shape:
        s.lines.append(Scatter(op, whole, indices, given, fault))


def _at(s: Slots, made: Recorded) -> None:
    op = made.function.__self__.__name__
    if op not in ("add", "subtract", "multiply", "maximum", "minimum") or len(made.args) != 3:
        raise NoLowering(f"{op}.at")
    _scatter(s, op, made.args[2], *s.chosen(s.view(made.args[0].slot), made.args[1]))


def _take(s: Slots, made: Recorded) -> None:
    given = _bound(made, "axis", "out", "mode", start=2)
    source, axis = s.view(made.args[0].slot), given.get("axis")
    if given.get("mode", "raise") != "raise" or type(made.args[1]) is not Ref:
        raise NoLowering("take in another mode")
    if axis is None:
        source, axis = _flat(source), 0
    index = (*[slice(None)] * (axis % len(source.shape)), made.args[1])
    _gather(s, _given(s, made, given.get("out")), *s.chosen(source, index))


def _along(s: Slots, view: View, index: Any, axis: int) -> tuple[View, tuple[View, ...], View | None]:
    """What `take_along_axis` and `put_along_axis` choose from."""
    i = s.operand(index)
    if not isinstance(i, View) or s.dtype(i).kind not in "iu" or axis is None or len(i.shape) != len(view.shape):
        raise NoLowering("an index along no axis")
    axis %= len(view.shape)
    space = tuple(n if a == axis else max(n, m) for a, (n, m) in enumerate(zip(i.shape, view.shape, strict=True)))
    i = broadcast(i, space)
    strides = tuple(0 if a == axis or n == 1 else t for a, (n, t) in enumerate(zip(view.shape, view.strides, strict=True)))
    size = view.shape[axis]
    whole = View(view.buffer, view.offset, (*space, size), (*strides, view.strides[axis]))
    return whole, (i,), s.faults([(i, size)])


def _take_along(s: Slots, made: Recorded) -> None:
    given = _bound(made, "indices", "axis")
    _gather(s, _given(s, made), *_along(s, s.view(made.args[0].slot), given["indices"], given.get("axis", -1)))


def _put_along(s: Slots, made: Recorded) -> None:
    given = _bound(made, "indices", "values", "axis")
    _scatter(s, "set", given["values"], *_along(s, s.view(made.args[0].slot), given["indices"], given["axis"]))


def _concatenate(s: Slots, made: Recorded) -> None:
    given = _bound(made, "axis")
    _join(s, _given(s, made), [s.view(x.slot) for x in made.args[0]], given.get("axis", 0))


def _stack(s: Slots, made: Recorded) -> None:
    given = _bound(made, "axis")
    out = _given(s, made)
    axis = given.get("axis", 0) % len(out.shape)
    _join(s, out, [_insert(s.view(x.slot), axis) for x in made.args[0]], axis)


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
    given = _bound(made, "shift", "axis")
    out, source = _given(s, made), s.view(made.args[0].slot)
    shift, axis = s.static(given["shift"]), given.get("axis")
    if axis is None:
        out, source, axis = _flat(out), _flat(source), 0
    shifts = list(shift) if isinstance(shift, (tuple, list)) else [shift]
    axes = list(axis) if isinstance(axis, (tuple, list)) else [axis]
    if len(shifts) != len(axes) or 0 in out.shape:
        raise NoLowering("roll of nothing, or by one shift along several axes")
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


_RULES: dict[Any, Rule] = {
    **{getattr(operator, name): _operator(f, False) for name, f in _OPERATORS.items()},
    **{
        getattr(operator, f"i{name.strip('_')}"): _operator(f, True)
        for name, f in _OPERATORS.items()
        if hasattr(operator, f"i{name.strip('_')}") and f is not np.invert and f is not np.matmul
    },
    **{getattr(np.ndarray, n): _reduction(op) for n, op in (("sum", "add"), ("prod", "multiply"), ("max", "maximum"), ("min", "minimum"), ("any", "logical_or"), ("all", "logical_and"))},
    **{getattr(np, n): _reduction(op) for n, op in (("sum", "add"), ("prod", "multiply"), ("max", "maximum"), ("min", "minimum"), ("amax", "maximum"), ("amin", "minimum"), ("any", "logical_or"), ("all", "logical_and"))},
    **dict.fromkeys((np.mean, np.ndarray.mean), _reduction("add", divide=True)),
    **{getattr(home, op): _arg_reduction(op) for op in ("argmax", "argmin") for home in (np, np.ndarray)},
    **dict.fromkeys((np.cumsum, np.ndarray.cumsum), _scan("add")),
    **dict.fromkeys((np.cumprod, np.ndarray.cumprod), _scan("multiply")),
    **dict.fromkeys((np.dot, np.ndarray.dot), _product),
    **dict.fromkeys((np.clip, np.ndarray.clip), _clip),
    np.where: _where,
    **dict.fromkeys((np.ndarray.copy, np.copy, np.ndarray.astype, np.ascontiguousarray, np.asarray, np.array, np.reshape, np.ndarray.reshape, np.ravel, np.ndarray.ravel, np.ndarray.flatten), _copied),
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
}  # fmt: skip
_METHODS: dict[str, Rule] = {"reduce": _ufunc_reduce, "accumulate": _accumulate, "at": _at}
