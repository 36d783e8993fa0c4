"""Losses, as functions. ``reduction`` is "mean", "sum" or "none"."""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.activation import logsigmoid
from tensor.ops.record import Array, composite, operator
from tensor.ops.reduce import constant

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
]  # fmt: skip


def _nn(name: str) -> str:
    return f"nn.functional.{name}"


def reduced(loss: Tensor, reduction: str, who: str) -> Tensor:
    """The mean, the sum, or the losses themselves."""
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    msg = f"{who}: expected reduction 'mean', 'sum' or 'none', got {reduction!r}"
    raise ValueError(msg)


def _weighted(loss: Tensor, weight: Tensor | None, reduction: str, who: str) -> Tensor:
    if weight is None:
        return reduced(loss, reduction, who)
    if weight.shape != loss.shape:
        msg = f"{who}: expected weights of the losses' shape {list(loss.shape)}, got {list(weight.shape)}"
        raise ValueError(msg)
    loss = loss * weight
    return loss.sum() / weight.sum() if reduction == "mean" else reduced(loss, reduction, who)


def _callers_level() -> int:
    """The stack level, for whom this is called, of the line outside of the library."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("tensor."):
        frame, level = frame.f_back, level + 1
    return level


def _check_target(input: Tensor, target: Tensor, who: str) -> None:
    """Warn where both are broadcast, as a column beside a row, which has as many losses as there are pairs."""
    shapes = input.shape, target.shape
    if shapes[0] != shapes[1] and shapes[1]:
        differ = f"the target's shape {list(shapes[1])} is not the input's {list(shapes[0])}"
        msg = f"{who}: {differ}: both are broadcast, which is rarely meant"
        warnings.warn(msg, UserWarning, stacklevel=_callers_level())


def _same_shape(input: Tensor, target: Tensor, who: str) -> None:
    if input.shape != target.shape:
        msg = f"{who}: expected a target of the input's shape {list(input.shape)}, got {list(target.shape)}"
        raise ValueError(msg)


@composite(method=False, name=_nn("mse_loss"))
def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """The squared difference; the mean of weighted ones is over the weights."""
    if weight is None and reduction == "mean" and input._array.shape == target._array.shape and input._array.dtype.kind == "f":
        return mean_square(input, target)
    _check_target(input, target, "mse_loss")
    return _weighted((input - target) ** 2, weight, reduction, "mse_loss")


def _square_rule(g: Tensor, x: Tensor, target: Tensor) -> Tensor:
    gx: Tensor = (x - target) * (g * (2 / max(x._array.size, 1)))
    return gx


@operator({"x": _square_rule, "target": lambda g, x, target: _square_rule(g, target, x)}, dtype="promote", method=False)
def mean_square(x: Array, target: Array) -> Array:
    """The mean of the squared differences."""
    d = (x - target).reshape(-1)
    return d.dot(d) / x.dtype.type(d.size) if d.size else d.sum() / x.dtype.type(0)


@composite(method=False, name=_nn("l1_loss"))
def l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", weight: Tensor | None = None) -> Tensor:
    """The absolute difference; the mean of weighted ones is over the weights."""
    _check_target(input, target, "l1_loss")
    return _weighted((input - target).abs(), weight, reduction, "l1_loss")


def _smooth_rule(g: Tensor, d: Tensor, beta: float) -> Tensor:
    return g * ((d / beta).clamp(-1, 1) if beta else d.sign())


@operator({"d": _smooth_rule}, method=False)
def _smooth_abs(d: Array, beta: float) -> Array:
    """d*d / (2 beta) near 0, |d| - beta / 2 further out."""
    a = np.abs(d)
    return np.where(a < beta, a * a * d.dtype.type(0.5 / beta), a - d.dtype.type(0.5 * beta)) if beta else a


@composite(method=False, name=_nn("smooth_l1_loss"))
def smooth_l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """Squared for differences below ``beta``, absolute above (arXiv 1504.08083)."""
    _check_target(input, target, "smooth_l1_loss")
    return reduced(_smooth_abs(input - target, beta), reduction, "smooth_l1_loss")


@composite(method=False, name=_nn("huber_loss"))
def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """Squared for differences below ``delta``, absolute above: delta times the smooth L1 loss."""
    if delta <= 0:
        msg = f"huber_loss: expected a delta above 0, got {delta}"
        raise RuntimeError(msg)
    _check_target(input, target, "huber_loss")
    loss = _smooth_abs(input - target, delta) * delta
    return reduced(loss if weight is None else loss * weight, reduction, "huber_loss")


@composite(method=False, name=_nn("binary_cross_entropy"))
def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean") -> Tensor:
    """The negative log likelihood of a probability in [0, 1]; logarithms are kept above -100."""
    _same_shape(input, target, "binary_cross_entropy")
    yes, no = input.log().clamp_min(-100), (1 - input).log().clamp_min(-100)
    loss = (target - 1) * no - target * yes
    return reduced(loss if weight is None else loss * weight, reduction, "binary_cross_entropy")


@composite(method=False, name=_nn("binary_cross_entropy_with_logits"))
def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean", pos_weight: Tensor | None = None
) -> Tensor:
    """`binary_cross_entropy` of sigmoid(input), stable for any input."""
    if weight is pos_weight is None and input._array.shape == target._array.shape:
        return reduced(logits_loss(input, target), reduction, "binary_cross_entropy_with_logits")
    _same_shape(input, target, "binary_cross_entropy_with_logits")
    positive = logsigmoid(input)
    scaled = positive if pos_weight is None else positive * (1 + (pos_weight - 1) * target)
    loss = (1 - target) * input - scaled
    return reduced(loss if weight is None else loss * weight, reduction, "binary_cross_entropy_with_logits")


@operator({"x": lambda g, x, target: g * (x.sigmoid() - target), "target": lambda g, x: g * -x}, dtype="promote", method=False)
def logits_loss(x: Array, target: Array) -> Array:
    """``log(1 + exp(x)) - target * x`` without overflow."""
    r = np.abs(x)
    r = np.exp(-r)
    r = np.log1p(r)
    r += np.maximum(x, 0)
    r -= target * x
    return r


def _at_classes(target: Array, shape: tuple[int, ...]) -> tuple[Array, ...]:
    """The index of each target's class in an array [n, classes, ...]."""
    places = [np.arange(n).reshape(-1, *(1,) * (len(shape) - 2 - i)) for i, n in enumerate((shape[0], *shape[2:]))]
    return (places[0], target, *places[1:])


def _kept(target: Array, classes: int, ignore_index: int) -> tuple[Array, Array | None]:
    """The targets, and which of them count: None for all. Those that do not are 0."""
    if not 0 <= ignore_index < classes and bool(((target >= 0) & (target < classes)).all()):
        return target, None
    keep = target != ignore_index
    target = np.where(keep, target, 0)
    if target.size and (target.min() < 0 or target.max() >= classes):
        wrong = target[(target < 0) | (target >= classes)].reshape(-1)[0]
        msg = f"nll_loss: expected classes from 0 to {classes - 1}, got {wrong}"
        raise IndexError(msg)
    return target, keep


def _class_rule(g: Tensor, log_p_shape: tuple[int, ...], target: Tensor, ignore_index: int, reduction: str) -> Tensor:
    return class_loss_back(g, target, log_p_shape, ignore_index, reduction)


@operator({"log_p": _class_rule, "target": None}, method=False)
def class_loss(log_p: Array, target: Array, ignore_index: int, reduction: str) -> Array:
    """Minus the log probability [n, classes, ...] of each target that is not ignored, or the sum or mean of that."""
    target, keep = _kept(target, log_p.shape[1], ignore_index)
    picked = log_p[_at_classes(target, log_p.shape)]
    if keep is not None:
        picked = np.where(keep, picked, log_p.dtype.type(0))
    if reduction == "none":
        return -picked
    total = -np.add.reduce(picked, axis=None)
    if reduction == "sum":
        return total
    return total / log_p.dtype.type(picked.size) if keep is None else total / keep.sum(dtype=log_p.dtype)


def _class_back_rule(gg: Tensor, target: Tensor, ignore_index: int, reduction: str) -> Tensor:
    return class_loss(gg, target, ignore_index, reduction)  # it is linear


@operator({"g": _class_back_rule, "target": None}, method=False)
def class_loss_back(g: Array, target: Array, shape: tuple[int, ...], ignore_index: int, reduction: str) -> Array:
    """The gradient of `class_loss` by log probabilities of this shape."""
    target, keep = _kept(target, shape[1], ignore_index)
    each = -g
    if reduction == "mean":
        each = each / (g.dtype.type(target.size) if keep is None else keep.sum(dtype=g.dtype))
    r = constant(g, shape, 0)
    r[_at_classes(target, shape)] = each if keep is None else np.where(keep, each, g.dtype.type(0))
    return r


@composite(method=False, name=_nn("nll_loss"))
def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Minus the log probability (dimension 1: [n, classes, ...] or [classes]) of the target class, weighted by class."""
    if input.ndim == 1:
        input, target = input.unsqueeze(0), target.unsqueeze(0)
        loss = nll_loss(input, target, weight, ignore_index=ignore_index, reduction=reduction)
        return loss.squeeze(0) if reduction == "none" else loss
    if weight is None and target._array.dtype == np.int64 and target.shape == (*input.shape[:1], *input.shape[2:]):
        if reduction not in ("mean", "sum", "none"):
            return reduced(input, reduction, "nll_loss")  # which raises
        return class_loss(input, target, ignore_index, reduction)
    keep = target != ignore_index
    index = target.masked_fill(~keep, 0)
    picked = -input.gather(1, index.unsqueeze(1)).squeeze(1)
    w = keep.to(input.dtype) if weight is None else weight[index] * keep.to(input.dtype)
    loss = picked.masked_fill(~keep, 0) * w
    return loss.sum() / w.sum() if reduction == "mean" else reduced(loss, reduction, "nll_loss")


@composite(method=False, name=_nn("cross_entropy"))
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The negative log likelihood of softmax(input) for class indices, or for probabilities of the input's shape."""
    dim = 0 if input.ndim == 1 else 1
    logp = input.log_softmax(dim)
    classes = input.shape[dim]
    spread = None if weight is None else weight.reshape([-1 if i == dim else 1 for i in range(input.ndim)])
    if target.is_floating_point():
        if target.shape != input.shape:
            wanted = [n for i, n in enumerate(input.shape) if i != dim]
            msg = (
                f"cross_entropy: expected integer classes of shape {wanted}, or probabilities of shape {list(input.shape)}, "
                f"got {target.dtype} of shape {list(target.shape)}; target.long() makes classes of numbers"
            )
            raise RuntimeError(msg)
        if label_smoothing:
            target = target * (1 - label_smoothing) + label_smoothing / classes
        loss = -(logp * target if spread is None else logp * target * spread).sum(dim)
        return loss.sum() / max(loss.numel(), 1) if reduction == "mean" else reduced(loss, reduction, "cross_entropy")
    hard = nll_loss(logp, target, weight, ignore_index=ignore_index, reduction=reduction)
    if not label_smoothing:
        return hard
    keep = (target != ignore_index).to(input.dtype)
    smooth = -(logp if spread is None else logp * spread).sum(dim) * keep
    if reduction == "mean":
        index = target.masked_fill(target == ignore_index, 0)
        smooth = smooth.sum() / (keep.sum() if weight is None else (weight[index] * keep).sum())
    else:
        smooth = reduced(smooth, reduction, "cross_entropy")
    return hard * (1 - label_smoothing) + smooth * (label_smoothing / classes)


@composite(method=False, name=_nn("kl_div"))
def kl_div(input: Tensor, target: Tensor, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """``target * (log(target) - input)``, the input in log space; "batchmean" divides the sum by the batch size."""
    loss = target.exp() * (target - input) if log_target else target.xlogy(target) - target * input
    if reduction == "batchmean":
        return loss.sum() / (input.shape[0] if input.ndim else 1)
    return reduced(loss, reduction, "kl_div")


@composite(method=False, name=_nn("gaussian_nll_loss"))
def gaussian_nll_loss(
    input: Tensor, target: Tensor, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """Minus the log density of a normal distribution with mean ``input`` and variance ``var`` (at least ``eps``)."""
    if not isinstance(var, Tensor):
        var = input.new_full(input.shape, var)
    if var.ndim < input.ndim and var.shape == input.shape[:-1]:
        var = var.unsqueeze(-1)
    safe = var + (eps - var).clamp_min(0).detach()
    loss = ((input - target) ** 2 / safe + safe.log()) * 0.5
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction, "gaussian_nll_loss")


@composite(method=False, name=_nn("poisson_nll_loss"))
def poisson_nll_loss(
    input: Tensor, target: Tensor, log_input: bool = True, full: bool = False, *, eps: float = 1e-8, reduction: str = "mean"
) -> Tensor:
    """Minus the log likelihood of counts from a Poisson distribution."""
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        safe = target.masked_fill(target <= 1, 2)
        stirling = safe * safe.log() - safe + (safe * (2 * math.pi)).log() * 0.5
        loss = loss + stirling.masked_fill(target <= 1, 0)
    return reduced(loss, reduction, "poisson_nll_loss")
