"""A program that does the same to many stretches of memory: written once, and called for each.

The update of an optimizer is one: the same few instructions for every parameter. Its kernels take lengths and addresses as
arguments, so those for one stretch serve the others with other arguments; and so does their entry, when stretches get other
lengths.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from tensor.jit.codegen import fusion, host, partition
from tensor.jit.codegen.entry import Entry, Layout, enter, fixed_words, lay_out
from tensor.jit.codegen.kernel import Address, Argument, Code
from tensor.jit.codegen.loops import emit_group
from tensor.jit.codegen.partition import Part, Partition
from tensor.jit.program import Program

__all__ = ["LONG", "Stretch", "compile_stretches"]

#: The length that stands for all from here on: more than the lanes of any vector.
LONG = 64


class Stretch(NamedTuple):
    """``places``: for each external buffer of the program for one stretch, an array of the whole and the element to begin at."""

    length: int
    places: tuple[tuple[int, int], ...]


def compile_stretches(
    arrays: int, scalars: int, program: Callable[[int], Program], stretches: Sequence[Stretch], at_once: bool = False
) -> Entry | None:
    """Machine code for ``program(length)`` on every stretch; None where it is more than kernels over registers.

    It takes so many ``arrays`` and ``scalars``. ``program`` gives the same object for the same length, and is asked for no length
    beyond `LONG`; its external buffers are its first. ``at_once``: None also where code would have to be made or loaded.
    """
    programs = tuple(program(min(stretch.length, LONG)) for stretch in stretches)
    of_arrays = tuple(tuple(array for array, _ in stretch.places) for stretch in stretches)
    for remembered in (True, False):
        laid_out = _laid_out(programs, of_arrays, arrays, scalars, remembered)
        if laid_out is None:
            return None
        layout, numbers = laid_out
        needed = [*layout.codes, layout.code]
        with contextlib.suppress(host.Gone):
            finished = host.at_hand(needed) if at_once else host.compiled(layout.codes, layout.code)
            if finished is None:
                return None
            values = fixed_words(layout, finished)
            for place, number, buffer, offset, itemsize in numbers:
                length, places = stretches[number]
                values[place] = length if buffer is None else (places[buffer][1] + offset) * itemsize
            return enter(layout, finished, values)
    return None


#: Of an argument that depends on lengths: its place in the table, its stretch, its buffer in the program (None for the length
#: itself), the element there, and the bytes of an element.
Own = tuple[int, int, int | None, int, int]


@functools.lru_cache(64)
def _laid_out(
    programs: tuple[Program, ...], of_arrays: tuple[tuple[int, ...], ...], arrays: int, scalars: int, remembered: bool
) -> tuple[Layout, list[Own]] | None:
    """The entry to the kernels of all stretches; None where they are more than kernels over registers."""
    codes: list[Code] = []
    owners: list[tuple[int, tuple[Argument, ...]]] = []
    for number, (program, own) in enumerate(zip(programs, of_arrays, strict=True)):
        kernels = _kernels(program, remembered)
        if kernels is None:
            return None
        owners += [(number, code.arguments) for code in kernels]
        codes += [replace(code, arguments=tuple(_of_whole(a, own) for a in code.arguments)) for code in kernels]
    layout = lay_out(codes, range(arrays), scalars, flush=True)
    numbers: list[Own] = []
    for place, i, j in layout.arguments:
        number, arguments = owners[i]
        argument = arguments[j]
        if isinstance(argument, Address):
            itemsize = programs[number].buffers[argument.buffer].dtype.itemsize
            numbers.append((place, number, argument.buffer, argument.offset, itemsize))
        else:
            numbers.append((place, number, None, 0, 0))
    return layout, numbers


def _of_whole(argument: Argument, arrays: tuple[int, ...]) -> Argument:
    return Address(arrays[argument.buffer], argument.offset) if isinstance(argument, Address) else argument


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
