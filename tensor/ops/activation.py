"""Activations, as functions: what `tensor.nn.functional` offers beside the elementwise operators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops import random
from tensor.ops.record import Array, composite, operator
from tensor.ops.special import erf

__all__ = [
    "celu", "dropout", "elu", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish",
    "prelu", "relu6", "selu", "silu", "softmin", "softplus", "softshrink", "softsign", "tanhshrink", "threshold",
]  # fmt: skip


def _nn(name: str) -> str:
    return f"nn.functional.{name}"


def _slope(g: Tensor, x: Tensor, negative_slope: float) -> Tensor:
    positive = (x > 0).to(g.dtype)
    return g * (positive + (1 - positive) * negative_slope)


@operator({"x": _slope}, method=False, name=_nn("leaky_relu"), onnx="LeakyRelu")
def leaky_relu(x: Array, negative_slope: float = 0.01, inplace: bool = False) -> Array:
    """x above 0, ``negative_slope * x`` below."""
    return np.where(x > 0, x, x * negative_slope)


def _elu_rule(g: Tensor, x: Tensor, alpha: float, scale: float, input_scale: float) -> Tensor:
    positive = (x > 0).to(g.dtype)
    return g * (positive * scale + (1 - positive) * (x.clamp_max(0) * input_scale).exp() * (alpha * scale * input_scale))


@operator({"x": _elu_rule}, method=False)
def _scaled_elu(x: Array, alpha: float, scale: float, input_scale: float) -> Array:
    """scale * (x above 0, alpha * (exp(input_scale * x) - 1) below)."""
    return np.where(x > 0, x * scale, np.expm1(np.minimum(x, 0) * input_scale) * (alpha * scale))


@composite(method=False, name=_nn("elu"))
def elu(x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0, ``alpha * (exp(x) - 1)`` below (arXiv 1511.07289)."""
    return _scaled_elu(x, alpha, 1.0, 1.0)


@composite(method=False, name=_nn("celu"))
def celu(x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0, ``alpha * (exp(x / alpha) - 1)`` below."""
    return _scaled_elu(x, alpha, 1.0, 1.0 / alpha)


@composite(method=False, name=_nn("selu"))
def selu(x: Tensor, inplace: bool = False) -> Tensor:
    """The self-normalising ELU (arXiv 1706.02515)."""
    return _scaled_elu(x, 1.6732632423543772, 1.0507009873554805, 1.0)


@operator({"x": lambda g, x, beta, threshold: g * (x * beta).sigmoid().where(x * beta <= threshold, x * 0 + 1)}, method=False, name=_nn("softplus"), onnx="Softplus")  # fmt: skip
def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``log(1 + exp(beta * x)) / beta``, x itself where ``beta * x`` is above the threshold."""
    return np.where(x * beta > threshold, x, np.logaddexp(x * beta, x.dtype.type(0)) / x.dtype.type(beta))


@operator({"x": lambda g, x: g * (-x).sigmoid()}, method=False, name=_nn("logsigmoid"))
def logsigmoid(x: Array) -> Array:
    """``log(sigmoid(x))`` without overflow."""
    return -np.logaddexp(x.dtype.type(0), -x)


@composite(method=False, name=_nn("silu"))
def silu(x: Tensor, inplace: bool = False) -> Tensor:
    """``x * sigmoid(x)``."""
    return x * x.sigmoid()


@composite(method=False, name=_nn("mish"))
def mish(x: Tensor, inplace: bool = False) -> Tensor:
    """``x * tanh(softplus(x))`` (arXiv 1908.08681)."""
    return x * softplus(x).tanh()


@composite(method=False, name=_nn("gelu"))
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """``x`` times the cumulative normal distribution at x, exact or by tanh (arXiv 1606.08415)."""
    if approximate == "tanh":
        return x * 0.5 * (1 + ((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)).tanh())
    return x * 0.5 * (1 + erf(x * math.sqrt(0.5)))


@composite(method=False, name=_nn("relu6"))
def relu6(x: Tensor, inplace: bool = False) -> Tensor:
    """x kept in [0, 6]."""
    return hardtanh(x, 0.0, 6.0)


@operator(
    {"x": lambda g, x, min_val, max_val: g * ((x > min_val) & (x < max_val)).to(g.dtype)},
    method=False,
    name=_nn("hardtanh"),
)
def hardtanh(x: Array, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Array:
    """x kept in [min_val, max_val]; no gradient at the bounds."""
    return np.clip(x, np.asarray(min_val, x.dtype), np.asarray(max_val, x.dtype))


@composite(method=False, name=_nn("hardsigmoid"))
def hardsigmoid(x: Tensor, inplace: bool = False) -> Tensor:
    """x / 6 + 1 / 2 kept in [0, 1]."""
    return hardtanh(x, -3.0, 3.0) / 6 + 0.5


def _hardswish_rule(g: Tensor, x: Tensor) -> Tensor:
    middle = ((x > -3) & (x < 3)).to(g.dtype)
    return g * (middle * (x / 3 + 0.5) + (x >= 3).to(g.dtype))


@operator({"x": _hardswish_rule}, method=False, name=_nn("hardswish"))
def hardswish(x: Array, inplace: bool = False) -> Array:
    """x times its hardsigmoid (arXiv 1905.02244)."""
    return x * np.clip(x + 3, 0, 6) / x.dtype.type(6)


@operator({"x": lambda g, x, lambd: g * (x.abs() > lambd).to(g.dtype)}, method=False, name=_nn("hardshrink"))
def hardshrink(x: Array, lambd: float = 0.5) -> Array:
    """x where |x| > lambd, else 0."""
    return np.where(np.abs(x) > lambd, x, x * 0)


@operator({"x": lambda g, x, lambd: g * (x.abs() > lambd).to(g.dtype)}, method=False, name=_nn("softshrink"))
def softshrink(x: Array, lambd: float = 0.5) -> Array:
    """x moved towards 0 by lambd, 0 within it."""
    return np.where(x > lambd, x - x.dtype.type(lambd), np.where(x < -lambd, x + x.dtype.type(lambd), x * 0))


@composite(method=False, name=_nn("softsign"))
def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return x / (1 + x.abs())


@composite(method=False, name=_nn("tanhshrink"))
def tanhshrink(x: Tensor) -> Tensor:
    """x - tanh(x)."""
    return x - x.tanh()


@operator({"x": lambda g, x, threshold: g * (x > threshold).to(g.dtype)}, method=False, name=_nn("threshold"))
def threshold(x: Array, threshold: float, value: float, inplace: bool = False) -> Array:
    """x where it is above the threshold, else ``value``."""
    return np.where(x > threshold, x, np.asarray(value, x.dtype))


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


@composite(method=False, name=_nn("dropout"))
def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Elements zeroed with probability ``p``, the others scaled by 1 / (1 - p); x itself when not training."""
    if not 0 <= p <= 1:
        msg = f"dropout: expected a probability in [0, 1], got {p}"
        raise ValueError(msg)
    if not training or p == 0:
        return x
    kept = (random.rand(tuple(x.shape), device=x.device) >= p).to(x.dtype)
    return x * (kept * (1 / (1 - p)) if p < 1 else kept)
