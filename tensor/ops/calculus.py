"""Derivatives and integrals of functions known at sampled points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tensor import dtypes
from tensor.autograd.tensor import Tensor
from tensor.ops.join import cat
from tensor.ops.record import composite
from tensor.ops.reduce import check_axis

__all__ = ["cumulative_trapezoid", "gradient", "trapezoid", "trapz"]


def _spacing(y: Tensor, x: Tensor | None, dx: float | None, dim: int) -> Any:
    if x is None:
        return 1.0 if dx is None else dx
    if x.ndim < y.ndim and x.ndim == 1:
        x = x.reshape([-1 if i == dim % y.ndim else 1 for i in range(y.ndim)])
    return x.diff(dim=dim)


def _trapezoids(y: Tensor, x: Tensor | None, dx: float | None, dim: int) -> Tensor:
    n = y.shape[dim]
    later, earlier = y.narrow(dim, 1, n - 1), y.narrow(dim, 0, n - 1)
    areas: Tensor = (later + earlier) * _spacing(y, x, dx, dim) / 2
    return areas


@composite(method=False, aliases=["trapz"])
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1) -> Tensor:
    """The integral along ``dim`` by the trapezoidal rule."""
    return _trapezoids(y, x, dx, dim).sum(dim)


trapz = trapezoid


@composite(method=False)
def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1) -> Tensor:
    """The running integral along ``dim`` by the trapezoidal rule."""
    return _trapezoids(y, x, dx, dim).cumsum(dim)


def _slope(x: Tensor, steps: Any, d: int, edge_order: int) -> Tensor:
    """The derivative along one dimension; ``steps``: one distance, or the distances between neighbours."""
    n = x.shape[d]
    if n < edge_order + 1:
        msg = f"gradient: expected at least {edge_order + 1} elements along dimension {d}, got shape {list(x.shape)}"
        raise RuntimeError(msg)

    def at(start: int, length: int = 1) -> Tensor:
        return x.narrow(d, start, length)

    if isinstance(steps, Tensor):
        h = steps.reshape([-1 if i == d else 1 for i in range(x.ndim)])
        before, after = h.narrow(d, 0, n - 2), h.narrow(d, 1, n - 2)
        first, second, last = h.narrow(d, 0, 1), h.narrow(d, min(1, n - 2), 1), h.narrow(d, n - 2, 1)
        second_last = h.narrow(d, max(n - 3, 0), 1)
    else:
        before = after = first = second = last = second_last = steps
    # Of second order inside, also where the distances differ.
    inside = (
        before * before * at(2, n - 2) + (after * after - before * before) * at(1, n - 2) - after * after * at(0, n - 2)
    ) / (before * after * (before + after))
    if edge_order == 1:
        left, right = (at(1) - at(0)) / first, (at(n - 1) - at(n - 2)) / last
    else:
        left = _edge(at(0), at(1), at(2), first, second)
        right = _edge(at(n - 1), at(n - 2), at(n - 3), -last, -second_last)
    return cat([left, inside, right], d)


def _edge(f0: Tensor, f1: Tensor, f2: Tensor, h1: Any, h2: Any) -> Tensor:
    """The derivative at the first of three points, by the parabola through them."""
    slope: Tensor = f1 * ((h1 + h2) / (h1 * h2)) - f0 * ((2 * h1 + h2) / (h1 * (h1 + h2))) - f2 * (h1 / (h2 * (h1 + h2)))
    return slope


@composite(method=False)
def gradient(
    x: Tensor, *, spacing: Any = None, dim: int | Sequence[int] | None = None, edge_order: int = 1
) -> tuple[Tensor, ...]:
    """The derivatives along ``dim`` (all dimensions) of a function sampled on a grid, by differences of second order.

    ``spacing``: the distance between samples (1), or one for each dimension, or a tensor of coordinates for each. At both ends differences are
    one-sided, of order ``edge_order`` (1 or 2).

    >>> import tensor as T
    >>> T.gradient(T.tensor([1.0, 4.0, 9.0, 16.0]))
    (tensor([3., 4., 6., 7.]),)
    """
    dims = [check_axis(d, x.ndim) for d in (range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim)]
    if edge_order not in (1, 2):
        msg = f"gradient: expected edge_order 1 or 2, got {edge_order}"
        raise RuntimeError(msg)
    spacing = 1 if spacing is None else spacing
    each = list(spacing) if isinstance(spacing, (list, tuple)) else [spacing] * len(dims)
    if len(each) != len(dims):
        msg = f"gradient: expected a spacing for each of {len(dims)} dimensions, got {len(each)}"
        raise RuntimeError(msg)
    if not (x.is_floating_point() or x.is_complex()):
        x = x.to(dtypes.get_default_dtype())
    return tuple(
        _slope(x, s.diff() if isinstance(s, Tensor) and s.ndim else s, d, edge_order) for s, d in zip(each, dims, strict=True)
    )
