"""What each elementwise operation is in LLVM's language, by the family of its element type: tables, one line each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensor.jit.codegen import mathematics
from tensor.jit.codegen.text import SCALARS, Lanes, Scalar

Emit = Callable[..., str]


def plain(name: str) -> Emit:
    return lambda v, *values: v.op(name, *values)


def intrinsic(name: str) -> Emit:
    return lambda v, *values: v.intrinsic(name, *values)


def relation(name: str) -> Emit:
    return lambda v, a, b: v.compare(name, a, b)


def flags(name: str) -> Emit:
    """A logical operation on truth values."""
    return lambda v, a, b: boolean(v).op(name, truth(v, a), truth(v, b))


def boolean(v: Lanes) -> Lanes:
    return v.of(BOOL)


BOOL = SCALARS[np.dtype(np.bool_)]
DOUBLE = SCALARS[np.dtype(np.float64)]
SIGNED_64 = SCALARS[np.dtype(np.int64)]


def truth(v: Lanes, x: str) -> str:
    if v.scalar.family == "bool":
        return x
    return v.compare("une" if v.scalar.family == "float" else "ne", x, v.const(0))


def extreme(ordered: str, unordered: str) -> Emit:
    """maximum or minimum; NaN wins, as in NumPy. One comparison is enough against a constant."""

    def emit(v: Lanes, a: str, b: str) -> str:
        if a.startswith(("splat", "0x")):
            a, b = b, a
        if b.startswith(("splat", "0x")) and b != v.const(math.nan):
            return v.select(v.compare(unordered, a, b), a, b)
        wins = boolean(v).op("or", v.compare(ordered, a, b), v.compare("uno", a, a))
        return v.select(wins, a, b)

    return emit


def float_sign(v: Lanes, x: str) -> str:
    below = v.select(v.compare("olt", x, v.const(0)), v.const(-1), v.add(x, v.const(0)))
    return v.select(v.compare("ogt", x, v.const(0)), v.const(1), below)


def absolute(v: Lanes, x: str) -> str:
    return v.select(v.compare("slt", x, v.const(0)), v.op("sub", v.const(0), x), x)


def sign(v: Lanes, x: str) -> str:
    above = v.select(v.compare("sgt", x, v.const(0)), v.const(1), v.const(0))
    return v.select(v.compare("slt", x, v.const(0)), v.const(-1), above)


def quotient(v: Lanes, a: str, b: str) -> tuple[str, str]:
    """Floor and remainder of signed integers, as NumPy has them: 0 by 0, and no overflow by -1."""
    flag = boolean(v)
    zero, minus = v.compare("eq", b, v.const(0)), v.compare("eq", b, v.const(-1))
    safe = v.select(flag.op("or", zero, minus), v.const(1), b)
    floor = v.op("sdiv", a, safe)
    rest = v.op("sub", a, v.op("mul", floor, safe))
    apart = flag.op("xor", v.compare("slt", rest, v.const(0)), v.compare("slt", safe, v.const(0)))
    down = flag.op("and", v.compare("ne", rest, v.const(0)), apart)
    floor = v.select(down, v.op("sub", floor, v.const(1)), floor)
    rest = v.select(down, v.op("add", rest, safe), rest)
    floor = v.select(zero, v.const(0), v.select(minus, v.op("sub", v.const(0), a), floor))
    return floor, rest


def shifted_by(v: Lanes, name: str, a: str, b: str, beyond: str) -> str:
    """A shift; `beyond` where all bits are shifted out."""
    inside = v.compare("ult", b, v.const(8 * v.scalar.size))
    return v.select(inside, v.op(name, a, v.select(inside, b, v.const(0))), beyond)


FLOAT: dict[str, Emit] = {
    **mathematics.FUNCTIONS,
    "add": plain("fadd"),
    "subtract": plain("fsub"),
    "multiply": plain("fmul"),
    "divide": plain("fdiv"),
    "true_divide": plain("fdiv"),
    "negative": plain("fneg"),
    "positive": lambda v, x: x,
    "absolute": intrinsic("fabs"),
    "fabs": intrinsic("fabs"),
    "sqrt": intrinsic("sqrt"),
    "square": lambda v, x: v.mul(x, x),
    "reciprocal": lambda v, x: v.div(v.const(1), x),
    "floor": intrinsic("floor"),
    "ceil": intrinsic("ceil"),
    "trunc": intrinsic("trunc"),
    "rint": intrinsic("roundeven"),
    "copysign": intrinsic("copysign"),
    "sign": float_sign,
    "maximum": extreme("oge", "uge"),
    "minimum": extreme("ole", "ule"),
    "equal": relation("oeq"),
    "not_equal": relation("une"),
    "less": relation("olt"),
    "less_equal": relation("ole"),
    "greater": relation("ogt"),
    "greater_equal": relation("oge"),
    "isnan": lambda v, x: v.compare("uno", x, x),
    "isinf": lambda v, x: v.compare("oeq", v.intrinsic("fabs", x), v.const(math.inf)),
    "isfinite": lambda v, x: v.compare("olt", v.intrinsic("fabs", x), v.const(math.inf)),
    "signbit": lambda v, x: v.bits.compare("slt", mathematics.as_bits(v, x), v.bits.const(0)),
}
INTEGER: dict[str, Emit] = {
    "add": plain("add"),
    "subtract": plain("sub"),
    "multiply": plain("mul"),
    "negative": lambda v, x: v.op("sub", v.const(0), x),
    "positive": lambda v, x: x,
    "square": lambda v, x: v.op("mul", x, x),
    "bitwise_and": plain("and"),
    "bitwise_or": plain("or"),
    "bitwise_xor": plain("xor"),
    "invert": lambda v, x: v.op("xor", x, v.const(-1)),
    "equal": relation("eq"),
    "not_equal": relation("ne"),
}
SIGNED: dict[str, Emit] = INTEGER | {
    "floor_divide": lambda v, a, b: quotient(v, a, b)[0],
    "remainder": lambda v, a, b: quotient(v, a, b)[1],
    "left_shift": lambda v, a, b: shifted_by(v, "shl", a, b, v.const(0)),
    "right_shift": lambda v, a, b: shifted_by(v, "ashr", a, b, v.op("ashr", a, v.const(8 * v.scalar.size - 1))),
    "absolute": absolute,
    "sign": sign,
    "maximum": lambda v, a, b: v.select(v.compare("sgt", a, b), a, b),
    "minimum": lambda v, a, b: v.select(v.compare("slt", a, b), a, b),
    "less": relation("slt"),
    "less_equal": relation("sle"),
    "greater": relation("sgt"),
    "greater_equal": relation("sge"),
}
UNSIGNED: dict[str, Emit] = INTEGER | {
    "maximum": lambda v, a, b: v.select(v.compare("ugt", a, b), a, b),
    "minimum": lambda v, a, b: v.select(v.compare("ult", a, b), a, b),
    "less": relation("ult"),
    "less_equal": relation("ule"),
    "greater": relation("ugt"),
    "greater_equal": relation("uge"),
}
LOGICAL: dict[str, Emit] = {
    "logical_and": flags("and"),
    "logical_or": flags("or"),
    "logical_xor": flags("xor"),
    "logical_not": lambda v, x: boolean(v).op("xor", truth(v, x), boolean(v).const(True)),
}
BOOLEAN: dict[str, Emit] = {
    "add": plain("or"),
    "multiply": plain("and"),
    "maximum": plain("or"),
    "minimum": plain("and"),
    "bitwise_and": plain("and"),
    "bitwise_or": plain("or"),
    "bitwise_xor": plain("xor"),
    "invert": lambda v, x: v.op("xor", x, v.const(True)),
    "not_equal": plain("xor"),
    "equal": lambda v, a, b: v.op("xor", v.op("xor", a, b), v.const(True)),
}
TABLES = {"float": FLOAT | LOGICAL, "signed": SIGNED | LOGICAL, "unsigned": UNSIGNED | LOGICAL, "bool": BOOLEAN | LOGICAL}
# How a reduction starts.
NEUTRAL: dict[str, Any] = {
    "add": 0, "multiply": 1, "logical_and": True, "logical_or": False, "maximum": -math.inf, "minimum": math.inf
}  # fmt: skip


def neutral(op: str, scalar: Scalar) -> Any:
    value = NEUTRAL[op]
    if scalar.family in ("float", "bool") or math.isfinite(value):
        return value > 0 if scalar.family == "bool" else value
    low, high = (
        (0, 2 ** (8 * scalar.size) - 1)
        if scalar.family == "unsigned"
        else (-(2 ** (8 * scalar.size - 1)), 2 ** (8 * scalar.size - 1) - 1)
    )
    return low if value < 0 else high


def constant_power(exponent: float) -> Emit | None:
    """x to a constant power by multiplication or square root, where that is as exact as `pow`."""
    if exponent == 0.5:
        return intrinsic("sqrt")
    if exponent == -0.5:
        return lambda v, x: v.div(v.const(1), v.intrinsic("sqrt", x))
    if exponent != int(exponent) or abs(exponent) > 4:
        return None

    def emit(v: Lanes, x: str) -> str:
        count = abs(int(exponent))
        if count == 0:
            return v.const(1)
        square = v.mul(x, x) if count > 1 else x
        value = [x, x, square, v.mul(square, x) if count == 3 else "", v.mul(square, square) if count == 4 else ""][count]
        return v.div(v.const(1), value) if exponent < 0 else value

    return emit


def cast(source: Lanes, target: Lanes, value: str) -> str:
    """A value in another element type."""
    a, b = source.scalar, target.scalar
    if a == b:
        return value
    if b.family == "bool":
        return truth(source, value)
    if a.family == "float" and b.family == "float":
        return source.convert("fptrunc" if a.size > b.size else "fpext", value, target)
    if a.family == "float":
        return source.convert("fptosi" if b.family == "signed" else "fptoui", value, target)
    unsigned = a.family != "signed"
    if b.family == "float":
        return source.convert("uitofp" if unsigned else "sitofp", value, target)
    if a.family != "bool" and a.size == b.size:
        return value
    if a.family != "bool" and a.size > b.size:
        return source.convert("trunc", value, target)
    return source.convert("zext" if unsigned else "sext", value, target)


def emit_for(op: str, family: str, literals: Sequence[Any]) -> Emit | None:
    """How to write an operation on elements of a family, or None: `literals` has the constant operands, None elsewhere."""
    if op == "power" and family == "float" and literals[1] is not None:
        quick = constant_power(float(literals[1]))
        if quick is not None:
            return lambda v, x, _: quick(v, x)
    return TABLES[family].get(op)
