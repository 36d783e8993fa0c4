"""Tier 1: programs as machine code, through LLVM (the extra `llvmlite`). See the README beside this file."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensor.jit.codegen import fusion, host, operations, partition
from tensor.jit.codegen.apart import checked
from tensor.jit.codegen.checks import checker, checker_is_ready
from tensor.jit.codegen.entry import make_entry
from tensor.jit.codegen.host import available, awaited, use_disk, why_not
from tensor.jit.codegen.indexed import emit_indexed
from tensor.jit.codegen.indexed import is_native as indexed_is_native
from tensor.jit.codegen.kernel import Code
from tensor.jit.codegen.loops import emit_group, emit_of
from tensor.jit.codegen.objects import default_directory
from tensor.jit.codegen.partition import Part, Partition
from tensor.jit.codegen.products import emit_product
from tensor.jit.codegen.stretches import Stretch, compile_stretches
from tensor.jit.codegen.text import SCALARS
from tensor.jit.interpreter import Memory, Steps
from tensor.jit.program import (
    PREDICATES,
    ArgReduce,
    Call,
    Elementwise,
    Gather,
    Instruction,
    Literal,
    MatMul,
    Program,
    Reduce,
    Scan,
    Scatter,
    View,
    reads,
    writes,
)

__all__ = [
    "Compiled", "Stretch", "available", "awaited", "checker", "checker_is_ready", "compile_program", "compile_stretches",
    "default_directory", "is_native", "keep_on_disk", "use_disk", "why_not",
]  # fmt: skip

Run = Callable[[list[Any], list[float]], object]


class Compiled:
    """A program as segments: machine code, and between them what only Python can run.

    `run(arrays, scalars)` takes a list with one exact `numpy.ndarray` for each external buffer (only the data pointer is
    read: the caller vouches for dtype, shape and strides) and a list of floats. It writes to the program's own temporaries,
    so two threads must not run the same `Compiled` at once.
    """

    def __init__(self, run: Run, segments: Sequence[str], memory: Memory) -> None:
        self.run = run
        self.segments = tuple(segments)  # what each is: "native: 7 kernels", "python: Call sort, ..."
        self.memory = memory


def compile_program(program: Program, flush_denormals: bool = True) -> Compiled:
    """Compile a program; may be called from any thread (LLVM works outside the GIL, one program at a time).

    With `flush_denormals` numbers below the smallest normal one are zero inside compiled code.
    """
    name = partition.digest(program)
    found = None if name is None else partition.find(name)
    if found is not None:
        with contextlib.suppress(host.Gone):
            return _assembled(program, found, flush_denormals)
    made = _partitioned(program)
    compiled = _assembled(program, made, flush_denormals)
    if name is not None:
        partition.keep(name, made)
    return compiled


def _partitioned(program: Program) -> Partition:
    """Cut a program into kernels, and write these."""
    alone: dict[int, Code] = {}

    def native(instruction: Instruction) -> bool:
        if isinstance(instruction, MatMul):
            code = emit_product(program, instruction, host.vector_bytes())
        elif isinstance(instruction, Gather | Scatter | Scan | ArgReduce) and indexed_is_native(program, instruction):
            code = emit_indexed(program, instruction, host.vector_bytes())
        else:
            return is_native(program, instruction)
        if code is not None:
            alone[id(instruction)] = code
        return code is not None

    kernels = fusion.schedule(program, native)
    registers = fusion.in_registers(program, kernels)
    number = {id(instruction): n for n, instruction in enumerate(program.instructions)}
    parts = []
    for kernel in kernels:
        code = None
        if isinstance(kernel, fusion.Alone):
            code = alone[id(kernel.instructions[0])]
        elif isinstance(kernel, fusion.Group):
            code = emit_group(program, kernel, lambda buffer: buffer not in registers, host.vector_bytes())
        parts.append(Part(tuple(number[id(instruction)] for instruction in kernel.instructions), code))
    return Partition(tuple(parts), frozenset(registers))


def _assembled(program: Program, made: Partition, flush_denormals: bool) -> Compiled:
    """A program of its parts: memory for its temporaries, and entries to the kernels between two calls of Python."""
    parts = [([program.instructions[n] for n in part.instructions], part.code) for part in made.parts]
    temporaries = {buffer.index for buffer in program.of_kind("temporary")}
    memory = Memory(program, [instructions for instructions, _ in parts], temporaries - made.registers)
    runs: list[Run] = []
    segments: list[str] = []
    for interpreted, several in itertools.groupby(parts, key=lambda part: part[1] is None):
        if interpreted:
            for instructions, _ in several:
                runs.append(_interpreted(instructions, memory))
                segments.append("python: " + ", ".join(map(_title, instructions)))
        else:
            codes = [code for _, code in several if code is not None]
            runs.append(make_entry(codes, memory, program.scalars, flush_denormals))
            segments.append(f"native: {len(codes)} kernels")
    run = _chain(runs)
    return Compiled(checked(program, run) if program.shared else run, segments, memory)


def keep_on_disk() -> None:
    """Write what has been made since to disk, if anything is kept there; for a thread that has nothing more urgent to do.

    When it returns, all is there, also what another thread was writing.
    """
    host.keep_on_disk()
    partition.keep_on_disk()


def is_native(program: Program, instruction: Instruction) -> bool:
    """Whether an elementwise operation or a reduction becomes machine code."""
    views = [*writes(instruction), *reads(instruction)]
    if not isinstance(instruction, Elementwise | Reduce) or any(program.dtype(view) not in SCALARS for view in views):
        return False
    if isinstance(instruction, Reduce):
        family = SCALARS[program.dtype(instruction.out)].family
        return instruction.op in operations.TABLES[family] and 0 not in instruction.input.shape
    if any(isinstance(operand, Literal) and isinstance(operand.value, complex) for operand in instruction.inputs):
        return False
    sources = [view for view in instruction.inputs if isinstance(view, View)]
    typed = sources[-1] if sources and instruction.op in PREDICATES else instruction.out
    return emit_of(instruction.op, SCALARS[program.dtype(typed)].family, instruction.inputs) is not None


def _interpreted(instructions: Sequence[Instruction], memory: Memory) -> Run:
    steps = Steps(instructions, memory)

    def run(arrays: list[Any], scalars: list[float]) -> None:
        with np.errstate(all="ignore"):
            steps.attach(arrays)
            memory.set_scalars(scalars)
            steps()

    return run


def _chain(runs: list[Run]) -> Run:
    if len(runs) == 1:
        return runs[0]

    def run(arrays: list[Any], scalars: list[float]) -> None:
        for each in runs:
            each(arrays, scalars)

    return run


def _title(instruction: Instruction) -> str:
    if isinstance(instruction, Call):
        return f"Call {getattr(instruction.function, '__name__', instruction.function)}"
    return f"{type(instruction).__name__} {getattr(instruction, 'op', '')}".strip()
