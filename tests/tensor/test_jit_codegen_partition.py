"""Programs seen before: known again by what their kernels depend on, and by nothing less."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tensor.jit import codegen
from tensor.jit.codegen import available, compile_program, partition
from tensor.jit.program import Buffer, Call, Elementwise, Literal, Program, Slot, View, contiguous

pytestmark = pytest.mark.skipif(not available(), reason="llvmlite is not installed")


TWO = Literal(2.0)


def program(
    op: str = "multiply", factor: Any = TWO, size: int = 24, dtype: str = "f4", shape: tuple[int, ...] = (24,)
) -> Program:
    """y = x op factor, and then the same again in place."""
    buffers = tuple(Buffer(i, np.dtype(dtype), size, "external") for i in range(2))
    x, y = (contiguous(buffer, shape) for buffer in buffers)
    return Program(buffers, (Elementwise(op, y, (x, factor)), Elementwise(op, y, (y, factor))), scalars=1)


def test_what_it_is_known_by() -> None:
    programs = [
        program(),
        program("add"),
        program(size=25),
        program(dtype="f8"),
        program(shape=(4, 6)),
        program(factor=Slot(0)),
        *(program(factor=Literal(value)) for value in (0.0, -0.0, 2, True, 1, 1.0, float("nan"))),
    ]
    turned = program(shape=(4, 6))
    view = View(0, 0, (4, 6), (1, 4))
    programs.append(replace(turned, instructions=(Elementwise("multiply", turned.instructions[0].out, (view, Literal(2.0))),)))
    names = [partition.digest(each) for each in programs]
    assert None not in names
    assert len(set(names)) == len(names)
    assert names == [partition.digest(each) for each in programs]


def test_calls_of_python_are_not_known() -> None:
    made = program()
    call = Call(np.copyto, (made.instructions[0].out,), (contiguous(made.buffers[0], (24,)),))
    assert partition.digest(replace(made, instructions=(*made.instructions, call))) is None


def test_neither_cut_nor_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = compile_program(program(factor=Literal(3.0)))
    monkeypatch.setattr(codegen, "_partitioned", lambda program: pytest.fail("it is known"))
    second = compile_program(program(factor=Literal(3.0)))
    assert first.segments == second.segments
    x = np.arange(24, dtype="f4")
    for each in (first, second):
        y = np.zeros(24, "f4")
        each.run([x, y], [0.0])
        np.testing.assert_array_equal(y, 9 * x)


def test_it_survives_being_written_down() -> None:
    made = codegen._partitioned(program(factor=Slot(0)))
    found = partition._decoded(partition._encoded(made))
    assert found is not None
    assert found.registers == made.registers
    for a, b in zip(found.parts, made.parts, strict=True):
        assert a.code is not None
        assert b.code is not None
        assert (a.instructions, a.code.name, a.code.arguments) == (b.instructions, b.code.name, b.code.arguments)
        assert a.code.text == ""
    for damaged in (b"", b"[]", b"[[[1]],[]]", b'[[[[0],["k",[],[["No",1]]]]],[]]'):
        assert partition._decoded(damaged) is None
