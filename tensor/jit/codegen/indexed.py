"""Instructions with an order or a choice of their own as loops: elements chosen by integers, running results, places of extremes.

Each has one axis along which it is sequential, or an index that says where memory lies; vectors run along another axis where all
views lie in it element by element, else elements go one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tensor.jit.codegen import operations
from tensor.jit.codegen.kernel import Address, Argument, Code, Number, finish
from tensor.jit.codegen.operations import BOOL, SIGNED_64
from tensor.jit.codegen.text import SCALARS, Function, Lanes, Scalar
from tensor.jit.program import ArgReduce, Gather, Literal, Program, Scan, Scatter, Slot, View

Places = dict[str, str]  # by name of a view, the address of the element at hand
Carried = list[tuple[str, str]]  # types and values
Body = Callable[[Places, list[str], int], list[str]]  # addresses, carried values and lanes to the next carried values


def is_native(program: Program, instruction: Gather | Scatter | Scan | ArgReduce) -> bool:
    """Whether there is machine code for an instruction of these kinds."""
    views = [x for x in vars_of(instruction) if isinstance(x, View)]
    if any(program.dtype(view) not in SCALARS for view in views):
        return False
    if isinstance(instruction, Scatter) and instruction.op != "set":
        return instruction.op in operations.TABLES[SCALARS[program.dtype(instruction.out)].family]
    if isinstance(instruction, Scan):
        return instruction.op in operations.TABLES[SCALARS[program.dtype(instruction.out)].family]
    return True


def vars_of(instruction: Gather | Scatter | Scan | ArgReduce) -> list[object]:
    """The operands of an instruction, those of its indices too."""
    found: list[object] = [getattr(instruction, name) for name in instruction.__slots__]
    return [*found, *getattr(instruction, "indices", ())]


def emit_indexed(program: Program, instruction: Gather | Scatter | Scan | ArgReduce, vector_bytes: int) -> Code:
    """The kernel of an instruction."""
    writer = _Writer(program, vector_bytes)
    match instruction:
        case Gather():
            writer.gather(instruction)
        case Scatter():
            writer.scatter(instruction)
        case Scan():
            writer.scan(instruction)
        case ArgReduce():
            writer.arg_reduce(instruction)
    writer.function.do("ret void")
    return finish(writer.function, writer.arguments)


@dataclass(frozen=True, slots=True)
class _Axis:
    length: int
    strides: dict[str, int]


class _Writer:
    def __init__(self, program: Program, vector_bytes: int) -> None:
        self.program, self.bytes = program, vector_bytes
        self.function = Function(vector_bytes == 64)
        self.arguments: list[Argument] = []
        self.scalars: dict[str, Scalar] = {}

    def argument(self, argument: Argument) -> str:
        if argument not in self.arguments:
            self.arguments.append(argument)
        return f"%a{self.arguments.index(argument)}"

    def pointer(self, name: str, view: View) -> str:
        """The address of a view's first element."""
        self.scalars[name] = SCALARS[self.program.dtype(view)]
        return self.argument(Address(view.buffer, view.offset))

    # Loops

    def axes(self, shape: Sequence[int], strides: dict[str, Sequence[int]]) -> list[_Axis]:
        """The axes of a space, without those of length 1; neighbours that all views run through as one are joined."""
        joined: list[_Axis] = []
        for place, length in enumerate(shape):
            axis = _Axis(length, {name: steps[place] for name, steps in strides.items()})
            last = joined[-1] if joined else None
            if length == 1:
                continue
            if last and all(last.strides[name] == step * length for name, step in axis.strides.items()):
                joined[-1] = _Axis(last.length * length, axis.strides)
            else:
                joined.append(axis)
        return joined

    def nest(self, axes: Sequence[_Axis], places: Places, carried: Carried, body: Body, vector: _Axis | None = None) -> list[str]:
        """Loops over axes, the first outermost; then, in vectors and what remains, over `vector`."""
        if axes:
            axis, *rest = axes
            kinds = [kind for kind, _ in carried]

            def turn(index: str, values: list[str]) -> list[str]:
                return self.nest(rest, self.moved(places, axis, index), list(zip(kinds, values, strict=True)), body, vector)

            return self.function.loop(axis.length, 1, carried, turn)
        values = [value for _, value in carried]
        if vector is None:
            return body(places, values, 1)
        width = self.bytes // max(4, *(self.scalars[name].size for name in places))
        whole, kinds = vector.length // width * width, [kind for kind, _ in carried]
        for start, stop, lanes in ((0, whole, width), (whole, vector.length, vector.length - whole)):
            if stop > start:
                values = self.function.loop(
                    stop, lanes, list(zip(kinds, values, strict=True)),
                    lambda index, values, lanes=lanes: body(self.moved(places, vector, index), values, lanes), str(start),  # type: ignore[misc]
                )  # fmt: skip
        return values

    def moved(self, places: Places, axis: _Axis, index: str) -> Places:
        function, result = self.function, dict(places)
        for name, pointer in places.items():
            if axis.strides[name]:
                result[name] = function.offset(pointer, self.scalars[name], function.times(index, axis.strides[name]))
        return result

    def split(self, axes: list[_Axis], fixed: Sequence[str], last: bool) -> tuple[list[_Axis], _Axis | None]:
        """Axes one element at a time, and the one for vectors, along which `fixed` stay; the last one where order matters."""
        for axis in axes[-1:] if last else reversed(axes):
            along = all(step in (0, 1) for name, step in axis.strides.items() if name not in fixed)
            if along and axis.strides.get("out", 1) == 1 and not any(axis.strides[name] for name in fixed):
                return [other for other in axes if other is not axis], axis
        return axes, None

    # Elements chosen by integers

    def chosen(self, whole: View, indices: Sequence[View], places: Places, name: str) -> tuple[Places, str]:
        """The places with `name` moved to the element that is meant, and whether it lies inside."""
        function = self.function
        sizes, strides = whole.shape[len(whole.shape) - len(indices) :], whole.strides[len(whole.strides) - len(indices) :]
        offset, inside = "0", "true"
        for n, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
            scalar = self.scalars[f"index{n}"]
            one = Lanes(function, scalar, 1).load(places[f"index{n}"], 1)
            place = operations.cast(Lanes(function, scalar, 1), Lanes(function, SIGNED_64, 1), one)
            below = function.put(f"icmp slt i64 {place}, 0")
            place = function.put(f"select i1 {below}, i64 {function.put(f'add i64 {place}, {size}')}, i64 {place}")
            fits = function.put(f"icmp ult i64 {place}, {size}")
            place = function.put(f"select i1 {fits}, i64 {place}, i64 0")
            inside = fits if inside == "true" else function.put(f"and i1 {inside}, {fits}")
            offset = function.plus(function.times(place, stride), offset)
        return {**places, name: function.offset(places[name], self.scalars[name], offset)}, inside

    def indexed(
        self,
        whole: View,
        name: str,
        indices: Sequence[View],
        views: dict[str, View],
        fault: View | None,
        last: bool,
        body: Body,
    ) -> None:
        """Loops over the space of indices; `body` once they are looked up."""
        shape = indices[0].shape
        views = {**views, **{f"index{n}": view for n, view in enumerate(indices)}}
        places = {key: self.pointer(key, view) for key, view in {name: whole, **views}.items()}
        axes = self.axes(shape, {name: whole.strides[: len(shape)], **{key: view.strides for key, view in views.items()}})
        fixed = [key for key in places if key.startswith("index")]
        outer, vector = self.split(axes, fixed, last)
        if vector is not None and vector.strides[name] != 1:
            outer, vector = axes, None

        def element(places: Places, values: list[str], _: int) -> list[str]:
            found, inside = self.chosen(whole, indices, places, name)
            function = self.function
            if last:  # a write outside is left out
                write, skip = function.label(), function.label()
                function.do(f"br i1 {inside}, label %{write}, label %{skip}")
                function.start(write)
            if vector is None:
                body(found, [], 1)
            else:
                self.nest([], found, [], body, vector)
            if last:
                function.do(f"br label %{skip}")
                function.start(skip)
            return [function.put(f"and i1 {values[0]}, {inside}")]

        (inside,) = self.nest(outer, places, [("i1", "true")], element)
        if fault is not None:
            at = self.pointer("fault", fault)
            v = Lanes(self.function, BOOL, 1)
            v.store(at, 1, v.op("or", v.load(at, 1), v.op("xor", inside, "true")))

    def gather(self, made: Gather) -> None:
        def body(places: Places, values: list[str], lanes: int) -> list[str]:
            v = Lanes(self.function, self.scalars["out"], lanes)
            v.store(places["out"], 1, v.load(places["source"], 1))
            return values

        self.indexed(made.source, "source", made.indices, {"out": made.out}, made.fault, False, body)

    def scatter(self, made: Scatter) -> None:
        scalar = SCALARS[self.program.dtype(made.out)]
        views = {"value": made.value} if isinstance(made.value, View) else {}
        steps = [made.value.strides] if isinstance(made.value, View) else []

        def body(places: Places, values: list[str], lanes: int) -> list[str]:
            v = Lanes(self.function, scalar, lanes)
            match made.value:
                case View():
                    value = v.load(places["value"], 0 if steps and not any(steps[0][-1:]) else 1)
                case Literal(number):
                    value = v.const(number)
                case Slot(index):
                    one = self.argument(Number(index))
                    one = operations.cast(Lanes(self.function, operations.DOUBLE, 1), Lanes(self.function, scalar, 1), one)
                    value = v.splat(one)
            if made.op != "set":
                value = operations.TABLES[scalar.family][made.op](v, v.load(places["out"], 1), value)
            v.store(places["out"], 1, value)
            return values

        self.indexed(made.out, "out", made.indices, views, made.fault, True, body)

    # Running results and places of extremes

    def along(
        self,
        shape: Sequence[int],
        axis: int,
        views: Mapping[str, tuple[View, Sequence[int]]],
        body: Callable[[Places, int, _Axis], None],
    ) -> None:
        """`body` for all lines along an axis, some of them in vectors."""
        places = {name: self.pointer(name, view) for name, (view, _) in views.items()}
        line = _Axis(shape[axis], {name: steps[axis] for name, (_, steps) in views.items()})
        kept = [n for i, n in enumerate(shape) if i != axis]
        axes = self.axes(kept, {name: [s for i, s in enumerate(steps) if i != axis] for name, (_, steps) in views.items()})
        outer, vector = self.split(axes, [], False)
        if vector is not None and any(step != 1 for step in vector.strides.values()):
            outer, vector = axes, None

        def each(places: Places, values: list[str], lanes: int) -> list[str]:
            body(places, lanes, line)
            return values

        self.nest(outer, places, [], each, vector)

    def scan(self, made: Scan) -> None:
        scalar = SCALARS[self.program.dtype(made.out)]
        emit = operations.TABLES[scalar.family][made.op]

        def body(places: Places, lanes: int, line: _Axis) -> None:
            v = Lanes(self.function, scalar, lanes)
            total = v.load(places["input"], 1)
            v.store(places["out"], 1, total)
            if line.length == 1:
                return

            def turn(index: str, values: list[str]) -> list[str]:
                here = self.moved(places, line, index)
                total = emit(v, values[0], v.load(here["input"], 1))
                v.store(here["out"], 1, total)
                return [total]

            self.function.loop(line.length, 1, [(v.type, total)], turn, "1")

        views = {"out": (made.out, made.out.strides), "input": (made.input, made.input.strides)}
        self.along(made.input.shape, made.axis, views, body)

    def arg_reduce(self, made: ArgReduce) -> None:
        scalar = SCALARS[self.program.dtype(made.input)]
        relation = {"float": "o{}t", "signed": "s{}t"}.get(scalar.family, "u{}t").format("g" if made.op == "argmax" else "l")

        def body(places: Places, lanes: int, line: _Axis) -> None:
            function = self.function
            v, where, flag = (Lanes(function, s, lanes) for s in (scalar, SIGNED_64, BOOL))
            best = v.load(places["input"], 1)

            def turn(index: str, values: list[str]) -> list[str]:
                x = v.load(self.moved(places, line, index)["input"], 1)
                better = v.compare(relation, x, values[0])
                if scalar.family == "float":
                    first = flag.op("and", v.compare("uno", x, x), v.compare("ord", values[0], values[0]))
                    better = flag.op("or", better, first)
                return [v.select(better, x, values[0]), where.select(better, where.splat(index), values[1])]

            place = where.const(0)
            if line.length > 1:
                _, place = function.loop(line.length, 1, [(v.type, best), (where.type, place)], turn, "1")
            where.store(places["out"], 1, place)

        steps = list(made.out.strides)
        steps.insert(made.axis, 0)
        self.along(made.input.shape, made.axis, {"out": (made.out, steps), "input": (made.input, made.input.strides)}, body)
