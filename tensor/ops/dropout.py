"""Noise for training: dropout in its variants, and activations that draw random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops import random
from tensor.ops.activation import leaky_relu, or_in_place
from tensor.ops.record import composite, inplace_method

__all__ = [
    "alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout", "gumbel_softmax", "rrelu", "rrelu_",
]  # fmt: skip

#: Minus what SELU tends to for small inputs: its scale times its alpha (arXiv 1706.02515).
_SELU_LIMIT = 1.7580993408473766


def _nn(name: str) -> str:
    return f"nn.functional.{name}"


def _probability(who: str, p: float) -> None:
    if not 0 <= p <= 1:
        msg = f"{who}: expected a probability in [0, 1], got {p}"
        raise ValueError(msg)


def _kept(x: Tensor, p: float, shape: Sequence[int]) -> Tensor:
    """1 with probability 1 - p, else 0, in x's dtype."""
    return (random.rand(tuple(shape), device=x.device) >= p).to(x.dtype)


def _scaled(x: Tensor, p: float, shape: Sequence[int]) -> Tensor:
    kept = _kept(x, p, shape)
    return x * (kept * (1 / (1 - p)) if p < 1 else kept)


def _to_selu_limit(x: Tensor, p: float, shape: Sequence[int]) -> Tensor:
    """Dropped elements take SELU's lower limit; then scaled and shifted back to mean 0 and variance 1."""
    if p == 1:
        return x * 0
    a = 1 / math.sqrt((_SELU_LIMIT**2 * p + 1) * (1 - p))
    kept = _kept(x, p, shape)
    return x * (kept * a) + (kept - (1 - p)) * (a * _SELU_LIMIT)


@or_in_place
@composite(method=False, name=_nn("dropout"))
def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Elements zeroed with probability ``p``, the others scaled by 1 / (1 - p); the input itself when not training."""
    _probability("dropout", p)
    return _scaled(input, p, input.shape) if training and p else input


def _feature_dropout(n: int) -> Any:
    who = f"dropout{n}d"

    def function(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
        _probability(who, p)
        lead = input.ndim - n  # the dimensions before the places: channels, and usually the batch
        if lead not in (1, 2):
            msg = f"{who}: expected an input of {n + 1} or {n + 2} dimensions, got {list(input.shape)}"
            raise RuntimeError(msg)
        return _scaled(input, p, (*input.shape[:lead], *(1,) * n)) if training and p else input

    function.__doc__ = (
        f"Whole channels, [n, channels, {n} more dimensions], zeroed with probability ``p``, the others scaled by 1 / (1 - p)\n"
        "    (arXiv 1411.4280).\n    "
    )
    return or_in_place(composite(method=False, name=_nn(who))(function))


dropout1d, dropout2d, dropout3d = _feature_dropout(1), _feature_dropout(2), _feature_dropout(3)


@or_in_place
@composite(method=False, name=_nn("alpha_dropout"))
def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False) -> Tensor:
    """Dropout that keeps mean 0 and variance 1, for networks of SELUs (arXiv 1706.02515)."""
    _probability("alpha_dropout", p)
    return _to_selu_limit(input, p, input.shape) if training and p else input


@or_in_place
@composite(method=False, name=_nn("feature_alpha_dropout"))
def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False) -> Tensor:
    """`alpha_dropout` of whole channels, [n, channels, ...]."""
    _probability("feature_alpha_dropout", p)
    if input.ndim < 2:
        msg = f"feature_alpha_dropout: expected an input [n, channels, ...], got {list(input.shape)}"
        raise RuntimeError(msg)
    return _to_selu_limit(input, p, (*input.shape[:2], *(1,) * (input.ndim - 2))) if training and p else input


@or_in_place
@composite(method=False, name=_nn("rrelu"))
def rrelu(input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Tensor:
    """x above 0, below it x times a slope: drawn from [lower, upper] for each element when training, else their mean."""
    if not lower <= upper:
        msg = f"rrelu: expected lower <= upper, got {lower} and {upper}"
        raise RuntimeError(msg)
    if not training:
        return leaky_relu(input, (lower + upper) / 2)
    slopes = random.rand(tuple(input.shape), device=input.device) * (upper - lower) + lower
    return input * slopes.to(input.dtype).masked_fill(input > 0, 1)


rrelu_ = inplace_method(rrelu, "rrelu")


@composite(method=False, name=_nn("gumbel_softmax"))
def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """Samples of a categorical distribution, relaxed to softmax((logits + noise) / tau) (arXiv 1611.01144).

    With ``hard`` one-hot, but differentiated as if not. ``eps`` has no effect and is taken for PyTorch's sake.
    """
    drawn = random.default_generator.numpy.gumbel(size=tuple(logits.shape)).astype(logits._array.dtype)
    y = ((logits + Tensor(np.asarray(drawn, like=logits._array))) / tau).softmax(dim)
    if not hard:
        return y
    one = y.new_zeros(y.shape).scatter(dim, y.detach().argmax(dim, keepdim=True), 1.0)
    return one - y.detach() + y
