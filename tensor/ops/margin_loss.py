"""Losses that ask for a margin between scores or distances. ``reduction`` is "mean", "sum" or "none"."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.activation import logsigmoid, softplus
from tensor.ops.distance import pairwise_distance
from tensor.ops.loss import reduced
from tensor.ops.record import composite

__all__ = [
    "cosine_embedding_loss", "hinge_embedding_loss", "margin_ranking_loss", "multi_margin_loss", "multilabel_margin_loss",
    "multilabel_soft_margin_loss", "soft_margin_loss", "triplet_margin_loss", "triplet_margin_with_distance_loss",
]  # fmt: skip


def _nn(name: str) -> str:
    return f"nn.functional.{name}"


@composite(method=False, name=_nn("hinge_embedding_loss"))
def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, *, reduction: str = "mean") -> Tensor:
    """x for targets 1, max(0, margin - x) for targets -1."""
    far = (margin - input).clamp_min(0)
    loss = input * 0 + far.masked_fill(target == 1, 0) + input.masked_fill(target == -1, 0)
    return reduced(loss, reduction, "hinge_embedding_loss")


@composite(method=False, name=_nn("soft_margin_loss"))
def soft_margin_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-target * input))."""
    return reduced(softplus(-target * input, 1.0, 1e9), reduction, "soft_margin_loss")


@composite(method=False, name=_nn("multilabel_soft_margin_loss"))
def multilabel_soft_margin_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """The mean over classes (the last dimension) of the binary cross entropy with logits."""
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    loss = (loss if weight is None else loss * weight).mean(-1)
    return reduced(loss, reduction, "multilabel_soft_margin_loss")


def _scores(who: str, input: Tensor, target: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Scores as [n, classes] and targets as [n], or [n, classes] for ``rows`` 2."""
    x = input.reshape(1, -1) if input.ndim < 2 else input
    wanted = tuple(x.shape)[:rows]
    if x.ndim != 2 or not x.shape[1] or target.numel() != int(np.prod(wanted)):
        msg = f"{who}: expected scores [n, classes] or [classes] and targets for them, got {list(input.shape)} and {list(target.shape)}"
        raise RuntimeError(msg)
    y = target.reshape(wanted)
    low = -1 if rows == 2 else 0
    if y.numel() and not low <= int(y.min()) <= int(y.max()) < x.shape[1]:
        msg = f"{who}: expected classes from {low} to {x.shape[1] - 1}, got {int(y.min())} to {int(y.max())}"
        raise RuntimeError(msg)
    return x, y


@composite(method=False, name=_nn("multi_margin_loss"))
def multi_margin_loss(
    input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """The mean over classes of max(0, margin - x[target] + x[class]) ** p, without the target's own; by [classes] weighted."""
    if p not in (1, 2):
        msg = f"multi_margin_loss: expected p 1 or 2, got {p}"
        raise ValueError(msg)
    x, y = _scores("multi_margin_loss", input, target, 1)
    index = y.unsqueeze(1)
    short = (margin - x.gather(1, index) + x).relu()
    short = short * short if p == 2 else short
    if weight is not None:
        short = short * weight[y].unsqueeze(1)
    own = Tensor(index._array == np.arange(x.shape[1], like=index._array))
    loss = short.masked_fill(own, 0).sum(1) / x.shape[1]
    return reduced(loss if target.ndim else loss.squeeze(0), reduction, "multi_margin_loss")


@composite(method=False, name=_nn("multilabel_margin_loss"))
def multilabel_margin_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """max(0, 1 - x[target] + x[other]), summed over all pairs of a target and a class that is none, over the number of classes.

    Each row of ``target`` lists its classes; the first -1 ends the list.
    """
    if input.shape != target.shape:
        msg = f"multilabel_margin_loss: expected targets of the scores' shape {list(input.shape)}, got {list(target.shape)}"
        raise RuntimeError(msg)
    x, y = _scores("multilabel_margin_loss", input, target, 2)
    listed = np.cumprod((y._array >= 0).astype(np.int64), 1) > 0
    classes = np.where(listed, y._array, 0)
    among = (((classes[:, :, None] == np.arange(x.shape[1], like=classes)) & listed[:, :, None]).any(1))[:, None, :]
    short = (1 - x.gather(1, Tensor(classes)).unsqueeze(2) + x.unsqueeze(1)).relu()
    loss = short.masked_fill(Tensor(~listed[:, :, None] | among), 0).sum((1, 2)) / x.shape[1]
    return reduced(loss if input.ndim == 2 else loss.squeeze(0), reduction, "multilabel_margin_loss")


@composite(method=False, name=_nn("margin_ranking_loss"))
def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, *, reduction: str = "mean"
) -> Tensor:
    """max(0, -target * (input1 - input2) + margin)."""
    return reduced((-target * (input1 - input2) + margin).clamp_min(0), reduction, "margin_ranking_loss")


@composite(method=False, name=_nn("cosine_embedding_loss"))
def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, *, reduction: str = "mean"
) -> Tensor:
    """1 - cosine for targets 1, max(0, cosine - margin) for targets -1."""
    eps = 1e-12
    dim = target.ndim
    length1, length2 = (input1 * input1).sum(dim) + eps, (input2 * input2).sum(dim) + eps
    cosine = (input1 * input2).sum(dim) / (length1 * length2).sqrt()
    loss = (1 - cosine).masked_fill(target != 1, 0) + (cosine - margin).clamp_min(0).masked_fill(target != -1, 0)
    return reduced(loss, reduction, "cosine_embedding_loss")


def _triplet(
    distance: Callable[[Tensor, Tensor], Tensor], anchor: Tensor, positive: Tensor, negative: Tensor, margin: float, swap: bool
) -> Tensor:
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = far.minimum(distance(positive, negative))
    return (near - far + margin).clamp_min(0)


@composite(method=False, name=_nn("triplet_margin_loss"))
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    *,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), d the p-norm of the difference.

    With ``swap`` the distance of positive and negative counts instead, where it is smaller than that of anchor and negative.
    """
    loss = _triplet(lambda a, b: pairwise_distance(a, b, p, eps), anchor, positive, negative, margin, swap)
    return reduced(loss, reduction, "triplet_margin_loss")


@composite(method=False, name=_nn("triplet_margin_with_distance_loss"))
def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with any distance of two tensors; `pairwise_distance` if none is given."""
    if margin <= 0:
        msg = f"triplet_margin_with_distance_loss: expected a margin above 0, got {margin}"
        raise ValueError(msg)
    loss = _triplet(distance_function or pairwise_distance, anchor, positive, negative, margin, swap)
    return reduced(loss, reduction, "triplet_margin_with_distance_loss")
