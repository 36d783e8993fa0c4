"""Machine code agrees with the interpreter: random programs, layouts, products of odd shapes, and a whole learning step."""

from __future__ import annotations

import threading
from itertools import pairwise
from math import prod
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tensor.jit.codegen import available, compile_program, entry, host
from tensor.jit.interpreter import Interpreter, run_numpy
from tensor.jit.program import (
    Buffer,
    Call,
    Elementwise,
    Kind,
    Literal,
    MatMul,
    Operand,
    Program,
    Reduce,
    Slot,
    View,
    c_strides,
    check,
    contiguous,
)

pytestmark = pytest.mark.skipif(not available(), reason="llvmlite is not installed")
Array = np.ndarray[Any, np.dtype[Any]]
SIZES = (1, 2, 3, 5, 8, 16, 17, 33, 70)
UNARY = ("negative", "absolute", "square", "tanh", "sin", "expit", "sign", "floor", "positive")
BINARY = ("add", "subtract", "multiply", "maximum", "minimum")
TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12}


class Builder:
    """Writes a program and makes the arrays for it."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.instructions: list[Any] = []
        self.arrays: list[Array] = []
        self.slots = 0

    def buffer(self, kind: Kind, dtype: Any, size: int, value: Array | None = None) -> Buffer:
        self.buffers.append(Buffer(len(self.buffers), np.dtype(dtype), size, kind, value))
        return self.buffers[-1]

    def external(self, array: Array) -> View:
        """The array as a new external buffer."""
        self.arrays.append(array)
        return contiguous(self.buffer("external", array.dtype, array.size), array.shape)

    def constant(self, array: Array) -> View:
        return contiguous(self.buffer("constant", array.dtype, array.size, array), array.shape)

    def temporary(self, shape: tuple[int, ...], dtype: Any) -> View:
        return contiguous(self.buffer("temporary", dtype, prod(shape)), shape)

    def slot(self) -> Slot:
        self.slots += 1
        return Slot(self.slots - 1)

    def dtype(self, view: View) -> np.dtype[Any]:
        return self.buffers[view.buffer].dtype

    def each(self, op: str, *inputs: View | Slot | float, out: View | None = None, dtype: Any = None) -> View:
        """An elementwise operation on inputs broadcast together."""
        views = [x for x in inputs if isinstance(x, View)]
        shape = np.broadcast_shapes(*[view.shape for view in views])
        operands: list[Operand] = [
            broadcast(x, shape) if isinstance(x, View) else x if isinstance(x, Slot) else Literal(x) for x in inputs
        ]
        out = out or self.temporary(shape, dtype or self.dtype(views[-1]))
        self.instructions.append(Elementwise(op, out, tuple(operands)))
        return out

    def reduce(self, op: str, source: View, axes: tuple[int, ...], out: View | None = None) -> View:
        shape = tuple(n for axis, n in enumerate(source.shape) if axis not in axes)
        out = out or self.temporary(shape, self.dtype(source))
        self.instructions.append(Reduce(op, out, source, axes))
        return out

    def matmul(self, a: View, b: View, out: View | None = None) -> View:
        out = out or self.temporary((*a.shape[:-1], b.shape[-1]), self.dtype(a))
        self.instructions.append(MatMul(out, a, b))
        return out

    def program(self) -> Program:
        program = Program(tuple(self.buffers), tuple(self.instructions), self.slots)
        check(program)
        return program


def broadcast(view: View, shape: tuple[int, ...]) -> View:
    missing = len(shape) - len(view.shape)
    old, strides = (1,) * missing + view.shape, (0,) * missing + view.strides
    return View(
        view.buffer, view.offset, shape, tuple(0 if m == 1 != n else s for m, n, s in zip(old, shape, strides, strict=True))
    )


def transposed(view: View) -> View:
    *shape, m, n = view.shape
    *strides, s, t = view.strides
    return View(view.buffer, view.offset, (*shape, n, m), (*strides, t, s))


def laid_out(builder: Builder, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, layout: str) -> View:
    """New external memory with a view of `shape` in one of several layouts."""
    if layout == "transposed":
        view = builder.external(rng.normal(size=shape[::-1]).astype(dtype))
        return View(view.buffer, 0, shape, view.strides[::-1])
    if layout == "strided":
        view = builder.external(rng.normal(size=2 * prod(shape)).astype(dtype))
        return View(view.buffer, 1, shape, tuple(2 * s for s in c_strides(shape)))
    if layout == "reversed":
        view = builder.external(rng.normal(size=prod(shape)).astype(dtype))
        return View(view.buffer, prod(shape) - 1, shape, tuple(-s for s in c_strides(shape)))
    return builder.external(rng.normal(size=shape).astype(dtype))


LAYOUTS = ("plain", "plain", "transposed", "strided", "reversed")


def agree(builder: Builder, scalars: list[float], runs: int = 2, tolerance: float | None = None) -> None:
    """Both ways of running change the arrays alike, more than once."""
    program = builder.program()
    ours, theirs = [a.copy() for a in builder.arrays], [a.copy() for a in builder.arrays]
    compiled, interpreter = compile_program(program), Interpreter(program)
    for _ in range(runs):
        compiled.run(ours, scalars)
        interpreter.run(theirs, scalars)
    for a, b in zip(ours, theirs, strict=True):
        if a.dtype.kind != "f":
            np.testing.assert_array_equal(a, b)
            continue
        scale = max(1.0, float(np.max(np.abs(b[np.isfinite(b)]), initial=0.0)))
        limit = (tolerance or TOLERANCE[a.dtype]) * scale
        np.testing.assert_allclose(a, b, rtol=0, atol=limit)


@st.composite
def programs(draw: st.DrawFn) -> Builder:
    """Random straight-line code: chains, broadcasts, masks, casts, reductions and what follows them, in-place writes."""
    builder, rng = Builder(), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(("f4", "f8")))
    shape = tuple(draw(st.lists(st.sampled_from(SIZES), max_size=3)))
    sources = [laid_out(builder, rng, shape, dtype, draw(st.sampled_from(LAYOUTS))) for _ in range(draw(st.integers(1, 3)))]
    partial = tuple(n if draw(st.booleans()) else 1 for n in shape)
    values = [*sources, laid_out(builder, rng, partial, dtype, draw(st.sampled_from(LAYOUTS)))]
    builder.slot()
    for _ in range(draw(st.integers(1, 9))):
        x, y = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        match draw(st.sampled_from(("unary", "binary", "literal", "slot", "mask", "cast", "reduce", "in place"))):
            case "unary":
                made = builder.each(draw(st.sampled_from(UNARY[:7])), x)
            case "binary":
                made = builder.each(draw(st.sampled_from(BINARY)), x, y)
            case "literal":
                made = builder.each(draw(st.sampled_from(BINARY)), x, 0.75)
            case "slot":
                made = builder.each("multiply", x, Slot(0))
            case "mask":
                mask = builder.each("greater", sources[0], 0.25, dtype="?")
                made = builder.each("where", mask, x, y)
            case "cast":
                made = builder.each("cast", builder.each("cast", x, dtype="f8"), dtype=dtype)
            case "reduce":
                axes = tuple(axis for axis in range(len(x.shape)) if draw(st.booleans()))
                total = builder.reduce(draw(st.sampled_from(("add", "maximum", "minimum"))), x, axes)
                kept = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
                made = builder.each("tanh", View(total.buffer, 0, kept, c_strides(kept)))
            case _:
                made = builder.each(draw(st.sampled_from(BINARY)), sources[-1], broadcast(y, shape), out=sources[-1])
        values.append(made)
    for value in values[-3:]:
        builder.each("positive", value, out=builder.external(np.zeros(value.shape, dtype)))
    return builder


@settings(max_examples=60)
@given(programs())
def test_random_programs(builder: Builder) -> None:
    agree(builder, [0.9])


@settings(max_examples=60)
@given(st.data())
def test_products(data: st.DataObject) -> None:
    builder, rng = Builder(), np.random.default_rng(data.draw(st.integers(0, 99)))
    dtype = data.draw(st.sampled_from(("f4", "f8")))
    m, n, k = (data.draw(st.sampled_from((1, 2, 3, 4, 7, 16, 31, 64, 80))) for _ in range(3))
    batch = data.draw(st.sampled_from(((), (), (1,), (3,), (2, 2))))
    views = []
    for shape in ((m, k), (k, n), (m, n)):
        layout = data.draw(st.sampled_from(LAYOUTS))
        view = laid_out(builder, rng, (*batch, *shape), dtype, "plain" if layout == "transposed" else layout)
        if layout == "transposed":
            view = transposed(laid_out(builder, rng, (*batch, *shape[::-1]), dtype, "plain"))
        views.append(view)
    builder.matmul(views[0], views[1], out=views[2])
    agree(builder, [], runs=1)


@pytest.mark.parametrize("flags", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_large_products_through_blas(flags: str, dtype: str) -> None:
    builder, rng = Builder(), np.random.default_rng(0)
    m, n, k = 190, 210, 230
    a = builder.external(rng.normal(size=(m, k) if flags[0] == "n" else (k, m)).astype(dtype))
    b = builder.external(rng.normal(size=(k, n) if flags[1] == "n" else (n, k)).astype(dtype))
    out = builder.external(np.zeros((m, n), dtype))
    builder.matmul(a if flags[0] == "n" else transposed(a), b if flags[1] == "n" else transposed(b), out=out)
    agree(builder, [], runs=1)


def test_reductions_of_every_dtype() -> None:
    rng = np.random.default_rng(0)
    builder = Builder()
    for dtype, ops in (
        ("f4", "add multiply maximum minimum"),
        ("f8", "add multiply maximum minimum"),
        ("i4", "add multiply maximum minimum"),
        ("i8", "add maximum minimum"),
        ("u1", "maximum minimum"),
        ("?", "logical_and logical_or maximum minimum"),
    ):
        for shape in ((3, 37), (37, 3), (70, 33), (2, 3, 40)):
            x = builder.external((rng.normal(size=shape) * 2).astype(dtype))
            for op in ops.split():
                for axes in ((0,), (1,), tuple(range(len(shape)))):
                    kept = tuple(n for axis, n in enumerate(shape) if axis not in axes)
                    builder.reduce(op, x, axes, out=builder.external(np.zeros(kept, dtype)))
    agree(builder, [], runs=1)


@pytest.mark.parametrize("dtype", ["i4", "i8", "u1", "?", "f4"])
def test_operations_on_every_dtype(dtype: str) -> None:
    """Each named operation on values that include the awkward ones; what has no machine code runs in NumPy."""
    rng = np.random.default_rng(0)
    builder = Builder()
    raw = [(rng.normal(size=50) * 3).astype(dtype) for _ in range(2)]
    if dtype == "f4":
        raw[0][:6] = raw[1][5::-1] = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0]
    x, y = map(builder.external, raw)
    kinds = {"f4": "f", "?": "b"}.get(dtype, "i")
    unary = {"f": "negative absolute sign rint floor ceil trunc", "i": "negative absolute sign invert square", "b": "invert"}
    binary = {"f": "maximum minimum copysign", "i": "maximum minimum bitwise_and bitwise_xor", "b": "bitwise_and bitwise_or"}
    for op in (unary[kinds] if dtype != "u1" else "invert square").split():
        builder.each(op, x, out=builder.external(np.zeros(50, dtype)))
    for op in ["add", "multiply", *binary[kinds].split()]:
        builder.each(op, x, y, out=builder.external(np.zeros(50, dtype)))
    for op in (
        "equal",
        "not_equal",
        "less",
        "less_equal",
        "greater",
        "greater_equal",
        "logical_and",
        "logical_or",
        "logical_xor",
    ):
        builder.each(op, x, y, out=builder.external(np.zeros(50, "?")))
    for op in ("logical_not", *(("isnan", "isinf", "isfinite", "signbit") if kinds == "f" else ())):
        builder.each(op, x, out=builder.external(np.zeros(50, "?")))
    for target in ("f4", "f8", "i4", "i8", "u1", "?"):
        if kinds != "f" or target in ("f8", "?"):
            builder.each("cast", x, out=builder.external(np.zeros(50, target)))
    agree(builder, [], runs=1)


@pytest.mark.parametrize("exponent", [-4, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 4, 1.7])
def test_constant_powers(exponent: float) -> None:
    builder = Builder()
    x = builder.external(np.linspace(0.1, 7, 50).astype("f4"))
    builder.each("power", x, exponent, out=builder.external(np.zeros(50, "f4")))
    agree(builder, [], runs=1, tolerance=1e-6)


def adam_step(batch: int, sizes: tuple[int, ...] = (4, 64, 64, 2)) -> Builder:
    """A learning step of a tanh network with squared error: forward, backward, Adam; slots: step size and root of the correction."""
    builder, rng = Builder(), np.random.default_rng(0)
    x, y = (builder.external(rng.normal(size=(batch, n)).astype("f4")) for n in (sizes[0], sizes[-1]))
    shapes = [shape for i, o in pairwise(sizes) for shape in ((o, i), (o,))]
    params = [builder.external((rng.normal(size=shape) * 0.1).astype("f4")) for shape in shapes]
    grads, first, second = ([builder.external(np.zeros(shape, "f4")) for shape in shapes] for _ in range(3))
    layers = list(zip(params[::2], params[1::2], strict=True))
    hidden = [x]
    for weight, bias in layers:
        z = builder.each("add", builder.matmul(hidden[-1], transposed(weight)), bias)
        hidden.append(z if weight is layers[-1][0] else builder.each("tanh", z))
    difference = builder.each("subtract", hidden[-1], y)
    total = builder.reduce("add", builder.each("square", difference), (0, 1))
    builder.each("divide", total, float(batch * sizes[-1]), out=builder.external(np.zeros((), "f4")))
    g = builder.each("multiply", difference, 2.0 / (batch * sizes[-1]))
    for i in reversed(range(len(layers))):
        if i < len(layers) - 1:
            g = builder.each("multiply", g, builder.each("subtract", 1.0, builder.each("square", hidden[i + 1])))
        builder.matmul(transposed(g), hidden[i], out=grads[2 * i])
        builder.reduce("add", g, (0,), out=grads[2 * i + 1])
        g = builder.matmul(g, layers[i][0])
    size, root = builder.slot(), builder.slot()
    for p, g, m, v in zip(params, grads, first, second, strict=True):
        builder.each("add", m, builder.each("multiply", builder.each("subtract", g, m), 0.1), out=m)
        builder.each("multiply", v, 0.999, out=v)
        builder.each("add", v, builder.each("multiply", builder.each("square", g), 0.001), out=v)
        scale = builder.each("add", builder.each("divide", builder.each("sqrt", v), root), 1e-8)
        builder.each("subtract", p, builder.each("multiply", builder.each("divide", m, scale), size), out=p)
    return builder


@pytest.mark.parametrize("batch", [1, 32, 50])
def test_learning_step(batch: int) -> None:
    builder = adam_step(batch)
    program = builder.program()
    ours, theirs = [a.copy() for a in builder.arrays], [a.copy() for a in builder.arrays]
    compiled, interpreter = compile_program(program), Interpreter(program)
    assert len(compiled.segments) == 1
    losses = []
    for t in range(1, 101):
        losses.append(float(ours[-1]))
        scalars = [1e-3 / (1 - 0.9**t), (1 - 0.999**t) ** 0.5]
        compiled.run(ours, scalars)
        interpreter.run(theirs, scalars)
    assert float(ours[-1]) < 0.99 * losses[1]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_calls_into_python_split_the_code_in_segments() -> None:
    builder = Builder()
    x = builder.external(np.arange(5, dtype="f4"))
    doubled = builder.each("multiply", x, 2.0)
    backwards = builder.temporary((5,), "f4")

    def flip(out: Array, source: Array, factor: float) -> None:
        out[:] = source[::-1] * factor

    builder.instructions.append(Call(flip, (backwards,), (doubled, builder.slot())))
    builder.each("add", backwards, x, out=builder.external(np.zeros(5, "f4")))
    compiled = compile_program(builder.program())
    assert compiled.segments == ("native: 1 kernels", "python: Call flip", "native: 1 kernels")
    for factor in (3.0, 4.0):
        compiled.run(builder.arrays, [factor])
        np.testing.assert_array_equal(builder.arrays[1], np.arange(5)[::-1] * 2 * factor + np.arange(5))


def test_other_arrays_at_every_run() -> None:
    builder = Builder()
    x = builder.external(np.ones(20, "f4"))
    constant = builder.constant(np.arange(20, dtype="f4"))
    builder.each("add", x, constant, out=builder.external(np.zeros(20, "f4")))
    program = builder.program()
    for run in (compile_program(program).run, Interpreter(program).run):
        for i in range(3):
            arrays = [np.full(20, i, "f4"), np.zeros(20, "f4")]
            run(arrays, [])
            np.testing.assert_array_equal(arrays[1], np.arange(20) + i)


@pytest.fixture(params=[True, False], ids=["builtin", "ctypes"])
def way_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways into compiled code."""
    monkeypatch.setattr(entry, "objects_are_as_expected", lambda: request.param)
    return bool(request.param)


@pytest.mark.parametrize("width", [16, 32, 64])
def test_other_widths_of_vectors(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "vector_bytes", lambda: width)
    agree(adam_step(5, (7, 37, 3)), [1e-3, 0.5], runs=1)


def test_a_missing_c_function_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = Builder()
    x = builder.external(np.full(11, 0.123, "f4"))
    builder.each("arcsinh", builder.each("multiply", x, 0.12345), out=x)
    monkeypatch.setattr(host, "_mathematics", dict)
    monkeypatch.setattr(host.image, "c_function", lambda name: 0)
    with pytest.raises(RuntimeError, match="expected the C function asinhf"):
        compile_program(builder.program())


def test_both_ways_in_agree(way_in: bool) -> None:
    agree(adam_step(3), [1e-3, 0.5])


def test_denormals_are_flushed_inside_and_the_mode_is_restored(way_in: bool) -> None:
    tiny = np.full(40, 1e-39, "f4")
    builder = Builder()
    x = builder.external(tiny)
    builder.each("multiply", x, 2.0, out=builder.external(np.ones(40, "f4")))
    for flush, expected in ((True, 0.0), (False, np.float32(2e-39))):
        arrays = [tiny, np.ones(40, "f4")]
        compile_program(builder.program(), flush_denormals=flush).run(arrays, [])
        np.testing.assert_allclose(arrays[1], expected, rtol=1e-5)
        assert np.all(tiny * np.float32(0.5) > 0)


def test_wrong_arguments_are_refused() -> None:
    builder = Builder()
    x = builder.external(np.ones(4, "f4"))
    builder.each("multiply", x, builder.slot(), out=x)
    run: Any = compile_program(builder.program()).run
    (array,) = builder.arrays
    message = r"run: expected a list of 1 numpy.ndarray and a list of 1 float"
    for arguments in (([array], [1]), ((array,), [1.0]), ([array, array], [1.0]), ([3.0], [1.0]), ([array], []), ([array],), ()):
        with pytest.raises(TypeError, match=message):
            run(*arguments)
    run([array], [3.0])
    np.testing.assert_array_equal(array, 3)
    with pytest.raises(ValueError, match="run: expected 1 arrays and 1 scalars, got 0 and 0"):
        run_numpy(builder.program(), [])


def test_broken_programs_are_named() -> None:
    builder = Builder()
    x, y = builder.external(np.ones(4, "f4")), builder.external(np.ones(3, "f4"))
    builder.instructions.append(Elementwise("add", x, (x, y)))
    with pytest.raises(ValueError, match=r"instruction 0 \(Elementwise add\): expected inputs of shape \(4,\), got"):
        builder.program()
    builder.instructions[:] = [Elementwise("exp", x, (builder.temporary((4,), "f4"),))]
    with pytest.raises(ValueError, match="expected temporaries written before they are read"):
        builder.program()


def test_compiling_in_several_threads() -> None:
    failures: list[BaseException] = []

    def work(size: int) -> None:
        try:
            builder = Builder()
            x = builder.external(np.linspace(0, 1, size).astype("f4"))
            builder.each("exp", builder.each("multiply", x, float(size)), out=builder.external(np.zeros(size, "f4")))
            agree(builder, [], tolerance=1e-6)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(size,)) for size in (5, 16, 17, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8"])
@pytest.mark.parametrize("op", ["floor_divide", "remainder", "left_shift", "right_shift"])
def test_integers_divide_and_shift_as_in_numpy(op: str, dtype: str) -> None:
    ends = np.iinfo(dtype)
    values = np.array([ends.min, ends.min + 1, -7, -3, -1, 0, 1, 2, 3, 7, 8, 31, 63, 64, ends.max], dtype)
    a, b = (np.ascontiguousarray(x).reshape(-1) for x in np.meshgrid(values, values))
    builder = Builder()
    x, y, out = (builder.external(array) for array in (a, b, np.zeros_like(a)))
    builder.each(op, x, y, out=out)
    compiled, arrays = compile_program(builder.program()), builder.arrays
    assert compiled.segments == ("native: 1 kernels",)
    compiled.run(arrays, [])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(arrays[2], getattr(np, op)(a, b))
