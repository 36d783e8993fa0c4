"""Distances and similarities between vectors."""

from __future__ import annotations

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.record import Array, composite, operator

__all__ = ["cosine_similarity", "length", "pairwise_distance", "pdist"]


def _length_rule(g: Tensor, d: Tensor, y: Tensor, p: float) -> Tensor:
    """Where the distance is 0 its gradient is 0."""
    g, y = g.unsqueeze(-1), y.unsqueeze(-1)
    if p == 0:
        return g * 0 * d
    if p == 1:
        return g * d.sgn()
    a = d.abs()
    if p == np.inf:
        return g * d.sgn() * (a == y).to(g.dtype)
    if p == 2:
        return (d * (g / y)).masked_fill(y == 0, 0)
    gone = (y == 0) | (a == 0)
    return (g * d.sgn() * a.masked_fill(gone, 1) ** (p - 1) / y.masked_fill(y == 0, 1) ** (p - 1)).masked_fill(gone, 0)


@operator({"d": _length_rule}, method=False)
def length(d: Array, p: float = 2.0) -> Array:
    """The p-norm over the last dimension: the number of elements other than 0 for p = 0, the largest for infinity."""
    if p < 0:
        msg = f"expected p of at least 0, got {p}"
        raise RuntimeError(msg)
    a = np.abs(d)
    if p == 0:
        return (a != 0).sum(-1).astype(a.dtype)
    if p == 1:
        return a.sum(-1)
    if p == np.inf:
        return a.max(-1) if a.shape[-1] else a.sum(-1)
    if p == 2:
        return np.sqrt((a * a).sum(-1))
    return (a**p).sum(-1) ** a.dtype.type(1 / p)


@composite(method=False, name="nn.functional.pdist")
def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm distances between all pairs of rows [n, m], as a vector of n (n - 1) / 2: the upper triangle, row by row.

    >>> import tensor as T
    >>> pdist(T.tensor([[0.0], [1.0], [3.0]]))
    tensor([1., 3., 2.])
    """
    if input.ndim != 2:
        msg = f"pdist: expected a matrix, got {list(input.shape)}"
        raise RuntimeError(msg)
    first, second = (Tensor(i) for i in np.triu_indices(input.shape[0], 1))
    return length(input[first] - input[second], p)


@composite(method=False, name="nn.functional.pairwise_distance")
def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of ``x1 - x2 + eps`` over the last dimension."""
    return (x1 - x2 + eps).norm(p, dim=-1, keepdim=keepdim)


@composite(method=False, name="nn.functional.cosine_similarity")
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along ``dim`` (of both, broadcast); each length counts as at least ``eps``."""
    if x1.shape != x2.shape:
        shape = np.broadcast_shapes(tuple(x1.shape), tuple(x2.shape))
        x1, x2 = x1.expand(shape), x2.expand(shape)
    a, b = x1.norm(2, dim=dim, keepdim=True), x2.norm(2, dim=dim, keepdim=True)
    # A length below eps is replaced, not clamped: its gradient stays that of the length.
    first, second = x1 / (a + (eps - a).clamp_min(0).detach()), x2 / (b + (eps - b).clamp_min(0).detach())
    return (first * second).sum(dim)
