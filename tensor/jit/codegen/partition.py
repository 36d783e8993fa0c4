"""How a program is cut into kernels, and what is remembered of programs seen before: neither that nor the text is made again.

A program is known by a digest of what its kernels' text depends on: its buffers and instructions, the width of vectors, and the
source of this package. What is remembered names the kernels; their machine code is found by these names, in the process or on
disk (`objects.py`), or is made anew where it is gone.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import threading
from dataclasses import dataclass
from typing import Any

from tensor.jit import program as programs
from tensor.jit.codegen import host, objects
from tensor.jit.codegen.kernel import Address, Code, Count, Foreign, Number
from tensor.jit.program import Call, Instruction, Literal, Program, Slot, View

__all__ = ["Part", "Partition", "digest", "find", "keep", "keep_on_disk"]

#: Programs remembered in the process; those seen last stay.
MOST = 64


@dataclass(frozen=True, slots=True)
class Part:
    """Instructions, by their number, that run together: by a kernel, or by Python where there is none."""

    instructions: tuple[int, ...]
    code: Code | None


@dataclass(frozen=True, slots=True)
class Partition:
    """A program's parts in their order, and the temporaries that need no memory."""

    parts: tuple[Part, ...]
    registers: frozenset[int]


def digest(program: Program) -> str | None:
    """What a program is known by; None where it calls Python, of which no text tells what it does."""
    if any(isinstance(instruction, Call) for instruction in program.instructions):
        return None
    lines = [f"{host.vector_bytes()} {_source()}"]
    lines += [f"{buffer.dtype.str} {buffer.size} {buffer.kind}" for buffer in program.buffers]
    lines += [_spelt(instruction) for instruction in program.instructions]
    return "p" + hashlib.sha256("\n".join(lines).encode()).hexdigest()[:24]


@functools.cache
def _source() -> str:
    """A digest of the source of what cuts programs and writes kernels; empty where it is not at hand."""
    here = os.path.dirname(__file__)  # noqa: PTH120  # every process that finds its code on disk waits for this
    found = hashlib.sha256()
    try:
        names = sorted(name for name in os.listdir(here) if name.endswith(".py"))  # noqa: PTH208
        for path in [*(f"{here}/{name}" for name in names), programs.__file__]:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                found.update(file.read())
    except OSError:
        return ""
    return found.hexdigest()


def _spelt(x: Any) -> str:
    kind = type(x)
    if kind is View:
        return f"{x.buffer},{x.offset},{x.shape},{x.strides}"
    if kind is Literal:
        return f"={x.value!r}"
    if kind is Slot:
        return f"s{x.index}"
    if kind is tuple:
        return f"({';'.join(map(_spelt, x))})"
    if isinstance(x, Instruction):
        return f"{kind.__name__} {'|'.join(_spelt(getattr(x, name)) for name in kind.__match_args__)}"
    return repr(x)


_known: dict[str, Partition] = {}
_unkept: dict[str, Partition] = {}
_knowing, _keeping = threading.Lock(), threading.Lock()


def find(name: str) -> Partition | None:
    """What is remembered of a program; its kernels may come without their text."""
    found = _known.get(name)
    store = objects.current()
    if found is None and store is not None and _source():
        content = store.get(name)
        found = None if content is None else _decoded(content)
    return found


def keep(name: str, made: Partition) -> None:
    """Remember how a program was cut."""
    with _knowing:
        _known[name] = made
        while len(_known) > MOST:
            del _known[next(iter(_known))]
    if objects.current() is not None and _source():
        _unkept[name] = made


def keep_on_disk() -> None:
    """Write what has been remembered since to disk, if anything is kept there."""
    while True:
        with _keeping:  # asked for even if nothing is left: another thread may be writing the last one
            if not _unkept:
                return
            name, made = _unkept.popitem()
            store = objects.current()
            if store is not None:
                store.put(name, _encoded(made))


_ARGUMENTS = {kind.__name__: kind for kind in (Address, Number, Count, Foreign)}


def _encoded(made: Partition) -> bytes:
    def code_of(code: Code | None) -> Any:
        if code is None:
            return None
        arguments = [[type(a).__name__, *(getattr(a, name) for name in a.__match_args__)] for a in code.arguments]
        return [code.name, code.declared, arguments]

    parts = [[part.instructions, code_of(part.code)] for part in made.parts]
    return json.dumps([parts, sorted(made.registers)]).encode()


def _decoded(content: bytes) -> Partition | None:
    with contextlib.suppress(ValueError, TypeError, KeyError, IndexError):
        parts, registers = json.loads(content)
        made = []
        for instructions, code in parts:
            if code is not None:
                name, declared, arguments = code
                code = Code(name, "", tuple(declared), tuple(_ARGUMENTS[kind](*values) for kind, *values in arguments))
            made.append(Part(tuple(instructions), code))
        return Partition(tuple(made), frozenset(registers))
    return None
