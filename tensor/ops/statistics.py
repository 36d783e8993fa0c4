"""Statistics, and distances between points."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tensor import dtypes
from tensor.autograd.tensor import Tensor
from tensor.ops.distance import length
from tensor.ops.join import stack
from tensor.ops.record import composite

__all__ = ["cartesian_prod", "cdist", "combinations", "corrcoef", "cov", "dist", "nanquantile", "quantile", "renorm"]  # fmt: skip


def _quantile(x: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str, ignore_nan: bool) -> Tensor:
    qs = q if isinstance(q, Tensor) else x.new_tensor(q, dtype=x.dtype)
    flat, d = (x.reshape(-1), 0) if dim is None or not x.ndim else (x, dim % x.ndim)
    ordered = flat.sort(d)[0].movedim(d, -1)
    counts = ((~ordered.isnan()).sum(-1, keepdim=True) if ignore_nan else ordered.new_full((*ordered.shape[:-1], 1), ordered.shape[-1], dtype=dtypes.int64))  # fmt: skip
    rank = qs.reshape(-1) * (counts - 1).clamp_min(0).to(x.dtype)  # [..., q]
    if not ignore_nan:
        has_nan = ordered.isnan().any(-1, keepdim=True)
        rank = rank.masked_fill(has_nan, ordered.shape[-1] - 1)
    if interpolation == "nearest":
        rank = rank.round()
    elif interpolation not in ("linear", "lower", "higher", "midpoint"):
        msg = f"quantile: expected interpolation linear, lower, higher, midpoint or nearest, got {interpolation!r}"
        raise RuntimeError(msg)
    low = rank.floor().to(dtypes.int64)
    if interpolation in ("lower", "nearest"):
        result = ordered.gather(-1, low)
    elif interpolation == "higher":
        result = ordered.gather(-1, rank.ceil().to(dtypes.int64))
    else:
        below, above = ordered.gather(-1, low), ordered.gather(-1, rank.ceil().to(dtypes.int64))
        weight = rank - rank.floor() if interpolation == "linear" else rank * 0 + 0.5
        result = below.lerp(above, weight)
    result = result.movedim(-1, 0)
    if keepdim:
        shape = [1] * x.ndim if dim is None else [1 if i == d else n for i, n in enumerate(x.shape)]
        result = result.reshape([result.shape[0], *shape])
    return result.squeeze(0) if qs.ndim == 0 else result


@composite()
def quantile(x: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear") -> Tensor:
    """The q-quantiles (a number or a vector in [0, 1]) along ``dim``; nan where there is a nan."""
    return _quantile(x, q, dim, keepdim, interpolation, ignore_nan=False)


@composite()
def nanquantile(x: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear") -> Tensor:
    """`quantile` of the elements that are not nan."""
    return _quantile(x, q, dim, keepdim, interpolation, ignore_nan=True)


def _as_floats(x: Tensor) -> Tensor:
    return x if x._array.dtype.kind in "fc" else x.to(dtypes.get_default_dtype())


@composite()
def cov(x: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None) -> Tensor:
    """The covariance matrix of variables in rows, observations in columns."""
    rows = _as_floats(x.reshape(1, -1) if x.ndim < 2 else x)
    weights = fweights if aweights is None else aweights if fweights is None else fweights * aweights
    if weights is None:
        mean, total = rows.mean(1, keepdim=True), rows.shape[1]
        centred = rows - mean
        r = centred @ centred.mT.conj() / max(total - correction, 0)
    else:
        total_weight = weights.sum()
        centred = rows - (rows * weights).sum(1, keepdim=True) / total_weight
        share = 1 if aweights is None else (weights * aweights).sum() / total_weight
        norm = (total_weight - correction * share).clamp_min(0)
        r = (centred * weights) @ centred.mT.conj() / norm
    return r.squeeze()


@composite()
def corrcoef(x: Tensor) -> Tensor:
    """The correlation matrix of variables in rows."""
    c = cov(x)
    if c.ndim == 0:
        return c / c
    d = c.diagonal().sqrt()
    return c / d.unsqueeze(1) / d.unsqueeze(0)


@composite()
def dist(a: Tensor, b: Tensor, p: float = 2) -> Tensor:
    """The p-norm of the difference."""
    return (a - b).reshape(-1).norm(p)


@composite(method=False)
def cdist(a: Tensor, b: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """The p-norm distances between all rows of two (batches of) matrices."""
    return length(a.unsqueeze(-2) - b.unsqueeze(-3), p)


@composite(inplace=True)
def renorm(x: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Parts along ``dim`` scaled down so that their p-norm is at most ``maxnorm``."""
    others = tuple(i for i in range(x.ndim) if i != dim % x.ndim)
    length = x.norm(p, dim=others, keepdim=True)
    return x * (maxnorm / (length + 1e-7)).where(length > maxnorm, length * 0 + 1)


@composite(method=False)
def cartesian_prod(*tensors: Any) -> Tensor:
    """All tuples with one element from each vector."""
    xs: list[Tensor] = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)
    if len(xs) == 1:
        return xs[0]
    shape = [x.shape[0] for x in xs]
    grids = [x.reshape([-1 if i == k else 1 for k in range(len(xs))]).expand(shape).reshape(-1) for i, x in enumerate(xs)]
    return stack(grids, 1)


@composite(method=False)
def combinations(x: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All ways to choose ``r`` elements of a vector."""
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    index = np.array(list(choose(range(x.shape[0]), r)), dtype=np.int64).reshape(-1, r)
    return x[Tensor(index)] if r else x.new_zeros((0,))
