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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tensor.jit.codegen import host
from tensor.jit.codegen.kernel import TYPES, Address, Argument, Code, Count, Finished, Foreign, Number, finish
from tensor.jit.codegen.text import SCALARS, Function
from tensor.jit.interpreter import Memory

Entry = Callable[[Sequence[Any], Sequence[float]], object]
Word = tuple[Any, ...]
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
    layout = lay_out(codes, memory.externals, scalars, flush)
    finished = host.compiled(codes, layout.code)
    values = fixed_words(layout, finished)
    buffers = memory.program.buffers
    for place, i, j in layout.arguments:
        argument = codes[i].arguments[j]
        if isinstance(argument, Address):
            values[place] = argument.offset * buffers[argument.buffer].dtype.itemsize
        elif isinstance(argument, Count):
            values[place] = argument.value
    for place, buffer in layout.temporaries:
        values[place] = memory.arrays[buffer].__array_interface__["data"][0]
    return enter(layout, finished, values, memory)


class Layout(NamedTuple):
    """An entry to kernels, whatever the sizes of what they work on."""

    codes: Sequence[Code]
    code: Code  #: of the entry itself
    words: tuple[Word, ...]  #: what its table holds
    arguments: list[tuple[int, int, int]]  #: places in the table of arguments that depend on sizes: which kernel's, and which
    temporaries: list[tuple[int, int]]  #: places of the addresses of buffers


def lay_out(codes: Sequence[Code], externals: Iterable[int], scalars: int, flush: bool) -> Layout:
    """The entry that runs kernels in their order."""
    patterns = tuple(tuple(map(_pattern, code.arguments)) for code in codes)
    code, words = _written(objects_are_as_expected(), flush, scalars, tuple(externals), patterns)
    arguments = [(place, word[1], word[2]) for place, word in enumerate(words) if word[0] == "argument"]
    temporaries = [(place, word[1]) for place, word in enumerate(words) if word[0] == "memory"]
    return Layout(codes, code, words, arguments, temporaries)


def fixed_words(layout: Layout, finished: Mapping[str, Finished]) -> list[int]:
    """The table of an entry, with zeros for what depends on sizes and memory."""
    return [0 if word[0] in ("argument", "memory") else _value(word, layout.codes, finished) for word in layout.words]


def enter(layout: Layout, finished: Mapping[str, Finished], values: list[int], *kept: object) -> Entry:
    """An entry with its table; ``kept`` lives as long as it does."""
    made: Entry = (builtin if objects_are_as_expected() else _by_ctypes)(
        finished[layout.code.name].address, values, finished, *kept
    )
    return made


@dataclass(frozen=True, slots=True)
class _Base:
    """The address of a buffer's first element."""

    buffer: int


def _pattern(argument: Argument) -> Any:
    """What an entry's text depends on; the rest is in its table."""
    match argument:
        case Address(buffer):
            return _Base(buffer)
        case Count():
            return Count(0)
        case _:
            return argument


@functools.lru_cache(64)
def _written(
    native: bool, flush: bool, scalars: int, externals: tuple[int, ...], patterns: tuple[tuple[Any, ...], ...]
) -> tuple[Code, tuple[Word, ...]]:
    """The text of an entry, and what the words of its table are."""
    table, function = _Table(), Function()
    if native:
        _check_arguments(function, table, len(externals), scalars)
    read = _Reader(function, table, externals, native)
    for pattern in dict.fromkeys(pattern for each in patterns for pattern in each if not isinstance(pattern, Count)):
        read.known(pattern)
    restore = _flush(function) if flush else ""
    for i, each in enumerate(patterns):
        target = table.load_own(function, ("code", i))
        arguments = ", ".join(f"{_TYPES[type(pattern)]} {read(pattern, i, j)}" for j, pattern in enumerate(each))
        function.do(f"call void {target}({arguments})")
    if restore:
        function.do(restore)
    if native:
        none = table.load(function, ("object", "None"))
        function.do(f"call void {table.load(function, ('object', 'Py_IncRef'))}(ptr {none})")
        function.do(f"ret ptr {none}")
        return finish(function, [], "ptr %self, ptr %args, i64 %count", "ptr"), tuple(table.words)
    function.do("ret void")
    return finish(function, [], "ptr %table, ptr %arrays, ptr %scalars"), tuple(table.words)


_TYPES = TYPES | {_Base: TYPES[Address]}


class _Table:
    """Words that an entry reads when it runs, by what they are: whatever differs between processes, and whatever depends on
    sizes, so that a network that has grown is served by the entry it had.
    """

    def __init__(self) -> None:
        self.words: list[Word] = []
        self._places: dict[Word, int] = {}

    def load(self, function: Function, word: Word) -> str:
        """A pointer that may be wanted in several places."""
        if word not in self._places:
            self._places[word] = len(self.words)
            self.words.append(word)
        return function.put(f"load ptr, ptr {function.offset('%table', _WORD, str(self._places[word]))}")

    def load_own(self, function: Function, word: Word, kind: str = "ptr") -> str:
        """A word that is wanted here only."""
        self.words.append(word)
        return function.put(f"load {kind}, ptr {function.offset('%table', _WORD, str(len(self.words) - 1))}")


_OBJECTS: dict[str, Callable[[], int]] = {
    "None": lambda: id(None),
    "list": lambda: id(list),
    "float": lambda: id(float),
    "ndarray": lambda: id(np.ndarray),
    "Py_IncRef": lambda: _address(ctypes.pythonapi.Py_IncRef),
    "PyErr_SetString": lambda: _address(ctypes.pythonapi.PyErr_SetString),
    "TypeError": lambda: ctypes.c_void_p.in_dll(ctypes.pythonapi, "PyExc_TypeError").value or 0,
}


def _value(word: Word, codes: Sequence[Code], finished: Mapping[str, Finished]) -> int:
    """A word of a table that neither sizes nor memory change."""
    match word:
        case ("code", int(i)):
            return finished[codes[i].name].address
        case ("object", str(name)):
            return _OBJECTS[name]()
        case ("foreign", str(name)):
            return host.foreign(name)
        case ("message", int(arrays), int(scalars)):
            return _address(ctypes.c_char_p(_message(arrays, scalars)))
        case _:
            raise TypeError(word)


class _Reader:
    """The registers that hold the kernels' arguments."""

    def __init__(self, function: Function, table: _Table, externals: Sequence[int], native: bool) -> None:
        self._function, self._table, self._native = function, table, native
        self._place = {buffer: position for position, buffer in enumerate(externals)}
        self._known: dict[object, str] = {}

    def __call__(self, pattern: Any, i: int, j: int) -> str:
        """Argument `j` of kernel `i`."""
        if isinstance(pattern, Count):
            return self._table.load_own(self._function, ("argument", i, j), "i64")
        found = self.known(pattern)
        if not isinstance(pattern, _Base):
            return found
        shift = self._table.load_own(self._function, ("argument", i, j), "i64")
        return self._function.put(f"getelementptr i8, ptr {found}, i64 {shift}")

    def known(self, pattern: Any) -> str:
        """What several kernels are given, read once."""
        if pattern not in self._known:
            self._known[pattern] = self._read(pattern)
        return self._known[pattern]

    def _read(self, pattern: Any) -> str:
        function = self._function
        match pattern:
            case Foreign(name):
                return self._table.load(function, ("foreign", name))
            case Number(slot):
                place = _item(function, "%scalars", slot) if self._native else function.offset("%scalars", _WORD, str(slot))
                return function.put(f"load double, ptr {_field(function, place, DATA if self._native else 0)}")
            case _Base(buffer) if buffer not in self._place:
                return self._table.load_own(function, ("memory", buffer))
            case _Base(buffer):
                array = _item(function, "%arrays", self._place[buffer])
                return function.put(f"load ptr, ptr {_field(function, array, DATA)}") if self._native else array
            case _:
                raise TypeError(pattern)


def _field(function: Function, pointer: str, offset: int) -> str:
    return function.put(f"getelementptr i8, ptr {pointer}, i64 {offset}") if offset else pointer


def _item(function: Function, items: str, place: int) -> str:
    return function.put(f"load ptr, ptr {_field(function, items, 8 * place)}")


def _check_arguments(function: Function, table: _Table, arrays: int, scalars: int) -> None:
    """Leave with a TypeError unless the arguments are two lists as expected; names `%table`, `%arrays` and `%scalars`."""
    function.do(f"%table = load ptr, ptr {_field(function, '%self', DATA)}")

    def demand(conditions: list[str]) -> None:
        holds = conditions[0]
        for condition in conditions[1:]:
            holds = function.put(f"and i1 {holds}, {condition}")
        go_on = function.label()
        function.do(f"br i1 {holds}, label %{go_on}, label %fail")
        function.start(go_on)

    def is_exactly(value: str, kind: str) -> str:
        found = function.put(f"load ptr, ptr {_field(function, value, HEADER)}")
        return function.put(f"icmp eq ptr {found}, {table.load(function, ('object', kind))}")

    demand([function.put("icmp eq i64 %count, 2")])
    lists = [_item(function, "%args", place) for place in (0, 1)]
    demand([is_exactly(each, "list") for each in lists])
    lengths = [function.put(f"load i64, ptr {_field(function, each, DATA)}") for each in lists]
    demand([function.put(f"icmp eq i64 {n}, {expected}") for n, expected in zip(lengths, (arrays, scalars), strict=True)])
    for name, each in zip(("arrays", "scalars"), lists, strict=True):
        function.do(f"%{name} = load ptr, ptr {_field(function, each, ITEMS)}")
    exact = [is_exactly(_item(function, "%arrays", place), "ndarray") for place in range(arrays)]
    exact += [is_exactly(_item(function, "%scalars", place), "float") for place in range(scalars)]
    if exact:
        demand(exact)
    go_on = function.label()
    function.do(f"br label %{go_on}")
    function.start("fail")
    raise_error, kind = (table.load(function, ("object", name)) for name in ("PyErr_SetString", "TypeError"))
    function.do(f"call void {raise_error}(ptr {kind}, ptr {table.load(function, ('message', arrays, scalars))})")
    function.do("ret ptr null")
    function.start(go_on)


@functools.cache
def _message(arrays: int, scalars: int) -> bytes:
    return f"run: expected a list of {arrays} numpy.ndarray and a list of {scalars} float".encode()


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
    """A function at an address as Python's own kind of function, with a table of words as its `self`.

    ``kept`` lives as long as it does: also for whoever is calling it while others forget it.
    """
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype, new.argtypes = ctypes.py_object, [ctypes.POINTER(_MethodDef), ctypes.py_object, ctypes.c_void_p]
    method = _MethodDef(b"run", address, METH_FASTCALL, b"Machine code of tensor.jit.")
    return new(ctypes.byref(method), _words(values, method, *kept), None)


def _by_ctypes(address: int, values: list[int], *kept: object) -> Entry:
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(address)
    words = _words(values, *kept)

    def entry(arrays: Sequence[Any], scalars: Sequence[float]) -> None:
        pointers = np.array([array.ctypes.data for array in arrays] or [0], np.int64)
        numbers = np.array(scalars or [0.0], np.float64)
        call(words.ctypes.data, pointers.ctypes.data, numbers.ctypes.data)

    return entry
