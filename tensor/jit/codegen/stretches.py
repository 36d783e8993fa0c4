"""A program that does the same to many stretches of memory: written once, and called for each.

The update of an optimizer is one: the same few instructions for every parameter. Its kernels take lengths and addresses as
arguments, so those for one stretch serve the others with other arguments; and so does their entry, when stretches get other
lengths.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from tensor.jit.codegen import fusion, host, partition
from tensor.jit.codegen.entry import Entry, Layout, enter, fixed_words, lay_out
from tensor.jit.codegen.kernel import Address, Argument, Code, Finished
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
    name: Hashable,
    arrays: int,
    scalars: int,
    program: Callable[[int], Program],
    stretches: Sequence[Stretch],
    at_once: bool = False,
) -> Entry | None:
    """Machine code for ``program(length)`` on every stretch; None where it is more than kernels over registers.

    It takes so many ``arrays`` and ``scalars``. ``name`` says which program it is; that is asked for no length beyond `LONG`, and
    its external buffers are its first. ``at_once``: None also where code would have to be written, made or loaded.
    """
    lengths = [min(stretch.length, LONG) for stretch in stretches]
    of_arrays = tuple(tuple(array for array, _ in stretch.places) for stretch in stretches)
    key = name, tuple(lengths), of_arrays, arrays, scalars
    if at_once:
        laid_out = _known.get(key)
        finished = None if laid_out is None else host.at_hand([*laid_out.layout.codes, laid_out.layout.code])
        return None if laid_out is None or finished is None else _entered(laid_out, finished, stretches)
    for remembered in (True, False):
        laid_out = _known.get(key) if remembered else None
        if laid_out is None:
            laid_out = _lay_out([program(length) for length in lengths], of_arrays, arrays, scalars, remembered)
        if laid_out is None:
            return None
        with contextlib.suppress(host.Gone):
            finished = host.compiled(laid_out.layout.codes, laid_out.layout.code)
            _known[key] = laid_out
            while len(_known) > MOST:
                _known.pop(next(iter(_known)), None)
            return _entered(laid_out, finished, stretches)
    return None


#: Layouts remembered; those known longest go first.
MOST = 64


class _LaidOut(NamedTuple):
    layout: Layout
    #: Of each argument that depends on lengths: its place in the table, its stretch, its buffer in the program (None for the
    #: length itself), the element there, and the bytes of an element.
    own: list[tuple[int, int, int | None, int, int]]


_known: dict[Hashable, _LaidOut] = {}


def _entered(laid_out: _LaidOut, finished: Mapping[str, Finished], stretches: Sequence[Stretch]) -> Entry:
    layout, own = laid_out
    values = fixed_words(layout, finished)
    for place, number, buffer, offset, itemsize in own:
        length, places = stretches[number]
        values[place] = length if buffer is None else (places[buffer][1] + offset) * itemsize
    return enter(layout, finished, values)


def _lay_out(
    programs: Sequence[Program], of_arrays: Sequence[tuple[int, ...]], arrays: int, scalars: int, remembered: bool
) -> _LaidOut | None:
    """The entry to the kernels of all stretches; None where they are more than kernels over registers."""
    codes: list[Code] = []
    owners: list[tuple[int, tuple[Argument, ...]]] = []
    for number, (program, own) in enumerate(zip(programs, of_arrays, strict=True)):
        kernels = _kernels(program, remembered)
        if kernels is None:
            return None
        owners += [(number, code.arguments) for code in kernels]
        codes += [replace(code, arguments=tuple(_of_whole(a, own) for a in code.arguments)) for code in kernels]
    laid_out = _LaidOut(lay_out(codes, range(arrays), scalars, flush=True), [])
    for place, i, j in laid_out.layout.arguments:
        number, arguments = owners[i]
        argument = arguments[j]
        if isinstance(argument, Address):
            itemsize = programs[number].buffers[argument.buffer].dtype.itemsize
            laid_out.own.append((place, number, argument.buffer, argument.offset, itemsize))
        else:
            laid_out.own.append((place, number, None, 0, 0))
    return laid_out


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
