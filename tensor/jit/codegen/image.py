"""Finished functions as images: bytes that can be put anywhere in memory and run, so that a process which finds all it needs on
disk does not load LLVM at all.

An image is what a linker makes of an object file: the code, its constants behind it, and the distances between the two filled in.
A C function that is called is reached by a jump through a word behind the code, into which its address is written. Made for
x86-64 where object files are ELF; elsewhere, and for an object with anything else in it, there is none and LLVM links it. Memory
is written first and made executable after, never both at once.
"""

from __future__ import annotations

import ctypes
import functools
import json
import mmap
import platform
import struct
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["SUPPORTED", "flat", "is_image", "load"]

SUPPORTED = platform.machine().lower() in ("x86_64", "amd64") and sys.platform not in ("win32", "darwin")

_MAGIC = b"rlcore image 1\n"
_ALIGNMENT = 64
_ALLOCATED, _WRITABLE = 2, 1  # flags of sections
_SYMBOLS, _RELOCATIONS, _EMPTY, _UNWINDING = 2, 4, 8, 0x70000001  # their types
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


def flat(content: bytes, name: str) -> bytes | None:
    """The image of an object file with the function ``name``; None where there is none."""
    if content[:6] != b"\x7fELF\x02\x01" or not SUPPORTED:
        return None
    try:
        return _linked(content, name)
    except (_Unfit, struct.error, IndexError):
        return None


def _linked(content: bytes, name: str) -> bytes:
    (start,) = struct.unpack_from("<Q", content, 0x28)
    size, count, names = struct.unpack_from("<HHH", content, 0x3A)
    sections = [_Section(*struct.unpack_from("<IIQQQQIIQQ", content, start + i * size)) for i in range(count)]
    image, places = bytearray(), dict[int, int]()
    for i, section in enumerate(sections):
        unwinding = section.type == _UNWINDING or _text(content, sections[names].offset + section.name) == ".eh_frame"
        if not section.flags & _ALLOCATED or not section.size or unwinding:
            continue
        if section.flags & _WRITABLE or section.type == _EMPTY or section.alignment > _ALIGNMENT:
            raise _Unfit
        image += bytes(-len(image) % max(section.alignment, 1))
        places[i] = len(image)
        image += content[section.offset : section.offset + section.size]
    table = next(section for section in sections if section.type == _SYMBOLS)
    strings = sections[table.link].offset
    symbols = [_Symbol(*struct.unpack_from("<IBBHQQ", content, table.offset + at)) for at in range(0, table.size, 24)]
    calls: dict[str, int] = {}
    for section in sections:
        if section.type != _RELOCATIONS or section.info not in places:
            continue
        for at in range(0, section.size, 24):
            offset, info, addend = struct.unpack_from("<QQq", content, section.offset + at)
            symbol, place = symbols[info >> 32], places[section.info] + offset
            if info & 0xFFFFFFFF not in _RELATIVE:
                raise _Unfit
            if symbol.section in places:
                target = places[symbol.section] + symbol.value
            elif symbol.section == 0:
                called = _text(content, strings + symbol.name)
                if called not in calls:
                    calls[called] = len(image)
                    image += _JUMP + bytes(8)
                target = calls[called]
            else:
                raise _Unfit
            struct.pack_into("<i", image, place, target + addend - place)
    entries = [places[s.section] + s.value for s in symbols if s.section in places and _text(content, strings + s.name) == name]
    if len(entries) != 1:
        raise _Unfit
    return _MAGIC + json.dumps([entries[0], calls]).encode() + b"\n" + bytes(image)


def _text(content: bytes, start: int) -> str:
    return content[start : content.index(0, start)].decode()


def is_image(content: bytes) -> bool:
    """Whether this is an image, rather than an object file."""
    return content.startswith(_MAGIC)


def load(images: Mapping[str, bytes]) -> dict[str, int]:
    """The addresses of the functions in images, by their names; without those that cannot be run here."""
    placed: dict[str, int] = {}
    block = bytearray()
    for name, content in images.items():
        header, _, code = content[len(_MAGIC) :].partition(b"\n")
        entry, calls = json.loads(header)
        addresses = {place: _function(called) for called, place in calls.items()}
        if not all(addresses.values()):
            continue
        block += bytes(-len(block) % _ALIGNMENT)
        placed[name] = len(block) + entry
        start = len(block)
        block += code
        for place, address in addresses.items():
            struct.pack_into("<Q", block, start + place + len(_JUMP), address)
    base = _executable(bytes(block)) if block else None
    return {} if base is None else {name: base + offset for name, offset in placed.items()}


@functools.cache
def _function(name: str) -> int:
    """The address of a C function; 0 where there is none."""
    found = getattr(ctypes.CDLL(None), name, None)
    return 0 if found is None else ctypes.cast(found, ctypes.c_void_p).value or 0


_blocks: list[Any] = []  # code lives as long as the process


def _executable(code: bytes) -> int | None:
    """Where some code lies that may be run from now on; None where the system does not allow it."""
    if sys.platform == "win32":  # for type checkers; there are no images there
        return None
    block = mmap.mmap(-1, len(code), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    block.write(code)
    view = ctypes.c_char.from_buffer(block)
    address = ctypes.addressof(view)
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    _blocks.append((block, view))
    return None if protect(address, len(code), mmap.PROT_READ | mmap.PROT_EXEC) else address
