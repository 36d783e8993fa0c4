"""Elementwise operators of one tensor.

Each line is the whole operator: name, forward, gradient rule, what it computes, its scalar expression for a compiler, its ONNX name.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.complex_numbers import angle, cj, conj, imag, real, sgn
from tensor.ops.elementwise import unary
from tensor.ops.record import Array, attach, operator

__all__ = [
    "abs", "absolute", "acos", "acosh", "angle", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "asin",
    "asinh", "atan", "atanh", "bitwise_not", "ceil", "clone", "conj", "cos", "cosh", "deg2rad", "exp", "exp2", "expm1", "fix", "floor",
    "frac", "frexp", "imag", "isfinite", "isinf", "isnan", "isneginf", "isposinf", "isreal", "log", "log1p", "log2", "log10",
    "logical_not", "nan_to_num", "neg", "negative", "positive", "rad2deg", "real", "reciprocal", "relu", "round", "rsqrt", "sgn",
    "sigmoid", "sign", "signbit", "sin", "sinc", "sinh", "sqrt", "square", "tan", "tanh", "trunc",
]  # fmt: skip

LN2, LN10 = math.log(2), math.log(10)


def _tanh_rule(g: Tensor, y: Tensor) -> Tensor:
    return tanh_slope(g, cj(y))


def _raw_tanh_rule(g: Array, y: Array) -> Array:
    if not y.ndim:
        return _tanh_rule(Tensor(g), Tensor(y))
    r = y * y
    np.subtract(1, r, r)
    r *= g
    return r


def _raw_sigmoid_rule(g: Array, y: Array) -> Array:
    if not y.ndim:
        return _sigmoid_rule(Tensor(g), Tensor(y))
    r = 1 - y
    r *= y
    r *= g
    return r


def _sigmoid_rule(g: Tensor, y: Tensor) -> Tensor:
    return sigmoid_slope(g, cj(y))


def zero(g: Tensor) -> Tensor:
    """The gradient of a piecewise constant function."""
    return g * 0


def _whole(ufunc: Any) -> Any:
    """Rounding leaves integers as they are (NumPy would turn them into floats)."""
    return lambda x: ufunc(x) if x.dtype.kind in "fc" else x.copy()


def sigmoid_of(x: Array) -> Array:
    """``1 / (1 + exp(-x))`` of a raw array."""
    # tanh keeps both tails exact and never overflows.
    if not x.ndim:
        return 0.5 * np.tanh(0.5 * x) + 0.5
    r = x * 0.5
    np.tanh(r, out=r)
    r *= 0.5
    r += 0.5
    return r


def _relu(x: Array) -> Array:
    # Large arrays are clipped in a quarter of the time.
    return np.clip(x, 0, np.inf) if x.size > 4096 and x.dtype.kind == "f" else np.maximum(x, 0)


def _raw_relu_rule(g: Array, y: Array) -> Array:
    return g * (y > 0) if y.ndim else Tensor(g) * (Tensor(y) > 0)


def _rsqrt(x: Array) -> Array:
    return np.reciprocal(np.sqrt(x))


def _reciprocal(x: Array) -> Array:
    return 1 / x


def _exp2(x: Array) -> Array:
    return np.exp2(x) if x.dtype.kind != "c" else np.exp(x * LN2)


def _acosh_rule(g: Tensor, x: Tensor) -> Tensor:
    if x._array.dtype.kind != "c":
        return g * (x * x - 1).rsqrt()
    return g * ((x - 1).rsqrt() * (x + 1).rsqrt()).conj()  # the root of the product has another branch


def _abs_rule(g: Tensor, x: Tensor) -> Tensor:
    return g * x.sgn()


def _sinc_rule(g: Tensor, x: Tensor) -> Tensor:
    x = cj(x)
    px = x * math.pi
    near = x == 0
    safe = px.masked_fill(near, 1.0)
    slope = (safe.cos() * safe - safe.sin()) / (safe * safe) * math.pi
    # The series at 0 keeps the second derivative there: -pi^2/3.
    return g * slope.where(~near, x * (-(math.pi**2) / 3))


# fmt: off
sin = unary("sin", np.sin, lambda g, x: g * cj(x).cos(), "Sine, x in radians.", lowering="sin(x)", onnx="Sin")
cos = unary("cos", np.cos, lambda g, x: g * -cj(x).sin(), "Cosine, x in radians.", lowering="cos(x)", onnx="Cos")
tan = unary("tan", np.tan, lambda g, y: g * (1 + cj(y * y)), "Tangent, x in radians.", lowering="tan(x)", onnx="Tan")
asin = unary("asin", np.arcsin, lambda g, x: g * (1 - cj(x * x)).rsqrt(), "Inverse sine, in [-pi/2, pi/2].", aliases=["arcsin"], onnx="Asin")
acos = unary("acos", np.arccos, lambda g, x: -g * (1 - cj(x * x)).rsqrt(), "Inverse cosine, in [0, pi].", aliases=["arccos"], onnx="Acos")
atan = unary("atan", np.arctan, lambda g, x: g / (1 + cj(x * x)), "Inverse tangent, in [-pi/2, pi/2].", aliases=["arctan"], lowering="atan(x)", onnx="Atan")
sinh = unary("sinh", np.sinh, lambda g, x: g * cj(x).cosh(), "Hyperbolic sine.", lowering="(exp(x) - exp(-x)) / 2", onnx="Sinh")
cosh = unary("cosh", np.cosh, lambda g, x: g * cj(x).sinh(), "Hyperbolic cosine.", lowering="(exp(x) + exp(-x)) / 2", onnx="Cosh")
tanh = unary("tanh", np.tanh, _tanh_rule, "Hyperbolic tangent.", lowering="tanh(x)", onnx="Tanh", raw=_raw_tanh_rule)
asinh = unary("asinh", np.arcsinh, lambda g, x: g * (cj(x * x) + 1).rsqrt(), "Inverse hyperbolic sine.", aliases=["arcsinh"], onnx="Asinh")
acosh = unary("acosh", np.arccosh, _acosh_rule, "Inverse hyperbolic cosine, x >= 1.", aliases=["arccosh"], onnx="Acosh")
atanh = unary("atanh", np.arctanh, lambda g, x: g / (1 - cj(x * x)), "Inverse hyperbolic tangent, |x| <= 1.", aliases=["arctanh"], onnx="Atanh")
exp = unary("exp", np.exp, lambda g, y: g * cj(y), "e to the power x.", lowering="exp(x)", onnx="Exp", raw=True)
exp2 = unary("exp2", _exp2, lambda g, y: g * cj(y) * LN2, "2 to the power x.", lowering="exp(x * 0.6931471805599453)")
expm1 = unary("expm1", np.expm1, lambda g, y: g * (cj(y) + 1), "exp(x) - 1, exact near 0.", lowering="expm1(x)", raw=True)
log = unary("log", np.log, lambda g, x: g / cj(x), "Natural logarithm; -inf at 0, nan below.", lowering="log(x)", onnx="Log", raw=True)
log2 = unary("log2", np.log2, lambda g, x: g / (cj(x) * LN2), "Logarithm to base 2.", lowering="log(x) * 1.4426950408889634")
log10 = unary("log10", np.log10, lambda g, x: g / (cj(x) * LN10), "Logarithm to base 10.", lowering="log(x) * 0.4342944819032518")
log1p = unary("log1p", np.log1p, lambda g, x: g / (1 + cj(x)), "log(1 + x), exact near 0.", lowering="log1p(x)", raw=True)
sqrt = unary("sqrt", np.sqrt, lambda g, y: g / (2 * cj(y)), "Square root.", lowering="sqrt(x)", onnx="Sqrt", raw=True)
rsqrt = unary("rsqrt", _rsqrt, lambda g, y: g * (-0.5 * cj(y * y * y)), "1 / sqrt(x).", lowering="1 / sqrt(x)")
square = unary("square", lambda x: np.square(x) if x.dtype.kind != "b" else x.astype(np.int64), lambda g, x: g * cj(x) * 2, "x * x.", dtype="same", lowering="x * x", raw=True)
reciprocal = unary("reciprocal", _reciprocal, lambda g, y: -g * cj(y * y), "1 / x.", lowering="1 / x", onnx="Reciprocal", raw=True)
sigmoid = unary("sigmoid", sigmoid_of, _sigmoid_rule, "1 / (1 + exp(-x)).", lowering="1 / (1 + exp(-x))", onnx="Sigmoid", raw=_raw_sigmoid_rule)
sinc = unary("sinc", np.sinc, _sinc_rule, "sin(pi x) / (pi x), 1 at 0.")
deg2rad = unary("deg2rad", lambda x: x * (math.pi / 180), lambda g: g * (math.pi / 180), "Degrees to radians.", lowering="x * 0.017453292519943295")
rad2deg = unary("rad2deg", lambda x: x * (180 / math.pi), lambda g: g * (180 / math.pi), "Radians to degrees.", lowering="x * 57.29577951308232")

neg = unary("neg", np.negative, lambda g: -g, "-x.", dtype="same", aliases=["negative"], lowering="-x", onnx="Neg", raw=True)
abs = unary("abs", np.absolute, _abs_rule, "|x|; the gradient at 0 is 0.", dtype="same", aliases=["absolute"], lowering="fabs(x)", onnx="Abs")
sign = unary("sign", lambda x: np.sign(x) if x.dtype.kind != "b" else x.copy(), zero, "-1, 0 or 1.", dtype="same", onnx="Sign")
floor = unary("floor", _whole(np.floor), zero, "The largest whole number <= x.", dtype="same", lowering="floor(x)", onnx="Floor")
ceil = unary("ceil", _whole(np.ceil), zero, "The smallest whole number >= x.", dtype="same", lowering="ceil(x)", onnx="Ceil")
trunc = unary("trunc", _whole(np.trunc), zero, "x without its fraction.", dtype="same", aliases=["fix"], lowering="trunc(x)")
frac = unary("frac", lambda x: x - np.trunc(x), lambda g: g, "The fraction of x, with its sign.", dtype="same", lowering="x - trunc(x)")
relu = unary("relu", _relu, lambda g, y: g * (y > 0), "max(x, 0).", dtype="same", lowering="fmax(x, 0)", onnx="Relu", raw=_raw_relu_rule)
clone = unary("clone", lambda x: x.copy(order="K"), lambda g: g, "A copy that the gradient passes through.", dtype="same", inplace=False, onnx="Identity")
positive = unary("positive", np.positive, lambda g: g, "A copy of x.", dtype="same", inplace=False)

logical_not = unary("logical_not", np.logical_not, None, "True where x is zero.", dtype="same", onnx="Not")
bitwise_not = unary("bitwise_not", np.invert, None, "Every bit flipped; logical not of bools.", dtype="same")
isnan = unary("isnan", np.isnan, None, "True where x is not a number.", dtype="same", inplace=False, onnx="IsNaN")
isinf = unary("isinf", np.isinf, None, "True where x is infinite.", dtype="same", inplace=False, onnx="IsInf")
isfinite = unary("isfinite", np.isfinite, None, "True where x is neither infinite nor nan.", dtype="same", inplace=False)
isposinf = unary("isposinf", lambda x: x == np.inf, None, "True where x is +inf.", dtype="same", inplace=False)
isneginf = unary("isneginf", lambda x: x == -np.inf, None, "True where x is -inf.", dtype="same", inplace=False)
isreal = unary("isreal", lambda x: np.isreal(x), None, "True where the imaginary part is zero.", dtype="same", inplace=False)
signbit = unary("signbit", lambda x: np.signbit(x) if x.dtype.kind == "f" else x < 0, None, "True where the sign bit is set, also for -0.", dtype="same", inplace=False)
# fmt: on

absolute, arcsin, arccos, arctan = abs, asin, acos, atan
arcsinh, arccosh, arctanh, negative, fix = asinh, acosh, atanh, neg, trunc


@operator({"g": lambda gg, value: gg.tanh_slope(cj(value)), "value": lambda gg, g, value: gg * cj(g * value) * -2})
def tanh_slope(g: Array, value: Array) -> Array:
    """``g * (1 - value**2)``: the gradient of tanh, in one piece of fresh memory."""
    r = value * value
    r = np.subtract(1, r, out=r if r.ndim else None)
    r *= g
    return r


def _sigmoid_slope_g(gg: Tensor, value: Tensor) -> Tensor:
    return sigmoid_slope(gg, cj(value))


def _sigmoid_slope_value(gg: Tensor, g: Tensor, value: Tensor) -> Tensor:
    return gg * cj(g * (1 - 2 * value))


@operator({"g": _sigmoid_slope_g, "value": _sigmoid_slope_value}, method=False)
def sigmoid_slope(g: Array, value: Array) -> Array:
    """``g * value * (1 - value)``: the gradient of sigmoid."""
    r = 1 - value
    r *= value
    r *= g
    return r


@operator({"x": lambda g: zero(g)}, inplace=True, onnx="Round")
def round(x: Array, decimals: int = 0) -> Array:
    """Round half to even, to ``decimals`` places (negative: tens, hundreds, ...)."""
    if x.dtype.kind != "f":
        return x.copy()
    if not decimals:
        return np.rint(x)
    scale = x.dtype.type(10.0 ** max(decimals, -decimals))
    return np.rint(x * scale) / scale if decimals > 0 else np.rint(x / scale) * scale


@operator({"x": lambda g, y: None if g[0] is None else g[0] / y[1].to(g[0].dtype).exp2()}, outputs=2)
def frexp(x: Array) -> tuple[Array, Array]:
    """The pair (mantissa, exponent) with ``x = mantissa * 2**exponent`` and ``0.5 <= |mantissa| < 1``; the exponent is int32.

    >>> import tensor as T
    >>> T.frexp(T.tensor([8.0, 0.3]))
    (tensor([0.5000, 0.6000]), tensor([ 4, -1], dtype=tensor.int32))
    """
    if x.dtype.kind != "f":
        msg = f"frexp: expected a floating-point tensor, got {x.dtype}"
        raise RuntimeError(msg)
    return np.frexp(x)


@operator({"x": lambda g, x: g * x.isfinite()}, inplace=True)
def nan_to_num(x: Array, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Array:
    """Replace nan, +inf and -inf; the infinities by the largest finite numbers unless told otherwise."""
    return np.nan_to_num(x, nan=nan or 0.0, posinf=posinf, neginf=neginf) if x.dtype.kind in "fc" else x.copy()


attach(__neg__=neg, __abs__=abs, __invert__=bitwise_not, __pos__=positive)
