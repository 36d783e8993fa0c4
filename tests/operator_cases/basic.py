"""Operators with gradient rules: the families that were there first."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special as sp

from operator_cases.case import Case, binary, u, unary, x


def softmax(a: Any, axis: int) -> Any:
    return sp.softmax(a, axis)


INDEX = np.array([[0, 2, 1], [1, 1, 0]])
MASK = np.array([[True, False, True], [False, False, True]])
SQRT3 = math.sqrt(3)


def scattered(how: Any) -> Callable[..., Any]:
    """A loop over the elements: what scattering along dimension 0 means."""

    def reference(a: Any, dim: int, index: Any, source: Any, *_: Any) -> Any:
        r = a.copy()
        for i, j in np.ndindex(*index.shape):
            r[index[i, j], j] = how(r[index[i, j], j], source[i, j])
        return r

    return reference


def patches(a: Any, k: int, s: int) -> Any:
    return np.stack([a[..., i : i + k] for i in range(0, a.shape[-1] - k + 1, s)], -2)


def region(shape: Any, where: Any, value: Any) -> Any:
    r = np.zeros(shape)
    np.add.at(r, where, value)
    return r


RULED: dict[str, Case] = {
    # elementwise, of one tensor
    "sin": unary(np.sin), "cos": unary(np.cos), "tan": unary(np.tan, -1.2, 1.2), "asin": unary(np.arcsin, -0.9, 0.9),
    "acos": unary(np.arccos, -0.9, 0.9), "atan": unary(np.arctan), "sinh": unary(np.sinh), "cosh": unary(np.cosh), "tanh": unary(np.tanh),
    "extreme_share": Case(x(2, 3), x(2, 3), x(2, 3), True, ref=lambda g, a, b, _: g * (a >= b)),
    "tanh_slope": Case(x(2, 3), x(2, 3), ref=lambda g, v: g * (1 - v * v)),
    "asinh": unary(np.arcsinh), "acosh": unary(np.arccosh, 1.2, 4), "atanh": unary(np.arctanh, -0.9, 0.9), "exp": unary(np.exp),
    "exp2": unary(np.exp2), "expm1": unary(np.expm1), "log": unary(np.log, 0.2, 4), "log2": unary(np.log2, 0.2, 4),
    "log10": unary(np.log10, 0.2, 4), "log1p": unary(np.log1p, -0.7, 4), "sqrt": unary(np.sqrt, 0.2, 4),
    "rsqrt": unary(lambda a: a**-0.5, 0.2, 4), "square": unary(lambda a: a * a), "reciprocal": unary(lambda a: 1 / a, 0.2, 4),
    "sigmoid": unary(sp.expit), "sinc": unary(np.sinc), "deg2rad": unary(np.deg2rad), "rad2deg": unary(np.rad2deg),
    "neg": unary(lambda a: -a), "abs": unary(np.abs, -2, 2.5), "sign": unary(np.sign, -2, 2.5), "sgn": unary(np.sign, -2, 2.5),
    "floor": unary(np.floor, -2.2, 2.3), "ceil": unary(np.ceil, -2.2, 2.3), "trunc": unary(np.trunc, -2.2, 2.3),
    "frac": unary(lambda a: np.fmod(a, 1), -2.2, 2.3), "relu": unary(lambda a: np.maximum(a, 0), -2, 2.5), "clone": unary(np.copy),
    "positive": unary(lambda a: +a), "round": unary(np.round, -2.2, 2.3), "nan_to_num": unary(np.nan_to_num),
    "angle": unary(np.angle, -2, 2.5), "real": unary(np.real), "conj": unary(np.conj),
    "erf": unary(sp.erf), "erfc": unary(sp.erfc), "erfcx": unary(sp.erfcx), "erfinv": unary(sp.erfinv, -0.9, 0.9),
    "lgamma": unary(sp.gammaln, 0.3, 4), "digamma": unary(sp.psi, 0.3, 4), "ndtr": unary(sp.ndtr), "ndtri": unary(sp.ndtri, 0.1, 0.9),
    "log_ndtr": unary(sp.log_ndtr), "i0": unary(sp.i0), "i0e": unary(sp.i0e, 0.2, 3), "i1": unary(sp.i1, 0.2, 3),
    "i1e": unary(sp.i1e, 0.2, 3), "entr": unary(sp.entr, 0.2, 3), "bessel_j0": unary(sp.j0, second=False),
    "modified_bessel_i0": unary(sp.i0, second=False), "modified_bessel_k0": unary(sp.k0, 0.2, 3, second=False),
    "polygamma_raw": Case(2, u(0.5, 3, 5), ref=sp.polygamma),
    # activations
    "nn.functional.leaky_relu": Case(x(), 0.1, ref=lambda a, s: np.where(a > 0, a, s * a)),
    "_scaled_elu": Case(x(), 1.5, 2.0, 0.7, ref=lambda a, al, s, i: s * np.where(a > 0, a, al * np.expm1(i * a))),
    "nn.functional.softplus": Case(x(), 2.0, 3.0, ref=lambda a, b, t: np.where(a * b > t, a, np.log1p(np.exp(b * a)) / b)),
    "nn.functional.logsigmoid": Case(x(), ref=sp.log_expit),
    "nn.functional.hardtanh": Case(x(), -1.1, 0.9, ref=np.clip),
    "nn.functional.hardswish": Case(u(-5, 5, 8), ref=lambda a: a * np.clip(a + 3, 0, 6) / 6),
    "nn.functional.hardshrink": Case(x(), 0.5, ref=lambda a, b: np.where(abs(a) > b, a, 0)),
    "nn.functional.softshrink": Case(x(), 0.5, ref=lambda a, b: np.sign(a) * np.maximum(abs(a) - b, 0)),
    "nn.functional.threshold": Case(x(), 0.1, -3.0, ref=lambda a, t, v: np.where(a > t, a, v)),
    "_smooth_abs": Case(x(), 0.8, ref=lambda d, b: np.where(abs(d) < b, d * d / (2 * b), abs(d) - b / 2)),
    # elementwise, of two
    "add": binary(np.add), "sub": binary(np.subtract), "div": binary(np.divide), "mul": binary(np.multiply), "pow": binary(np.power, u(0.3, 2, 2, 1, 3), x(4, 1)),
    "floor_divide": binary(np.floor_divide), "trunc_divide": binary(lambda a, b: np.trunc(a / b)), "remainder": binary(np.remainder),
    "fmod": binary(np.fmod), "atan2": binary(np.arctan2), "hypot": binary(np.hypot), "maximum": binary(np.maximum),
    "minimum": binary(np.minimum), "fmax": binary(np.fmax), "fmin": binary(np.fmin), "copysign": binary(np.copysign, b=u(-2, 1.7, 4, 1)),
    "logaddexp": binary(np.logaddexp), "logaddexp2": binary(np.logaddexp2), "ldexp": binary(lambda a, b: a * 2**b),
    "nextafter": binary(np.nextafter),
    "lerp": Case(x(2, 1), x(3), u(0, 1.2, 2, 3), ref=lambda a, b, w: a + w * (b - a)),
    "clamp_tensors": Case(x(), np.full(3, -1.05), u(0.3, 1, 2, 1), ref=np.clip),
    "select_where": Case(MASK, x(), x(1, 3), ref=np.where),
    "masked_fill": Case(x(), MASK, np.array(0.3), ref=lambda a, m, v: np.where(m, v, a)),
    # windows
    "windows": Case(x(2, 7), (3,), (2,), (1,), ref=lambda a, k, s, d: patches(a, 3, 2)),
    "windows_back": Case(x(3, 2), (5,), (2,), (1,), (2,), ref=lambda g, *_: np.array([g[0, 0], g[1, 0], g[0, 1] + g[2, 0], g[1, 1], g[2, 1]])),
    "constant_pad_nd": Case(x(2, 3), [1, -1, 0, 2], 0.5, ref=lambda a, p, v: np.pad(a[:, :-1], [(0, 2), (1, 0)], constant_values=v)),
    # reductions
    "sum": Case(x(2, 3, 2), (0, 2), True, ref=lambda a, d, k: a.sum(d, keepdims=k)),
    "nansum": Case(x(2, 3), 1, ref=np.nansum), "mean": Case(x(2, 3, 2), (0, -1), ref=np.mean),
    "prod": Case(x(2, 3), 1, ref=np.prod), "amax": Case(x(2, 4), 1, ref=np.max), "amin": Case(x(2, 4), (0, 1), ref=np.min),
    "l2_norm": Case(x(2, 3), 1, ref=lambda a, d: np.linalg.norm(a, axis=d)), "logsumexp": Case(x(2, 3), 1, ref=sp.logsumexp),
    "softmax": Case(x(2, 3), 0, ref=softmax), "log_softmax": Case(x(2, 3), -1, ref=sp.log_softmax),
    "cumsum": Case(x(2, 3), 1, ref=np.cumsum), "cumprod": Case(x(2, 3), 1, ref=np.cumprod),
    "scan_logaddexp": Case(x(2, 3), 1, ref=np.logaddexp.accumulate),
    # shapes
    "reshape": Case(x(2, 6), 3, -1, ref=lambda a, *s: a.reshape(s)), "view": Case(x(2, 6), 4, 3, ref=lambda a, *s: a.reshape(s)),
    "expand": Case(x(2, 1), 4, -1, 3, ref=lambda a, *s: np.broadcast_to(a, (4, 2, 3))),
    "sum_to_size": Case(x(4, 2, 3), 2, 1, ref=lambda a, *s: a.sum(0).sum(1, keepdims=True)),
    "permute": Case(x(2, 3, 4), 2, 0, 1, ref=lambda a, *d: a.transpose(d)), "transpose": Case(x(2, 3, 2), 0, -1, ref=np.swapaxes),
    "squeeze": Case(x(2, 1, 3), 1, ref=np.squeeze), "unsqueeze": Case(x(2, 3), -1, ref=np.expand_dims),
    "narrow": Case(x(2, 5), 1, -4, 3, ref=lambda a, *_: a[:, 1:4]), "pad_back": Case(x(2, 2), (2, 5), 1, 2, ref=lambda g, *_: np.pad(g, [(0, 0), (2, 1)])),
    "diagonal": Case(x(3, 4, 2), 1, 0, 1, ref=np.diagonal), "diagonal_back": Case(x(3), (3, 4), 1, 0, 1, ref=lambda g, *_: np.eye(3, 4, 1) * g[:, None]),
    "tril": Case(x(3, 3), -1, ref=np.tril), "triu": Case(x(2, 3, 3), 1, ref=np.triu),
    "as_strided": Case(x(7), (3, 3), (2, 1), 0, ref=lambda a, *_: patches(a, 3, 2)),
    "flip": Case(x(2, 3), 1, ref=np.flip), "roll": Case(x(2, 3), [1, 4], [0, 1], ref=lambda a, s, d: np.roll(a, s, d)),
    "cast": Case(x(3), "float64", ref=lambda a, d: a), "move": Case(x(3), "cpu", "cpu", ref=lambda a, *_: a), "row_major": Case(x(2, 3), ref=np.copy),
    # writing
    "fill": Case(x(3), 2.5, ref=lambda a, v: np.full_like(a, v)), "zero": Case(x(3), ref=np.zeros_like), "filled": Case(np.array(1.5), (2, 3), ref=lambda v, s: np.full(s, v)),
    "copy": Case(x(2, 3), x(3), ref=lambda a, b: np.broadcast_to(b, a.shape)),
    # indexing
    "__getitem__": Case(x(3, 4), (slice(None), [0, 2, 2]), ref=lambda a, i: a[:, [0, 2, 2]]),
    "zeros_with": Case(x(3), (4,), ([1, 1, 0],), ref=lambda g, s, i: region(s, i[0], g)),
    "put_at": Case(x(4), x(2), ([1, 3],), False, ref=lambda a, v, *_: np.array([a[0], v[0], a[2], v[1]])),
    "gather": Case(x(3, 3), 0, INDEX, ref=lambda a, d, i: np.take_along_axis(a, i, d)),
    "gather_back": Case(x(2, 3), INDEX, (3, 3), 0, ref=lambda g, i, s, d: scattered(lambda old, new: old + new)(np.zeros(s), d, i, g)),
    "_scatter": Case(x(3, 3), 0, INDEX, x(2, 3), ref=scattered(lambda old, new: new)),
    "scatter_add": Case(x(3, 3), 0, INDEX, x(3, 3), ref=scattered(lambda old, new: old + new)),
    "_scatter_prod": Case(x(3, 3), 0, INDEX, x(2, 3), ref=scattered(lambda old, new: old * new)),
    "_scatter_extreme": Case(x(3, 3), 0, INDEX, x(2, 3) * SQRT3, True, ref=scattered(max)),
    "index_select": Case(x(3, 2), 0, np.array([2, 0, 2]), ref=lambda a, d, i: a[i]),
    "cat": Case([x(2, 1), x(2, 3)], 1, ref=np.concatenate),
    "stack": Case([x(2, 3), x(2, 3)], 1, ref=np.stack),
    # products
    "matmul": Case(x(2, 1, 2, 3), x(4, 3, 2), ref=np.matmul),
    "take_rows": Case(x(3, 2), [2, 0, 2], ref=lambda a, i: a[i]),
    "append_rows": Case(x(2, 3), x(1, 3), None, ref=lambda a, b, _: np.concatenate([a, b])),
    "row_sum": Case(x(2, 3), ref=lambda a: a.sum(0)), "outer_sum": Case(x(2, 3), x(2, 4), ref=lambda a, b: a.T @ b),
    "linear": Case(x(2, 2, 3), x(4, 3), x(4), ref=lambda a, w, b: a @ w.T + b),
}  # fmt: skip
