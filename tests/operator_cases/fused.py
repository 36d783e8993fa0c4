"""Operators that are several in one, for speed: losses, gradients of activations, scale and shift."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special as sp

from operator_cases.case import Case, u, x

CLASSES = np.array([2, 0, -100])
WINDOWED = x(2, 4).astype(np.float32)
LARGEST = np.maximum(WINDOWED[:, ::2], WINDOWED[:, 1::2])


def _density(a: Any) -> Any:
    return np.exp(-a * a / 2) / np.sqrt(2 * np.pi)


def _silu_slope(a: Any) -> Any:
    return sp.expit(a) * (1 + a * (1 - sp.expit(a)))


def _log_softmax_slope(g: Any, log_y: Any, *_: Any) -> Any:
    return g - np.exp(log_y) * g.sum(-1, keepdims=True)


def _put_back(g: Any, *_: Any) -> Any:
    r = np.zeros((3, 4))
    r[[0, 1], [2, 0]] = -g / 2
    return r


RULED: dict[str, Case] = {
    "affine": Case(x(2, 3), x(3), x(3), ref=lambda a, w, b: a * w + b),
    "product_to": Case(x(2, 3, 2), x(2, 3, 2), (3, 1), ref=lambda a, b, _: (a * b).sum((0, 2)).reshape(3, 1)),
    "nn.functional.silu": Case(x(5), ref=lambda a: a * sp.expit(a)),
    "silu_back": Case(x(5), x(5), ref=lambda g, a: g * _silu_slope(a)),
    "_gelu": Case(x(5), ref=lambda a: a * sp.ndtr(a)),
    "gelu_back": Case(x(5), x(5), ref=lambda g, a: g * (sp.ndtr(a) + a * _density(a))),
    "sigmoid_slope": Case(x(5), x(5), ref=lambda g, v: g * v * (1 - v)),
    "leaky_back": Case(x(5), x(5), 0.1, ref=lambda g, a, s: np.where(a > 0, g, s * g)),
    "softmax_back": Case(x(2, 3), x(2, 3), -1, ref=lambda g, y, _: y * (g - (g * y).sum(-1, keepdims=True))),
    "log_softmax_back": Case(x(2, 3), x(2, 3), -1, ref=_log_softmax_slope),
    "mean_square": Case(x(2, 3), x(2, 3), ref=lambda a, b: np.mean((a - b) ** 2)),
    "logits_loss": Case(x(5), u(0, 1, 5), ref=lambda a, t: np.logaddexp(0, a) - t * a),
    "class_loss": Case(x(3, 4), CLASSES, -100, "mean", ref=lambda a, *_: -(a[0, 2] + a[1, 0]) / 2),
    "class_loss_back": Case(np.array(1.5), CLASSES, (3, 4), -100, "mean", ref=_put_back),
    "window_max_back": Case(x(2, 2), WINDOWED, LARGEST, (2,), (2,), (1,), ref=lambda g, a, y, *_: np.repeat(g, 2, 1) * (a == np.repeat(y, 2, 1))),
}  # fmt: skip
