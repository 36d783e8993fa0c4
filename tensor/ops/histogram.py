"""Counting: how often values occur, or how many fall between edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor import cuda
from tensor.autograd.tensor import Tensor
from tensor.ops.record import Array, composite, operator

__all__ = ["bincount", "histc", "histogram", "histogramdd"]


@operator()
def bincount(x: Array, weights: Array | None = None, minlength: int = 0) -> Array:
    """How often (or with what total weight) each integer >= 0 occurs.

    >>> import tensor as T
    >>> T.bincount(T.tensor([0, 2, 2]))
    tensor([1, 0, 2])
    """
    if x.ndim != 1 or x.dtype.kind not in "iu" or (x < 0).any():
        msg = f"bincount: expected a vector of integers >= 0, got {x.dtype}{list(x.shape)}"
        raise RuntimeError(msg)
    counts = np.bincount(x, weights, minlength)
    return counts if weights is None else counts.astype(weights.dtype if weights.dtype.kind == "f" else np.float64)


def _limits(x: Array, low: float, high: float, who: str) -> tuple[float, float]:
    """The range to count in: that of the data where none is given, widened where it is a point."""
    if low == high and x.size:
        low, high = float(x.min()), float(x.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        msg = f"{who}: expected a finite range, got [{low}, {high}]"
        raise RuntimeError(msg)
    if low > high:
        msg = f"{who}: expected a range with max > min, got [{low}, {high}]"
        raise RuntimeError(msg)
    return (low - 1, high + 1) if low == high else (low, high)


@operator()
def histc(x: Array, bins: int = 100, min: float = 0, max: float = 0) -> Array:
    """Counts in equal bins between ``min`` and ``max`` (of the data when both are the same); what lies outside is not counted."""
    low, high = _limits(x, min, max, "histc")
    places = ((x - low) * (bins / (high - low))).astype(np.int64)
    inside = (x >= low) & (x <= high)
    return np.bincount(np.minimum(places[inside], bins - 1), minlength=bins).astype(x.dtype)


def _edges(x: Array, bins: Any, limits: Sequence[float] | None, who: str) -> Array:
    """Edges of bins: as given, or at equal distances over the data."""
    if isinstance(bins, Tensor):
        return bins._array
    if limits is not None:
        low, high = limits
    else:
        low, high = (x.min(), x.max()) if x.size else (0.0, 1.0)
    if low == high:  # of one value, a bin of length 1 around it
        low, high = low - 0.5, high + 0.5
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        msg = f"{who}: expected a finite range with max > min, got [{low}, {high}]"
        raise RuntimeError(msg)
    return cuda.native(np.linspace, x)(low, high, bins + 1).astype(x.dtype)


def _count(columns: Sequence[Array], edges: Sequence[Array], weight: Any, density: bool) -> Tensor:
    """The total weight in each cell of a grid; the last edge belongs to the last bin."""
    d = columns[0].dtype
    shape = tuple(len(e) - 1 for e in edges)
    inside = np.ones_like(columns[0], dtype=bool)
    places = []
    for c, e in zip(columns, edges, strict=True):
        place = np.searchsorted(e, c, side="right") - 1
        place[c == e[-1]] = len(e) - 2
        inside &= (place >= 0) & (place < len(e) - 1)
        places.append(place)
    flat = np.ravel_multi_index([p[inside] for p in places], shape)
    weights = None if weight is None else weight._array.reshape(-1)[inside].astype(np.float64)
    counts = np.bincount(flat, weights, int(np.prod(shape))).reshape(shape).astype(np.float64)
    if density:
        volume = np.ones_like(counts)
        for i, e in enumerate(edges):
            volume *= np.diff(e).reshape([-1 if k == i else 1 for k in range(len(shape))])
        counts = counts / counts.sum() / volume
    return Tensor(counts.astype(d))


def _check(x: Tensor, weight: Tensor | None, who: str, wanted: Sequence[int]) -> None:
    if not x.is_floating_point():
        msg = f"{who}: expected a floating-point tensor, got {x.dtype}"
        raise RuntimeError(msg)
    if weight is not None and (tuple(weight.shape) != tuple(wanted) or weight.dtype != x.dtype):
        msg = f"{who}: expected weights of shape {list(wanted)} and {x.dtype}, got {list(weight.shape)} and {weight.dtype}"
        raise RuntimeError(msg)


@composite()
def histogram(
    x: Tensor, bins: Any, *, range: Sequence[float] | None = None, weight: Tensor | None = None, density: bool = False
) -> tuple[Tensor, Tensor]:
    """The pair (how many elements, or what weight of them, in each bin; the edges of the bins).

    ``bins``: how many at equal distances over ``range`` (that of the data), or a tensor of edges. With ``density`` the counts are scaled
    so that the histogram has area 1.

    >>> import tensor as T
    >>> T.histogram(T.tensor([1.0, 2.0, 1.0]), 4, range=(0.0, 3.0))[0]
    tensor([0., 2., 1., 0.])
    """
    _check(x, weight, "histogram", x.shape)
    flat = x.detach()._array.reshape(-1)
    edges = _edges(flat, bins, range, "histogram")
    return _count([flat], [edges], weight, density), bins if isinstance(bins, Tensor) else Tensor(edges)


@composite()
def histogramdd(
    x: Tensor, bins: Any, *, range: Sequence[float] | None = None, weight: Tensor | None = None, density: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """`histogram` of points [..., d]: the counts on a grid of d dimensions, and the edges along each.

    ``bins``: how many along all dimensions, or along each, or the edges along each; ``range``: two numbers for each dimension.
    """
    if x.ndim < 2:
        msg = f"histogramdd: expected points in the last of at least two dimensions, got shape {list(x.shape)}"
        raise RuntimeError(msg)
    _check(x, weight, "histogramdd", x.shape[:-1])
    d = x.shape[-1]
    points = x.detach()._array.reshape(-1, d)
    each = [bins] * d if isinstance(bins, int) else list(bins)
    if len(each) != d:
        msg = f"histogramdd: expected bins for {d} dimensions, got {len(each)}"
        raise RuntimeError(msg)
    limits = [None] * d if range is None else list(zip(range[::2], range[1::2], strict=True))
    edges = [_edges(c, b, r, "histogramdd") for c, b, r in zip(points.T, each, limits, strict=True)]
    return _count(list(points.T), edges, weight, density), [Tensor(e) for e in edges]
