"""The elementary functions of compiled code, to 4 units in the last place over all numbers, and at the special ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tensor.jit.codegen import available, compile_program
from tensor.jit.program import Buffer, Elementwise, Program, contiguous

pytestmark = pytest.mark.skipif(not available(), reason="llvmlite is not installed")
Array = np.ndarray[Any, np.dtype[Any]]
LIMIT = 4.0


def logistic(x: Array) -> Array:
    return np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x)))


REFERENCES: dict[str, Callable[[Array], Array]] = {
    **{name: getattr(np, name) for name in ("exp", "exp2", "expm1", "tanh", "log", "log2", "log10", "log1p", "sin", "cos")},
    **{name: getattr(np, name) for name in ("tan", "sinh", "cosh", "arcsin", "arctan", "arcsinh", "cbrt")},
    "expit": logistic,
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "erfc": np.vectorize(math.erfc, otypes=[np.float64]),
}
IN_DOUBLE = {"erf", "erfc"}  # nothing here has these in long double


def sweep(dtype: str) -> Array:
    """Bit patterns drawn evenly, so every magnitude, denormals and NaN too; dense where functions bend; multiples of pi/2."""
    rng = np.random.default_rng(0)
    integer = np.dtype(f"i{np.dtype(dtype).itemsize}")
    anything = rng.integers(np.iinfo(integer).min, np.iinfo(integer).max, 60000, integer).view(dtype)
    special = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        1,
        -1,
        np.finfo(dtype).max,
        np.finfo(dtype).tiny,
        np.finfo(dtype).smallest_subnormal,
    ]
    parts = [
        anything,
        rng.normal(size=30000),
        rng.normal(size=20000) * 30,
        1 + rng.normal(size=10000) * 0.01,
        np.linspace(-110, 110, 30001),
        np.linspace(-760, 760, 20001),
        np.linspace(-6, 6, 30001),
        np.arange(1, 20000) * (np.pi / 2),
        [88.72283, 88.7229, -87.33655, -103.97, 709.7827, -745.13],
        special,
    ]
    with np.errstate(all="ignore"):
        return np.concatenate([np.asarray(part).astype(dtype) for part in parts])


def run(op: str, x: Array) -> Array:
    buffers = tuple(Buffer(i, x.dtype, x.size, "external") for i in range(2))
    views = [contiguous(buffer, (x.size,)) for buffer in buffers]
    out = np.zeros_like(x)
    compile_program(Program(buffers, (Elementwise(op, views[1], (views[0],)),)), flush_denormals=False).run([x, out], [])
    return out


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("op", REFERENCES)
def test_accuracy(op: str, dtype: str) -> None:
    x = sweep(dtype)
    wide = np.float64 if dtype == "f4" or op in IN_DOUBLE else np.longdouble
    got = run(op, x)
    with np.errstate(all="ignore"):
        exact = REFERENCES[op](x.astype(wide))
        rounded = exact.astype(dtype)
        error = np.abs(got.astype(wide) - exact) / np.spacing(np.abs(rounded)).astype(wide)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(rounded))
    ordinary = np.isfinite(rounded) & (got != rounded)
    worst = int(np.argmax(np.where(ordinary, error, 0)))
    assert not ordinary.any() or error[worst] <= LIMIT, f"{op}({x[worst]!r}) = {got[worst]!r}, expected {rounded[worst]!r}"
    infinite = np.isinf(rounded)
    # Next to the largest number, infinity may come one unit early or late.
    near = np.abs(got[infinite]) >= np.finfo(dtype).max * (1 - 4 * np.finfo(dtype).eps)
    assert near.all()
    assert (np.sign(got[infinite]) == np.sign(rounded[infinite])).all()


@pytest.mark.parametrize("op", ["sin", "tanh", "erf", "expm1", "log1p"])
def test_short_arrays_take_other_code(op: str) -> None:
    for size in (1, 2, 5, 15, 16, 19):
        x = np.linspace(-0.9, 3, size).astype("f4")
        np.testing.assert_allclose(run(op, x), REFERENCES[op](x.astype("f8")), rtol=3e-7)
