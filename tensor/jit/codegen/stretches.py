"""A program that does the same to many stretches of memory: written once, and called for each.

The update of an optimizer is one: the same few instructions for every parameter. Its kernels take lengths and addresses as
arguments, so those for one stretch serve the others with other arguments.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from tensor.jit.codegen import fusion, host, partition
from tensor.jit.codegen.entry import Entry, make_entry
from tensor.jit.codegen.kernel import Address, Argument, Code, Count
from tensor.jit.codegen.loops import emit_group
from tensor.jit.codegen.partition import Part, Partition
from tensor.jit.interpreter import Memory
from tensor.jit.program import Program

__all__ = ["LONG", "Stretch", "compile_stretches"]

#: The length that stands for all from here on: more than the lanes of any vector.
LONG = 64


class Stretch(NamedTuple):
    """``places``: for each external buffer of the program for one stretch, a buffer of the whole and the element to begin at."""

    length: int
    places: Mapping[int, tuple[int, int]]


def compile_stretches(whole: Program, program: Callable[[int], Program], stretches: Sequence[Stretch]) -> Entry | None:
    """Machine code for ``program(length)`` on every stretch; None where it is more than kernels over registers.

    ``whole`` has the buffers, and no instructions. ``program`` gives the same object for the same length, and is asked for no
    length beyond `LONG`.
    """
    for remembered in (True, False):
        codes: list[Code] = []
        for length, places in stretches:
            kernels = _kernels(program(min(length, LONG)), remembered)
            if kernels is None:
                return None
            codes += [replace(code, arguments=tuple(_moved(a, length, places) for a in code.arguments)) for code in kernels]
        with contextlib.suppress(host.Gone):
            return make_entry(codes, Memory(whole), whole.scalars, flush=True)
    return None


def _moved(argument: Argument, length: int, places: Mapping[int, tuple[int, int]]) -> Argument:
    match argument:
        case Count():
            return Count(length)
        case Address(buffer, offset):
            there, start = places[buffer]
            return Address(there, start + offset)
        case _:
            return argument


@functools.lru_cache(256)
def _kernels(program: Program, remembered: bool) -> list[Code] | None:
    """The kernels of a program over one axis whose temporaries are all in registers; None for another one.

    ``remembered``: without their text where the program is known from disk.
    """
    digest = partition.digest(program)
    name = None if digest is None else f"s{digest}"
    found = partition.find(name) if remembered and name is not None else None
    if found is not None:
        return [part.code for part in found.parts if part.code is not None]
    kernels = fusion.schedule(program, lambda instruction: True)
    registers = fusion.in_registers(program, kernels)
    temporaries = {buffer.index for buffer in program.of_kind("temporary")}
    if any(buffer in temporaries - registers for kernel in kernels for buffer, *_ in kernel.reads | kernel.writes):
        return None
    groups = [kernel for kernel in kernels if isinstance(kernel, fusion.Group)]
    codes = [emit_group(program, group, lambda buffer: buffer not in registers, host.vector_bytes()) for group in groups]
    if name is not None:
        partition.keep(name, Partition(tuple(Part((), code) for code in codes), frozenset(registers)))
    return codes
