"""Elementary functions as straight-line vector code, for float and double.

Each reduces its argument to a short interval, where a polynomial does the rest. The polynomials are weighted least-squares
fits of our own, made with 50 digits and near the minimax ones: their own error is a small part of a unit in the last place, so
that what remains is the rounding of the last few operations. Multiply-adds are fused throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tensor.jit.codegen.text import Lanes


@dataclass(frozen=True, slots=True)
class Format:
    """What differs between float and double."""

    mantissa: int
    bias: int
    smallest: float  # the smallest normal number
    exp_range: tuple[float, float]  # beyond it exp is 0 or infinite
    exp: tuple[float, ...]  # (e^r - 1 - r) / r^2 for |r| <= log(2)/2, in r
    log: tuple[float, ...]  # (2 atanh(s) - 2s) / s^3 for s = f/(2+f), 1+f in [sqrt(1/2), sqrt(2)], in s^2
    sin: tuple[float, ...]  # (sin r - r) / r^3 for |r| <= pi/2, in r^2
    log2: tuple[float, float]  # log(2), log10(2) and pi/2, each as a sum of numbers of the format
    log10_2: tuple[float, float]
    half_pi: tuple[float, float, float]
    trig_limit: float  # up to here three parts of pi/2 are enough
    libm: str  # the suffix of C's functions

    @property
    def magic(self) -> float:
        """Adding it rounds to an integer, which then sits in the low bits."""
        return 1.5 * 2.0**self.mantissa


FLOAT = Format(
    mantissa=23,
    bias=127,
    smallest=2.0**-126,
    exp_range=(-104.5, 89.0),
    exp=(
        0.500000007680543401,
        0.166666668081414524,
        0.0416662727295702343,
        0.0083332755895851768,
        0.00139459206591729643,
        0.000199126106299615225,
    ),
    log=(0.666666656354600287, 0.400003370448245856, 0.285372135566938872, 0.235836459226429927),
    sin=(
        -0.166666666259228128,
        0.00833333109891986842,
        -0.00019840866923325177,
        2.75253172573274899e-6,
        -2.38877054810173656e-8,
    ),
    log2=(0.693147182464599609375, -1.9046542121259336e-09),
    log10_2=(0.301030009984970093, -1.432098883924482e-08),
    half_pi=(1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    trig_limit=131072.0,
    libm="f",
)
DOUBLE = Format(
    mantissa=52,
    bias=1023,
    smallest=2.0**-1022,
    exp_range=(-746.0, 710.0),
    exp=(
        0.5, 0.16666666666666684, 0.0416666666666667254, 0.00833333333331659524, 0.00138888888888584615, 0.000198412698974269699,
        0.0000248015873733965455, 2.75572338674687569e-6, 2.7557233760770413e-7, 2.51123682046925433e-8, 2.09268045709954821e-9,
    ),
    log=(
        0.666666666666666609, 0.400000000000063363, 0.285714285690605167, 0.222222226502648595, 0.181817754074170996,
        0.153871014396604146, 0.132498872590721673, 0.132533597122886958,
    ),
    sin=(
        -0.166666666666666656, 0.00833333333333319327, -0.00019841269841208835, 2.75573192110700341e-6, -2.50521068665153506e-8,
        1.60589393834026737e-10, -7.64298293206151477e-13, 2.721083172258141e-15,
    ),
    log2=(0.693147180559945309, 2.3190468138462996e-17),
    log10_2=(0.301029995663981195, -2.8037281277851704e-18),
    half_pi=(1.57079632679489662, 6.12323399573676604e-17, -1.49738490485916983e-33),
    trig_limit=2.0**24,
    libm="",
)  # fmt: skip
ERF_BELOW_1 = (
    1.12837916706289044, -0.37612638481293405, 0.112837827082192501, -0.0268654435409590833, 0.00522106849494179588,
    -0.000848461940801411988, 0.000112698846194968452, -9.67827397476080871e-6,
)  # fmt: skip
LOG_ERFC_1_TO_4 = (
    0.000187754480289044561, -1.12957712059972448, -0.63322238195264073, -0.108416001694490572, 0.0252066965279245899,
    -0.00420400841154448169, 0.000441229839211339216, -0.0000216782601714284793,
)  # fmt: skip


def format_of(lanes: Lanes) -> Format:
    return FLOAT if lanes.scalar.size == 4 else DOUBLE


def as_bits(v: Lanes, x: str) -> str:
    return v.convert("bitcast", x, v.bits)


def from_bits(v: Lanes, x: str) -> str:
    return v.bits.convert("bitcast", x, v)


def clamp(v: Lanes, x: str, low: float, high: float) -> str:
    """NaN stays NaN."""
    x = v.select(v.compare("olt", x, v.const(low)), v.const(low), x)
    return v.select(v.compare("ogt", x, v.const(high)), v.const(high), x)


def power_of_two(v: Lanes, k: str) -> str:
    """2^k of integers in the range of normal exponents."""
    biased = v.bits.op("add", k, v.bits.const(format_of(v).bias))
    return from_bits(v, v.bits.op("shl", biased, v.bits.const(format_of(v).mantissa)))


def split_exponent(v: Lanes, x: str) -> tuple[str, str]:
    """(n as an integer, r) with x = n log(2) + r."""
    form = format_of(v)
    shifted = v.fma(x, v.const(1 / math.log(2)), v.const(form.magic))
    whole = v.sub(shifted, v.const(form.magic))
    high, low = form.log2
    r = v.fma(whole, v.const(-low), v.fma(whole, v.const(-high), x))
    return v.bits.op("sub", as_bits(v, shifted), as_bits_of(v, form.magic)), r


def as_bits_of(v: Lanes, value: float) -> str:
    """The bits of a constant, as an integer constant."""
    form = format_of(v)
    mantissa, exponent = math.frexp(value)
    return v.bits.const(((exponent - 1 + form.bias) << form.mantissa) + round((2 * mantissa - 1) * 2**form.mantissa))


def scaled(v: Lanes, x: str, n: str) -> str:
    """x 2^n. Where no instruction does it, in two steps, since n may be outside the range of exponents."""
    if v.function.wide:
        return v.ldexp(x, n)
    half = v.bits.op("ashr", n, v.bits.const(1))
    return v.mul(v.mul(x, power_of_two(v, half)), power_of_two(v, v.bits.op("sub", n, half)))


def expm1_reduced(v: Lanes, r: str) -> str:
    return v.fma(v.mul(r, r), v.polynomial(r, format_of(v).exp), r)


def exp(v: Lanes, x: str) -> str:
    n, r = split_exponent(v, clamp(v, x, *format_of(v).exp_range))
    return scaled(v, v.add(expm1_reduced(v, r), v.const(1)), n)


def exp2(v: Lanes, x: str) -> str:
    form = format_of(v)
    x = clamp(v, x, -form.bias - form.mantissa - 2.0, form.bias + 2.0)
    shifted = v.add(x, v.const(form.magic))
    r = v.mul(v.sub(x, v.sub(shifted, v.const(form.magic))), v.const(math.log(2)))
    n = v.bits.op("sub", as_bits(v, shifted), as_bits_of(v, form.magic))
    return scaled(v, v.add(expm1_reduced(v, r), v.const(1)), n)


def expm1(v: Lanes, x: str) -> str:
    """With 2^(n-1), so that n = 128 does not overflow before its time."""
    n, r = split_exponent(v, clamp(v, x, -40.0, format_of(v).exp_range[1]))
    half = power_of_two(v, v.bits.op("sub", n, v.bits.const(1)))
    y = v.fma(half, expm1_reduced(v, r), v.sub(half, v.const(0.5)))
    return v.select(v.compare("oeq", x, v.const(0)), x, v.add(y, y))


def tanh(v: Lanes, x: str) -> str:
    """u / (u + 2) with u = expm1(2|x|)."""
    size = v.intrinsic("fabs", x)
    limit = v.const(10.0 if v.scalar.size == 4 else 20.0)
    size = v.select(v.compare("ogt", size, limit), limit, size)
    n, r = split_exponent(v, v.add(size, size))
    scale = power_of_two(v, n)
    u = v.fma(scale, expm1_reduced(v, r), v.sub(scale, v.const(1)))
    return v.intrinsic("copysign", v.div(u, v.add(u, v.const(2))), x)


def expit(v: Lanes, x: str) -> str:
    """The logistic function, from exp(-|x|), which is accurate in both tails."""
    e = exp(v, v.op("fneg", v.intrinsic("fabs", x)))
    top = v.select(v.compare("olt", x, v.const(0)), e, v.const(1))
    return v.div(top, v.add(e, v.const(1)))


def split_mantissa(v: Lanes, x: str) -> tuple[str, str]:
    """(k as a float, m) with x = 2^k m and m in [sqrt(1/2), sqrt(2)), for positive finite x."""
    form = format_of(v)
    tiny = v.compare("olt", x, v.const(form.smallest))
    x = v.select(tiny, v.mul(x, v.const(2.0 ** (form.mantissa + 1))), x)
    root = as_bits_of(v, math.sqrt(0.5))
    above = v.bits.op("sub", as_bits(v, x), root)
    k = v.bits.op("ashr", above, v.bits.const(form.mantissa))
    m = from_bits(v, v.bits.op("add", v.bits.op("and", above, v.bits.const((1 << form.mantissa) - 1)), root))
    whole = v.sub(from_bits(v, v.bits.op("add", k, as_bits_of(v, form.magic))), v.const(form.magic))
    return v.sub(whole, v.select(tiny, v.const(form.mantissa + 1), v.const(0))), m


def log1p_reduced(v: Lanes, f: str, extra: str | None = None) -> str:
    """log(1 + f) (+ a small `extra`): f - (h - s (h + R)), with s = f/(2+f), h = f^2/2, R = s^2 P(s^2)."""
    s = v.div(f, v.add(f, v.const(2)))
    z = v.mul(s, s)
    h = v.mul(v.mul(f, f), v.const(0.5))
    inner = v.mul(s, v.fma(z, v.polynomial(z, format_of(v).log), h))
    if extra is not None:
        inner = v.add(inner, extra)
    return v.sub(f, v.sub(h, inner))


def at_the_ends(v: Lanes, x: str, y: str, zero: float) -> str:
    """A logarithm's values at infinity and NaN (x itself), at its pole (-inf) and beyond it (NaN)."""
    y = v.select(v.compare("olt", x, v.const(math.inf)), y, x)
    y = v.select(v.compare("oeq", x, v.const(zero)), v.const(-math.inf), y)
    return v.select(v.compare("olt", x, v.const(zero)), v.const(math.nan), y)


def log(v: Lanes, x: str) -> str:
    high, low = format_of(v).log2
    k, m = split_mantissa(v, x)
    y = log1p_reduced(v, v.sub(m, v.const(1)), v.mul(k, v.const(low)))
    return at_the_ends(v, x, v.fma(k, v.const(high), y), 0.0)


def log2(v: Lanes, x: str) -> str:
    k, m = split_mantissa(v, x)
    y = v.fma(log1p_reduced(v, v.sub(m, v.const(1))), v.const(1 / math.log(2)), k)
    return at_the_ends(v, x, y, 0.0)


def log10(v: Lanes, x: str) -> str:
    high, low = format_of(v).log10_2
    k, m = split_mantissa(v, x)
    y = v.fma(log1p_reduced(v, v.sub(m, v.const(1))), v.const(1 / math.log(10)), v.mul(k, v.const(low)))
    return at_the_ends(v, x, v.fma(k, v.const(high), y), 0.0)


def log1p(v: Lanes, x: str) -> str:
    """log of u = 1 + x, with what the sum lost put back: f = m - 1 + c m / u."""
    high, low = format_of(v).log2
    u = v.add(x, v.const(1))
    lost = v.select(v.compare("ogt", x, v.const(1)), v.sub(v.const(1), v.sub(u, x)), v.sub(x, v.sub(u, v.const(1))))
    k, m = split_mantissa(v, u)
    f = v.add(v.sub(m, v.const(1)), v.mul(lost, v.div(m, u)))
    y = v.fma(k, v.const(high), log1p_reduced(v, f, v.mul(k, v.const(low))))
    return at_the_ends(v, x, v.select(v.compare("oeq", x, v.const(0)), x, y), -1.0)


def logaddexp(v: Lanes, a: str, b: str) -> str:
    larger = v.select(v.compare("ogt", a, b), a, b)
    y = v.add(larger, log1p(v, exp(v, v.op("fneg", v.intrinsic("fabs", v.sub(a, b))))))
    return v.select(v.compare("oeq", a, b), v.add(a, v.const(math.log(2))), y)


def trigonometric(v: Lanes, x: str, name: str) -> str:
    """sin and cos: the sine of what is left of whole turns of pi. Huge arguments go to C's function, all lanes."""
    form, function = format_of(v), v.function
    huge = v.compare("uge", v.intrinsic("fabs", x), v.const(form.trig_limit))
    if v.count > 1:
        packed = function.put(f"bitcast <{v.count} x i1> {huge} to i{v.count}")
        huge = function.put(f"icmp ne i{v.count} {packed}, 0")
    slow, fast, join = function.label(), function.label(), function.label()
    function.do(f"br i1 {huge}, label %{slow}, label %{fast}")
    function.start(slow)
    by_libm = v.lanewise(name + form.libm, x)
    function.do(f"br label %{join}")
    function.start(fast)
    by_polynomial = trigonometric_reduced(v, x, name)
    function.do(f"br label %{join}")
    function.start(join)
    return function.put(f"phi {v.type} [ {by_libm}, %{slow} ], [ {by_polynomial}, %{fast} ]")


def trigonometric_reduced(v: Lanes, x: str, name: str) -> str:
    form, bits = format_of(v), v.bits
    if name == "sin":  # x = n pi + r
        shifted = v.fma(x, v.const(1 / math.pi), v.const(form.magic))
        n, r, signs = v.sub(shifted, v.const(form.magic)), x, -1
    else:  # x = (n + 1/2) pi - r
        shifted = v.add(v.fma(x, v.const(1 / math.pi), v.const(-0.5)), v.const(form.magic))
        n, r, signs = v.add(v.sub(shifted, v.const(form.magic)), v.const(0.5)), v.op("fneg", x), 1
    for part in form.half_pi:
        r = v.fma(n, v.const(2 * signs * part), r)
    z = v.mul(r, r)
    sine = v.fma(v.mul(r, z), v.polynomial(z, form.sin), r)
    sign = bits.op("shl", as_bits(v, shifted), bits.const(8 * v.scalar.size - 1))
    return from_bits(v, bits.op("xor", as_bits(v, sine), sign))


def erf(v: Lanes, x: str) -> str:
    """x P(x^2) below 1, 1 - exp(Q(|x|)) above; C's function for double."""
    if v.scalar.size == 8:
        return v.lanewise("erf", x)
    size = v.intrinsic("fabs", x)
    capped = v.select(v.compare("olt", size, v.const(4)), size, v.const(4))
    n, r = split_exponent(v, v.polynomial(capped, LOG_ERFC_1_TO_4))
    scale = power_of_two(v, n)
    far = v.sub(v.sub(v.const(1), scale), v.mul(scale, expm1_reduced(v, r)))
    near = v.mul(x, v.polynomial(v.mul(x, x), ERF_BELOW_1))
    return v.select(v.compare("oge", size, v.const(1)), v.intrinsic("copysign", far, x), near)


def library(name: str) -> Callable[..., str]:
    """C's function, one call a lane."""

    def emit(v: Lanes, *values: str) -> str:
        return v.lanewise(name + format_of(v).libm, *values)

    return emit


LIBRARY = {
    "tan": "tan", "sinh": "sinh", "cosh": "cosh", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh",
    "arccosh": "acosh", "arctanh": "atanh", "arctan2": "atan2", "hypot": "hypot", "cbrt": "cbrt", "erfc": "erfc", "fmod": "fmod",
    "power": "pow",
}  # fmt: skip
FUNCTIONS: dict[str, Callable[..., str]] = {
    "exp": exp,
    "exp2": exp2,
    "expm1": expm1,
    "tanh": tanh,
    "expit": expit,
    "log": log,
    "log2": log2,
    "log10": log10,
    "log1p": log1p,
    "logaddexp": logaddexp,
    "sin": lambda v, x: trigonometric(v, x, "sin"),
    "cos": lambda v, x: trigonometric(v, x, "cos"),
    "erf": erf,
    **{op: library(name) for op, name in LIBRARY.items()},
}
