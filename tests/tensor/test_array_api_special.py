"""The special cases that the array API standard (2025.12) spells out for elementwise functions, as tables of values.

One case a semicolon: operands, an arrow, the result. ``x`` stands for 2.5 and ``-x`` for its negative (a finite number of that sign);
complex numbers are two words, real and imaginary part; ``?`` before a word leaves its sign open. For complex operands the standard gives one
half plane, the other follows by conjugation, which is tested too.
"""

from __future__ import annotations

import cmath
import math
import operator
from typing import Any

import numpy as np
import pytest

from tensor import array_api as xp

X = 2.5
WORDS = {
    "x": X, "inf": math.inf, "nan": math.nan, "pi": math.pi, "pi/2": math.pi / 2, "pi/4": math.pi / 4, "3pi/4": 3 * math.pi / 4,
    "cos": math.cos(X), "sin": math.sin(X),
}  # fmt: skip

UNARY = {
    "abs": "nan>nan; -0>0; -inf>inf",
    "acos": "nan>nan; x>nan; -x>nan; 1>0",
    "acosh": "nan>nan; 0.5>nan; 1>0; inf>inf",
    "asin": "nan>nan; x>nan; -x>nan; 0>0; -0>-0",
    "asinh": "nan>nan; 0>0; -0>-0; inf>inf; -inf>-inf",
    "atan": "nan>nan; 0>0; -0>-0; inf>pi/2; -inf>-pi/2",
    "atanh": "nan>nan; -x>nan; x>nan; -1>-inf; 1>inf; 0>0; -0>-0",
    "ceil": "inf>inf; -inf>-inf; 0>0; -0>-0; nan>nan; 2>2; -0.5>-0",
    "cos": "nan>nan; 0>1; -0>1; inf>nan; -inf>nan",
    "cosh": "nan>nan; 0>1; -0>1; inf>inf; -inf>inf",
    "exp": "nan>nan; 0>1; -0>1; inf>inf; -inf>0",
    "expm1": "nan>nan; 0>0; -0>-0; inf>inf; -inf>-1",
    "floor": "inf>inf; -inf>-inf; 0>0; -0>-0; nan>nan; 2>2",
    "log": "nan>nan; -x>nan; 0>-inf; -0>-inf; 1>0; inf>inf",
    "log1p": "nan>nan; -x>nan; -1>-inf; -0>-0; 0>0; inf>inf",
    "log2": "nan>nan; -x>nan; 0>-inf; -0>-inf; 1>0; inf>inf",
    "log10": "nan>nan; -x>nan; 0>-inf; -0>-inf; 1>0; inf>inf",
    "reciprocal": "nan>nan; 0>inf; -0>-inf; inf>0; -inf>-0",
    "round": "inf>inf; -inf>-inf; 0>0; -0>-0; nan>nan; 0.5>0; 1.5>2; x>2; -x>-2; -0.5>-0",
    "sign": "-x>-1; 0>0; x>1; nan>nan; inf>1; -inf>-1",
    "sin": "nan>nan; 0>0; -0>-0; inf>nan; -inf>nan",
    "sinh": "nan>nan; 0>0; -0>-0; inf>inf; -inf>-inf",
    "sqrt": "nan>nan; -x>nan; 0>0; -0>-0; inf>inf",
    "tan": "nan>nan; 0>0; -0>-0; inf>nan; -inf>nan",
    "tanh": "nan>nan; 0>0; -0>-0; inf>1; -inf>-1",
    "trunc": "inf>inf; -inf>-inf; 0>0; -0>-0; nan>nan; -0.5>-0",
}

COMPLEX = {
    "acos": "0 0>pi/2 -0; -0 0>pi/2 -0; 0 nan>pi/2 nan; x inf>pi/2 -inf; x nan>nan nan; -inf x>pi -inf; inf x>0 -inf; -inf inf>3pi/4 -inf;"
    "inf inf>pi/4 -inf; inf nan>nan ?inf; nan x>nan nan; nan inf>nan -inf; nan nan>nan nan",
    "acosh": "0 0>0 pi/2; -0 0>0 pi/2; x inf>inf pi/2; x nan>nan nan; -inf x>inf pi; inf x>inf 0; -inf inf>inf 3pi/4; inf inf>inf pi/4;"
    "inf nan>inf nan; -inf nan>inf nan; nan x>nan nan; nan inf>inf nan; nan nan>nan nan",
    "asinh": "0 0>0 0; x inf>inf pi/2; x nan>nan nan; inf x>inf 0; inf inf>inf pi/4; nan 0>nan 0; nan x>nan nan; nan inf>?inf nan; nan nan>nan nan",
    "atanh": "0 0>0 0; 0 nan>0 nan; 1 0>inf 0; x inf>0 pi/2; x nan>nan nan; inf x>0 pi/2; inf inf>0 pi/2; inf nan>0 nan; nan x>nan nan;"
    "nan inf>?0 pi/2; nan nan>nan nan",
    "cosh": "0 0>1 0; 0 inf>nan ?0; 0 nan>nan ?0; x inf>nan nan; x nan>nan nan; inf 0>inf 0; inf x>-inf inf; inf inf>?inf nan; inf nan>inf nan;"
    "nan 0>nan ?0; nan x>nan nan; nan nan>nan nan",
    "exp": "0 0>1 0; -0 0>1 0; x inf>nan nan; x nan>nan nan; inf 0>inf 0; -inf x>-0 0; inf x>-inf inf; -inf inf>?0 ?0; inf inf>?inf nan;"
    "-inf nan>?0 ?0; inf nan>?inf nan; nan 0>nan 0; nan x>nan nan; nan nan>nan nan",
    "expm1": "0 0>0 0; -0 0>0 0; x inf>nan nan; x nan>nan nan; inf 0>inf 0; -inf x>-1 0; inf x>-inf inf; -inf inf>-1 ?0; inf inf>?inf nan;"
    "-inf nan>-1 ?0; inf nan>?inf nan; nan 0>nan 0; nan x>nan nan; nan nan>nan nan",
    "log": "-0 0>-inf pi; 0 0>-inf 0; x inf>inf pi/2; x nan>nan nan; -inf x>inf pi; inf x>inf 0; -inf inf>inf 3pi/4; inf inf>inf pi/4;"
    "inf nan>inf nan; -inf nan>inf nan; nan x>nan nan; nan inf>inf nan; nan nan>nan nan",
    "log1p": "-1 0>-inf 0; x inf>inf pi/2; x nan>nan nan; -inf x>inf pi; inf x>inf 0; -inf inf>inf 3pi/4; inf inf>inf pi/4; inf nan>inf nan;"
    "nan x>nan nan; nan inf>inf nan; nan nan>nan nan",
    "sign": "0 0>0 0; -0 -0>0 0; nan x>nan nan; x nan>nan nan",
    "sinh": "0 0>0 0; 0 inf>?0 nan; 0 nan>?0 nan; x inf>nan nan; x nan>nan nan; inf 0>inf 0; inf x>-inf inf; inf inf>?inf nan; inf nan>?inf nan;"
    "nan 0>nan 0; nan x>nan nan; nan nan>nan nan",
    "sqrt": "0 0>0 0; -0 0>0 0; x inf>inf inf; nan inf>inf inf; x nan>nan nan; -inf x>0 inf; inf x>inf 0; -inf nan>nan ?inf; inf nan>inf nan;"
    "nan x>nan nan; nan nan>nan nan",
    "tanh": "0 0>0 0; x inf>nan nan; x nan>nan nan; inf x>1 0; inf inf>1 ?0; inf nan>1 ?0; nan 0>nan 0; nan x>nan nan; nan nan>nan nan",
}  # fmt: skip

INFINITE_QUOTIENTS = "inf x>inf; inf -x>-inf; -inf x>-inf; -inf -x>inf; x inf>0; x -inf>-0; -x inf>-0; -x -inf>0"
QUOTIENTS = (
    "nan x>nan; x nan>nan; inf inf>nan; inf -inf>nan; -inf inf>nan; -inf -inf>nan; 0 0>nan; 0 -0>nan; -0 0>nan; -0 -0>nan; 0 x>0; -0 x>-0;"
    f"0 -x>-0; -0 -x>0; x 0>inf; x -0>-inf; -x 0>-inf; -x -0>inf; {INFINITE_QUOTIENTS}"
)
BINARY = {
    "add": "nan x>nan; inf -inf>nan; -inf inf>nan; inf inf>inf; -inf -inf>-inf; inf x>inf; -inf x>-inf; x inf>inf; x -inf>-inf; -0 -0>-0;"
    "-0 0>0; 0 -0>0; 0 0>0; -0 x>x; x -0>x; x -x>0",
    "atan2": "nan x>nan; x nan>nan; x 0>pi/2; x -0>pi/2; 0 x>0; 0 0>0; 0 -0>pi; 0 -x>pi; -0 x>-0; -0 0>-0; -0 -0>-pi; -0 -x>-pi; -x 0>-pi/2;"
    "-x -0>-pi/2; x inf>0; x -inf>pi; -x inf>-0; -x -inf>-pi; inf x>pi/2; -inf x>-pi/2; inf inf>pi/4; inf -inf>3pi/4; -inf inf>-pi/4;"
    "-inf -inf>-3pi/4",
    "copysign": "x -x>-x; x -0>-x; x 0>x; -x x>x; -x -0>-x",
    "divide": QUOTIENTS,
    "floor_divide": QUOTIENTS,
    "hypot": "inf nan>inf; -inf x>inf; nan -inf>inf; x nan>nan; nan nan>nan",
    "logaddexp": "nan x>nan; x nan>nan; inf x>inf; x inf>inf",
    "maximum": "nan x>nan; x nan>nan",
    "minimum": "nan x>nan; x nan>nan",
    "multiply": "nan x>nan; inf 0>nan; -inf -0>nan; 0 inf>nan; inf -inf>-inf; -inf -x>inf; 0 -x>-0; -0 -x>0",
    "nextafter": "nan x>nan; x nan>nan; 0 -0>-0; -0 0>0",
    "pow": "x nan>nan; 1 nan>1; nan 0>1; nan -0>1; nan x>nan; x inf>inf; -x inf>inf; x -inf>0; -x -inf>0; 1 inf>1; -1 inf>1; 1 -inf>1; -1 -inf>1;"
    "0.5 inf>0; -0.5 -inf>inf; inf x>inf; inf -x>0; -inf 3>-inf; -inf 2>inf; -inf x>inf; -inf -3>-0; -inf -2>0; 0 x>0; 0 -x>inf; -0 3>-0;"
    "-0 2>0; -0 -3>-inf; -0 -2>inf; -x 0.5>nan",
    "remainder": "nan x>nan; inf inf>nan; 0 0>nan; 0 x>0; -0 x>0; 0 -x>-0; -0 -x>-0; x 0>nan; -x -0>nan; inf x>nan; -inf -x>nan; x inf>x; x -inf>-inf;"
    "-x inf>inf; -x -inf>-x",
    "subtract": "inf inf>nan; inf -inf>inf; 0 0>0; -0 0>-0; x inf>-inf",
}  # fmt: skip
OPERATORS = {
    "add": operator.add, "divide": operator.truediv, "floor_divide": operator.floordiv, "multiply": operator.mul, "pow": operator.pow,
    "remainder": operator.mod, "subtract": operator.sub,
}  # fmt: skip
IN_PLACE = {
    "add": operator.iadd, "divide": operator.itruediv, "floor_divide": operator.ifloordiv, "multiply": operator.imul,
    "pow": operator.ipow, "remainder": operator.imod, "subtract": operator.isub,
}  # fmt: skip

PRECISIONS = [(xp.float32, xp.complex64), (xp.float64, xp.complex128)]


def number(word: str) -> float:
    sign = -1.0 if word.startswith("-") else 1.0
    word = word.lstrip("-")
    return sign * (WORDS[word] if word in WORDS else float(word))


def cases(table: dict[str, str]) -> list[Any]:
    """(function, operands, result) of each case of a table."""
    found = []
    for name, text in table.items():
        for case in text.split(";"):
            operands, result = (side.split() for side in case.split(">"))
            found.append(pytest.param(name, operands, result, id=f"{name}({','.join(operands)})"))
    return found


def assert_number(got: float, word: str) -> None:
    """A value to 1e-6, with its sign at zeros too, unless the sign is open."""
    want = number(word.lstrip("?"))
    if word.startswith("?"):
        got, want = abs(got), abs(want)
    if math.isnan(want):
        assert math.isnan(got)
    elif math.isinf(want):
        assert got == want
    else:
        assert math.isclose(got, want, rel_tol=1e-6, abs_tol=1e-6)
        assert want or math.copysign(1, got) == math.copysign(1, want), f"{got}, expected {want}"


@pytest.mark.parametrize("dtype", [real for real, _ in PRECISIONS], ids=str)
@pytest.mark.parametrize("name, operands, result", cases(UNARY))
def test_real(name: str, operands: list[str], result: list[str], dtype: Any):
    x = xp.full((3,), number(operands[0]), dtype=dtype)
    y = getattr(xp, name)(x)
    assert y.dtype == dtype
    assert_number(float(y[1]), result[0] if name != "sign" or result[0] != "0" else "?0")


@pytest.mark.parametrize("dtype", [both for _, both in PRECISIONS], ids=str)
@pytest.mark.parametrize("name, operands, result", cases(COMPLEX))
def test_complex(name: str, operands: list[str], result: list[str], dtype: Any):
    z = complex(*map(number, operands))
    f = getattr(xp, name)
    y = complex(f(xp.asarray([0.5 + 0.5j, z], dtype=dtype))[1])
    for part, word in zip((y.real, y.imag), result, strict=True):
        assert_number(part, word)
    mirrored = complex(f(xp.asarray(z.conjugate(), dtype=dtype)))
    for part, word, turned in zip((mirrored.real, mirrored.imag), result, (False, True), strict=True):
        assert_number(-part if turned else part, word if name != "sign" else f"?{word}")


@pytest.mark.parametrize("dtype", [real for real, _ in PRECISIONS], ids=str)
@pytest.mark.parametrize("name, operands, result", cases(BINARY))
def test_of_two(name: str, operands: list[str], result: list[str], dtype: Any):
    a, b = (xp.full((2,), number(word), dtype=dtype) for word in operands)
    results = [getattr(xp, name)(a, b), getattr(xp, name)(a, float(b[0])), getattr(xp, name)(float(a[0]), b)]
    if name in OPERATORS:
        results += [OPERATORS[name](a, b), IN_PLACE[name](xp.asarray(a, copy=True), b)]
    for y in results:
        assert y.dtype == dtype
        assert_number(float(y[1]), result[0])


@pytest.mark.parametrize("name, holds", [("isnan", cmath.isnan), ("isinf", cmath.isinf), ("isfinite", cmath.isfinite)])
def test_kinds_of_numbers(name: str, holds: Any):
    parts = [0.0, -0.0, X, math.inf, -math.inf, math.nan]
    values = [complex(a, b) for a in parts for b in parts]
    assert getattr(xp, name)(xp.asarray(values)).tolist() == [holds(z) for z in values]
    assert getattr(xp, name)(xp.asarray(parts)).tolist() == [holds(z) for z in parts]


def test_the_sign_bit_is_that_of_zeros_too():
    assert xp.signbit(xp.asarray([0.0, -0.0, -math.inf, 1.0])).tolist() == [False, True, True, False]
    assert np.signbit(np.asarray(xp.copysign(xp.asarray(math.nan), xp.asarray(-1.0))))


def test_special_values_do_not_stop_gradients():
    z = xp.asarray([complex(math.inf, 1.0), 0.5 + 0.25j])
    for f, slope in ((xp.expm1, lambda w: np.exp(w)), (xp.tanh, lambda w: 1 - np.tanh(w) ** 2)):
        x = xp.asarray(z, copy=True).requires_grad_()
        xp.sum(xp.abs(f(x)[1:]) ** 2).backward()
        assert x.grad is not None
        w = complex(z[1])
        value = np.expm1(w) if f is xp.expm1 else np.tanh(w)
        assert complex(x.grad[1]) == pytest.approx(2 * value * np.conj(slope(w)), rel=1e-5)
