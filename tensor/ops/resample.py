"""Resampling: tensors read at other places along their dimensions, by weights that depend on the dimension's length alone.

Interpolation in all its modes, and adaptive averages, are `resample` with a table for each dimension: which elements each result is
made of, and how much of each.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.record import Array, composite, operator

__all__ = ["Taps", "bins", "interpolate", "resample", "upsample", "upsample_bilinear", "upsample_nearest"]


class Taps(NamedTuple):
    """For each result, the elements that it is made of, int64 [results, taps], and their weights (None: one element, as it is)."""

    index: Array
    weight: Array | None


def _transposed(taps: Taps, n: int) -> Taps:
    """The table of the gradient: for each of n elements, the results that it went into."""
    index = taps.index
    weight = np.ones(index.shape) if taps.weight is None else taps.weight
    used = weight != 0
    elements, results, weights = index[used], np.nonzero(used)[0], weight[used]
    order = np.argsort(elements, kind="stable")
    elements, results, weights = elements[order], results[order], weights[order]
    counts = np.bincount(elements, minlength=n)
    column = np.arange(len(elements)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (n, max(int(counts.max(initial=0)), 1))
    back = Taps(np.zeros(shape, np.int64), np.zeros(shape))
    back.index[elements, column] = results
    back.weight[elements, column] = weights  # type: ignore[index]
    return back


def _resample_rule(g: Tensor, x_shape: Sequence[int], dim: int, taps: Taps) -> Tensor:
    return resample(g, dim, _transposed(taps, x_shape[dim]))


@operator({"x": _resample_rule}, method=False)
def resample(x: Array, dim: int, taps: Taps) -> Array:
    """Weighted sums of elements along ``dim``, as the table says."""
    axis = dim % x.ndim
    total = None
    for t in range(taps.index.shape[1]):
        part = np.take(x, np.asarray(taps.index[:, t], like=x), axis=axis)
        if taps.weight is not None:
            part *= np.asarray(taps.weight[:, t], dtype=x.dtype, like=x).reshape(-1, *(1,) * (x.ndim - axis - 1))
        total = part if total is None else np.add(total, part, out=total)
    return total


@functools.lru_cache(maxsize=256)
def bins(n: int, count: int) -> Taps:
    """``count`` bins that cover n elements evenly, each as the mean of its elements."""
    start = np.arange(count) * n // count
    end = -(-np.arange(1, count + 1) * n // count)
    steps = np.arange(int((end - start).max(initial=1)))
    index = np.minimum(start[:, None] + steps, end[:, None] - 1)
    inside = start[:, None] + steps < end[:, None]
    return Taps(index, inside / (end - start)[:, None])


# --- the tables of interpolation -------------------------------------------------------------------------------------


def _scale(n: int, count: int, factor: float | None, align_corners: bool) -> float:
    """The distance between the places that neighbouring results read at."""
    if align_corners:
        return (n - 1) / (count - 1) if count > 1 else 0.0
    return 1 / factor if factor else n / count


def _nearest(n: int, count: int, factor: float | None, shift: float) -> Taps:
    # In float32, where PyTorch rounds: which of two neighbours is nearer can depend on it.
    scale = np.float32(1 / factor) if factor else np.float32(n) / np.float32(count)
    places = np.floor((np.arange(count, dtype=np.float32) + np.float32(shift)) * scale).astype(np.int64)
    return Taps(places.clip(0, n - 1)[:, None], None)


def _places(n: int, count: int, factor: float | None, align_corners: bool) -> Array:
    scale = _scale(n, count, factor, align_corners)
    return np.arange(count) * scale if align_corners else (np.arange(count) + 0.5) * scale - 0.5


def _linear(n: int, count: int, factor: float | None, align_corners: bool) -> Taps:
    places = np.maximum(_places(n, count, factor, align_corners), 0)
    low = np.minimum(places.astype(np.int64), n - 1)
    share = (places - low).clip(0, 1)
    return Taps(np.stack([low, np.minimum(low + 1, n - 1)], 1), np.stack([1 - share, share], 1))


def cubic_weights(share: Any, a: float) -> list[Any]:
    """The weights of the four neighbours of a place, by its distance past the second (Keys 1981, doi 10.1109/TASSP.1981.1163711)."""

    def near(d: Any) -> Any:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((d - 5) * d + 8) * d * a - 4 * a

    return [far(share + 1), near(share), near(1 - share), far(2 - share)]


def _cubic(n: int, count: int, factor: float | None, align_corners: bool) -> Taps:
    places = _places(n, count, factor, align_corners)
    low = np.floor(places)
    index = (low.astype(np.int64)[:, None] + np.arange(-1, 3)).clip(0, n - 1)
    return Taps(index, np.stack(cubic_weights(places - low, -0.75), 1))


def _triangle(d: Array) -> Array:
    return np.maximum(1 - np.abs(d), 0)


def _keys(d: Array) -> Array:
    d, a = np.abs(d), -0.5
    return np.where(d < 1, ((a + 2) * d - (a + 3)) * d * d + 1, np.where(d < 2, (((d - 5) * d + 8) * d - 4) * a, 0))


def _antialiased(kernel: Callable[[Array], Array], reach: float) -> Callable[[int, int, float | None, bool], Taps]:
    """A filter as wide as the distance between results, where that is more than one element."""

    def table(n: int, count: int, factor: float | None, align_corners: bool) -> Taps:
        scale = _scale(n, count, factor, align_corners)
        stretch = max(scale, 1.0)
        centre = scale * (np.arange(count) + 0.5)  # as PyTorch, whether corners are aligned or not
        start = np.maximum((centre - reach * stretch + 0.5).astype(np.int64), 0)
        end = np.minimum((centre + reach * stretch + 0.5).astype(np.int64), n)
        index = start[:, None] + np.arange(max(int((end - start).max(initial=1)), 1))
        weight = np.where(index < end[:, None], kernel((index - centre[:, None] + 0.5) / stretch), 0)
        return Taps(np.minimum(index, n - 1), weight / weight.sum(1, keepdims=True))

    return table


#: The table of each mode, by the mode and whether it is antialiased.
_TABLES: dict[tuple[str, bool], Callable[[int, int, float | None, bool], Taps]] = {
    ("nearest", False): lambda n, count, factor, _: _nearest(n, count, factor, 0.0),
    ("nearest-exact", False): lambda n, count, factor, _: _nearest(n, count, factor, 0.5),
    ("linear", False): _linear,
    ("cubic", False): _cubic,
    ("linear", True): _antialiased(_triangle, 1.0),
    ("cubic", True): _antialiased(_keys, 2.0),
}

#: For each mode, the name of its table and the numbers of spatial dimensions that it is for.
_MODES: dict[str, tuple[str, tuple[int, ...]]] = {
    "nearest": ("nearest", (1, 2, 3)),
    "nearest-exact": ("nearest-exact", (1, 2, 3)),
    "area": ("area", (1, 2, 3)),
    "linear": ("linear", (1,)),
    "bilinear": ("linear", (2,)),
    "trilinear": ("linear", (3,)),
    "bicubic": ("cubic", (2,)),
}


@functools.lru_cache(maxsize=256)
def _table(kind: str, antialias: bool, n: int, count: int, factor: float | None, align_corners: bool) -> Taps:
    return bins(n, count) if kind == "area" else _TABLES[kind, antialias](n, count, factor, align_corners)


def _spread(what: str, value: Any, n: int) -> list[Any]:
    values = list(value) if isinstance(value, (tuple, list)) else [value] * n
    if len(values) != n:
        msg = f"interpolate: expected {what} to be a number or {n} numbers, got {value!r}"
        raise ValueError(msg)
    return values


@composite(method=False, name="nn.functional.interpolate")
def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """[n, channels, *size] resampled to another size, or by a factor.

    Modes: "nearest", "nearest-exact", "linear" (one dimension), "bilinear" and "bicubic" (two), "trilinear" (three), "area".
    With ``align_corners`` the first and last elements keep their places, else the borders of the whole; ``antialias`` widens the
    filter of "bilinear" and "bicubic" where the result is smaller.

    >>> import tensor as T
    >>> interpolate(T.tensor([[[0.0, 2.0]]]), size=4, mode="linear")
    tensor([[[0.0000, 0.5000, 1.5000, 2.0000]]])
    """
    n = input.ndim - 2
    kind, dims = _MODES.get(mode, ("", ()))
    if n not in dims:
        fitting = ", ".join(repr(name) for name, (_, ns) in _MODES.items() if n in ns)
        msg = f"interpolate: expected mode {fitting} for an input of {input.ndim} dimensions, got {mode!r}"
        raise NotImplementedError(msg)
    if align_corners is not None and kind not in ("linear", "cubic"):
        msg = f"interpolate: expected align_corners only for modes that interpolate, got {align_corners} with {mode!r}"
        raise ValueError(msg)
    if antialias and mode not in ("bilinear", "bicubic"):
        msg = f"interpolate: expected mode 'bilinear' or 'bicubic' with antialias, got {mode!r}"
        raise ValueError(msg)
    if (size is None) == (scale_factor is None):
        msg = f"interpolate: expected either size or scale_factor, got {size!r} and {scale_factor!r}"
        raise ValueError(msg)
    if recompute_scale_factor and size is not None:
        msg = "interpolate: recompute_scale_factor is only meaningful with scale_factor, got a size"
        raise ValueError(msg)
    now = input.shape[2:]
    factors: list[Any] = [None] * n
    if size is not None:
        counts = [int(v) for v in _spread("size", size, n)]
    else:
        factors = [float(v) for v in _spread("scale_factor", scale_factor, n)]
        counts = [math.floor(m * f) for m, f in zip(now, factors, strict=True)]
        if recompute_scale_factor:
            factors = [None] * n
    if min(*counts, *now, 1) < 1:
        msg = f"interpolate: expected sizes of at least 1, got {list(now)} to {counts}"
        raise RuntimeError(msg)
    for i, (m, count, factor) in enumerate(zip(now, counts, factors, strict=True)):
        if m != count or factor not in (None, 1.0):
            input = resample(input, i - n, _table(kind, antialias, m, count, factor, bool(align_corners)))
    return input


def upsample(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Tensor:
    """`interpolate` under its former name."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` with mode "nearest", under its former name."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` with mode "bilinear" and aligned corners, under its former name."""
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)
