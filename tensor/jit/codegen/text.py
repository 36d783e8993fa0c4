"""LLVM's language, written as text: numbers, values of one or more lanes, functions, loops.

Text, because building it is several times faster than through llvmlite's objects, and because it is the key of the kernel cache.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Scalar:
    """An element type: its name in LLVM (in a register and in memory), its name in intrinsics, bytes, and family."""

    name: str
    memory: str
    suffix: str
    size: int
    family: str  # "float", "signed", "unsigned" or "bool"

    @property
    def integer(self) -> str:
        """The integer type of as many bits."""
        return f"i{8 * self.size}"


SCALARS = {
    np.dtype(np.float32): Scalar("float", "float", "f32", 4, "float"),
    np.dtype(np.float64): Scalar("double", "double", "f64", 8, "float"),
    np.dtype(np.int8): Scalar("i8", "i8", "i8", 1, "signed"),
    np.dtype(np.int16): Scalar("i16", "i16", "i16", 2, "signed"),
    np.dtype(np.int32): Scalar("i32", "i32", "i32", 4, "signed"),
    np.dtype(np.int64): Scalar("i64", "i64", "i64", 8, "signed"),
    np.dtype(np.uint8): Scalar("i8", "i8", "i8", 1, "unsigned"),
    np.dtype(np.bool_): Scalar("i1", "i8", "i1", 1, "bool"),
}


def _suffix(scalar: Scalar) -> str:
    """The name in intrinsics of the type that is in memory."""
    return "i8" if scalar.family == "bool" else scalar.suffix


def number(scalar: Scalar, value: Any) -> str:
    """A constant in LLVM's spelling; floats by their bits, so that nothing is lost."""
    if scalar.family == "bool":
        return "true" if value else "false"
    if scalar.family != "float":
        return str(int(value))
    if scalar.size == 4:
        with np.errstate(all="ignore"):
            value = float(np.float32(value))
    return f"0x{struct.unpack('<Q', struct.pack('<d', float(value)))[0]:016X}"


class Function:
    """The body of one function as it is written: lines, fresh names, the current block, and what must be declared outside.

    `wide`: whether it is for a processor with AVX-512's instructions, for lanes that lie apart in memory, that are left out,
    and for exponents.
    """

    def __init__(self, wide: bool = False) -> None:
        self.wide = wide
        self.lines: list[str] = []
        self.declared: set[str] = set()
        self.block = "entry"
        self._count = 0

    def put(self, text: str) -> str:
        """An instruction with a result; its name."""
        self._count += 1
        self.lines.append(f"  %v{self._count} = {text}")
        return f"%v{self._count}"

    def do(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def label(self) -> str:
        self._count += 1
        return f"b{self._count}"

    def start(self, block: str) -> None:
        self.lines.append(f"{block}:")
        self.block = block

    def offset(self, pointer: str, scalar: Scalar, index: str) -> str:
        """The address of element `index` (a constant or an i64)."""
        return pointer if index == "0" else self.put(f"getelementptr {scalar.memory}, ptr {pointer}, i64 {index}")

    def times(self, index: str, factor: int) -> str:
        if factor == 1 or index == "0":
            return index
        return str(int(index) * factor) if index.lstrip("-").isdigit() else self.put(f"mul i64 {index}, {factor}")

    def plus(self, index: str, other: int | str) -> str:
        if index.lstrip("-").isdigit() and str(other).lstrip("-").isdigit():
            return str(int(index) + int(other))
        if index == "0":
            return str(other)
        return index if other in (0, "0") else self.put(f"add i64 {index}, {other}")

    def loop(
        self,
        stop: int | str,
        step: int,
        carried: Sequence[tuple[str, str]],
        body: Callable[[str, list[str]], Sequence[str]],
        start: str = "0",
    ) -> list[str]:
        """`for i in range(start, stop, step)`, at least one round; `carried` are (type, first value) pairs, and `body(i,
        values)` gives the next values. Returns the last ones. A single round is written without a loop.
        """
        first = [value for _, value in carried]
        if isinstance(stop, int) and start.isdigit() and stop - int(start) <= step:
            return list(body(start, first))
        head, done, before = self.label(), self.label(), self.block
        self.do(f"br label %{head}")
        self.start(head)
        place = len(self.lines)
        self._count += len(carried) + 1
        index, *values = [f"%v{self._count - k}" for k in range(len(carried) + 1)]
        following = list(body(index, values))
        advanced = self.put(f"add i64 {index}, {step}")
        phis = [f"  {index} = phi i64 [ {start}, %{before} ], [ {advanced}, %{self.block} ]"]
        for (kind, value), name, next_value in zip(carried, values, following, strict=True):
            phis.append(f"  {name} = phi {kind} [ {value}, %{before} ], [ {next_value}, %{self.block} ]")
        self.lines[place:place] = phis
        again = self.put(f"icmp slt i64 {advanced}, {stop}")
        self.do(f"br i1 {again}, label %{head}, label %{done}")
        self.start(done)
        return following


class Lanes:
    """Values of `count` lanes of one element type, in a function: the arithmetic on them."""

    def __init__(self, function: Function, scalar: Scalar, count: int) -> None:
        self.function = function
        self.scalar = scalar
        self.count = count
        self.type = scalar.name if count == 1 else f"<{count} x {scalar.name}>"
        self.suffix = scalar.suffix if count == 1 else f"v{count}{scalar.suffix}"

    def of(self, scalar: Scalar) -> Lanes:
        """As many lanes of another element type."""
        return Lanes(self.function, scalar, self.count)

    @property
    def bits(self) -> Lanes:
        """The integers of the same size."""
        return self.of(SCALARS[np.dtype(f"i{self.scalar.size}")])

    def const(self, value: Any) -> str:
        text = number(self.scalar, value)
        return text if self.count == 1 else f"splat ({self.scalar.name} {text})"

    def splat(self, value: str) -> str:
        """A register of one lane, in all lanes."""
        if self.count == 1:
            return value
        first = self.function.put(f"insertelement {self.type} poison, {self.scalar.name} {value}, i64 0")
        return self.function.put(f"shufflevector {self.type} {first}, {self.type} poison, <{self.count} x i32> zeroinitializer")

    def op(self, name: str, *values: str) -> str:
        return self.function.put(f"{name} {self.type} {', '.join(values)}")

    def intrinsic(self, name: str, *values: str) -> str:
        types = ", ".join([self.type] * len(values))
        self.function.declared.add(f"declare {self.type} @llvm.{name}.{self.suffix}({types})")
        arguments = ", ".join(f"{self.type} {value}" for value in values)
        return self.function.put(f"call {self.type} @llvm.{name}.{self.suffix}({arguments})")

    def compare(self, relation: str, a: str, b: str) -> str:
        kind = "fcmp" if self.scalar.family == "float" else "icmp"
        return self.function.put(f"{kind} {relation} {self.type} {a}, {b}")

    def select(self, condition: str, chosen: str, other: str) -> str:
        flags = "i1" if self.count == 1 else f"<{self.count} x i1>"
        return self.function.put(f"select {flags} {condition}, {self.type} {chosen}, {self.type} {other}")

    def convert(self, name: str, value: str, target: Lanes) -> str:
        return self.function.put(f"{name} {self.type} {value} to {target.type}")

    def add(self, a: str, b: str) -> str:
        return self.op("fadd", a, b)

    def sub(self, a: str, b: str) -> str:
        return self.op("fsub", a, b)

    def mul(self, a: str, b: str) -> str:
        return self.op("fmul", a, b)

    def div(self, a: str, b: str) -> str:
        return self.op("fdiv", a, b)

    def fma(self, a: str, b: str, c: str) -> str:
        """a * b + c, rounded once."""
        return self.intrinsic("fma", a, b, c)

    def ldexp(self, x: str, n: str) -> str:
        """x 2^n, for integers n of the same size."""
        name = f"llvm.ldexp.{self.suffix}.{self.bits.suffix}"
        self.function.declared.add(f"declare {self.type} @{name}({self.type}, {self.bits.type})")
        return self.function.put(f"call {self.type} @{name}({self.type} {x}, {self.bits.type} {n})")

    def polynomial(self, x: str, coefficients: Sequence[float]) -> str:
        """By Horner's rule; the coefficient of the lowest power first."""
        value = self.const(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            value = self.fma(value, x, self.const(coefficient))
        return value

    def lanewise(self, name: str, *values: str) -> str:
        """A C function, called for each lane."""
        argument = ", ".join([self.scalar.name] * len(values))
        self.function.declared.add(f"declare {self.scalar.name} @{name}({argument})")
        if self.count == 1:
            return self.function.put(f"call {self.type} @{name}({', '.join(f'{self.type} {value}' for value in values)})")
        result = "poison"
        for lane in range(self.count):
            parts = [self.function.put(f"extractelement {self.type} {value}, i64 {lane}") for value in values]
            one = self.function.put(
                f"call {self.scalar.name} @{name}({', '.join(f'{self.scalar.name} {part}' for part in parts)})"
            )
            result = self.function.put(f"insertelement {self.type} {result}, {self.scalar.name} {one}, i64 {lane}")
        return result

    # Memory. Booleans are bytes there and single bits in registers.

    @property
    def apart(self) -> bool:
        """Whether one instruction moves lanes that lie apart in memory."""
        return self.function.wide and self.count >= 4 and self.scalar.size >= 4

    def _gather(self, pointer: str, stride: int) -> str:
        """Lanes `stride` elements apart, by one instruction."""
        kinds = f"<{self.count} x ptr>", "i32", f"<{self.count} x i1>", self.type
        name = f"llvm.masked.gather.{self.suffix}.v{self.count}p0"
        self.function.declared.add(f"declare {self.type} @{name}({', '.join(kinds)})")
        given = self._places(pointer, stride), str(self.scalar.size), "splat (i1 true)", "poison"
        arguments = ", ".join(f"{kind} {value}" for kind, value in zip(kinds, given, strict=True))
        return self.function.put(f"call {self.type} @{name}({arguments})")

    def _scatter(self, pointer: str, stride: int, value: str) -> None:
        kinds = self.type, f"<{self.count} x ptr>", "i32", f"<{self.count} x i1>"
        name = f"llvm.masked.scatter.{self.suffix}.v{self.count}p0"
        self.function.declared.add(f"declare void @{name}({', '.join(kinds)})")
        given = value, self._places(pointer, stride), str(self.scalar.size), "splat (i1 true)"
        arguments = ", ".join(f"{kind} {value}" for kind, value in zip(kinds, given, strict=True))
        self.function.do(f"call void @{name}({arguments})")

    def _places(self, pointer: str, stride: int) -> str:
        steps = ", ".join(f"i64 {lane * stride}" for lane in range(self.count))
        return self.function.put(f"getelementptr {self.scalar.memory}, ptr {pointer}, <{self.count} x i64> <{steps}>")

    def below(self, limit: str) -> str:
        """Which lanes have a number below `limit` (an i64)."""
        wide = self.of(SCALARS[np.dtype(np.int64)])
        numbers = ", ".join(f"i64 {lane}" for lane in range(self.count))
        return wide.compare("ult", f"<{numbers}>", wide.splat(limit))

    def load(self, pointer: str, stride: int, mask: str = "") -> str:
        """Lanes from memory, `stride` elements apart; with a mask, neighbours, zero where it is false."""
        function, scalar = self.function, self.scalar
        if mask and stride:
            kinds = "ptr", "i32", f"<{self.count} x i1>", f"<{self.count} x {scalar.memory}>"
            name = f"llvm.masked.load.v{self.count}{_suffix(scalar)}.p0"
            function.declared.add(f"declare {kinds[-1]} @{name}({', '.join(kinds)})")
            arguments = f"ptr {pointer}, i32 {scalar.size}, {kinds[2]} {mask}, {kinds[3]} zeroinitializer"
            value = function.put(f"call {kinds[-1]} @{name}({arguments})")
            return function.put(f"icmp ne {kinds[-1]} {value}, zeroinitializer") if scalar.family == "bool" else value
        if stride == 0 and self.count > 1:
            return self.splat(Lanes(function, scalar, 1).load(pointer, 1))
        if stride != 1 and self.apart:
            return self._gather(pointer, stride)
        memory = scalar.memory if self.count == 1 else f"<{self.count} x {scalar.memory}>"
        if stride == 1 or self.count == 1:
            value = function.put(f"load {memory}, ptr {pointer}, align {scalar.size}")
        else:
            value = "poison"
            for lane in range(self.count):
                place = function.offset(pointer, scalar, str(lane * stride))
                one = function.put(f"load {scalar.memory}, ptr {place}, align {scalar.size}")
                value = function.put(f"insertelement {memory} {value}, {scalar.memory} {one}, i64 {lane}")
        if scalar.family == "bool":
            return function.put(f"icmp ne {memory} {value}, {'0' if self.count == 1 else 'zeroinitializer'}")
        return value

    def store(self, pointer: str, stride: int, value: str, mask: str = "") -> None:
        """Lanes to memory, `stride` elements apart; with a mask, neighbours, only where it is true."""
        function, scalar = self.function, self.scalar
        memory = scalar.memory if self.count == 1 else f"<{self.count} x {scalar.memory}>"
        if scalar.family == "bool":
            value = function.put(f"zext {self.type} {value} to {memory}")
        if mask:
            name = f"llvm.masked.store.v{self.count}{_suffix(scalar)}.p0"
            function.declared.add(f"declare void @{name}({memory}, ptr, i32, <{self.count} x i1>)")
            function.do(f"call void @{name}({memory} {value}, ptr {pointer}, i32 {scalar.size}, <{self.count} x i1> {mask})")
            return
        if stride != 1 and self.apart:
            self._scatter(pointer, stride, value)
            return
        if stride == 1 or self.count == 1:
            function.do(f"store {memory} {value}, ptr {pointer}, align {scalar.size}")
            return
        for lane in range(self.count):
            one = function.put(f"extractelement {memory} {value}, i64 {lane}")
            function.do(
                f"store {scalar.memory} {one}, ptr {function.offset(pointer, scalar, str(lane * stride))}, align {scalar.size}"
            )
