"""Activations, as functions: what `tensor.nn.functional` offers beside the elementwise operators."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops import unary
from tensor.ops.record import Array, composite, inplace_method, operator
from tensor.ops.shortcut import perhaps_any
from tensor.ops.special import erf_of
from tensor.ops.written import parameters

__all__ = [
    "celu", "celu_", "elu", "elu_", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_",
    "logsigmoid", "mish", "or_in_place", "prelu", "relu", "relu6", "relu_", "selu", "selu_", "silu", "softmin", "softplus", "softshrink", "softsign",
    "tanhshrink", "threshold", "threshold_",
]  # fmt: skip


def _nn(name: str) -> str:
    return f"nn.functional.{name}"


def or_in_place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same function with a last parameter ``inplace``: whether to write the result into the input, and return that."""
    write = inplace_method(function, function.__name__)
    count = sum(p.name != "out" for p in parameters(function))

    @functools.wraps(function)
    def either(*args: Any, inplace: bool = False, **kwargs: Any) -> Tensor:
        if len(args) > count:
            *args, inplace = args  # type: ignore[assignment]
        return (write if inplace else function)(*args, **kwargs)

    return either


relu = or_in_place(unary.relu)


def _none(g: Tensor) -> None:
    """Piecewise constant: nothing passes."""


def _leaky_back_g(gg: Tensor, x: Tensor, slope: float) -> Tensor:
    return leaky_back(gg, x, slope)


@operator({"g": _leaky_back_g, "x": _none}, method=False)
def leaky_back(g: Array, x: Array, slope: float) -> Array:
    """g where x is above 0, ``slope * g`` elsewhere."""
    factor = (x > 0).astype(g.dtype)
    factor *= 1 - slope
    factor += slope
    factor *= g
    return factor


@or_in_place
@operator(
    {"x": lambda g, x, negative_slope: leaky_back(g, x, negative_slope)}, method=False, name=_nn("leaky_relu"), onnx="LeakyRelu"
)
def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """x above 0, ``negative_slope * x`` below."""
    # A choice by sign, without the branches of np.where, which cost ten times as much.
    return np.maximum(x, x * negative_slope) if negative_slope <= 1 else np.minimum(x, x * negative_slope)


def _elu_rule(g: Tensor, x: Tensor, alpha: float, scale: float, input_scale: float) -> Tensor:
    below = alpha * scale * input_scale
    return g * ((x.clamp_max(0) * input_scale).exp() * below + (x > 0).to(g.dtype) * (scale - below))


@operator({"x": _elu_rule}, method=False)
def _scaled_elu(x: Array, alpha: float, scale: float, input_scale: float) -> Array:
    """scale * (x above 0, alpha * (exp(input_scale * x) - 1) below)."""
    r = np.expm1(np.minimum(x, 0) * input_scale)
    r *= alpha * scale
    r += np.maximum(x, 0) * scale
    return r


@or_in_place
@composite(method=False, name=_nn("elu"))
def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x above 0, ``alpha * (exp(x) - 1)`` below (arXiv 1511.07289)."""
    return _scaled_elu(x, alpha, 1.0, 1.0)


@or_in_place
@composite(method=False, name=_nn("celu"))
def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x above 0, ``alpha * (exp(x / alpha) - 1)`` below."""
    return _scaled_elu(x, alpha, 1.0, 1.0 / alpha)


@or_in_place
@composite(method=False, name=_nn("selu"))
def selu(x: Tensor) -> Tensor:
    """The self-normalising ELU (arXiv 1706.02515)."""
    return _scaled_elu(x, 1.6732632423543772, 1.0507009873554805, 1.0)


@operator({"x": lambda g, x, beta, threshold: g * (x * beta).sigmoid().where(x * beta <= threshold, x * 0 + 1)}, method=False, name=_nn("softplus"), onnx="Softplus")  # fmt: skip
def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``log(1 + exp(beta * x)) / beta``, x itself where ``beta * x`` is above the threshold."""
    scaled = x * beta
    r = (np.maximum(scaled, 0) + np.log1p(np.exp(-np.abs(scaled)))) / x.dtype.type(beta)
    far = scaled > threshold
    return np.where(far, x, r) if perhaps_any(far) else r


@operator({"x": lambda g, x: g * (-x).sigmoid()}, method=False, name=_nn("logsigmoid"))
def logsigmoid(x: Array) -> Array:
    """``log(sigmoid(x))`` without overflow."""
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


def _silu_back_x(gg: Tensor, g: Tensor, x: Tensor) -> Tensor:
    s = x.sigmoid()
    return gg * g * (s * (1 - s) * (2 + x * (1 - 2 * s)))


def _silu_back_g(gg: Tensor, x: Tensor) -> Tensor:
    return silu_back(gg, x)


@operator({"g": _silu_back_g, "x": _silu_back_x}, method=False)
def silu_back(g: Array, x: Array) -> Array:
    """``g * (s + x * s * (1 - s))`` with ``s = sigmoid(x)``: the gradient of `silu`."""
    s = unary.sigmoid_of(x)
    r = 1 - s
    r *= x
    r += 1
    r *= s
    r *= g
    return r


@or_in_place
@operator({"x": lambda g, x: silu_back(g, x)}, method=False, dtype="float", name=_nn("silu"))
def silu(x: Array) -> Array:
    """``x * sigmoid(x)``."""
    return x * unary.sigmoid_of(x)


@or_in_place
@composite(method=False, name=_nn("mish"))
def mish(x: Tensor) -> Tensor:
    """``x * tanh(softplus(x))`` (arXiv 1908.08681)."""
    return x * softplus(x).tanh()


def _density(x: Array) -> Array:
    """The standard normal distribution's density."""
    r = x * x
    r *= -0.5
    r = np.exp(r, out=r if r.ndim else None)
    r *= 1 / math.sqrt(2 * math.pi)
    return r


def _below(x: Array) -> Array:
    """The standard normal distribution's probability below x."""
    r = erf_of(x * math.sqrt(0.5))
    r *= 0.5
    r += 0.5
    return r


def _gelu_back_x(gg: Tensor, g: Tensor, x: Tensor) -> Tensor:
    square = x * x
    return gg * g * (2 - square) * (square * -0.5).exp() * (1 / math.sqrt(2 * math.pi))


def _gelu_back_g(gg: Tensor, x: Tensor) -> Tensor:
    return gelu_back(gg, x)


@operator({"g": _gelu_back_g, "x": _gelu_back_x}, method=False)
def gelu_back(g: Array, x: Array) -> Array:
    """``g * (P(x) + x p(x))`` of the normal distribution's probability P and density p: the gradient of `gelu`."""
    r = _density(x)
    r *= x
    r += _below(x)
    r *= g
    return r


@operator({"x": lambda g, x: gelu_back(g, x)}, dtype="float", method=False)
def _gelu(x: Array) -> Array:
    """x times the cumulative normal distribution at x."""
    return x * _below(x)


@composite(method=False, name=_nn("gelu"))
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """``x`` times the cumulative normal distribution at x, exact or by tanh (arXiv 1606.08415)."""
    if approximate == "tanh":
        return x * 0.5 * (1 + ((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)).tanh())
    return _gelu(x)


@or_in_place
@composite(method=False, name=_nn("relu6"))
def relu6(x: Tensor) -> Tensor:
    """x kept in [0, 6]."""
    return hardtanh(x, 0.0, 6.0)


@or_in_place
@operator(
    {"x": lambda g, x, min_val, max_val: g * ((x > min_val) & (x < max_val)).to(g.dtype)},
    method=False,
    name=_nn("hardtanh"),
)
def hardtanh(x: Array, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """x kept in [min_val, max_val]; no gradient at the bounds."""
    return np.clip(x, x.dtype.type(min_val), x.dtype.type(max_val))


@or_in_place
@composite(method=False, name=_nn("hardsigmoid"))
def hardsigmoid(x: Tensor) -> Tensor:
    """x / 6 + 1 / 2 kept in [0, 1]."""
    return hardtanh(x, -3.0, 3.0) / 6 + 0.5


def _hardswish_rule(g: Tensor, x: Tensor) -> Tensor:
    middle = ((x > -3) & (x < 3)).to(g.dtype)
    return g * (middle * (x / 3 + 0.5) + (x >= 3).to(g.dtype))


@or_in_place
@operator({"x": _hardswish_rule}, method=False, name=_nn("hardswish"))
def hardswish(x: Array) -> Array:
    """x times its hardsigmoid (arXiv 1905.02244)."""
    return x * np.clip(x + 3, 0, 6) / x.dtype.type(6)


@operator({"x": lambda g, x, lambd: g * (x.abs() > lambd).to(g.dtype)}, method=False, name=_nn("hardshrink"))
def hardshrink(x: Array, lambd: float = 0.5) -> Array:
    """x where |x| > lambd, else 0."""
    return x * (np.abs(x) > lambd)


@operator({"x": lambda g, x, lambd: g * (x.abs() > lambd).to(g.dtype)}, method=False, name=_nn("softshrink"))
def softshrink(x: Array, lambd: float = 0.5) -> Array:
    """x moved towards 0 by lambd, 0 within it."""
    return x - np.clip(x, x.dtype.type(-lambd), x.dtype.type(lambd))


@composite(method=False, name=_nn("softsign"))
def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return x / (1 + x.abs())


@composite(method=False, name=_nn("tanhshrink"))
def tanhshrink(x: Tensor) -> Tensor:
    """x - tanh(x)."""
    return x - x.tanh()


@or_in_place
@operator({"x": lambda g, x, threshold: g * (x > threshold).to(g.dtype)}, method=False, name=_nn("threshold"))
def threshold(x: Array, threshold: float, value: float) -> Array:
    """x where it is above the threshold, else ``value``."""
    return np.where(x > threshold, x, x.dtype.type(value))


@composite(method=False, name=_nn("prelu"))
def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """x above 0, ``weight * x`` below, with one weight or one for each channel (dimension 1)."""
    if weight.ndim and weight.numel() > 1:
        weight = weight.reshape([-1 if i == 1 else 1 for i in range(x.ndim)])
    elif weight.ndim:
        weight = weight.reshape(())
    positive = (x > 0).to(x.dtype)
    return x * positive + x * weight * (1 - positive)


@composite(method=False, name=_nn("glu"))
def glu(x: Tensor, dim: int = -1) -> Tensor:
    """The first half times the sigmoid of the second, along ``dim``."""
    n = x.shape[dim]
    if n % 2:
        msg = f"glu: expected an even length along dimension {dim}, got {n}"
        raise RuntimeError(msg)
    return x.narrow(dim, 0, n // 2) * x.narrow(dim, n // 2, n // 2).sigmoid()


@composite(method=False, name=_nn("softmin"))
def softmin(x: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """The softmax of -x."""
    return (-x).softmax(dim, dtype)


celu_, elu_, hardtanh_, leaky_relu_, relu_, selu_, threshold_ = (
    inplace_method(function, function.__name__) for function in (celu, elu, hardtanh, leaky_relu, relu, selu, threshold)
)
