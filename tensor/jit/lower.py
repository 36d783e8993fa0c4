"""From recorded NumPy calls to programs for the compiler's back end, a stretch of calls at a time.

A stretch ends where Python has a say: a value is read, a gradient handed over, an optimizer's step taken, memory of a tensor from
outside written, or a function called that has no lowering. What such a `Segment` computes for later is written into fresh arrays;
all the rest stays in temporaries, which the back end lays out or keeps in registers. Views are no instructions: their addresses
and strides were noted when recording.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
from scipy import special

from tensor.jit.program import PREDICATES, Buffer, Elementwise, Literal, MatMul, Program, Reduce, Slot, View, extent
from tensor.jit.program import Instruction as Lowered
from tensor.jit.recorder import Instruction, Recording, Ref, references

__all__ = ["Lowering", "NoLowering", "Segment", "contiguous_layout"]


class NoLowering(Exception):
    """An instruction that stays with NumPy."""


_OPERATORS = {
    operator.add: "add", operator.sub: "subtract",
    operator.mul: "multiply", operator.truediv: "divide", operator.matmul: "matmul",
    operator.neg: "negative", operator.abs: "absolute", operator.lt: "less", operator.le: "less_equal", operator.gt: "greater",
    operator.ge: "greater_equal", operator.eq: "equal", operator.ne: "not_equal",
    operator.iadd: "add", operator.isub: "subtract", operator.imul: "multiply", operator.itruediv: "divide",
}  # fmt: skip
_INPLACE = {operator.iadd, operator.isub, operator.imul, operator.itruediv}
_POWERS = {2: "square", 0.5: "sqrt"}
_REDUCERS = {np.ndarray.sum: "add", np.sum: "add", np.ndarray.max: "maximum",
np.max: "maximum", np.amax: "maximum", np.ndarray.min: "minimum",
             np.min: "minimum", np.amin: "minimum", np.ndarray.prod: "multiply", np.prod: "multiply"}  # fmt: skip
_MEANS = {np.mean, np.ndarray.mean}
_COPIES = {np.ndarray.copy, np.copy, np.ascontiguousarray, np.ndarray.astype}
_FILLED = {np.zeros_like: 0, np.ones_like: 1}
_PRODUCTS = {np.dot, np.matmul, np.ndarray.dot, operator.matmul}


class Segment:
    """Calls that run as one program. ``inputs`` and ``outputs`` are slots, in the order in which the program wants their
    arrays."""

    def __init__(
        self, instructions: list[Instruction], program: Program, inputs: list[int], outputs: list[int], scalars: list[int]
    ) -> None:
        self.instructions, self.program = instructions, program
        self.inputs, self.outputs, self.scalars = inputs, outputs, scalars
        self.run: Any = None


class Lowering:
    """Splits a recording's instructions; ``needed`` are slots used when all is done."""

    def __init__(self, recording: Recording, instructions: Sequence[Instruction], needed: Iterable[int]) -> None:
        self.recording = recording
        self.shapes, self.layout, self.origin = recording.shapes, recording.layout, recording.origin
        self.makers: dict[int, Instruction] = {}
        for made in instructions:
            for s in _slots(made.out):
                self.makers.setdefault(s, made)
        self.parts: list[Instruction | Segment] = []
        after: list[set[int]] = [set(needed)]  # the slots wanted after each instruction
        for made in reversed(instructions):
            after.append(after[-1] | set(references(made.args)) | set(references(made.kwargs)))
        after.reverse()
        stretch: list[tuple[Instruction, list[Lowered]]] = []
        early: list[Instruction] = []
        for n, made in enumerate(instructions):
            if made.kind in ("load", "create"):
                early.append(made)
                continue
            try:
                lowered = self._lower(made)
            except NoLowering:
                self.parts += early
                self._close(stretch, after[n])
                early, stretch = [], []
                self.parts.append(made)
            else:
                stretch.append((made, lowered))
        self.parts += early
        self._close(stretch, after[len(instructions)])

    @property
    def segments(self) -> list[Segment]:
        """The stretches that became programs."""
        return [p for p in self.parts if isinstance(p, Segment)]

    # --- segments -------------------------------------------------------------------------------------------------------

    def _close(self, stretch: list[tuple[Instruction, list[Lowered]]], wanted: set[int]) -> None:
        """End a stretch: a segment, and after it the views of its results that are wanted; or the calls as they are."""
        calls = [made for made, _ in stretch]
        if sum(len(lowered) for _, lowered in stretch) < 3:
            self.parts += calls
            return
        made_here = {s for made in calls for s in _slots(made.out) if self.makers[s] is made}
        flat = [i for _, lowered in stretch for i in lowered]
        origins: dict[int, None] = {}
        for i in flat:
            for view in _views(i):
                origins[view.buffer] = None
        again = []
        wanted = set(wanted)
        for made, lowered in reversed(stretch):  # views, and memory nobody has written yet, are made again from what is left
            slots = set(_slots(made.out))
            if not lowered and slots & wanted and not any(s in origins and self.makers[s] is made for s in slots):
                again.append(made)
                wanted |= set(references(made.args)) | set(references(made.kwargs))
        scalars = list(dict.fromkeys(x.index for i in flat for x in getattr(i, "inputs", ()) if isinstance(x, Slot)))
        inputs = [o for o in origins if o not in made_here]
        outputs = [o for o in origins if o in made_here and o in wanted]
        if any(not contiguous_layout(self.recording, o) for o in outputs):
            self.parts += calls
            return
        sizes = dict.fromkeys(origins, 0)
        for i in flat:
            for view in _views(i):
                low, high = extent(view)
                if low < 0:
                    self.parts += calls
                    return
                sizes[view.buffer] = max(sizes[view.buffer], high + 1)
        number = {o: n for n, o in enumerate([*inputs, *outputs, *(o for o in origins if o in made_here and o not in wanted)])}
        buffers = tuple(
            Buffer(n, self.shapes[o][1], sizes[o], "external" if n < len(inputs) + len(outputs) else "temporary")
            for o, n in number.items()
        )
        place = {s: n for n, s in enumerate(scalars)}
        program = Program(buffers, tuple(_renumber(i, number, place) for i in flat), len(scalars))
        self.parts.append(Segment(calls, program, inputs, outputs, scalars))
        self.parts += reversed(again)

    # --- instructions ---------------------------------------------------------------------------------------------------

    def _lower(self, made: Instruction) -> list[Lowered]:
        """The instructions that do what a call does; none for a view. Raises NoLowering."""
        if made.kind != "call" or made.shape is not None or isinstance(made.out, list):
            raise NoLowering
        outside = self.recording.of_outside
        if any(outside.get(self.recording.owner[s]) == "load" for s in made.writes):
            raise NoLowering
        f: Any = made.function
        if made.out is not None and not made.writes and (self.origin[made.out] != made.out or self.makers[made.out] is not made):
            return []
        if any(0 in self.shapes[s][0] for s in (*references(made.args), *references(made.kwargs), *_slots(made.out))):
            raise NoLowering
        if isinstance(f, np.ufunc):
            name: str = f.__name__
            if getattr(np, name, getattr(special, name, None)) is not f:
                raise NoLowering  # a program's operations are named, and this name means another one there
            return self._ufunc(name, made, made.args, made.kwargs)
        if f is operator.pow and type(made.args[1]) in (int, float) and type(made.args[0]) is Ref:
            op = _POWERS.get(made.args[1])
            return self._ufunc(op or "power", made, made.args[:1] if op else made.args, {})
        if f in _PRODUCTS and not made.kwargs and len(made.args) == 2:
            return self._product(made)
        if f in _OPERATORS:
            return self._ufunc(_OPERATORS[f], made, made.args, {}, target=made.args[0] if f in _INPLACE else None)
        owner = getattr(f, "__self__", None)
        if isinstance(owner, np.ufunc) and getattr(f, "__name__", None) == "reduce":
            return self._reduce(owner.__name__, made)
        for table, lower in _LOWERINGS:
            if f in table:
                return lower(self, made)
        raise NoLowering

    def view(self, slot: int) -> View:
        """A slot's elements, as part of the memory of its origin."""
        origin = self.origin[slot]
        shape, dtype = self.shapes[slot]
        if dtype != self.shapes[origin][1] or dtype.kind not in "fiub":
            raise NoLowering
        address, strides = self.layout[slot]
        offset, rest = divmod(address - self.layout[origin][0], dtype.itemsize)
        if rest or any(s % dtype.itemsize for s in strides):
            raise NoLowering
        return View(
            origin, offset, shape, tuple(0 if n == 1 else s // dtype.itemsize for n, s in zip(shape, strides, strict=True))
        )

    def result(self, made: Instruction, target: Any = None) -> View:
        """What an instruction writes."""
        given = made.kwargs.get("out")
        if isinstance(given, tuple):
            (given,) = given
        given = target if target is not None else given
        if given is not None and type(given) is not Ref:
            raise NoLowering
        return self.view(made.out if given is None else given.slot)

    def _operand(self, x: Any, shape: tuple[int, ...]) -> View | Literal | Slot:
        if type(x) is Ref:
            if self.shapes[x.slot][1] is float:
                return Slot(x.slot)
            return _broadcast(self.view(x.slot), shape)
        if isinstance(x, (bool, int, float, np.bool_, np.integer, np.floating)):
            return Literal(x.item() if isinstance(x, np.generic) else x)
        raise NoLowering

    def _dtype_of(self, x: Any) -> Any:
        if type(x) is Ref:
            return None if self.shapes[x.slot][1] is float else self.shapes[x.slot][1]
        return x.dtype if isinstance(x, np.generic) else None

    def _ufunc(self, op: str, made: Instruction, args: Sequence[Any], kwargs: Any, target: Any = None) -> list[Lowered]:
        if op == "matmul" or set(kwargs) - {"out"}:
            raise NoLowering
        out = self.result(made, target)
        kind = self.shapes[out.buffer][1]
        typed = [d for d in map(self._dtype_of, args) if d is not None]
        common = np.result_type(*typed) if typed else kind
        weak = [x for x in args if self._dtype_of(x) is None]
        if common.kind not in "fi" or (common.kind != "f" and any(not isinstance(x, int) for x in weak)):
            raise NoLowering
        if kind != (np.dtype(bool) if op in PREDICATES else common):
            raise NoLowering
        if 0 in [s for s, n in zip(out.strides, out.shape, strict=True) if n > 1]:
            raise NoLowering
        inputs = [self._operand(x, out.shape) for x in args]
        if any(isinstance(x, View) and self.shapes[x.buffer][1] != common for x in inputs):
            raise NoLowering
        _apart(out, inputs)
        return [Elementwise(op, out, tuple(inputs))]

    def _copy_into(self, out: View, source: Any) -> list[Lowered]:
        operand = self._operand(source, out.shape)
        _apart(out, [operand], exact=False)
        return [Elementwise("cast", out, (operand,))]

    def _reduce(self, op: str, made: Instruction, args: Sequence[Any] | None = None, kwargs: Any = None) -> list[Lowered]:
        args, kwargs = made.args if args is None else args, made.kwargs if kwargs is None else kwargs
        names = ("axis", "dtype", "out", "keepdims")
        options = {**dict(zip(names, args[1:], strict=False)), **kwargs}
        if set(options) - set(names) or options.get("dtype") is not None or type(args[0]) is not Ref or len(args) > 5:
            raise NoLowering
        source = self.view(args[0].slot)
        axis = options.get("axis", 0 if isinstance(getattr(made.function, "__self__", None), np.ufunc) else None)
        n = len(source.shape)
        axes = tuple(range(n)) if axis is None else tuple(sorted(a % n for a in (axis if isinstance(axis, tuple) else (axis,))))
        out = self.result(made, options.get("out"))
        if self.shapes[out.buffer][1] != self.shapes[source.buffer][1] or self.shapes[out.buffer][1].kind not in "fi":
            raise NoLowering
        if options.get("keepdims"):
            out = View(
                out.buffer, out.offset, *(tuple(v for i, v in enumerate(t) if i not in axes) for t in (out.shape, out.strides))
            )
        _apart(out, [source])
        return [Reduce(op, out, source, axes)]

    def _sum(self, made: Instruction) -> list[Lowered]:
        return self._reduce(_REDUCERS[made.function], made)

    def _mean(self, made: Instruction) -> list[Lowered]:
        (reduce,) = self._reduce("add", made)
        assert isinstance(reduce, Reduce)
        if self.shapes[reduce.out.buffer][1].kind != "f":
            raise NoLowering
        count = prod(reduce.input.shape[a] for a in reduce.axes)
        return [reduce, Elementwise("divide", reduce.out, (reduce.out, Literal(float(count))))]

    def _product(self, made: Instruction) -> list[Lowered]:
        if not all(type(x) is Ref for x in made.args):
            raise NoLowering
        a, b = (self.view(x.slot) for x in made.args)
        out = self.view(made.out)
        dtypes = {self.shapes[v.buffer][1] for v in (a, b, out)}
        if len(dtypes) > 1 or dtypes.pop().kind != "f" or not 0 < len(a.shape) < 3 or not 0 < len(b.shape) < 3:
            raise NoLowering
        if len(a.shape) == 1:
            a, out = _insert(a, 0), _insert(out, len(out.shape) - len(b.shape) + 1 if len(b.shape) == 2 else 0)
        if len(b.shape) == 1:
            b, out = _insert(b, 1), _insert(out, len(out.shape))
        return [MatMul(out, a, b)]

    def _copied(self, made: Instruction) -> list[Lowered]:
        return self._copy_into(self.view(made.out), made.args[0])

    def _nothing(self, made: Instruction) -> list[Lowered]:
        self.view(made.out)
        return []

    def _filled(self, made: Instruction) -> list[Lowered]:
        value = _FILLED[made.function]
        return [Elementwise("cast", self.view(made.out), (Literal(value),))]

    def _full(self, made: Instruction) -> list[Lowered]:
        return self._copy_into(self.view(made.out), made.args[1])

    def _fill(self, made: Instruction) -> list[Lowered]:
        return self._copy_into(self.view(made.args[0].slot), made.args[1])

    def _copyto(self, made: Instruction) -> list[Lowered]:
        if made.kwargs or len(made.args) != 2:
            raise NoLowering
        return self._copy_into(self.view(made.args[0].slot), made.args[1])

    def _set(self, made: Instruction) -> list[Lowered]:
        target, index, value = made.args
        if any(True for _ in references(index)):
            raise NoLowering
        view = self.view(target.slot)
        # What the index means is asked of an array of the same shape and strides that has no memory of its own.
        stand_in = np.lib.stride_tricks.as_strided(np.empty((), np.uint8), view.shape, view.strides)
        try:
            part = stand_in[index]
        except (IndexError, TypeError):
            raise NoLowering from None
        if not isinstance(part, np.ndarray) or part.base is None:
            if index == () or index is ...:
                part = stand_in
            else:
                raise NoLowering
        offset = part.__array_interface__["data"][0] - stand_in.__array_interface__["data"][0]
        return self._copy_into(View(view.buffer, view.offset + offset, part.shape, part.strides), value)

    def _where(self, made: Instruction) -> list[Lowered]:
        if len(made.args) != 3 or made.kwargs or type(made.args[0]) is not Ref or self.shapes[made.args[0].slot][1].kind != "b":
            raise NoLowering
        out = self.view(made.out)
        inputs = tuple(self._operand(x, out.shape) for x in made.args)
        kind = self.shapes[out.buffer][1]
        if any(isinstance(x, View) and self.shapes[x.buffer][1] != kind for x in inputs[1:]) or kind.kind != "f":
            raise NoLowering
        return [Elementwise("where", out, inputs)]

    def _concatenate(self, made: Instruction) -> list[Lowered]:
        axis = made.kwargs.get("axis", made.args[1] if len(made.args) > 1 else 0)
        out = self.view(made.out)
        if set(made.kwargs) - {"axis"} or axis is None or not all(type(x) is Ref for x in made.args[0]):
            raise NoLowering
        axis, at, lowered = axis % len(out.shape), 0, []
        for x in made.args[0]:
            source = self.view(x.slot)
            part = View(out.buffer, out.offset + at * out.strides[axis], source.shape, out.strides)
            lowered.append(Elementwise("cast", part, (source,)))
            at += source.shape[axis]
        return list(lowered)


_LOWERINGS: list[tuple[Any, Callable[[Lowering, Instruction], list[Lowered]]]] = [
    (_REDUCERS, Lowering._sum),
    (_MEANS, Lowering._mean),
    (_COPIES, Lowering._copied),
    ({np.empty_like}, Lowering._nothing),
    (_FILLED, Lowering._filled),
    ({np.full_like}, Lowering._full),
    ({np.ndarray.fill}, Lowering._fill),
    ({np.copyto}, Lowering._copyto),
    ({operator.setitem}, Lowering._set),
    ({np.where}, Lowering._where),
    ({np.concatenate}, Lowering._concatenate),
]


def contiguous_layout(recording: Recording, slot: int) -> bool:
    """Whether the array of a slot lies in C order without gaps."""
    shape, dtype = recording.shapes[slot]
    step = dtype.itemsize
    for n, stride in zip(reversed(shape), reversed(recording.layout[slot][1]), strict=True):
        if n > 1 and stride != step:
            return False
        step *= n
    return True


def _slots(out: Any) -> list[int]:
    return [] if out is None else list(out) if isinstance(out, list) else [out]


def _views(i: Lowered) -> list[View]:
    match i:
        case Elementwise(_, out, inputs):
            return [out, *(x for x in inputs if isinstance(x, View))]
        case Reduce(_, out, source, _):
            return [out, source]
        case MatMul(out, a, b):
            return [out, a, b]
    raise NoLowering


def _renumber(i: Lowered, number: dict[int, int], place: dict[int, int]) -> Lowered:
    """The instruction with the program's numbers of buffers and scalars in place of slots."""

    def new(x: Any) -> Any:
        if isinstance(x, View):
            return View(number[x.buffer], x.offset, x.shape, x.strides)
        return Slot(place[x.index]) if isinstance(x, Slot) else x

    match i:
        case Elementwise(op, out, inputs):
            return Elementwise(op, new(out), tuple(map(new, inputs)))
        case Reduce(op, out, source, axes):
            return Reduce(op, new(out), new(source), axes)
        case MatMul(out, a, b):
            return MatMul(new(out), new(a), new(b))
    raise NoLowering


def _broadcast(view: View, shape: tuple[int, ...]) -> View:
    extra = len(shape) - len(view.shape)
    if extra < 0:
        raise NoLowering
    strides = [0] * extra
    for n, m, s in zip(view.shape, shape[extra:], view.strides, strict=True):
        if n not in (m, 1):
            raise NoLowering
        strides.append(s if n == m else 0)
    return View(view.buffer, view.offset, tuple(shape), tuple(strides))


def _insert(view: View, axis: int) -> View:
    return View(
        view.buffer, view.offset, (*view.shape[:axis], 1, *view.shape[axis:]), (*view.strides[:axis], 0, *view.strides[axis:])
    )


def _apart(out: View, inputs: Iterable[Any], exact: bool = True) -> None:
    """See that what is written overlaps nothing that is read, except for being the very same elements."""
    for x in inputs:
        if isinstance(x, View) and x.buffer == out.buffer and not (exact and x == out):
            (a, b), (c, d) = extent(out), extent(x)
            if a <= d and c <= b:
                raise NoLowering
