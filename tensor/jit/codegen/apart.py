"""Whether arrays that a program is given share memory, asked before it runs.

Kernels are put together and moved on the promise that distinct buffers lie apart. Arrays that a program makes do; tensors from
outside, one of which is written, need not: a caller may pass a tensor and a view of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tensor.jit.codegen.entry import make_entry
from tensor.jit.codegen.kernel import Address, Code, finish
from tensor.jit.codegen.text import SCALARS, Function
from tensor.jit.interpreter import Interpreter, Memory
from tensor.jit.program import Buffer, Program

Run = Callable[[list[Any], list[float]], object]
WORD = SCALARS[np.dtype(np.int64)]


def checked(program: Program, run: Run) -> Run:
    """`run` where the shared buffers lie apart from all others; else the instructions one after the other, or not at all."""
    externals = program.of_kind("external")
    flag = np.zeros(1, np.int64)
    buffers = (*program.buffers, Buffer(len(program.buffers), flag.dtype, 1, "constant", flag))
    memory = Memory(Program(buffers, (), program.scalars))
    ask = make_entry([overlap_kernel(externals, program.shared, len(program.buffers))], memory, program.scalars, False)
    refused = None if program.refused is None else [b.index for b in externals].index(program.refused)
    slow: list[Interpreter] = []

    def checked_run(arrays: list[Any], scalars: list[float]) -> None:
        ask(arrays, scalars)
        if not flag[0]:
            run(arrays, scalars)
        elif refused is not None:
            arrays[refused][...] = True
        else:
            if not slow:
                slow.append(Interpreter(program))
            slow[0].run(arrays, scalars)

    return checked_run


def overlap_kernel(externals: tuple[Buffer, ...], shared: frozenset[int], flag: int) -> Code:
    """A kernel that says whether any shared buffer overlaps another external one."""
    function = Function()
    ordered = sorted(externals, key=lambda buffer: buffer.index not in shared)  # the shared ones first
    count = len(ordered)
    function.do(f"%starts = alloca i64, i64 {count}")
    function.do(f"%ends = alloca i64, i64 {count}")
    for n, buffer in enumerate(ordered):
        start = function.put(f"ptrtoint ptr %a{n} to i64")
        end = function.put(f"add i64 {start}, {buffer.size * buffer.dtype.itemsize}")
        for table, value in (("%starts", start), ("%ends", end)):
            function.do(f"store i64 {value}, ptr {function.offset(table, WORD, str(n))}")

    def at(table: str, index: str) -> str:
        return function.put(f"load i64, ptr {function.offset(table, WORD, index)}")

    def outer(i: str, found: list[str]) -> list[str]:
        start, end = at("%starts", i), at("%ends", i)

        def inner(j: str, found: list[str]) -> list[str]:
            begins, ends = (
                function.put(f"icmp ult i64 {start}, {at('%ends', j)}"),
                function.put(f"icmp ult i64 {at('%starts', j)}, {end}"),
            )
            other = function.put(f"icmp ne i64 {i}, {j}")
            both = function.put(f"and i1 {function.put(f'and i1 {begins}, {ends}')}, {other}")
            return [function.put(f"or i1 {found[0]}, {both}")]

        return function.loop(count, 1, [("i1", found[0])], inner)

    found = function.loop(len(shared), 1, [("i1", "false")], outer)[0] if count > 1 else "false"
    function.do(f"store i64 {function.put(f'zext i1 {found} to i64')}, ptr %a{count}")
    function.do("ret void")
    return finish(function, [*(Address(buffer.index, 0) for buffer in ordered), Address(flag, 0)])
