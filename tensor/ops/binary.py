"""Elementwise operators of two broadcast operands: arithmetic, comparison, logic, bits."""

from __future__ import annotations

import cmath
import math
from typing import Any

import numpy as np

from tensor import dtypes
from tensor.autograd.tensor import Tensor
from tensor.ops.complex_numbers import cj
from tensor.ops.dispatch import as_array, is_operand
from tensor.ops.elementwise import as_operand, binary, written_in_place
from tensor.ops.record import Array, attach, composite, operator
from tensor.ops.shortcut import perhaps_any

__all__ = [
    "add",
    "addcdiv",
    "addcmul",
    "allclose",
    "arctan2",
    "atan2",
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "copysign",
    "div",
    "divide",
    "eq",
    "equal",
    "float_power",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "gcd",
    "ge",
    "greater",
    "greater_equal",
    "gt",
    "heaviside",
    "hypot",
    "isclose",
    "lcm",
    "ldexp",
    "le",
    "lerp",
    "less",
    "less_equal",
    "logaddexp",
    "logaddexp2",
    "logical_and",
    "logical_or",
    "logical_xor",
    "lt",
    "masked_fill",
    "maximum",
    "minimum",
    "mul",
    "multiply",
    "ne",
    "nextafter",
    "not_equal",
    "pow",
    "remainder",
    "rsub",
    "sub",
    "subtract",
    "true_divide",
    "where",
    "xlogy",
]  # fmt: skip

LN2 = math.log(2)


def _truncate(a: Array, b: Array) -> Array:
    q = np.trunc(np.true_divide(a, b))
    return q.astype(np.result_type(a, b)) if q.dtype.kind == "f" and np.result_type(a, b).kind in "iu" else q


#: Powers that take a hundredth of the general one's time.
_SHORT_POWERS: dict[float, Any] = {
    2: np.square,
    3: lambda a: np.square(a) * a,
    0.5: np.sqrt,
    -1: np.reciprocal,
    -2: lambda a: np.reciprocal(np.square(a)),
    -0.5: lambda a: np.reciprocal(np.sqrt(a)),
}


def _pow(a: Array, b: Array) -> Array:
    if (b.__class__ is int or b.__class__ is float) and a.dtype.kind == "f":
        short = _SHORT_POWERS.get(b)
        return np.power(a, b) if short is None else short(a)
    if np.result_type(a, b).kind in "iu" and np.any(np.less(b, 0)):
        if isinstance(b, (int, np.generic)):
            msg = "pow: integers to negative integer powers are not allowed"
            raise RuntimeError(msg)
        # Integer powers below zero are 0, but for the bases 1 and -1.
        base = np.where(np.abs(a) == 1, a, 0)
        return np.where(b < 0, np.where(base == 1, 1, np.where(base == -1, 1 - 2 * (b & 1), 0)), np.power(a, np.maximum(b, 0)))
    return np.power(a, b)


def _pow_base(g: Tensor, a: Any, b: Any) -> Tensor:
    a, b = cj(a), cj(b)
    if not isinstance(b, Tensor):
        return g * 0 if b == 0 else g * (a + a) if b == 2 else g * (b * a ** (b - 1))
    slope: Tensor = b * a ** (b - 1)
    return (g * slope).masked_fill(b == 0, 0)


def _raw_pow_base(g: Array, a: Any, b: Any) -> Any:
    if b.__class__ is not np.ndarray and b == 2:
        return g * (a + a)
    return _pow_base(Tensor(g), *(Tensor(x) if x.__class__ is np.ndarray else x for x in (a, b)))


def _pow_exponent(g: Tensor, a: Any, b: Any, y: Tensor) -> Tensor:
    a, y = cj(a), cj(y)
    if not isinstance(a, Tensor):
        log = cmath.log(a) if a and (isinstance(a, complex) or g.is_complex()) else math.log(a) if a > 0 else math.nan if a else 0
        return g * (y * log) if a else (g * 0).masked_fill((b < 0), -math.inf)
    if a.is_complex() or b.is_complex():
        return (g * (y * a.masked_fill(a == 0, 1).log())).masked_fill(a == 0, 0)
    # d/db a**b is 0 where the base is 0 and the exponent is not negative.
    return (g * (y * a.masked_fill((a == 0) & (b >= 0), 1).log())).masked_fill((a == 0) & (b >= 0), 0)


def _larger(g: Tensor, a: Any, b: Any) -> Tensor:
    return g.extreme_share(a, b, True)


def _smaller(g: Tensor, a: Any, b: Any) -> Tensor:
    return g.extreme_share(a, b, False)


def _none(g: Tensor) -> None:
    """Piecewise constant: nothing passes."""


@operator({"g": lambda gg, a, b, larger: gg.extreme_share(a, b, larger), "a": _none, "b": _none})
def extreme_share(g: Array, a: Array, b: Array, larger: bool) -> Array:
    """``g`` where a is the larger (smaller) operand, half of it where both are equal."""
    r = g * ((a >= b) if larger else (a <= b))
    ties = np.equal(a, b)
    return np.where(ties, r * 0.5, r) if perhaps_any(ties) else r


def _nan(x: Any) -> Any:
    return x.isnan() if isinstance(x, Tensor) else x != x


def _floor_quotient(g: Tensor, a: Any, b: Any) -> Tensor:
    return -g * div(a, b, rounding_mode="floor")


def _trunc_quotient(g: Tensor, a: Any, b: Any) -> Tensor:
    return -g * div(a, b, rounding_mode="trunc")


def _heaviside(a: Array, b: Array) -> Array:
    r = np.heaviside(a, b)
    kind = np.result_type(a, b)
    return r if kind.kind == "f" else r.astype(kind)


def log_of_sum(a: Array, b: Array) -> Array:
    """``log(exp(a) + exp(b))``; of complex numbers on the principal branch."""
    if np.result_type(a, b).kind != "c":
        return np.logaddexp(a, b)
    larger = np.real(a) >= np.real(b)
    top: Array = np.where(larger, a, b)
    rest: Array = np.where(larger, b, a)
    r = top + np.log1p(np.exp(rest - top))
    # Where both are infinitely small or large the difference is no number.
    return np.where((a == b) & ~np.isfinite(np.real(top)), top, r)


# fmt: off
_add = binary("add", np.add, {"a": lambda g: g, "b": lambda g: g}, "a + b.", method=False, lowering="a + b", onnx="Add")
_sub = binary("sub", np.subtract, {"a": lambda g: g, "b": lambda g: -g}, "a - b.", method=False, lowering="a - b", onnx="Sub", raw=True)
mul = binary("mul", np.multiply, {"a": lambda g, b: g * cj(b), "b": lambda g, a: g * cj(a)}, "a * b.", aliases=["multiply"], lowering="a * b", onnx="Mul", raw=True)
_div = binary("div", np.true_divide, {"a": lambda g, b: g / cj(b), "b": lambda g, b, y: -g * cj(y / b)}, "a / b.", dtype="float", method=False, lowering="a / b", onnx="Div", raw=True)
pow = binary("pow", _pow, {"a": _pow_base, "b": _pow_exponent}, "a to the power b.", lowering="pow(a, b)", onnx="Pow", raw={"a": _raw_pow_base})
floor_divide = binary("floor_divide", np.floor_divide, {"a": lambda g: g * 0, "b": lambda g: g * 0}, "a / b rounded down.", lowering="floor(a / b)")
_trunc_divide = binary("trunc_divide", _truncate, {"a": lambda g: g * 0, "b": lambda g: g * 0}, "a / b rounded towards 0.", method=False)
remainder = binary("remainder", np.remainder, {"a": lambda g: g, "b": _floor_quotient}, "a - b * floor(a / b): has b's sign.", lowering="a - b * floor(a / b)", onnx="Mod")
fmod = binary("fmod", np.fmod, {"a": lambda g: g, "b": _trunc_quotient}, "a - b * trunc(a / b): has a's sign.", lowering="fmod(a, b)")
atan2 = binary("atan2", np.arctan2, {"a": lambda g, a, b: g * (b / (a * a + b * b)), "b": lambda g, a, b: g * (-a / (a * a + b * b))}, "The angle of the point (b, a), in (-pi, pi].", dtype="float", aliases=["arctan2"])
hypot = binary("hypot", np.hypot, {"a": lambda g, a, y: g * (a / y), "b": lambda g, b, y: g * (b / y)}, "sqrt(a*a + b*b) without overflow.")
maximum = binary("maximum", np.maximum, {"a": _larger, "b": lambda g, a, b: _larger(g, b, a)}, "The larger; nan wins; equal operands share the gradient.", lowering="fmax(a, b)", onnx="Max")
minimum = binary("minimum", np.minimum, {"a": _smaller, "b": lambda g, a, b: _smaller(g, b, a)}, "The smaller; nan wins; equal operands share the gradient.", lowering="fmin(a, b)", onnx="Min")
fmax = binary("fmax", np.fmax, {"a": lambda g, a, b: g * ((a >= b) | _nan(b)), "b": lambda g, a, b: g * ~((a >= b) | _nan(b))}, "The larger; a number wins over nan.")
fmin = binary("fmin", np.fmin, {"a": lambda g, a, b: g * ((a <= b) | _nan(b)), "b": lambda g, a, b: g * ~((a <= b) | _nan(b))}, "The smaller; a number wins over nan.")
copysign = binary("copysign", np.copysign, {"a": lambda g, a, y: g * (a.sign() * y.sign()), "b": lambda g: g * 0}, "|a| with b's sign.", dtype="float")
nextafter = binary("nextafter", np.nextafter, {"a": lambda g: g, "b": lambda g: g * 0}, "The next number after a towards b.")
logaddexp = binary("logaddexp", log_of_sum, {"a": lambda g, a, b: g * cj((a - b).sigmoid()), "b": lambda g, a, b: g * cj((b - a).sigmoid())}, "log(exp(a) + exp(b)) without overflow.")
logaddexp2 = binary("logaddexp2", np.logaddexp2, {"a": lambda g, a, b: g * ((a - b) * LN2).sigmoid(), "b": lambda g, a, b: g * ((b - a) * LN2).sigmoid()}, "log2(2**a + 2**b) without overflow.")
heaviside = binary("heaviside", _heaviside, {}, "0 below 0, b at 0, 1 above.")
gcd = binary("gcd", np.gcd, {}, "The greatest common divisor of integers.")
lcm = binary("lcm", np.lcm, {}, "The least common multiple of integers.")
ldexp = binary("ldexp", lambda a, b: a * np.exp2(b).astype(a.dtype, copy=False), {"a": lambda g, b: g * (b * LN2).exp(), "b": lambda g, y: g * cj(y * LN2)}, "a * 2**b.", dtype="float")

eq = binary("eq", np.equal, {}, "a == b.", aliases=[], lowering="a == b", onnx="Equal")
ne = binary("ne", np.not_equal, {}, "a != b.", aliases=["not_equal"], lowering="a != b")
lt = binary("lt", np.less, {}, "a < b.", aliases=["less"], lowering="a < b", onnx="Less")
le = binary("le", np.less_equal, {}, "a <= b.", aliases=["less_equal"], lowering="a <= b", onnx="LessOrEqual")
gt = binary("gt", np.greater, {}, "a > b.", aliases=["greater"], lowering="a > b", onnx="Greater")
ge = binary("ge", np.greater_equal, {}, "a >= b.", aliases=["greater_equal"], lowering="a >= b", onnx="GreaterOrEqual")
logical_and = binary("logical_and", np.logical_and, {}, "True where both are nonzero.", onnx="And")
logical_or = binary("logical_or", np.logical_or, {}, "True where either is nonzero.", onnx="Or")
logical_xor = binary("logical_xor", np.logical_xor, {}, "True where just one is nonzero.", onnx="Xor")
bitwise_and = binary("bitwise_and", np.bitwise_and, {}, "Bits set in both integers; logical and of bools.")
bitwise_or = binary("bitwise_or", np.bitwise_or, {}, "Bits set in either integer; logical or of bools.")
bitwise_xor = binary("bitwise_xor", np.bitwise_xor, {}, "Bits set in just one integer; logical xor of bools.")
bitwise_left_shift = binary("bitwise_left_shift", np.left_shift, {}, "a shifted left by b bits.")
bitwise_right_shift = binary("bitwise_right_shift", np.right_shift, {}, "a shifted right by b bits, keeping the sign.")
# fmt: on
multiply, arctan2, not_equal, less, less_equal, greater, greater_equal = mul, atan2, ne, lt, le, gt, ge


@composite(inplace=True)
def add(a: Any, b: Any, *, alpha: float = 1) -> Tensor:
    """``a + alpha * b``, broadcast."""
    return _add(a, b) if alpha == 1 and alpha is not True else _add(a, mul(b, alpha))


@composite(inplace=True, aliases=["subtract"])
def sub(a: Any, b: Any, *, alpha: float = 1) -> Tensor:
    """``a - alpha * b``, broadcast."""
    return _sub(a, b) if alpha == 1 and alpha is not True else _sub(a, mul(b, alpha))


@composite()
def rsub(a: Any, b: Any, *, alpha: float = 1) -> Tensor:
    """``b - alpha * a``, broadcast."""
    return sub(b, a, alpha=alpha)


@composite(inplace=True, aliases=["divide"])
def div(a: Any, b: Any, *, rounding_mode: str | None = None) -> Tensor:
    """``a / b``; with ``rounding_mode`` "floor" or "trunc" the rounded quotient, which keeps integers."""
    if rounding_mode is None:
        return _div(a, b)
    if rounding_mode == "floor":
        return floor_divide(a, b)
    if rounding_mode == "trunc":
        return _trunc_divide(a, b)
    msg = f"div: expected rounding_mode None, 'floor' or 'trunc', got {rounding_mode!r}"
    raise RuntimeError(msg)


@composite(inplace=True)
def true_divide(a: Any, b: Any) -> Tensor:
    """``a / b``, always a float."""
    return _div(a, b)


subtract, divide = sub, div


@composite(inplace=True)
def float_power(a: Any, b: Any) -> Tensor:
    """``a ** b`` in float64 (complex128)."""

    def wide(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return complex(x) if isinstance(x, complex) else float(as_operand(x, "float_power"))
        return x.to(dtypes.complex128 if x.is_complex() else dtypes.float64)

    a, b = wide(a), wide(b)
    if not isinstance(a, Tensor):
        a = b.new_tensor(a, dtype=dtypes.complex128 if isinstance(a, complex) else b.dtype)
    return pow(a, b)


@composite(inplace=True)
def xlogy(a: Any, b: Any) -> Tensor:
    """``a * log(b)``, 0 where a is 0 (unless b is nan)."""
    if not isinstance(b, Tensor):
        b = a.new_tensor(as_operand(b, "xlogy"), dtype=a.dtype if a.is_floating_point() else None)
    inside = b.log()
    zero = (a == 0) if isinstance(a, Tensor) else inside.new_full((), a == 0, dtype=dtypes.bool_)
    return mul(inside.masked_fill(zero & ~b.isnan(), 0), a)


@operator({"start": lambda g, weight: g * cj(1 - weight), "end": lambda g, weight: g * cj(weight), "weight": lambda g, start, end: g * cj(end - start)}, dtype="promote", inplace=True)  # fmt: skip
def lerp(start: Array, end: Array, weight: Array) -> Array:
    """``start + weight * (end - start)``, by the formula exact at both ends."""
    return np.where(np.abs(weight) < 0.5, start + weight * (end - start), end - (end - start) * (1 - weight))


@composite(inplace=True)
def addcmul(x: Any, a: Any, b: Any, *, value: float = 1) -> Tensor:
    """``x + value * a * b``."""
    return _add(x, mul(mul(a, b), value) if value != 1 else mul(a, b))


@composite(inplace=True)
def addcdiv(x: Any, a: Any, b: Any, *, value: float = 1) -> Tensor:
    """``x + value * a / b``."""
    return _add(x, _div(mul(a, value) if value != 1 else a, b))


@operator({"x": lambda g, x, low, high: g * _inside(x, low, high), "low": lambda g, x, low, high: g * _below(x, low, high), "high": lambda g, x, low, high: g * ((x > high) if low is None else (x > high) | (high < low))}, dtype="promote", inplace=True, method=False)  # fmt: skip
def clamp_tensors(x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    """`clamp` with broadcast tensor bounds."""
    if low is not None and high is not None and x.size > 4096 and x.dtype.kind == "f":
        return np.clip(x, low, high)  # one pass
    if low is not None:
        x = np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _inside(x: Tensor, low: Any, high: Any) -> Any:
    if low is None:
        return x <= high
    return (x >= low) if high is None else (x >= low) & (x <= high)


def _below(x: Tensor, low: Any, high: Any) -> Any:
    return (x < low) if high is None else (x < low) & (low < high)


@composite(inplace=True, aliases=["clip"])
def clamp(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """x limited to [min, max]; either may be None, a number or a tensor. The gradient passes inside the bounds, ends included."""
    if min is None and max is None:
        msg = "clamp: expected min or max, got neither"
        raise RuntimeError(msg)
    return clamp_tensors(x, min, max)


clip = clamp


@composite(inplace=True)
def clamp_min(x: Any, min: Any) -> Tensor:
    """x, but at least ``min``."""
    return clamp_tensors(x, min, None)


@composite(inplace=True)
def clamp_max(x: Any, max: Any) -> Tensor:
    """x, but at most ``max``."""
    return clamp_tensors(x, None, max)


@operator(
    {"condition": None, "a": lambda g, condition: g * condition, "b": lambda g, condition: g * ~condition},
    method=False,
    onnx="Where",
)
def select_where(condition: Array, a: Array, b: Array) -> Array:
    """The operator behind `where`: operands of one dtype."""
    if a.size >= 4096 and condition.shape == a.shape == b.shape and a.dtype.itemsize in _BITS and _contiguous(condition, a, b):
        return _choose_bits(condition, a, b)
    return np.where(condition, a, b)


#: Integers as wide as an element.
_BITS = {4: np.int32, 8: np.int64}


def _contiguous(*arrays: Array) -> bool:
    return all(x.flags.c_contiguous for x in arrays)


def _choose_bits(condition: Array, a: Array, b: Array) -> Array:
    """``where`` on the bits of the elements, without a branch that a processor could guess wrong: seven times as fast on a random mask."""
    integer = _BITS[a.dtype.itemsize]
    ones = np.negative(condition.view(np.int8)).astype(integer)  # all bits where the condition holds
    theirs = b.view(integer)
    r = a.view(integer) ^ theirs
    r &= ones
    r ^= theirs
    return r.view(a.dtype)


@composite(method=False)
def where(condition: Any, a: Any = None, b: Any = None) -> Any:
    """``a`` where the condition holds, else ``b``, broadcast; with the condition alone, the indices where it holds."""
    if a is None and b is None:
        return condition.nonzero(as_tuple=True)
    if condition.dtype is not dtypes.bool_:
        condition = condition != 0
    operands = [
        x._array if isinstance(x, Tensor) else x if isinstance(x, (int, float, complex)) else as_operand(x, "where")
        for x in (a, b)
    ]
    d = dtypes.as_dtype(dtypes.result_dtype(tuple(operands)))
    a, b = (x.to(d) if isinstance(x, Tensor) else condition.new_tensor(x, dtype=d) for x in (a, b))
    return select_where(condition, a, b)


def _where_method(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    chosen: Tensor = where(condition, self, other)
    return chosen


attach(where=_where_method)


@operator({"x": lambda g, mask: g.masked_fill(mask, 0), "mask": None, "value": lambda g, mask: (g * mask).sum()}, inplace=True)
def masked_fill(x: Array, mask: Array, value: Array) -> Array:
    """x with ``value`` (a number or a 0-d tensor) where ``mask`` is true."""
    if mask.dtype != bool:
        msg = f"masked_fill: expected a bool mask, got {mask.dtype}"
        raise RuntimeError(msg)
    return np.where(mask, np.asarray(value, dtype=x.dtype, like=x), x)


@composite()
def isclose(a: Tensor, b: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """True where ``|a - b| <= atol + rtol * |b|``."""
    return Tensor(as_array(np.isclose(a._array, b._array, rtol=rtol, atol=atol, equal_nan=equal_nan)))


@composite()
def allclose(a: Tensor, b: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether `isclose` holds everywhere."""
    return bool(np.allclose(a._array, b._array, rtol=rtol, atol=atol, equal_nan=equal_nan))


@composite()
def equal(a: Tensor, b: Tensor) -> bool:
    """Whether both have the same shape and elements."""
    return bool(a._array.shape == b._array.shape and np.array_equal(a._array, b._array))


def _reflected(f: Any) -> Any:
    return lambda self, other: f(other, self)


_DUNDERS: dict[str, Any] = {
    "add": _add, "sub": _sub, "mul": mul, "truediv": _div, "floordiv": floor_divide, "mod": remainder, "pow": pow,
    "and": bitwise_and, "or": bitwise_or, "xor": bitwise_xor, "lshift": bitwise_left_shift, "rshift": bitwise_right_shift,
}  # fmt: skip
for _name, _f in _DUNDERS.items():
    setattr(Tensor, f"__{_name}__", _f)
    setattr(Tensor, f"__r{_name}__", _reflected(_f))
attach(__div__=_div, __rdiv__=_reflected(_div))
for _name, _ufunc in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.true_divide}.items():
    setattr(Tensor, f"{_name}_", written_in_place(_ufunc, getattr(Tensor, f"{_name}_"), scales=_name in ("add", "sub")))
for _name, _method in {
    "add": "add_",
    "sub": "sub_",
    "mul": "mul_",
    "truediv": "div_",
    "floordiv": "floor_divide_",
    "mod": "remainder_",
    "pow": "pow_",
    "and": "bitwise_and_",
    "or": "bitwise_or_",
    "xor": "bitwise_xor_",
}.items():
    setattr(Tensor, f"__i{_name}__", getattr(Tensor, _method))
for _name, _f in {"lt": lt, "le": le, "gt": gt, "ge": ge}.items():
    setattr(Tensor, f"__{_name}__", _f)


def _equals(f: Any, otherwise: bool) -> Any:
    def compare(self: Tensor, other: Any) -> Any:
        return f(self, other) if is_operand(other) else otherwise

    return compare


attach(__eq__=_equals(eq, False), __ne__=_equals(ne, True))
