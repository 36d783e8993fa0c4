"""How Python enters compiled code: one function per segment, that Python calls as a builtin.

`entry(arrays, scalars)` takes two lists: exact `numpy.ndarray` objects, one for each external buffer, and Python floats. The
function is itself machine code written here. It checks the lists, reads the arrays' data pointers and the floats' values out
of the objects, sets flush-to-zero, calls the kernels one after the other with addresses computed from these, and restores the
floating-point mode. That costs about 60 ns. Where Python's or NumPy's objects are laid out otherwise than expected (a
self-test tells), `ctypes` passes the same things in two tables.

Everything that differs between processes (addresses of kernels, types, memory) comes from a table of integers, so that the
text of an entry, like that of a kernel, can be kept from one process to the next.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensor.jit.codegen import host
from tensor.jit.codegen.kernel import TYPES, Address, Code, Count, Foreign, Number, finish
from tensor.jit.codegen.text import SCALARS, Function
from tensor.jit.interpreter import Memory

Entry = Callable[[Sequence[Any], Sequence[float]], object]
HEADER, DATA, ITEMS = 8, 16, 24  # offsets of ob_type; of a float's and an array's content; of a list's items


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


METH_FASTCALL = 0x80
_WORD = SCALARS[np.dtype(np.int64)]


@functools.cache
def objects_are_as_expected() -> bool:
    """Whether floats, lists and arrays keep their content where an entry looks for it."""
    with_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    if platform.python_implementation() != "CPython" or ctypes.sizeof(ctypes.c_void_p) != 8 or not with_gil:
        return False
    number, array = 1234.5678, np.arange(3.0)
    holder = [number, array]

    def word(address: int) -> int:
        return ctypes.c_int64.from_address(address).value

    if [word(id(each) + HEADER) for each in (number, array, holder)] != [id(float), id(np.ndarray), id(list)]:
        return False
    items = word(id(holder) + ITEMS)
    return (
        word(id(holder) + DATA) == len(holder)
        and [word(items), word(items + 8)] == [id(number), id(array)]
        and ctypes.c_double.from_address(id(number) + DATA).value == number
        and word(id(array) + DATA) == array.ctypes.data
    )


def make_entry(codes: Sequence[Code], memory: Memory, scalars: int, flush: bool) -> Entry:
    """The callable that runs kernels in their order."""
    native = objects_are_as_expected()
    table, function = _Table(), Function()
    if native:
        _check_arguments(function, table, len(memory.externals), scalars)
    read = _Reader(function, table, memory, native)
    for argument in dict.fromkeys(argument for code in codes for argument in code.arguments):
        read(_Base(argument.buffer) if isinstance(argument, Address) else argument)
    restore = _flush(function) if flush else ""
    for code in codes:
        target = table.load_own(function, code.name)
        arguments = ", ".join(f"{TYPES[type(argument)]} {read(argument)}" for argument in code.arguments)
        function.do(f"call void {target}({arguments})")
    if restore:
        function.do(restore)
    if native:
        none = table.load(function, id(None))
        function.do(f"call void {table.load(function, _address(ctypes.pythonapi.Py_IncRef))}(ptr {none})")
        function.do(f"ret ptr {none}")
        code = finish(function, [], "ptr %self, ptr %args, i64 %count", "ptr")
    else:
        function.do("ret void")
        code = finish(function, [], "ptr %table, ptr %arrays, ptr %scalars")
    addresses = host.compiled(codes, code)
    make = builtin if native else _by_ctypes
    return make(addresses[code.name], table.values(addresses), memory)


class _Table:
    """Words that an entry reads when it runs: numbers, and the addresses of kernels, by name, once they are known.

    Whatever depends on sizes is among them, so that a network that has grown is served by the entry it had.
    """

    def __init__(self) -> None:
        self._values: list[int | str] = []
        self._places: dict[int, int] = {}

    def load(self, function: Function, value: int) -> str:
        """A pointer that may be wanted in several places."""
        if value not in self._places:
            self._places[value] = len(self._values)
            self._values.append(value)
        return function.put(f"load ptr, ptr {function.offset('%table', _WORD, str(self._places[value]))}")

    def load_own(self, function: Function, value: int | str, kind: str = "ptr") -> str:
        """A word of its own, even if its value occurs elsewhere: with other sizes it may not."""
        self._values.append(value)
        return function.put(f"load {kind}, ptr {function.offset('%table', _WORD, str(len(self._values) - 1))}")

    def values(self, addresses: dict[str, int]) -> list[int]:
        return [addresses[value] if isinstance(value, str) else value for value in self._values]


class _Reader:
    """The registers that hold the kernels' arguments, each read once."""

    def __init__(self, function: Function, table: _Table, memory: Memory, native: bool) -> None:
        self._function, self._table, self._memory, self._native = function, table, memory, native
        self._place = {buffer: position for position, buffer in enumerate(memory.externals)}
        self._known: dict[object, str] = {}

    def __call__(self, argument: object) -> str:
        if isinstance(argument, Address | Count):
            return self._read(argument)
        if argument not in self._known:
            self._known[argument] = self._read(argument)
        return self._known[argument]

    def _read(self, argument: object) -> str:
        function = self._function
        match argument:
            case Count(value):
                return self._table.load_own(function, value, "i64")
            case Foreign(name):
                return self._table.load(function, host.foreign(name))
            case Number(slot):
                place = _item(function, "%scalars", slot) if self._native else function.offset("%scalars", _WORD, str(slot))
                return function.put(f"load double, ptr {_field(function, place, DATA if self._native else 0)}")
            case Address(buffer, offset):
                shift = offset * self._memory.program.buffers[buffer].dtype.itemsize
                base = self(_Base(buffer))
                return function.put(f"getelementptr i8, ptr {base}, i64 {self._table.load_own(function, shift, 'i64')}")
            case _Base(buffer):
                return self._base(buffer)
            case _:
                raise TypeError(argument)

    def _base(self, buffer: int) -> str:
        """The address of a buffer's first element."""
        if buffer not in self._place:
            return self._table.load_own(self._function, self._memory.arrays[buffer].ctypes.data)
        array = _item(self._function, "%arrays", self._place[buffer])
        if not self._native:
            return array
        return self._function.put(f"load ptr, ptr {_field(self._function, array, DATA)}")


@dataclass(frozen=True, slots=True)
class _Base:
    buffer: int


def _field(function: Function, pointer: str, offset: int) -> str:
    return function.put(f"getelementptr i8, ptr {pointer}, i64 {offset}") if offset else pointer


def _item(function: Function, items: str, place: int) -> str:
    return function.put(f"load ptr, ptr {_field(function, items, 8 * place)}")


def _check_arguments(function: Function, table: _Table, arrays: int, scalars: int) -> None:
    """Leave with a TypeError unless the arguments are two lists as expected; names `%table`, `%arrays` and `%scalars`."""
    message = f"run: expected a list of {arrays} numpy.ndarray and a list of {scalars} float".encode()
    _messages.append(message)
    function.do(f"%table = load ptr, ptr {_field(function, '%self', DATA)}")

    def demand(conditions: list[str]) -> None:
        holds = conditions[0]
        for condition in conditions[1:]:
            holds = function.put(f"and i1 {holds}, {condition}")
        go_on = function.label()
        function.do(f"br i1 {holds}, label %{go_on}, label %fail")
        function.start(go_on)

    def is_exactly(value: str, kind: type) -> str:
        found = function.put(f"load ptr, ptr {_field(function, value, HEADER)}")
        return function.put(f"icmp eq ptr {found}, {table.load(function, id(kind))}")

    demand([function.put("icmp eq i64 %count, 2")])
    lists = [_item(function, "%args", place) for place in (0, 1)]
    demand([is_exactly(each, list) for each in lists])
    lengths = [function.put(f"load i64, ptr {_field(function, each, DATA)}") for each in lists]
    demand([function.put(f"icmp eq i64 {n}, {expected}") for n, expected in zip(lengths, (arrays, scalars), strict=True)])
    for name, each in zip(("arrays", "scalars"), lists, strict=True):
        function.do(f"%{name} = load ptr, ptr {_field(function, each, ITEMS)}")
    exact = [is_exactly(_item(function, "%arrays", place), np.ndarray) for place in range(arrays)]
    exact += [is_exactly(_item(function, "%scalars", place), float) for place in range(scalars)]
    if exact:
        demand(exact)
    go_on = function.label()
    function.do(f"br label %{go_on}")
    function.start("fail")
    pointer = ctypes.c_void_p.in_dll(ctypes.pythonapi, "PyExc_TypeError").value or 0
    raise_error = table.load(function, _address(ctypes.pythonapi.PyErr_SetString))
    text = table.load(function, ctypes.cast(ctypes.c_char_p(message), ctypes.c_void_p).value or 0)
    function.do(f"call void {raise_error}(ptr {table.load(function, pointer)}, ptr {text})")
    function.do("ret ptr null")
    function.start(go_on)


_messages: list[bytes] = []


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _flush(function: Function) -> str:
    """Treat denormals as zero from here on; the instruction that restores the mode. A converged run is full of them, and each
    costs a hundred cycles.
    """
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        function.declared |= {f"declare void @llvm.x86.sse.{name}mxcsr(ptr)" for name in ("ld", "st")}
        function.lines[:0] = ["  %mode = alloca i32", "  %flushing = alloca i32"]
        function.do("call void @llvm.x86.sse.stmxcsr(ptr %mode)")
        old = function.put("load i32, ptr %mode")
        function.do(f"store i32 {function.put(f'or i32 {old}, {0x8040}')}, ptr %flushing")
        function.do("call void @llvm.x86.sse.ldmxcsr(ptr %flushing)")
        return "call void @llvm.x86.sse.ldmxcsr(ptr %mode)"
    if machine in ("aarch64", "arm64"):
        old = function.put('call i64 asm sideeffect "mrs $0, fpcr", "=r"()')
        function.do(f'call void asm sideeffect "msr fpcr, $0", "r"(i64 {function.put(f"or i64 {old}, {1 << 24}")})')
        return f'call void asm sideeffect "msr fpcr, $0", "r"(i64 {old})'
    return ""


class _Words(np.ndarray[Any, np.dtype[np.int64]]):
    """The table as the builtin's `self`; what the machine code needs lives as long as it does."""

    kept: tuple[object, ...]


def _words(values: list[int], *kept: object) -> _Words:
    words = np.array(values or [0], np.int64).view(_Words)
    words.kept = kept
    return words


def builtin(address: int, values: list[int], *kept: object) -> Any:
    """A function at an address as Python's own kind of function, with a table of words as its `self`."""
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype, new.argtypes = ctypes.py_object, [ctypes.POINTER(_MethodDef), ctypes.py_object, ctypes.c_void_p]
    method = _MethodDef(b"run", address, METH_FASTCALL, b"Machine code of tensor.jit.")
    return new(ctypes.byref(method), _words(values, method, *kept), None)


def _by_ctypes(address: int, values: list[int], memory: Memory) -> Entry:
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(address)
    words = _words(values, memory)

    def entry(arrays: Sequence[Any], scalars: Sequence[float]) -> None:
        pointers = np.array([array.ctypes.data for array in arrays] or [0], np.int64)
        numbers = np.array(scalars or [0.0], np.float64)
        call(words.ctypes.data, pointers.ctypes.data, numbers.ctypes.data)

    return entry
