"""Ufuncs and operators, reductions, running results and products."""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from math import inf, prod
from typing import Any

import numpy as np

from tensor.jit.instructions import Instruction as Recorded
from tensor.jit.instructions import Ref
from tensor.jit.program import ArgReduce, Literal, MatMul, Reduce, Scan, View
from tensor.jit.rules.common import Operand, Rule, bound, flat, given, insert
from tensor.jit.slots import Slots, broadcast, decline, overlap

#: Python's operators as the ufuncs that arrays make of them; those in place come by the same name with an i.
_OPERATORS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "floordiv": np.floor_divide,
    "mod": np.remainder, "pow": np.power, "matmul": np.matmul, "and_": np.bitwise_and, "or_": np.bitwise_or,
    "xor": np.bitwise_xor, "lshift": np.left_shift, "rshift": np.right_shift, "neg": np.negative, "pos": np.positive,
    "abs": np.absolute, "invert": np.invert, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal,
}  # fmt: skip
_POWERS = {2: "square", 0.5: "sqrt"}


# --- ufuncs --------------------------------------------------------------------------------------------------------------


def call_ufunc(s: Slots, f: Any, made: Recorded) -> None:
    if set(made.kwargs) - {"out"} or f.nout != 1:
        decline("a ufunc with several results, or special arguments")
    args = made.args
    if len(args) == f.nin + 1:  # the output may be given by place
        _apply(s, f, args[:-1], given(s, made, args[-1]))
    else:
        _apply(s, f, args, given(s, made))


def _apply(s: Slots, f: Any, args: Sequence[Any], out: View) -> None:
    if f is np.matmul:
        _matmul(s, args, out)
        return
    name: str = f.__name__
    resolve: Any = f.resolve_dtypes
    special = sys.modules.get("scipy.special")  # which takes long to import, and is there if one of its functions is
    if getattr(np, name, getattr(special, name, None)) is not f:
        decline(f"{name} of another library")  # a program's operations are named, and this name means another one there
    try:
        loop = resolve((*(s.kind_of(x) for x in args), None))
    except TypeError:
        decline(f"{name} of such operands")
    if len(set(loop[:-1])) != 1 or any(d.kind not in "fiub" or (d.itemsize == 2 and d.kind == "f") for d in loop):
        decline(f"{name} of {', '.join(map(str, loop[:-1]))}")
    inputs = [s.cast(s.operand(x, out.shape), loop[0]) for x in args]
    if not any(isinstance(x, View) for x in inputs) and loop[0] != s.dtype(out):
        decline(f"{name} of numbers only")
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
        out = given(s, made, args[0] if inplace else None)
        exponent = args[1] if f is np.power else None
        if type(exponent) in (int, float) and type(args[0]) is Ref and s.dtype(out).kind == "f" and exponent in _POWERS:
            s.put(_POWERS[exponent], out, s.cast(s.operand(args[0], out.shape), s.dtype(out)))
        else:
            _apply(s, f, args, out)

    return rule


def _clip(s: Slots, made: Recorded) -> None:
    options = bound(made, "a_min", "a_max", "out", "min", "max")
    out = given(s, made, options.get("out"))
    low, high = options.get("min", options.get("a_min")), options.get("max", options.get("a_max"))
    value = s.cast(s.operand(made.args[0], out.shape), s.dtype(out))
    for op, end, idle in (("maximum", low, -inf), ("minimum", high, inf)):
        if end is None or (type(end) is float and end == idle):
            continue
        limit = s.operand(end, out.shape)
        value = s.put(op, out, value, s.cast(limit, s.dtype(out)))
    s.copy(out, value)


def _where(s: Slots, made: Recorded) -> None:
    if len(made.args) != 3 or made.kwargs:
        decline("where with one argument")
    out = given(s, made)
    condition, *chosen = (s.operand(x, out.shape) for x in made.args)
    s.put("where", out, s.cast(condition, np.dtype(bool)), *(s.cast(x, s.dtype(out)) for x in chosen))


# --- reductions ----------------------------------------------------------------------------------------------------------


def _reduction(op: str, divide: bool = False) -> Rule:
    def rule(s: Slots, made: Recorded) -> None:
        options = (
            bound(made, "axis", "dtype", "out", "keepdims")
            if op not in _EXTREMES
            else bound(made, "axis", "out", "keepdims", "initial")
        )
        _reduce(s, made, op, options, options.get("axis"), divide)

    return rule


_EXTREMES = {"maximum", "minimum", "logical_and", "logical_or"}


def _ufunc_reduce(s: Slots, made: Recorded) -> None:
    options = bound(made, "axis", "dtype", "out", "keepdims")
    _reduce(s, made, made.function.__self__.__name__, options, options.get("axis", 0))


def _reduce(s: Slots, made: Recorded, op: str, options: dict[str, Any], axis: Any, divide: bool = False) -> None:
    source = s.operand(made.args[0])
    out = given(s, made, options.get("out"))
    if not isinstance(source, View) or op not in {*_EXTREMES, "add", "multiply"}:
        decline(f"the reduction {op}")
    dtype = np.dtype(bool) if op.startswith("logical") else s.dtype(out)
    if s.dtype(out) != dtype or (options.get("dtype") is not None and np.dtype(options["dtype"]) != dtype):
        decline(f"a reduction in {options.get('dtype')} to {s.dtype(out)}")
    if 0 in source.shape or (dtype.kind == "b" and not op.startswith("logical")):
        decline("a reduction of nothing, or in bool")
    axes = _axes(axis, len(source.shape))
    if options.get("keepdims"):
        out = View(
            out.buffer, out.offset, *(tuple(v for i, v in enumerate(t) if i not in axes) for t in (out.shape, out.strides))
        )
    source = s.cast(source, dtype)
    assert isinstance(source, View)
    into = s.new(out.shape, dtype) if overlap(out, source) else out
    s.lines.append(Reduce(op, into, source, axes))
    if divide:
        if dtype.kind != "f":
            decline(f"a mean in {dtype}")
        s.put("divide", into, into, Literal(float(prod(source.shape[a] for a in axes))))
    if "initial" in options:
        s.put(op, into, into, s.operand(options["initial"], into.shape))
    s.copy(out, into)


def _axes(axis: Any, n: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(n))
    return tuple(sorted(a % n for a in (axis if isinstance(axis, tuple) else (axis,))))


def _arg_reduction(op: str) -> Rule:
    def rule(s: Slots, made: Recorded) -> None:
        options = bound(made, "axis", "out", "keepdims")
        source, out, axis = s.operand(made.args[0]), given(s, made, options.get("out")), options.get("axis")
        if not isinstance(source, View) or s.dtype(out) != np.int64 or 0 in source.shape:
            decline(f"{op} of nothing")
        if axis is None:
            source, axis = flat(source), 0
        axis %= len(source.shape)
        if options.get("keepdims"):
            out = View(
                out.buffer, out.offset, *(tuple(v for i, v in enumerate(t) if i != axis) for t in (out.shape, out.strides))
            )
        if overlap(out, source):
            decline("a result over its source")
        s.lines.append(ArgReduce(op, out, source, axis))

    return rule


def _scan(op: str) -> Rule:
    def rule(s: Slots, made: Recorded) -> None:
        options = bound(made, "axis", "dtype", "out")
        source, out, axis = s.operand(made.args[0]), given(s, made, options.get("out")), options.get("axis")
        dtype = s.dtype(out)
        if (options.get("dtype") is not None and np.dtype(options["dtype"]) != dtype) or not isinstance(source, View):
            decline("a running result of another element type")
        if axis is None:
            source, axis = flat(source), 0
        if not source.shape:
            decline("a running result of one number")
        source = s.cast(source, dtype)
        assert isinstance(source, View)
        if overlap(out, source) and out != source:
            source = s.copy(s.new(source.shape, dtype), source)
        s.lines.append(Scan(op, out, source, axis % len(source.shape)))

    return rule


def _accumulate(s: Slots, made: Recorded) -> None:
    op = made.function.__self__.__name__
    if op not in {*_EXTREMES, "add", "multiply"}:
        decline(f"{op}.accumulate")
    if len(made.args) < 2 and "axis" not in made.kwargs:
        made = Recorded("call", made.function, made.args, {**made.kwargs, "axis": 0}, made.out, made.writes)
    _scan(op)(s, made)


# --- products ------------------------------------------------------------------------------------------------------------


def _product(s: Slots, made: Recorded) -> None:
    options = bound(made, "out", start=2)
    _matmul(s, made.args[:2], given(s, made, options.get("out")), dot=made.function in (np.dot, np.ndarray.dot))


def _matmul(s: Slots, args: Sequence[Any], out: View, dot: bool = False) -> None:
    a, b = (s.operand(x) for x in args)
    if (
        not isinstance(a, View)
        or not isinstance(b, View)
        or {s.dtype(v) for v in (a, b)} != {s.dtype(out)}
        or s.dtype(out).kind != "f"
    ):
        decline("a product of other element types")
    if 0 in (len(a.shape), len(b.shape)) or (dot and max(len(a.shape), len(b.shape)) > 2):
        decline("a product with numbers, or over several axes")
    into = s.new(out.shape, s.dtype(out)) if overlap(out, a) or overlap(out, b) else out
    target = into
    if len(a.shape) == 1:
        a = insert(a, 0)
        target = insert(target, len(target.shape) - (len(b.shape) > 1))
    if len(b.shape) == 1:
        b, target = insert(b, 1), insert(target, len(target.shape))
    if a.shape[-1] == 0:
        decline("a product of nothing")
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


_REDUCERS = {"sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum", "any": "logical_or", "all": "logical_and"}
RULES: dict[Any, Rule] = {
    **{getattr(operator, name): _operator(f, False) for name, f in _OPERATORS.items()},
    **{
        getattr(operator, f"i{name.strip('_')}"): _operator(f, True)
        for name, f in _OPERATORS.items()
        if hasattr(operator, f"i{name.strip('_')}") and f is not np.matmul
    },
    **{getattr(home, name): _reduction(op) for name, op in _REDUCERS.items() for home in (np, np.ndarray)},
    **dict.fromkeys((np.mean, np.ndarray.mean), _reduction("add", divide=True)),
    **{getattr(home, op): _arg_reduction(op) for op in ("argmax", "argmin") for home in (np, np.ndarray)},
    **dict.fromkeys((np.cumsum, np.ndarray.cumsum), _scan("add")),
    **dict.fromkeys((np.cumprod, np.ndarray.cumprod), _scan("multiply")),
    **dict.fromkeys((np.dot, np.ndarray.dot), _product),
    **dict.fromkeys((np.clip, np.ndarray.clip), _clip),
    np.where: _where,
}
#: Methods of ufuncs.
METHODS: dict[str, Rule] = {"reduce": _ufunc_reduce, "accumulate": _accumulate}
