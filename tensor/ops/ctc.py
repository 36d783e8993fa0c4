"""Connectionist temporal classification (Graves et al. 2006, doi 10.1145/1143844.1143891)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tensor import cuda
from tensor.autograd.tensor import Tensor
from tensor.ops.loss import reduced
from tensor.ops.record import Array, operator

__all__ = ["ctc_loss"]


class Paths(NamedTuple):
    """What alignments look like: for each sequence its labels with blanks between, [batch, states], and lengths."""

    states: Array
    skips: Array  #: whether a state may be reached from two before: no blank, and another label than that
    frames: Array  #: how many frames of each sequence count
    lengths: Array  #: how many states
    last: Array  #: [batch, states]: whether an alignment may end there


def _paths(targets: Array, frames: Array, lengths: Array, blank: int) -> Paths:
    batch, longest = targets.shape
    states = np.full((batch, 2 * longest + 1), blank, np.int64)
    states[:, 1::2] = targets
    skips = np.zeros(states.shape, bool)
    skips[:, 2:] = (states[:, 2:] != blank) & (states[:, 2:] != states[:, :-2])
    number, count = np.arange(states.shape[1]), 2 * lengths[:, None] + 1
    return Paths(states, skips, frames, 2 * lengths + 1, (number == count - 1) | (number == count - 2))


def _forward(log_probs: Array, paths: Paths) -> Array:
    """Log probabilities [frames, batch, states] of all beginnings of alignments that are in a state at a frame."""
    emitted = np.take_along_axis(log_probs, np.broadcast_to(paths.states, (len(log_probs), *paths.states.shape)), 2)
    alpha = np.full_like(emitted, -np.inf)
    if not len(alpha):
        return alpha
    alpha[0, :, :2] = emitted[0, :, :2]
    alpha[0, paths.lengths == 1, 1:2] = -np.inf  # an empty sequence has no second state
    for t in range(1, len(emitted)):
        before = alpha[t - 1]
        reached = before.copy()
        reached[:, 1:] = np.logaddexp(reached[:, 1:], before[:, :-1])
        reached[:, 2:] = np.where(paths.skips[:, 2:], np.logaddexp(reached[:, 2:], before[:, :-2]), reached[:, 2:])
        alpha[t] = reached + emitted[t]
    return alpha


def _ending(alpha: Array, paths: Paths) -> Array:
    """Log probabilities [batch] of all alignments."""
    if not len(alpha):
        return np.where(paths.lengths == 1, 0.0, -np.inf).astype(alpha.dtype)
    at_end = alpha[paths.frames - 1, np.arange(alpha.shape[1])]
    total = np.logaddexp.reduce(np.where(paths.last, at_end, -np.inf), 1)
    return np.where(paths.frames > 0, total, np.where(paths.lengths == 1, 0.0, -np.inf)).astype(alpha.dtype)


def _posterior(log_probs: Array, paths: Paths) -> Array:
    """The probability [frames, batch, classes] that an alignment has a class at a frame."""
    alpha = _forward(log_probs, paths)
    emitted = np.take_along_axis(log_probs, np.broadcast_to(paths.states, alpha.shape), 2)
    joint = np.full_like(alpha, -np.inf)
    beta = np.full(paths.states.shape, -np.inf, alpha.dtype)
    for t in range(len(alpha) - 1, -1, -1):
        if t + 1 < len(alpha):
            after = beta + emitted[t + 1]
            beta = after.copy()
            beta[:, :-1] = np.logaddexp(beta[:, :-1], after[:, 1:])
            beta[:, :-2] = np.where(paths.skips[:, 2:], np.logaddexp(beta[:, :-2], after[:, 2:]), beta[:, :-2])
        beta = np.where((paths.frames - 1 == t)[:, None], np.where(paths.last, 0.0, -np.inf), beta)
        joint[t] = np.where((t < paths.frames)[:, None], alpha[t] + beta, -np.inf)
    total = _ending(alpha, paths)
    possible = np.isfinite(total)
    share = np.exp(joint - np.where(possible, total, 0)[:, None])
    # Where no alignment has the target, the loss is infinite.
    share[~possible & (np.arange(len(alpha))[:, None] < paths.frames)] = np.nan
    result = np.zeros_like(log_probs)
    batch = np.arange(log_probs.shape[1])
    for s in range(paths.states.shape[1]):  # a class may stand at several states
        result[:, batch, paths.states[:, s]] += share[:, :, s]
    return result


@operator(method=False)
def ctc_posterior(log_probs: Array, paths: Any) -> Array:
    """The share of alignments, by probability, that have a class at a frame."""
    return _posterior(log_probs, paths)


def _nll_rule(g: Tensor, log_probs: Tensor, paths: Any) -> Tensor:
    share = ctc_posterior(log_probs.detach(), paths)
    # An impossible target that zero_infinity left out has gradient 0, not 0 * nan.
    return share.masked_fill((g == 0).reshape(1, -1, 1), 0) * -g.reshape(1, -1, 1)


@operator({"log_probs": _nll_rule}, method=False)
def ctc_nll(log_probs: Array, paths: Any) -> Array:
    """Minus the log probability [batch] of all alignments; its gradient has none itself."""
    return -_ending(_forward(log_probs, paths), paths)


def _numbers(x: Any) -> Array:
    return np.asarray(cuda.to_host(x._array) if isinstance(x, Tensor) else x, np.int64).reshape(-1)


def _padded(targets: Tensor, lengths: Array, blank: int) -> Array:
    """Targets as a matrix with a row for each sequence, however they were given."""
    a = cuda.to_host(targets._array).astype(np.int64)
    if a.ndim == 2:
        return a[:, : int(lengths.max(initial=0))]
    rows = np.full((len(lengths), int(lengths.max(initial=0))), blank, np.int64)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = a.reshape(-1)[: int(lengths.sum())]
    return rows


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Minus the log probability of target sequences, over all their alignments with longer inputs.

    ``log_probs`` are [frames, batch, classes] (or [frames, classes]), usually of `log_softmax`; ``targets`` are [batch, longest],
    or all targets after each other. "mean" divides each loss by its target's length. Without any alignment the loss is infinite,
    or 0 with ``zero_infinity``. There is no second derivative.

    >>> import tensor as T
    >>> even = T.zeros(2, 1, 2).log_softmax(2)
    >>> ctc_loss(even, T.tensor([[1]]), [2], [1], reduction="sum").exp()  # 3 of 4 paths spell the target
    tensor(1.3333)
    """
    single = log_probs.ndim == 2
    x = log_probs.unsqueeze(1) if single else log_probs
    if x.ndim != 3:
        msg = f"ctc_loss: expected log_probs [frames, batch, classes] or [frames, classes], got {list(log_probs.shape)}"
        raise RuntimeError(msg)
    frames, lengths = _numbers(input_lengths), _numbers(target_lengths)
    count, batch, classes = x.shape
    if not len(frames) == len(lengths) == batch:
        msg = f"ctc_loss: expected {batch} input_lengths and target_lengths, got {len(frames)} and {len(lengths)}"
        raise RuntimeError(msg)
    if not 0 <= blank < classes or frames.max(initial=0) > count or min(frames.min(initial=0), lengths.min(initial=0)) < 0:
        msg = f"ctc_loss: expected a blank below {classes} and input_lengths up to {count}, got {blank} and {frames.tolist()}"
        raise RuntimeError(msg)
    rows = _padded(targets if targets.ndim == 2 or not single else targets.reshape(1, -1), lengths, blank)
    if len(rows) != batch or rows.shape[1] < lengths.max(initial=0):
        msg = f"ctc_loss: expected targets for {batch} sequences of up to {int(lengths.max(initial=0))} labels, got {list(targets.shape)}"
        raise RuntimeError(msg)
    used = np.arange(rows.shape[1]) < lengths[:, None]
    if (rows[used] >= classes).any() or (rows[used] < 0).any():
        msg = f"ctc_loss: expected labels below {classes}, got {int(rows[used].min())} to {int(rows[used].max())}"
        raise RuntimeError(msg)
    loss = ctc_nll(x, _paths(np.where(used, rows, blank), frames, lengths, blank))
    if zero_infinity:
        loss = loss.masked_fill(loss.detach() == np.inf, 0)
    if reduction == "mean":
        return (loss / Tensor(lengths.clip(1).astype(x._array.dtype))).mean()
    return reduced(loss.squeeze(0) if single and reduction == "none" else loss, reduction, "ctc_loss")
