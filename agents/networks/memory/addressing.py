"""How memory is addressed: by content, by place. Pure functions, differentiable, over a batch of memories and several heads.

Shapes: a memory ``[batch, slots, width]``, weightings ``[batch, heads, slots]``, keys ``[batch, heads, width]``, and one number
for each head ``[batch, heads, 1]``.
"""

from __future__ import annotations

import tensor as T
from tensor import Tensor

__all__ = ["allocation", "content", "cosine", "interpolate", "read", "sharpen", "shift", "write"]

#: Added to squared norms and to weights that are raised to a power: below its size, nothing but noise that gradients would
#: enlarge. Slots start near zero, where the gradient of a direction is 1 / norm; that of a weighting's power is power / weight.
_EPSILON = 1e-2


def cosine(memory: Tensor, keys: Tensor) -> Tensor:
    """The cosine of the angle between each key and each slot, ``[batch, heads, slots]``; about 0 for those shorter than 0.1.

    >>> cosine(10 * T.eye(2).unsqueeze(0), T.tensor([[[0.0, 30.0]]])).round(decimals=3)
    tensor([[[0., 1.]]])
    """
    lengths = (memory * memory).sum(-1).add(_EPSILON).rsqrt().unsqueeze(1)
    key_lengths = (keys * keys).sum(-1, keepdim=True).add(_EPSILON).rsqrt()
    similarity: Tensor = (keys * key_lengths) @ memory.mT * lengths
    return similarity


def content(memory: Tensor, keys: Tensor, strength: Tensor) -> Tensor:
    """Weightings by likeness to keys: the softmax over slots of ``strength`` times `cosine`."""
    weights: Tensor = (cosine(memory, keys) * strength).softmax(-1)
    return weights


def interpolate(new: Tensor, old: Tensor, gate: Tensor) -> Tensor:
    """``gate`` of the new weighting, the rest of the old."""
    mixed: Tensor = old + gate * (new - old)
    return mixed


def shift(weights: Tensor, shifts: Tensor) -> Tensor:
    """Weightings moved around the ring of slots by -1, 0 and 1, as much as ``shifts`` ``[batch, heads, 3]`` says of each.

    >>> shift(T.tensor([[[1.0, 0.0, 0.0]]]), T.tensor([[[0.0, 0.0, 1.0]]]))
    tensor([[[0., 1., 0.]]])
    """
    around = T.cat([weights[..., -1:], weights, weights[..., :1]], -1)
    n = weights.shape[-1]
    moved: Tensor = shifts[..., :1] * around[..., 2 : n + 2] + shifts[..., 1:2] * weights + shifts[..., 2:] * around[..., :n]
    return moved


def sharpen(weights: Tensor, power: Tensor) -> Tensor:
    """Weightings to a power of at least 1, normalised: what shifts have blurred becomes sharp again."""
    raised = (weights + _EPSILON) ** power
    sharp: Tensor = raised / raised.sum(-1, keepdim=True)
    return sharp


def allocation(usage: Tensor) -> Tensor:
    """A weighting of free slots by ``usage`` ``[batch, slots]`` in [0, 1], the least used first: ``[batch, slots]``.

    >>> allocation(T.tensor([[1.0, 0.0, 0.5]]))
    tensor([[0., 1., 0.]])
    """
    order = usage.argsort(-1)
    ascending = usage.gather(-1, order)
    before = T.cat([T.ones_like(ascending[..., :1]), ascending[..., :-1].cumprod(-1)], -1)
    weights: Tensor = ((1 - ascending) * before).gather(-1, order.argsort(-1))
    return weights


def read(memory: Tensor, weights: Tensor) -> Tensor:
    """What the heads see: ``[batch, heads, width]``."""
    return weights @ memory


def write(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    """The memory after each head, one after the other, erased (in [0, 1]) and added what it holds: ``[batch, slots, width]``."""
    for head in range(weights.shape[1]):
        w = weights[:, head].unsqueeze(-1)
        memory = memory + w * (add[:, head : head + 1] - memory * erase[:, head : head + 1])
    return memory
