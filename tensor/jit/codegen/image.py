"""Finished functions as images: bytes that can be put anywhere in memory and run, so that a process which finds all it needs on
disk does not load LLVM at all.

An image is what a linker makes of a function in an object file: the code, the constants that it refers to behind it, and the
distances between the two filled in. A C function that is called is reached by a jump through a word behind the code, into which
its address is written. Made for x86-64 where object files are ELF; elsewhere, and for an object with anything else in it, there
is none and LLVM links it. Memory is written first and made executable after, never both at once.
"""

from __future__ import annotations

import ctypes
import functools
import json
import mmap
import platform
import struct
import sys
import threading
import weakref
from collections.abc import Mapping
from typing import NamedTuple

from tensor.jit.codegen.kernel import Finished

__all__ = ["SUPPORTED", "c_function", "images", "is_image", "load", "resident"]

SUPPORTED = platform.machine().lower() in ("x86_64", "amd64") and sys.platform not in ("win32", "darwin")

_MAGIC = b"rlcore image 1\n"
_ALIGNMENT = 64
_ALLOCATED, _WRITABLE = 2, 1  # flags of sections
_SYMBOLS, _RELOCATIONS, _EMPTY = 2, 4, 8  # their types
_FUNCTION, _SECTION = 2, 3  # types of symbols
_RELATIVE = (2, 4)  # R_X86_64_PC32, R_X86_64_PLT32
_JUMP = bytes.fromhex("ff2500000000")  # to the address in the eight bytes that follow


class _Section(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int


class _Symbol(NamedTuple):
    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


class _Unfit(Exception):
    """The object has something that an image cannot have."""


class _Relocation(NamedTuple):
    offset: int
    symbol: _Symbol
    type: int
    addend: int


def images(content: bytes) -> dict[str, bytes]:
    """The images of the functions in an object file, by their names; of none where any cannot have one."""
    if content[:6] != b"\x7fELF\x02\x01" or not SUPPORTED:
        return {}
    try:
        found = _Object(content)
        return {found.name(symbol): _Image(found, symbol).made() for symbol in found.symbols if symbol.info & 15 == _FUNCTION}
    except (_Unfit, struct.error, IndexError, ValueError):
        return {}


class _Object:
    """An object file, taken apart."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        (start,) = struct.unpack_from("<Q", content, 0x28)
        size, count, _ = struct.unpack_from("<HHH", content, 0x3A)
        self.sections = [_Section(*struct.unpack_from("<IIQQQQIIQQ", content, start + i * size)) for i in range(count)]
        table = next((section for section in self.sections if section.type == _SYMBOLS), None)
        if table is None:
            raise _Unfit
        self._strings = self.sections[table.link].offset
        self.symbols = [_Symbol(*struct.unpack_from("<IBBHQQ", content, table.offset + at)) for at in range(0, table.size, 24)]
        self.relocations: dict[int, list[_Relocation]] = {}  #: by the section that they are in
        for section in self.sections:
            if section.type == _RELOCATIONS:
                self.relocations[section.info] = rows = []
                for at in range(0, section.size, 24):
                    offset, info, addend = struct.unpack_from("<QQq", content, section.offset + at)
                    rows.append(_Relocation(offset, self.symbols[info >> 32], info & 0xFFFFFFFF, addend))

    def name(self, symbol: _Symbol) -> str:
        start = self._strings + symbol.name
        return self.content[start : self.content.index(0, start)].decode()

    def bytes_of(self, section: int, start: int, end: int) -> bytes:
        """Some of a section that an image may have."""
        found = self.sections[section]
        if found.flags & (_ALLOCATED | _WRITABLE) != _ALLOCATED or found.type == _EMPTY or found.alignment > _ALIGNMENT:
            raise _Unfit
        if not 0 <= start <= end <= found.size:
            raise _Unfit
        return self.content[found.offset + start : found.offset + end]

    def extent(self, symbol: _Symbol) -> tuple[int, int]:
        """Where in its section that lies which a symbol stands for: a section whole, or what goes up to the next symbol."""
        size = self.sections[symbol.section].size
        if symbol.info & 15 == _SECTION:
            return 0, size
        later = (s.value for s in self.symbols if s.section == symbol.section and s.value > symbol.value)
        return symbol.value, symbol.value + symbol.size if symbol.size else min(later, default=size)


class _Image:
    """The image of one function: its code, and whatever that refers to."""

    def __init__(self, found: _Object, function: _Symbol) -> None:
        self._found, self._function = found, function
        self._image = bytearray()
        self._places: dict[tuple[int, int], int] = {}
        self._calls: dict[str, int] = {}

    def made(self) -> bytes:
        self._put(self._function)
        return _MAGIC + json.dumps([0, self._calls]).encode() + b"\n" + bytes(self._image)

    def _put(self, symbol: _Symbol) -> int:
        """Where what a symbol stands for lies in the image, from now on if not before."""
        start, end = self._found.extent(symbol)
        known = self._places.get((symbol.section, start))
        if known is not None:
            return known
        content = self._found.bytes_of(symbol.section, start, end)
        alignment = max(self._found.sections[symbol.section].alignment, 1)
        self._image += bytes((start - len(self._image)) % alignment)
        place = self._places[symbol.section, start] = len(self._image)
        self._image += content
        for relocation in self._found.relocations.get(symbol.section, ()):
            if start <= relocation.offset < end:
                if relocation.type not in _RELATIVE:
                    raise _Unfit
                at = place + relocation.offset - start
                struct.pack_into("<i", self._image, at, self._target(relocation.symbol) + relocation.addend - at)
        return place

    def _target(self, symbol: _Symbol) -> int:
        if symbol.section == 0:
            return self._jump(self._found.name(symbol))
        if symbol.section == self._function.section and symbol.info & 15 == _SECTION:
            # From a table of jumps, whose others, of functions that are not here, nobody takes.
            return self._places[symbol.section, self._function.value] - self._function.value
        return self._put(symbol)

    def _jump(self, name: str) -> int:
        """The place of a jump to a C function."""
        if name not in self._calls:
            self._calls[name] = len(self._image)
            self._image += _JUMP + bytes(8)
        return self._calls[name]


def is_image(content: bytes) -> bool:
    """Whether this is an image, rather than an object file."""
    return content.startswith(_MAGIC)


def load(found: Mapping[str, bytes]) -> dict[str, Finished]:
    """The functions in images, by their names; without those that cannot be run here."""
    placed: dict[str, int] = {}
    block = bytearray()
    for name, content in found.items():
        header, _, code = content[len(_MAGIC) :].partition(b"\n")
        entry, calls = json.loads(header)
        addresses = {place: c_function(called) for called, place in calls.items()}
        if not all(addresses.values()):
            continue
        block += bytes(-len(block) % _ALIGNMENT)
        placed[name] = len(block) + entry
        start = len(block)
        block += code
        for place, address in addresses.items():
            struct.pack_into("<Q", block, start + place + len(_JUMP), address)
    memory = _executable(bytes(block)) if block else None
    if memory is None:
        return {}
    return {name: Finished(memory.address + offset, memory.size // len(placed), memory) for name, offset in placed.items()}


@functools.cache
def _library() -> ctypes.CDLL:
    """What this process has of C; made once, since each takes a while."""
    return ctypes.CDLL(None)


@functools.cache
def c_function(name: str) -> int:
    """The address of a C function; 0 where there is none."""
    found = getattr(_library(), name, None)
    return 0 if found is None else ctypes.cast(found, ctypes.c_void_p).value or 0


class _Memory:
    """Pages with code, which are given back when nobody has hold of this any more."""

    def __init__(self, pages: mmap.mmap) -> None:
        self._pages = pages
        self._view = ctypes.c_char.from_buffer(pages)
        self.address = ctypes.addressof(self._view)
        self.size = len(pages)


_living: weakref.WeakSet[_Memory] = weakref.WeakSet()
_counting = threading.Lock()


def resident() -> int:
    """How many bytes of memory there are for code."""
    with _counting:
        return sum(memory.size for memory in _living)


def _executable(code: bytes) -> _Memory | None:
    """Memory with some code that may be run from now on; None where the system does not allow it."""
    if sys.platform == "win32":  # for type checkers; there are no images there
        return None
    size = -(-len(code) // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    pages.write(code)
    memory = _Memory(pages)
    protect = _library().mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if protect(memory.address, size, mmap.PROT_READ | mmap.PROT_EXEC):
        return None
    with _counting:
        _living.add(memory)
    return memory
