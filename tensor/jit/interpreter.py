"""Tier 0: a program run by NumPy, into memory allocated once.

Every instruction is bound beforehand to its arrays, as one callable without arguments; a run is a loop over these. Only the
instructions that touch an external array the caller has replaced are bound anew.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tensor.jit import arena
from tensor.jit.program import (
    PREDICATES,
    ArgReduce,
    Call,
    Elementwise,
    Gather,
    Instruction,
    Literal,
    MatMul,
    Program,
    Reduce,
    Scan,
    Scatter,
    Slot,
    View,
    reads,
    writes,
)

Array = np.ndarray[Any, np.dtype[Any]]
Step = Callable[[], object]


class _Interface:
    """What `np.asarray` needs to see memory at an address; `base` keeps it alive."""

    __slots__ = ("__array_interface__", "base")

    def __init__(self, array: Array, dtype: np.dtype[Any], view: View) -> None:
        address, read_only = array.__array_interface__["data"]
        self.base = array
        self.__array_interface__ = {
            "version": 3,
            "data": (address + view.offset * dtype.itemsize, read_only),
            "shape": view.shape,
            "strides": tuple(stride * dtype.itemsize for stride in view.strides),
            "typestr": dtype.str,
        }


def look(array: Array, dtype: np.dtype[Any], view: View) -> Array:
    """The elements of `view`, where element 0 of its buffer is the first element of `array`."""
    return np.asarray(_Interface(array, dtype, view))


class Memory:
    """The arrays behind a program's buffers, and its runtime scalars.

    `keep` says which temporaries need memory (all, unless told), and `order` in which steps the instructions run.
    """

    def __init__(
        self, program: Program, order: Sequence[Iterable[Instruction]] | None = None, keep: set[int] | None = None
    ) -> None:
        self.program = program
        self.arrays: dict[int, Array] = {b.index: b.value for b in program.of_kind("constant") if b.value is not None}
        self.externals = [buffer.index for buffer in program.of_kind("external")]
        self.scalars: dict[tuple[int, np.dtype[Any]], Array] = {}
        spans = _spans(order if order is not None else [[instruction] for instruction in program.instructions])
        needed = [b for b in program.of_kind("temporary") if b.index in spans and (keep is None or b.index in keep)]
        offsets, total = arena.layout({b.index: b.size * b.dtype.itemsize for b in needed}, spans)
        self.block = arena.aligned(total)
        for buffer in needed:
            start = offsets[buffer.index]
            self.arrays[buffer.index] = self.block[start : start + buffer.size * buffer.dtype.itemsize].view(buffer.dtype)

    def look(self, view: View) -> Array:
        return look(self.arrays[view.buffer], self.program.dtype(view), view)

    def scalar(self, slot: Slot, dtype: np.dtype[Any]) -> Array:
        """The array of no axes that holds a runtime scalar in the dtype that an instruction wants."""
        return self.scalars.setdefault((slot.index, dtype), np.zeros((), dtype))

    def set_scalars(self, values: Sequence[float]) -> None:
        for (index, _), array in self.scalars.items():
            array[()] = values[index]


class Interpreter:
    """A program bound to NumPy calls; `run(arrays, scalars)` may be called by one thread at a time."""

    def __init__(self, program: Program) -> None:
        self.memory = Memory(program)
        self._count = program.scalars
        self._steps = Steps(program.instructions, self.memory)

    def run(self, arrays: Sequence[Array], scalars: Sequence[float] = ()) -> None:
        """Run with one array for each external buffer and one number for each slot."""
        if len(arrays) != len(self.memory.externals) or len(scalars) != self._count:
            expected = f"{len(self.memory.externals)} arrays and {self._count} scalars"
            msg = f"run: expected {expected}, got {len(arrays)} and {len(scalars)}"
            raise ValueError(msg)
        with np.errstate(all="ignore"):
            self._steps.attach(arrays)
            self.memory.set_scalars(scalars)
            self._steps()


class Steps:
    """Some instructions of a program, bound to its memory."""

    def __init__(self, instructions: Sequence[Instruction], memory: Memory) -> None:
        self._memory = memory
        self._instructions = instructions
        self._attached: list[Array | None] = [None] * len(memory.externals)
        self._users: list[list[int]] = [[] for _ in memory.externals]
        place = {buffer: position for position, buffer in enumerate(memory.externals)}
        self._steps: list[Step] = []
        for number, instruction in enumerate(instructions):
            touched = {place[v.buffer] for v in (*writes(instruction), *reads(instruction)) if v.buffer in place}
            for position in touched:
                self._users[position].append(number)
            self._steps.append(_unbound if touched else bind(instruction, memory))

    def attach(self, arrays: Sequence[Array]) -> None:
        """Make `arrays` the external ones; binds again what touches those that are others than in the last run."""
        changed = [i for i, (new, old) in enumerate(zip(arrays, self._attached, strict=True)) if new is not old]
        if not changed:
            return
        for position in changed:
            self._memory.arrays[self._memory.externals[position]] = arrays[position]
            self._attached[position] = arrays[position]
        for number in sorted({number for position in changed for number in self._users[position]}):
            self._steps[number] = bind(self._instructions[number], self._memory)

    def __call__(self) -> None:
        for step in self._steps:
            step()


def _unbound() -> None:
    msg = "run: expected attached arrays, got none"
    raise RuntimeError(msg)


def run_numpy(program: Program, arrays: Sequence[Array], scalars: Sequence[float] = ()) -> None:
    """Run a program once; the plain way, for tests and for programs that run only once."""
    Interpreter(program).run(arrays, scalars)


def ufunc(op: str) -> Callable[..., Any]:
    """The function of NumPy, else of `scipy.special`, that an operation is named after."""
    found: Callable[..., Any] | None = getattr(np, op, None) or getattr(importlib.import_module("scipy.special"), op, None)
    if found is None:
        msg = f"interpreter: expected the name of a ufunc of numpy or scipy.special, got {op!r}"
        raise ValueError(msg)
    return found


def bind(instruction: Instruction, memory: Memory) -> Step:
    """The instruction as a call without arguments."""
    match instruction:
        case Elementwise(op, out, inputs):
            views = [view for view in inputs if isinstance(view, View)]
            typed = views[-1] if views and op in PREDICATES else out
            arguments = [_argument(operand, memory, memory.program.dtype(typed)) for operand in inputs]
            return _elementwise(op, memory.look(out), arguments, aliased=[operand == out for operand in inputs])
        case Reduce(op, out, source, axes):
            reduce = vars(np)[op].reduce
            return partial(reduce, memory.look(source), axes, memory.program.dtype(out), memory.look(out))
        case MatMul(out, a, b):
            return partial(np.matmul, memory.look(a), memory.look(b), memory.look(out))
        case Scan(op, out, source, axis):
            return partial(vars(np)[op].accumulate, memory.look(source), axis, memory.program.dtype(out), memory.look(out))
        case ArgReduce(op, out, source, axis):
            return partial(vars(np)[op], memory.look(source), axis, memory.look(out))
        case Gather(out, source, indices, fault):
            index = _Index(indices, source, fault, memory)
            return partial(_gather, memory.look(out), memory.look(source), index)
        case Scatter(op, out, indices, value, fault):
            index = _Index(indices, out, fault, memory)
            return partial(_scatter, op, memory.look(out), index, _argument(value, memory, memory.program.dtype(out)))
        case Call(function, outs, args):
            return _call(function, [memory.look(view) for view in outs], args, memory)


class _Index:
    """The places that indices mean, and which of them lie inside."""

    def __init__(self, indices: Sequence[View], whole: View, fault: View | None, memory: Memory) -> None:
        self._indices = [memory.look(view) for view in indices]
        self._sizes = whole.shape[len(whole.shape) - len(indices) :]
        self._grid = np.ix_(*map(np.arange, whole.shape[: len(whole.shape) - len(indices)]))
        self._fault = None if fault is None else memory.look(fault)

    def __call__(self) -> tuple[tuple[Any, ...], Any]:
        inside: Any = True
        found = []
        for index, size in zip(self._indices, self._sizes, strict=True):
            inside = inside & (index >= -size) & (index < size)
            found.append(np.where(index < 0, index + size, index).clip(0, size - 1))
        if self._fault is not None and not np.all(inside):
            self._fault[...] = True
        return (*self._grid, *found), inside


def _gather(out: Array, source: Array, index: _Index) -> None:
    out[...] = source[index()[0]]


def _scatter(op: str, out: Array, index: _Index, value: Array) -> None:
    places, inside = index()
    shape = np.broadcast_shapes(*(np.shape(place) for place in places))
    chosen = np.broadcast_to(inside, shape)
    places = tuple(np.broadcast_to(place, shape)[chosen] for place in places)
    values = np.broadcast_to(value, shape)[chosen]
    if op == "set":
        out[places] = values
    else:
        vars(np)[op].at(out, places, values)


def _argument(operand: View | Literal | Slot, memory: Memory, dtype: np.dtype[Any]) -> Array:
    match operand:
        case View():
            return memory.look(operand)
        case Literal(value):
            return np.asarray(value).astype(dtype)
        case Slot():
            return memory.scalar(operand, dtype)


def _elementwise(op: str, out: Array, arguments: list[Array], aliased: list[bool]) -> Step:
    if op == "cast":
        return partial(np.copyto, out, arguments[0], "unsafe")
    if op != "where":
        return partial(ufunc(op), *arguments, out=out)
    condition, chosen, other = arguments
    if not aliased[0] and not aliased[1]:
        return partial(_select, out, condition, chosen, other)
    return partial(_select_in_place, out, condition, chosen, other)


def _select(out: Array, condition: Array, chosen: Array, other: Array) -> None:
    np.copyto(out, other)
    np.copyto(out, chosen, where=condition.astype(bool, copy=False))


def _select_in_place(out: Array, condition: Array, chosen: Array, other: Array) -> None:
    out[...] = np.where(condition, chosen, other)


def _call(function: Callable[..., object], outs: list[Array], args: tuple[object, ...], memory: Memory) -> Step:
    slots = any(isinstance(argument, Slot) for argument in args)
    arguments = [memory.look(argument) if isinstance(argument, View) else argument for argument in args]
    if not slots:
        return partial(function, *outs, *arguments)
    double = np.dtype(np.float64)
    numbers = {i: memory.scalar(argument, double) for i, argument in enumerate(args) if isinstance(argument, Slot)}

    def step() -> object:
        for i, number in numbers.items():
            arguments[i] = number.item()
        return function(*outs, *arguments)

    return step


def _spans(steps: Sequence[Iterable[Instruction]]) -> dict[int, tuple[int, int]]:
    """The first and the last step that touches each buffer."""
    spans: dict[int, tuple[int, int]] = {}
    for number, step in enumerate(steps):
        for instruction in step:
            for view in (*writes(instruction), *reads(instruction)):
                spans[view.buffer] = (spans.get(view.buffer, (number, number))[0], number)
    return spans
