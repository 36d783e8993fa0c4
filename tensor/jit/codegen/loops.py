"""Groups of elementwise operations and reductions as loops.

One axis is cut into vectors. Axes that are reduced run innermost, so that what they accumulate stays in registers; along the
vectors' own axis it is one vector of partial results, combined at the end. A group over a single axis without reductions
takes its length at run time: the code of an optimizer's update is the same for every parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tensor.jit.codegen import mathematics, operations
from tensor.jit.codegen.fusion import Group, Item
from tensor.jit.codegen.kernel import Address, Argument, Code, Count, Number, finish
from tensor.jit.codegen.text import SCALARS, Function, Lanes, Scalar
from tensor.jit.program import PREDICATES, Literal, Program, Slot, View

Pointers = dict[View, str]


@dataclass(slots=True)
class Axis:
    length: int
    strides: dict[View, int]
    reduced: bool


@dataclass(slots=True)
class Partial:
    """What a reduction has gathered: vectors of `lanes` each, as registers or constants."""

    item: Item
    scalar: Scalar
    lanes: list[int]
    values: list[str] = field(default_factory=list)


def emit_group(program: Program, group: Group, kept: Callable[[int], bool], vector_bytes: int) -> Code:
    """The kernel of a group; only buffers for which `kept(index)` are written to memory."""
    return _Writer(program, group, kept, vector_bytes).write()


class _Writer:
    def __init__(self, program: Program, group: Group, kept: Callable[[int], bool], vector_bytes: int) -> None:
        self.program = program
        self.items = group.items
        self.kept = kept
        self.function = Function(vector_bytes == 64)
        self.prologue: list[str] = []
        self.arguments: list[Argument] = []
        self.views = list(dict.fromkeys(view for item in group.items for view in item.views))
        self.scalars = {view: SCALARS[program.dtype(view)] for view in self.views}
        self.sums = [item for item in group.items if item.axes is not None]
        self.slots: dict[tuple[int, str, int], str] = {}
        self.mask = ""  # which lanes there are, where not all
        axes = [
            Axis(n, {view: view.strides[i] for view in self.views}, group.axes is not None and i in group.axes)
            for i, n in enumerate(group.shape)
        ]
        self.axes = merged(axes, self.items[-1].out)
        sizes = [scalar.size for scalar in self.scalars.values() if scalar.family != "bool"] or [4]
        self.width = vector_bytes // max(4, *sizes)

    def write(self) -> Code:
        pointers: Pointers = {}
        for view in self.views:
            if self.touched(view):
                pointers[view] = f"%a{self.argument(Address(view.buffer, view.offset))}"
        if not self.axes:
            self.body(pointers, 1, self.fresh([1]))
        elif len(self.axes) == 1 and not self.sums and self.axes[0].length >= self.width:
            self.any_length(self.axes[0], pointers)
        else:
            vector = min(self.axes, key=self.cost)
            others = [axis for axis in self.axes if axis is not vector]
            outer = [axis for axis in others if not axis.reduced]
            inner = [axis for axis in others if axis.reduced]
            self.nest(outer, pointers, [], lambda pointers, _: self.vectors(vector, inner, pointers))
        self.function.do("ret void")
        self.function.lines[:0] = self.prologue
        return finish(self.function, self.arguments)

    def argument(self, argument: Argument) -> int:
        if argument not in self.arguments:
            self.arguments.append(argument)
        return self.arguments.index(argument)

    def touched(self, view: View) -> bool:
        return self.kept(view.buffer)

    def cost(self, axis: Axis) -> float:
        """Time per element if vectors run along this axis: a stride other than 0 and 1 is one access a lane, and what remains
        after the last whole vector takes as long as a vector.
        """
        lanes = min(axis.length, self.width)
        accesses = sum(1.0 if axis.strides[view] in (0, 1) else 1.5 * lanes for view in self.views if self.touched(view))
        return (accesses + len(self.items)) * -(-axis.length // lanes) / axis.length

    # Loops

    def nest(
        self,
        axes: Sequence[Axis],
        pointers: Pointers,
        carried: list[tuple[str, str]],
        body: Callable[[Pointers, list[str]], Sequence[str]],
    ) -> list[str]:
        """Loops over axes, the first outermost, one element at a time."""
        if not axes:
            return list(body(pointers, [value for _, value in carried]))
        axis, *rest = axes
        kinds = [kind for kind, _ in carried]

        def turn(index: str, values: list[str]) -> Sequence[str]:
            return self.nest(rest, self.moved(pointers, axis, index), list(zip(kinds, values, strict=True)), body)

        return self.function.loop(axis.length, 1, carried, turn)

    def moved(self, pointers: Pointers, axis: Axis, index: str) -> Pointers:
        """The pointers at an index along an axis; equal multiples of it are computed once."""
        function, multiples, result = self.function, dict[int, str](), dict(pointers)
        for view, pointer in pointers.items():
            stride = axis.strides[view]
            if stride and index != "0":
                if stride not in multiples:
                    multiples[stride] = function.times(index, stride)
                result[view] = function.offset(pointer, self.scalars[view], multiples[stride])
        return result

    def any_length(self, axis: Axis, pointers: Pointers) -> None:
        """Vectors as far as they go, then what remains: in part of a vector, or by single elements. The length is an argument."""
        function = self.function
        length = f"%a{self.argument(Count(axis.length))}"
        # Elementary functions are long chains: two vectors of them at a time keep the processor busy.
        double = any(item.op in mathematics.FUNCTIONS and item.op not in mathematics.LIBRARY for item in self.items)
        masked = function.wide and all(axis.strides[view] in (0, 1) for view in self.views if self.touched(view))
        main = (1 + double) * self.width
        whole = function.put(f"and i64 {length}, -{main}")
        for start, stop, lanes, part in (("0", whole, main, False), (whole, length, self.width if masked else 1, masked)):
            run, skip = function.label(), function.label()
            some = function.put(f"icmp slt i64 {start}, {stop}")
            function.do(f"br i1 {some}, label %{run}, label %{skip}")
            function.start(run)

            def turn(index: str, _: list[str], lanes: int = lanes, part: bool = part) -> list[str]:
                if part:
                    some = Lanes(function, operations.BOOL, lanes)
                    self.mask = some.below(function.put(f"sub i64 {length}, {index}"))
                self.vector_body(axis, pointers, index, lanes, [])
                return []

            function.loop(stop, lanes, [], turn, start)
            function.do(f"br label %{skip}")
            function.start(skip)
        self.mask = ""

    def vectors(self, axis: Axis, inner: Sequence[Axis], pointers: Pointers) -> list[str]:
        """The vectors along one axis; `inner` are the reduced axes inside."""
        if axis.reduced:
            self.reduced_along(axis, inner, pointers)
            return []
        whole, rest = axis.length // self.width, axis.length % self.width
        together = next(n for n in (4, 2, 1) if whole >= n or n == 1) if inner and len(self.items) <= 8 else 1
        blocks = [(0, whole // together, together, self.width), (whole // together * together, whole % together, 1, self.width)]
        for first, rounds, count, lanes in [*blocks, (whole, int(rest > 0), 1, rest)]:
            if rounds == 0:
                continue

            def turn(index: str, _: list[str], count: int = count, lanes: int = lanes) -> list[str]:
                at = [self.function.plus(index, k * lanes) for k in range(count)]
                partials = self.fresh([lanes] * count)
                carried = [(self.kind(p, k), v) for p in partials for k, v in enumerate(p.values)]

                def step(moved: Pointers, values: list[str]) -> list[str]:
                    filled = self.filled(partials, values)
                    for k, index in enumerate(at):
                        self.vector_body(axis, moved, index, lanes, filled, k)
                    return [value for partial in filled for value in partial.values]

                final = self.filled(partials, self.nest(inner, pointers, carried, step))
                for partial in final:
                    for place, value in zip(at, partial.values, strict=True):
                        view, v = partial.item.out, Lanes(self.function, partial.scalar, lanes)
                        pointer = self.moved({view: pointers[view]}, axis, place)[view]
                        v.store(pointer, axis.strides[view], value)
                return []

            start = first * self.width
            self.function.loop(start + rounds * count * lanes, count * lanes, [], turn, str(start))
        return []

    def reduced_along(self, axis: Axis, inner: Sequence[Axis], pointers: Pointers) -> None:
        """The vectors' own axis is reduced: several vectors of partial results, combined at the end."""
        whole, rest = axis.length // self.width, axis.length % self.width
        together = next(n for n in (4, 2, 1, 0) if whole >= n)
        lanes = [self.width] * together + [rest] * (rest > 0)
        partials = self.fresh(lanes)
        carried = [(self.kind(p, k), v) for p in partials for k, v in enumerate(p.values)]
        blocks = [(0, whole // together, together), (whole // together * together, whole % together, 1)] if together else []

        def step(moved: Pointers, values: list[str]) -> list[str]:
            for first, rounds, count in blocks:
                if rounds == 0:
                    continue

                def turn(index: str, values: list[str], count: int = count) -> list[str]:
                    filled = self.filled(partials, values)
                    for k in range(count):
                        place = self.function.plus(index, k * self.width)
                        self.vector_body(axis, moved, place, self.width, filled, k)
                    return [value for partial in filled for value in partial.values]

                start = first * self.width
                kinds = [kind for kind, _ in carried]
                stop = start + rounds * count * self.width
                values = self.function.loop(stop, count * self.width, list(zip(kinds, values, strict=True)), turn, str(start))
            filled = self.filled(partials, values)
            if rest:
                self.vector_body(axis, moved, str(whole * self.width), rest, filled, together)
            return [value for partial in filled for value in partial.values]

        for partial in self.filled(partials, self.nest(inner, pointers, carried, step)):
            one = Lanes(self.function, partial.scalar, 1)
            one.store(pointers[partial.item.out], 1, self.combined(partial))

    def combined(self, partial: Partial) -> str:
        """All lanes of all vectors of a partial result as one number."""
        function, scalar, op = self.function, partial.scalar, partial.item.op
        width = max(partial.lanes)
        while width & (width - 1):
            width += 1
        v = Lanes(function, scalar, width)
        vectors = [
            widened(v, value, count, operations.neutral(op, scalar))
            for value, count in zip(partial.values, partial.lanes, strict=True)
        ]
        emit = operations.TABLES[scalar.family][op]
        while len(vectors) > 1:
            vectors = [emit(v, *vectors[i : i + 2]) if i + 1 < len(vectors) else vectors[i] for i in range(0, len(vectors), 2)]
        (value,) = vectors
        while width > 1:
            width //= 2
            half = Lanes(function, scalar, width)
            parts = [shuffled(v, value, value, list(range(start, start + width))) for start in (0, width)]
            if width == 1:
                parts = [function.put(f"extractelement <1 x {scalar.name}> {part}, i64 0") for part in parts]
            value, v = emit(half, *parts), half
        return value

    # Accumulators

    def fresh(self, lanes: list[int]) -> list[Partial]:
        result = []
        for item in self.sums:
            scalar = self.scalars[item.out]
            start = operations.neutral(item.op, scalar)
            result.append(Partial(item, scalar, lanes, [Lanes(self.function, scalar, n).const(start) for n in lanes]))
        return result

    def kind(self, partial: Partial, k: int) -> str:
        return Lanes(self.function, partial.scalar, partial.lanes[k]).type

    def filled(self, partials: list[Partial], values: list[str]) -> list[Partial]:
        rest = iter(values)
        return [Partial(p.item, p.scalar, p.lanes, [next(rest) for _ in p.lanes]) for p in partials]

    # The body

    def vector_body(self, axis: Axis, pointers: Pointers, index: str, lanes: int, partials: list[Partial], k: int = 0) -> None:
        strides = {view: axis.strides[view] for view in self.views}
        self.body(self.moved(pointers, axis, index), lanes, partials, k, strides)

    def body(
        self, pointers: Pointers, lanes: int, partials: list[Partial], k: int = 0, strides: dict[View, int] | None = None
    ) -> None:
        """All items once, on `lanes` elements; `k` says which vector of the partial results takes part."""
        values: dict[View, str] = {}
        stored: dict[View, str] = {}
        steps = strides or dict.fromkeys(self.views, 0)
        reductions = iter(partials)
        for item in self.items:
            v = Lanes(self.function, self.compute_type(item), lanes)
            arguments = [self.operand(item, place, v, pointers, values, steps) for place in range(len(item.inputs))]
            if item.axes is not None:
                partial = next(reductions)
                emit = operations.TABLES[v.scalar.family][item.op]
                partial.values[k] = emit(v, partial.values[k], arguments[0])
                if strides is None:
                    v.store(pointers[item.out], 1, partial.values[k])
                continue
            values[item.out] = stored[item.out] = self.result(item, v, arguments)
        for view, value in stored.items():
            if self.kept(view.buffer):
                Lanes(self.function, self.scalars[view], lanes).store(pointers[view], steps[view] or 1, value, self.mask)

    def compute_type(self, item: Item) -> Scalar:
        """The element type an item computes in."""
        views = [view for view in item.inputs if isinstance(view, View)]
        if item.op in PREDICATES and views:
            return self.scalars[views[-1]]
        if item.op == "cast" and views:
            return self.scalars[views[0]]
        return self.scalars[item.out]

    def operand(
        self, item: Item, place: int, v: Lanes, pointers: Pointers, values: dict[View, str], steps: dict[View, int]
    ) -> str:
        match item.inputs[place]:
            case View() as view:
                if view not in values:
                    values[view] = v.of(self.scalars[view]).load(pointers[view], steps[view], self.mask)
                return values[view]
            case Literal(value):
                return v.of(operations.BOOL).const(value) if item.op == "where" and place == 0 else v.const(value)
            case Slot(index):
                return self.slot(index, v.of(operations.BOOL) if item.op == "where" and place == 0 else v)

    def result(self, item: Item, v: Lanes, arguments: list[str]) -> str:
        if item.op == "where":
            return v.select(*arguments)
        if item.op == "cast":
            return operations.cast(v, v.of(self.scalars[item.out]), arguments[0])
        emit = emit_of(item.op, v.scalar.family, item.inputs)
        assert emit is not None, item.op
        return emit(v, *arguments)

    def slot(self, index: int, v: Lanes) -> str:
        """A runtime scalar in all lanes, made once where the kernel begins."""
        key = (index, v.scalar.suffix, v.count)
        if key not in self.slots:
            body, self.function.lines = self.function.lines, self.prologue
            source = Lanes(self.function, operations.DOUBLE, 1)
            one = operations.cast(source, Lanes(self.function, v.scalar, 1), f"%a{self.argument(Number(index))}")
            self.slots[key] = v.splat(one)
            self.function.lines = body
        return self.slots[key]


def emit_of(op: str, family: str, inputs: Sequence[object]) -> operations.Emit | None:
    """How an operation on these operands is written, or None where only Python can run it."""
    if op in ("where", "cast"):
        return operations.plain(op)
    return operations.emit_for(op, family, [i.value if isinstance(i, Literal) else None for i in inputs])


def merged(axes: list[Axis], order: View) -> list[Axis]:
    """Axes in the order of the output's memory, neighbours that all views run through as one joined; the reduced ones last."""
    ordered = sorted(axes, key=lambda axis: (axis.reduced, -abs(axis.strides[order])))
    result: list[Axis] = []
    for axis in ordered:
        last = result[-1] if result else None
        if last and last.reduced == axis.reduced and all(last.strides[v] == s * axis.length for v, s in axis.strides.items()):
            result[-1] = Axis(last.length * axis.length, axis.strides, axis.reduced)
        else:
            result.append(axis)
    return result


def shuffled(v: Lanes, a: str, b: str, places: list[int]) -> str:
    indices = ", ".join(f"i32 {place}" for place in places)
    source = f"<{v.count} x {v.scalar.name}>"
    return v.function.put(f"shufflevector {source} {a}, {source} {b}, <{len(places)} x i32> <{indices}>")


def widened(v: Lanes, value: str, count: int, fill: object) -> str:
    """A vector of `count` lanes with as many more of `fill` as `v` has."""
    if count == v.count:
        return value
    narrow = Lanes(v.function, v.scalar, count)
    if count == 1:
        return v.function.put(f"insertelement {v.type} {v.const(fill)}, {narrow.type} {value}, i64 0")
    return shuffled(narrow, value, narrow.const(fill), [min(i, count) for i in range(v.count)])
