"""What the recorder hands to the back ends: straight-line code over buffers of memory.

The front end turns a recorded step into a `Program`; `tensor.jit.interpreter` runs it with NumPy and `tensor.jit.codegen` turns
it into machine code. The rules both sides hold to:

- Instructions run in order. Each writes views of buffers and reads views, literals (`Literal`) and runtime scalars (`Slot`).
- Two views overlap only if they name the same buffer: distinct buffers never share memory. An `Elementwise` may overwrite an
  input whose view equals its own (in place); any other overlap of an output with an input is the recorder's to avoid, by a
  temporary.
- All views of one instruction have one shape (broadcasting is a stride of 0) and one dtype. Exceptions, by operation: comparisons
  and predicates write bool; `where` reads a bool first; `cast` reads any dtype and writes any; `Reduce`, `MatMul` and `Call` as
  they say.
- Outputs have no stride of 0 along an axis longer than 1, and are never views of a constant.
- A temporary is written before it is read, within every run: it keeps nothing from one run to the next.
- An operation is named after NumPy's ufunc (`add`, `exp`, `less`), else after `scipy.special`'s (`erf`, `expit`); besides these
  there are `where` and `cast` (between two equal dtypes it is a copy). A back end runs the names it does not know through the
  interpreter.

>>> f4, size = np.dtype("float32"), 8
>>> x, y = Buffer(0, f4, size, "external"), Buffer(1, f4, size, "external")
>>> double = Elementwise("multiply", contiguous(y, (8,)), (contiguous(x, (8,)), Literal(2.0)))
>>> check(Program((x, y), (double,)))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from math import prod
from typing import Any
from typing import Literal as OneOf

import numpy as np

Kind = OneOf["external", "temporary", "constant"]


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """Memory for `size` elements; `index` is its place in `Program.buffers`.

    - external: the caller's. At every run the caller passes one `numpy.ndarray` for each external buffer, in the order of their
      indices; its data pointer is the address of element 0 (its own shape and strides are not looked at).
    - temporary: the back end's; it may overlay temporaries that are not alive together, or keep them in registers.
    - constant: the contents of `value`, a C-contiguous array that nobody changes.
    """

    index: int
    dtype: np.dtype[Any]
    size: int
    kind: Kind
    value: np.ndarray[Any, np.dtype[Any]] | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Elements of a buffer: `buffer` by its index; `offset` and `strides` in elements (0 broadcasts, negative runs backwards)."""

    buffer: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Literal:
    """A number known when recording; it takes the dtype of the instruction's views (never widens them)."""

    value: complex | float | int | bool


@dataclass(frozen=True, slots=True)
class Slot:
    """A number passed at every run, `scalars[index]` (a Python float); it takes the dtype of the instruction's views."""

    index: int


Operand = View | Literal | Slot


@dataclass(frozen=True, slots=True)
class Elementwise:
    """`out[i] = op(inputs[0][i], ...)`. An instruction without any view among its inputs computes in the dtype of `out`."""

    op: str
    out: View
    inputs: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Reduce:
    """`out = op.reduce(input, axes)` in the dtype of both; `op` is add, multiply, maximum, minimum, logical_and or logical_or.

    `axes` are non-negative and distinct; `out.shape` is the input's shape without them. An empty sum is 0, an empty product 1.
    """

    op: str
    out: View
    input: View
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MatMul:
    """`out = a @ b`: (..., m, k) @ (..., k, n) -> (..., m, n) with equal leading axes (broadcast by stride 0); any strides."""

    out: View
    a: View
    b: View


@dataclass(frozen=True, slots=True)
class Call:
    """`function(*outs, *args)` in Python: it writes the arrays `outs`; views among `args` come as arrays, slots as numbers.

    Writing is all it may do to the arrays: it must not keep them, since temporaries are reused.
    """

    function: Callable[..., object]
    outs: tuple[View, ...]
    args: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Scan:
    """`out = op.accumulate(input, axis)` of equal shapes and dtypes; `op` is one of `REDUCTIONS`. May be in place."""

    op: str
    out: View
    input: View
    axis: int


@dataclass(frozen=True, slots=True)
class ArgReduce:
    """`out = op(input, axis)`, int64; `op` is argmax or argmin. The first of equals; NaN wins, as in NumPy."""

    op: str
    out: View
    input: View
    axis: int


@dataclass(frozen=True, slots=True)
class Gather:
    """`out[p] = source[(*p, *(i[p] for i in indices))]` for every place `p` of `out`.

    `source` has an axis for each of `out`'s (of stride 0 where only indices say which element is meant) and, after them, one for
    each of `indices`: integers, negative ones counted from the end, of `out`'s shape. Where one lies outside, what is written is
    some element of the source, and `fault` becomes True; without a `fault` the recorder vouches that none does.
    """

    out: View
    source: View
    indices: tuple[View, ...]
    fault: View | None = None


@dataclass(frozen=True, slots=True)
class Scatter:
    """`out[(*p, *(i[p] for i in indices))] op= value[p]` for every place `p`, one after the other in C order.

    `op` is `set`, which assigns, or a binary operation (`add`: `np.add.at`). Shapes and `fault` are as for `Gather`, with `out`
    in the place of the source; a write outside is left out.
    """

    op: str
    out: View
    indices: tuple[View, ...]
    value: Operand
    fault: View | None = None


Instruction = Elementwise | Reduce | MatMul | Call | Scan | ArgReduce | Gather | Scatter


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Buffers, the instructions over them, and the number of runtime scalars.

    `shared` are external buffers that are written and that the caller cannot keep apart from the other ones: where one of them
    overlaps another external buffer at a run, the instructions have the effect that they have one after the other, or else, if
    there is a buffer `refused`, only this is set to True.
    """

    buffers: tuple[Buffer, ...]
    instructions: tuple[Instruction, ...]
    scalars: int = 0
    shared: frozenset[int] = frozenset()
    refused: int | None = None

    def dtype(self, view: View) -> np.dtype[Any]:
        return self.buffers[view.buffer].dtype

    def of_kind(self, kind: Kind) -> tuple[Buffer, ...]:
        return tuple(buffer for buffer in self.buffers if buffer.kind == kind)


def contiguous(buffer: Buffer, shape: tuple[int, ...], offset: int = 0) -> View:
    """The view in C order of `prod(shape)` elements from `offset` on."""
    return View(buffer.index, offset, shape, c_strides(shape))


def c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


def writes(instruction: Instruction) -> tuple[View, ...]:
    if isinstance(instruction, Call):
        return instruction.outs
    fault = getattr(instruction, "fault", None)
    return (instruction.out,) if fault is None else (instruction.out, fault)


def operands(instruction: Instruction) -> tuple[object, ...]:
    match instruction:
        case Elementwise(inputs=inputs):
            return inputs
        case Reduce(input=source) | Scan(input=source) | ArgReduce(input=source):
            return (source,)
        case Gather(source=source, indices=indices):
            return (source, *indices)
        case Scatter(indices=indices, value=value):
            return (*indices, value)
        case MatMul(a=a, b=b):
            return (a, b)
        case Call(args=args):
            return args


def reads(instruction: Instruction) -> tuple[View, ...]:
    return tuple([operand for operand in operands(instruction) if type(operand) is View])


def extent(view: View) -> tuple[int, int]:
    """The first and the last element (inclusive) that a view touches; (0, -1) for an empty view."""
    if prod(view.shape) == 0:
        return 0, -1
    low = view.offset + sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True) if s < 0)
    high = view.offset + sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True) if s > 0)
    return low, high


COMPARISONS = frozenset({"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"})
PREDICATES = COMPARISONS | {"logical_and", "logical_or", "logical_xor", "logical_not", "isnan", "isinf", "isfinite", "signbit"}
REDUCTIONS = frozenset({"add", "multiply", "maximum", "minimum", "logical_and", "logical_or"})


def replaced(instruction: Instruction, new: Callable[[Any], Any]) -> Instruction:
    """The instruction with `new(x)` for each of its views, literals and slots."""
    values = {}
    for f in fields(instruction):
        x = getattr(instruction, f.name)
        several = isinstance(x, tuple) and any(isinstance(v, View | Literal | Slot) for v in x)
        values[f.name] = tuple(map(new, x)) if several else new(x) if isinstance(x, View | Literal | Slot) else x
    kind: Callable[..., Instruction] = type(instruction)
    return kind(**values)


def check(program: Program) -> None:
    """Raise ValueError at the first instruction that breaks a rule above (for tests and for debugging a recorder)."""
    for number, buffer in enumerate(program.buffers):
        _require(buffer.index == number, f"buffer {number}", f"index {number}", buffer.index)
    written: set[int] = set()
    for number, instruction in enumerate(program.instructions):
        who = f"instruction {number} ({type(instruction).__name__} {getattr(instruction, 'op', '')})".replace(" )", ")")
        for problem, expected, got in _problems(program, instruction, written):
            _require(problem, who, expected, got)
        written.update(view.buffer for view in writes(instruction))


def _require(holds: bool, who: str, expected: str, got: object) -> None:
    if not holds:
        msg = f"{who}: expected {expected}, got {got}"
        raise ValueError(msg)


def _problems(program: Program, instruction: Instruction, written: set[int]) -> Iterator[tuple[bool, str, object]]:
    for view in (*writes(instruction), *reads(instruction)):
        low, high = extent(view)
        size = program.buffers[view.buffer].size
        yield len(view.shape) == len(view.strides), "one stride an axis", view
        yield low >= 0 and high < size, f"a view inside its buffer of {size}", view
    fault = getattr(instruction, "fault", None)
    if fault is not None:
        yield program.dtype(fault).kind == "b" and not fault.shape, "a bool without axes for faults", fault
    for view in reads(instruction):
        yield (
            program.buffers[view.buffer].kind != "temporary" or view.buffer in written,
            "temporaries written before they are read",
            view,
        )
    for view in () if isinstance(instruction, Scatter) else writes(instruction):
        yield all(n <= 1 or s != 0 for n, s in zip(view.shape, view.strides, strict=True)), "an output without strides of 0", view
        yield program.buffers[view.buffer].kind != "constant", "an output that is no constant", view
    for operand in operands(instruction):
        yield not isinstance(operand, Slot) or operand.index < program.scalars, f"a slot below {program.scalars}", operand
    match instruction:
        case Elementwise(op, out):
            yield all(view.shape == out.shape for view in reads(instruction)), f"inputs of shape {out.shape}", instruction
            dtypes = [program.dtype(view) for view in reads(instruction)]
            if op == "where" and isinstance(instruction.inputs[0], View):
                yield dtypes.pop(0).kind == "b", "a bool condition", program.dtype(instruction.inputs[0])
            yield len(set(dtypes)) <= 1, "inputs of one dtype", dtypes
            if op in PREDICATES:
                yield program.dtype(out).kind == "b", "an output of bool", program.dtype(out)
            elif op != "cast" and dtypes:
                yield program.dtype(out) == dtypes[0], f"an output of {dtypes[0]}", program.dtype(out)
        case Reduce(op, out, source, axes):
            kept = tuple(n for axis, n in enumerate(source.shape) if axis not in axes)
            yield op in REDUCTIONS, f"one of {', '.join(sorted(REDUCTIONS))}", op
            yield out.shape == kept, f"an output of shape {kept}", out.shape
            yield program.dtype(out) == program.dtype(source), f"an output of {program.dtype(source)}", program.dtype(out)
        case Scan(op, out, source, axis):
            yield op in REDUCTIONS, f"one of {', '.join(sorted(REDUCTIONS))}", op
            yield out.shape == source.shape and 0 <= axis < len(out.shape), f"an axis of {source.shape}", (out.shape, axis)
            yield program.dtype(out) == program.dtype(source), f"an output of {program.dtype(source)}", program.dtype(out)
        case ArgReduce(op, out, source, axis):
            kept = tuple(n for i, n in enumerate(source.shape) if i != axis)
            yield op in ("argmax", "argmin"), "argmax or argmin", op
            yield out.shape == kept and 0 not in source.shape, f"an output of shape {kept}", out.shape
            yield program.dtype(out) == np.int64, "an output of int64", program.dtype(out)
        case Gather(out, whole, indices) | Scatter(_, whole, indices, out):
            shape = out.shape if isinstance(out, View) else whole.shape[: len(whole.shape) - len(indices)]
            yield all(i.shape == shape for i in indices), f"indices of shape {shape}", [i.shape for i in indices]
            yield all(program.dtype(i).kind in "iu" for i in indices), "integers as indices", [program.dtype(i) for i in indices]
            yield whole.shape[: len(shape)] == shape and len(whole.shape) == len(shape) + len(indices), "an axis an index", whole
            yield 0 not in whole.shape[len(shape) :], "something to choose from", whole
            same = not isinstance(out, View) or program.dtype(out) == program.dtype(whole)
            yield same, f"one dtype, {program.dtype(whole)}", out
        case MatMul(out, a, b):
            fits = (
                len(a.shape) == len(b.shape) == len(out.shape) >= 2
                and a.shape[:-2] == b.shape[:-2]
                and a.shape[-1] == b.shape[-2]
            )
            yield fits, "(..., m, k) @ (..., k, n)", (a.shape, b.shape)
            yield out.shape == (*a.shape[:-1], b.shape[-1]), "an output of (..., m, n)", out.shape
            yield (
                len({program.dtype(view) for view in (out, a, b)}) == 1,
                "one dtype",
                [program.dtype(view) for view in (out, a, b)],
            )
