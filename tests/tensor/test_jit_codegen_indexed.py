"""Elements chosen by integers, running results and places of extremes: machine code, the interpreter and NumPy agree."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tensor.jit.codegen import available, compile_program
from tensor.jit.interpreter import run_numpy
from tensor.jit.program import (
    ArgReduce,
    Buffer,
    Elementwise,
    Gather,
    Instruction,
    Literal,
    Program,
    Scan,
    Scatter,
    View,
    check,
    contiguous,
)

Array = np.ndarray[Any, np.dtype[Any]]
DTYPES = ["f4", "f8", "i4", "i8", "?", "i1", "u1"]
RUNS = [
    run_numpy,
    pytest.param(lambda p, a: compile_program(p).run(a, []), marks=pytest.mark.skipif(not available(), reason="llvmlite")),
]
each_way = pytest.mark.parametrize("run", RUNS, ids=["interpreter", "machine code"])
shapes = st.lists(st.sampled_from([1, 2, 3, 5, 16, 17, 33]), min_size=1, max_size=3).map(tuple)


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    values = rng.integers(-9, 9, shape) if dtype != "u1" else rng.integers(0, 9, shape)
    return (values > 0) if dtype == "?" else values.astype(dtype)


def view(buffer: Buffer, array: Array, base: Array) -> View:
    """A NumPy view of `base` as a view of its buffer."""
    offset = (array.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // base.itemsize
    return View(buffer.index, offset, array.shape, tuple(s // base.itemsize for s in array.strides))


def layouts(array: Array, name: str) -> tuple[Array, Array]:
    """An array with the same elements in another layout, and the memory that it lies in."""
    if name == "transposed":
        base = np.ascontiguousarray(array.T)
        return base, base.T
    if name == "strided":
        base = np.zeros((*array.shape, 2), array.dtype)
        base[..., 1] = array
        return base, base[..., 1]
    if name == "reversed":
        base = array[::-1].copy()
        return base, base[::-1]
    return (base := array.copy()), base


layout = st.sampled_from(["plain", "plain", "transposed", "strided", "reversed"])


def execute(run: Any, instruction: Instruction, arrays: list[Array], fault: bool = False) -> bool:
    """Run one instruction; whether it noted a fault."""
    flag = np.ones((), bool)
    arrays = [*arrays, flag] if fault else arrays
    buffers = tuple(Buffer(i, a.dtype, a.size, "external") for i, a in enumerate(arrays))
    first = [Elementwise("cast", View(len(arrays) - 1, 0, (), ()), (Literal(False),))] if fault else []
    program = Program(buffers, (*first, instruction))
    check(program)
    run(program, arrays)
    return bool(flag)


@each_way
@settings(max_examples=40, deadline=None)
@given(data=st.data(), shape=shapes, dtype=st.sampled_from(DTYPES), how=layout, integers=st.sampled_from(["i8", "i4", "u1"]))
def test_gather_is_take_along_axis(run: Any, data: Any, shape: tuple[int, ...], dtype: str, how: str, integers: str) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    axis = data.draw(st.integers(0, len(shape) - 1))
    count = data.draw(st.sampled_from([1, 2, 7, 18]))
    source, n = numbers(rng, shape, dtype), shape[axis]
    space = (*shape[:axis], count, *shape[axis + 1 :])
    index = rng.integers(0 if integers == "u1" else -n, n, space).astype(integers)
    base, moved = layouts(source, how)
    out = np.zeros(space, dtype)
    buffers = [Buffer(i, a.dtype, a.size, "external") for i, a in enumerate((base, index, out))]
    v = view(buffers[0], moved, base)
    strides = tuple(0 if i == axis or m == 1 else s for i, (m, s) in enumerate(zip(shape, v.strides, strict=True)))
    whole = View(0, v.offset, (*space, n), (*strides, v.strides[axis]))
    made = Gather(contiguous(buffers[2], space), whole, (contiguous(buffers[1], space),), View(3, 0, (), ()))
    assert not execute(run, made, [base, index, out], fault=True)
    np.testing.assert_array_equal(out, np.take_along_axis(source, index.astype("i8"), axis))


@each_way
@settings(max_examples=40, deadline=None)
@given(data=st.data(), rows=st.sampled_from([1, 4, 33]), width=st.sampled_from([1, 3, 16, 40]), dtype=st.sampled_from(DTYPES[:4]))
@pytest.mark.parametrize("op", ["set", "add", "maximum"])
def test_scatter_is_at(run: Any, op: str, data: Any, rows: int, width: int, dtype: str) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    table, index = numbers(rng, (7, width), dtype), rng.integers(-7, 7, (rows, 1))
    value = numbers(rng, (rows, width), dtype)
    expected = table.copy()
    if op == "set":
        for i, row in zip(index[:, 0], value, strict=True):
            expected[i] = row
    else:
        getattr(np, op).at(expected, index[:, 0], value)
    whole = View(0, 0, (rows, width, 7), (0, 1, width))
    made = Scatter(op, whole, (View(1, 0, (rows, width), (1, 0)),), View(2, 0, (rows, width), (width, 1)), View(3, 0, (), ()))
    assert not execute(run, made, [table, index, value], fault=True)
    np.testing.assert_array_equal(table, expected)


@each_way
@pytest.mark.parametrize("bad", [5, -6, 2**40, -(2**62)])
def test_an_index_outside_is_noted_and_harms_nothing(run: Any, bad: int) -> None:
    source, index, out = np.arange(5.0), np.array([1, bad, -1]), np.zeros(3)
    shape = View(1, 0, (3,), (1,))
    assert execute(run, Gather(View(2, 0, (3,), (1,)), View(0, 0, (3, 5), (0, 1)), (shape,), View(3, 0, (), ())), [source, index, out], True)  # fmt: skip
    assert (out[0], out[2]) == (1, 4)
    put = Scatter("set", View(0, 0, (3, 5), (0, 1)), (shape,), Literal(9.0), View(2, 0, (), ()))
    assert execute(run, put, [source, index], True)
    assert source.tolist() == [0, 9, 2, 3, 9]


@each_way
@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    shape=shapes,
    dtype=st.sampled_from(DTYPES[:4]),
    how=layout,
    op=st.sampled_from(["add", "multiply", "maximum"]),
)
def test_scan_is_accumulate(run: Any, data: Any, shape: tuple[int, ...], dtype: str, how: str, op: str) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    axis = data.draw(st.integers(0, len(shape) - 1))
    source = numbers(rng, shape, dtype) if op != "multiply" else np.sign(numbers(rng, shape, dtype)) * np.array(2, dtype)
    base, moved = layouts(source, how)
    out = np.zeros(shape, dtype)
    made = Scan(op, contiguous(Buffer(1, out.dtype, out.size, "external"), shape), view(Buffer(0, base.dtype, base.size, "external"), moved, base), axis)  # fmt: skip
    execute(run, made, [base, out])
    np.testing.assert_array_equal(out, getattr(np, op).accumulate(source, axis, dtype=dtype))


@each_way
@settings(max_examples=60, deadline=None)
@given(data=st.data(), shape=shapes, dtype=st.sampled_from(DTYPES), how=layout, op=st.sampled_from(["argmax", "argmin"]))
def test_the_place_of_an_extreme(run: Any, data: Any, shape: tuple[int, ...], dtype: str, how: str, op: str) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    axis = data.draw(st.integers(0, len(shape) - 1))
    source = numbers(rng, shape, dtype)
    if dtype in ("f4", "f8") and data.draw(st.booleans()):
        source[rng.random(shape) < 0.2] = np.nan
    base, moved = layouts(source, how)
    expected = getattr(np, op)(source, axis)
    out = np.full(np.shape(expected), -1)
    made = ArgReduce(op, contiguous(Buffer(1, out.dtype, out.size, "external"), out.shape), view(Buffer(0, base.dtype, base.size, "external"), moved, base), axis)  # fmt: skip
    execute(run, made, [base, out])
    np.testing.assert_array_equal(out, expected)
