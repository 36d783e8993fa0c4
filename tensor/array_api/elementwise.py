"""Elementwise functions: a line each, with the kinds of dtype that it takes."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from tensor.array_api.array import Array, as_array, promoted, standard
from tensor.array_api.array import floor_divide as floor_quotient
from tensor.array_api.data_types import KINDS, iinfo, isdtype
from tensor.autograd.tensor import Tensor
from tensor.ops import binary as b
from tensor.ops import complex_numbers as c
from tensor.ops import unary as u

__all__ = [
    "abs", "acos", "acosh", "add", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and", "bitwise_invert",
    "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "clip", "conj", "copysign", "cos", "cosh",
    "divide", "equal", "exp", "expm1", "floor", "floor_divide", "greater", "greater_equal", "hypot", "imag", "isfinite", "isinf",
    "isnan", "less", "less_equal", "log", "log1p", "log2", "log10", "logaddexp", "logical_and", "logical_not", "logical_or",
    "logical_xor", "maximum", "minimum", "multiply", "negative", "nextafter", "not_equal", "positive", "pow", "real",
    "reciprocal", "remainder", "round", "sign", "signbit", "sin", "sinh", "sqrt", "square", "subtract", "tan", "tanh", "trunc",
]  # fmt: skip

INTEGERS_AND_BOOL = ("bool", "integral")
REAL = ("integral", "real floating")
FLOATS = ("real floating", "complex floating")
NUMERIC = "numeric"
ALL = ("bool", "numeric")


def check(who: str, kinds: KINDS, *operands: Any) -> None:
    """Raise TypeError for an array whose dtype is of no such kind."""
    for x in operands:
        if isinstance(x, Tensor) and not isdtype(x.dtype, kinds):
            wanted = kinds if isinstance(kinds, str) else " or ".join(map(str, kinds))
            msg = f"{who}: expected an array of a dtype that is {wanted}, got {x.dtype}"
            raise TypeError(msg)


def _unary(name: str, kinds: KINDS, f: Callable[..., Any], doc: str) -> Callable[[Tensor], Array]:
    def function(x: Tensor, /) -> Array:
        if not isinstance(x, Tensor):
            msg = f"{name}: expected an array, got {type(x).__name__}"
            raise TypeError(msg)
        check(name, kinds, x)
        return as_array(f(x), (x,))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _binary(name: str, kinds: KINDS, f: Callable[..., Any], doc: str) -> Callable[[Any, Any], Array]:
    def function(x1: Tensor | complex, x2: Tensor | complex, /) -> Array:
        check(name, kinds, x1, x2)
        return as_array(f(*promoted(name, x1, x2)))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


# --- where the standard asks for more than NumPy gives -----------------------------------------------------------------


def _round_parts(x: Tensor) -> Tensor:
    return c.complex(u.round(c.real(x)), u.round(c.imag(x))) if x.is_complex() else u.round(x)


def _expm1(x: Tensor) -> Tensor:
    """Where NumPy's complex expm1 is nan, or its zero has the wrong sign: ``exp(x) - 1``, which is C99's there."""
    y = u.expm1(x)
    if not x.is_complex():
        return y
    special = ~x.isfinite() | (x == 0)
    return y.where(~special, u.exp(x) - 1) if bool(special.any()) else y


def _tanh(x: Tensor) -> Tensor:
    """At an infinite real part the limit is ±1 with a zero of the imaginary part's sign; C takes that sign from sin(2 imag)."""
    y = u.tanh(x)
    if not x.is_complex():
        return y
    re, im = c.real(x.detach()), c.imag(x.detach())
    far = re.isinf()
    return y.where(~far, c.complex(re.sign(), b.copysign(im.new_zeros(im.shape), im))) if bool(far.any()) else y


# --- the table -------------------------------------------------------------------------------------------------------

# fmt: off
abs = _unary("abs", NUMERIC, u.abs, "The absolute value; of complex numbers the modulus, real.")
acos = _unary("acos", FLOATS, u.acos, "Inverse cosine.")
acosh = _unary("acosh", FLOATS, u.acosh, "Inverse hyperbolic cosine.")
asin = _unary("asin", FLOATS, u.asin, "Inverse sine.")
asinh = _unary("asinh", FLOATS, u.asinh, "Inverse hyperbolic sine.")
atan = _unary("atan", FLOATS, u.atan, "Inverse tangent.")
atanh = _unary("atanh", FLOATS, u.atanh, "Inverse hyperbolic tangent.")
bitwise_invert = _unary("bitwise_invert", INTEGERS_AND_BOOL, u.bitwise_not, "Every bit flipped.")
ceil = _unary("ceil", REAL, u.ceil, "The smallest whole number that is not less.")
conj = _unary("conj", NUMERIC, c.conj, "The complex conjugate.")
cos = _unary("cos", FLOATS, u.cos, "Cosine.")
cosh = _unary("cosh", FLOATS, u.cosh, "Hyperbolic cosine.")
exp = _unary("exp", FLOATS, u.exp, "e to the power x.")
expm1 = _unary("expm1", FLOATS, _expm1, "``exp(x) - 1``, exact near 0.")
floor = _unary("floor", REAL, u.floor, "The greatest whole number that is not greater.")
imag = _unary("imag", "complex floating", c.imag, "The imaginary part.")
isfinite = _unary("isfinite", NUMERIC, u.isfinite, "True where finite.")
isinf = _unary("isinf", NUMERIC, u.isinf, "True where infinite.")
isnan = _unary("isnan", NUMERIC, u.isnan, "True where not a number.")
log = _unary("log", FLOATS, u.log, "Natural logarithm.")
log1p = _unary("log1p", FLOATS, u.log1p, "``log(1 + x)``, exact near 0.")
log2 = _unary("log2", FLOATS, u.log2, "Logarithm to base 2.")
log10 = _unary("log10", FLOATS, u.log10, "Logarithm to base 10.")
logical_not = _unary("logical_not", ALL, u.logical_not, "True where zero or False.")
negative = _unary("negative", NUMERIC, u.neg, "``-x``.")
positive = _unary("positive", NUMERIC, u.positive, "``+x``, a copy.")
real = _unary("real", NUMERIC, c.real, "The real part.")
reciprocal = _unary("reciprocal", FLOATS, u.reciprocal, "``1 / x``.")
round = _unary("round", NUMERIC, _round_parts, "The nearest whole number, halves to the even one; of complex numbers each part.")
sign = _unary("sign", NUMERIC, c.sgn, "-1, 0 or 1; of complex numbers ``x / abs(x)``.")
signbit = _unary("signbit", "real floating", u.signbit, "True where the sign bit is set, also for -0.")
sin = _unary("sin", FLOATS, u.sin, "Sine.")
sinh = _unary("sinh", FLOATS, u.sinh, "Hyperbolic sine.")
sqrt = _unary("sqrt", FLOATS, u.sqrt, "The principal square root.")
square = _unary("square", NUMERIC, u.square, "``x * x``.")
tan = _unary("tan", FLOATS, u.tan, "Tangent.")
tanh = _unary("tanh", FLOATS, _tanh, "Hyperbolic tangent.")
trunc = _unary("trunc", REAL, u.trunc, "Without the fraction.")

add = _binary("add", NUMERIC, b.add, "``x1 + x2``.")
atan2 = _binary("atan2", "real floating", b.atan2, "The angle of the point (x2, x1), in [-pi, pi].")
bitwise_and = _binary("bitwise_and", INTEGERS_AND_BOOL, b.bitwise_and, "``x1 & x2``.")
bitwise_left_shift = _binary("bitwise_left_shift", "integral", b.bitwise_left_shift, "``x1 << x2``.")
bitwise_or = _binary("bitwise_or", INTEGERS_AND_BOOL, b.bitwise_or, "``x1 | x2``.")
bitwise_right_shift = _binary("bitwise_right_shift", "integral", b.bitwise_right_shift, "``x1 >> x2``, keeping the sign.")
bitwise_xor = _binary("bitwise_xor", INTEGERS_AND_BOOL, b.bitwise_xor, "``x1 ^ x2``.")
copysign = _binary("copysign", "real floating", b.copysign, "The magnitude of x1 with the sign of x2.")
divide = _binary("divide", NUMERIC, b.div, "``x1 / x2``; integers divide as floats.")
equal = _binary("equal", ALL, b.eq, "``x1 == x2``.")
floor_divide = _binary("floor_divide", REAL, floor_quotient, "``floor(x1 / x2)``.")
greater = _binary("greater", REAL, b.gt, "``x1 > x2``.")
greater_equal = _binary("greater_equal", REAL, b.ge, "``x1 >= x2``.")
hypot = _binary("hypot", "real floating", b.hypot, "``sqrt(x1**2 + x2**2)`` without overflow.")
less = _binary("less", REAL, b.lt, "``x1 < x2``.")
less_equal = _binary("less_equal", REAL, b.le, "``x1 <= x2``.")
logaddexp = _binary("logaddexp", "real floating", b.logaddexp, "``log(exp(x1) + exp(x2))`` without overflow.")
logical_and = _binary("logical_and", ALL, b.logical_and, "True where both are true.")
logical_or = _binary("logical_or", ALL, b.logical_or, "True where either is true.")
logical_xor = _binary("logical_xor", ALL, b.logical_xor, "True where just one is true.")
maximum = _binary("maximum", REAL, b.maximum, "The larger; nan wins.")
minimum = _binary("minimum", REAL, b.minimum, "The smaller; nan wins.")
multiply = _binary("multiply", NUMERIC, b.mul, "``x1 * x2``.")
nextafter = _binary("nextafter", "real floating", b.nextafter, "The next number after x1 towards x2.")
not_equal = _binary("not_equal", ALL, b.ne, "``x1 != x2``.")
pow = _binary("pow", NUMERIC, b.pow, "``x1 ** x2``.")
remainder = _binary("remainder", REAL, b.remainder, "``x1 % x2``, with the sign of x2.")
subtract = _binary("subtract", NUMERIC, b.sub, "``x1 - x2``.")
# fmt: on


@standard
def clip(x: Tensor, /, min: Any = None, max: Any = None) -> Tensor:
    """x limited to [min, max]; the dtype stays that of x, whatever the bounds have.

    >>> from tensor import array_api as xp
    >>> xp.clip(xp.asarray([-5, 0, 5]), -1, 2)
    tensor([-1,  0,  2])
    """
    check("clip", REAL, x, min, max)
    low, high = _bound(x, min), _bound(x, max)
    return u.clone(x) if low is None and high is None else b.clamp(x, low, high)


def _bound(x: Tensor, bound: Any) -> Any:
    """A bound in x's dtype: what lies beyond the integers of that dtype limits nothing."""
    if bound is None or isinstance(bound, Tensor):
        return bound if bound is None else bound.to(x.dtype)
    if isdtype(x.dtype, "integral") and isinstance(bound, int):
        limits = iinfo(x.dtype)
        return builtins.min(builtins.max(bound, limits.min), limits.max)
    return bound
