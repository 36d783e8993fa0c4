"""Sampling of images and volumes at any places, differentiable by the image and by the places (arXiv 1506.02025)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.record import Array, composite, operator
from tensor.ops.resample import cubic_weights

__all__ = ["affine_grid", "grid_sample", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d"]

_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")

#: What brings a coordinate (of a dimension of n elements) into the image.
Inside = Callable[[Tensor, int], Tensor]


def _reflect(c: Tensor, n: int, align_corners: bool) -> Tensor:
    """A triangle wave between the centres of the outermost elements, or between their outer borders."""
    low, span = (0.0, float(n - 1)) if align_corners else (-0.5, float(n))
    if not span:
        return c * 0
    distance = (c - low).abs()
    flips = (distance.detach() / span).floor()
    rest = distance - flips * span
    return rest.where(flips % 2 == 0, span - rest) + low


def _inside(padding: str, align_corners: bool) -> Inside:
    def border(c: Tensor, n: int) -> Tensor:
        return c.clamp(0, n - 1)

    def reflection(c: Tensor, n: int) -> Tensor:
        return border(_reflect(c, n, align_corners), n)

    return {"zeros": lambda c, n: c, "border": border, "reflection": reflection}[padding]


def _read(rows: Tensor, size: Sequence[int], places: Sequence[Tensor], masked: bool) -> Tensor:
    """Elements [n, channels, *out] at whole places, one tensor [n, *out] a dimension; 0 outside when masked."""
    flat: Any = None
    seen: Any = None
    for place, m in zip(places, size, strict=True):
        index = place._array
        if masked:
            fits = (index >= 0) & (index <= m - 1)
            seen = fits if seen is None else seen & fits
        step = index.clip(0, m - 1).astype(np.int64)
        flat = step if flat is None else flat * m + step
    n, channels = rows.shape[:2]
    found = rows.gather(2, Tensor(flat.reshape(n, 1, -1)).expand(n, channels, -1))
    found = found.reshape(n, channels, *flat.shape[1:])
    return found if seen is None else found.masked_fill(Tensor(~seen[:, None]), 0)


def _bilinear(rows: Tensor, size: Sequence[int], at: Sequence[Tensor], inside: Inside, masked: bool) -> Tensor:
    at = [inside(c, m) for c, m in zip(at, size, strict=True)]
    low = [c.detach().floor() for c in at]
    total: Any = 0
    for corner in itertools.product((0, 1), repeat=len(size)):
        weight: Any = math.prod(c - b if bit else b + 1 - c for c, b, bit in zip(at, low, corner, strict=True))
        place = [b + bit for b, bit in zip(low, corner, strict=True)]
        total = total + _read(rows, size, place, masked) * weight.unsqueeze(1)
    result: Tensor = total
    return result


@operator({"x": lambda g: g, "other": lambda g, other: other.new_zeros(other.shape)}, method=False)
def constant_in(x: Array, other: Array) -> Array:
    """x, with a gradient of zeros for another tensor that it does not change with."""
    return x


def _nearest(rows: Tensor, size: Sequence[int], at: Sequence[Tensor], inside: Inside, masked: bool) -> Tensor:
    found = _read(rows, size, [inside(c.detach(), m).round() for c, m in zip(at, size, strict=True)], masked)
    return constant_in(found, at[0])


def _bicubic(rows: Tensor, size: Sequence[int], at: Sequence[Tensor], inside: Inside, masked: bool) -> Tensor:
    low = [c.detach().floor() for c in at]
    weights = [cubic_weights(c - b, -0.75) for c, b in zip(at, low, strict=True)]
    taps = [[inside(b + t, m) for t in range(-1, 3)] for b, m in zip(low, size, strict=True)]
    total: Any = 0
    for i, j in np.ndindex(4, 4):
        total = total + _read(rows, size, (taps[0][i], taps[1][j]), masked) * (weights[0][i] * weights[1][j]).unsqueeze(1)
    result: Tensor = total
    return result


_SAMPLERS = {"bilinear": _bilinear, "nearest": _nearest, "bicubic": _bicubic}


@composite(method=False, name="nn.functional.grid_sample")
def grid_sample(
    input: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Tensor:
    """Images [n, c, h, w] (volumes [n, c, d, h, w]) read at places [n, *out, 2 or 3], as [n, c, *out].

    Places are (x, y) or (x, y, z) from -1 to 1: the centres of the outermost elements with ``align_corners``, else their outer
    borders. ``mode`` is "bilinear", "nearest" or (images only) "bicubic"; beyond the border there are "zeros", the "border"
    itself, or its "reflection".

    >>> import tensor as T
    >>> image = T.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    >>> grid_sample(image, T.zeros(1, 1, 1, 2), align_corners=True)
    tensor([[[[1.5000]]]])
    """
    if mode not in _MODES or padding_mode not in _PADDINGS:
        msg = f"grid_sample: expected a mode of {_MODES} and a padding_mode of {_PADDINGS}, got {mode!r} and {padding_mode!r}"
        raise ValueError(msg)
    n = input.ndim - 2
    if n not in (2, 3) or grid.ndim != n + 2 or grid.shape[-1] != n or grid.shape[0] != input.shape[0]:
        expected = f"an input [n, c, *size] and a grid [n, *out, {max(n, 2)}] of 2 or 3 dimensions"
        msg = f"grid_sample: expected {expected}, got {list(input.shape)} and {list(grid.shape)}"
        raise RuntimeError(msg)
    if input.dtype is not grid.dtype:
        msg = f"grid_sample: expected an input and a grid of one dtype, got {input.dtype} and {grid.dtype}"
        raise RuntimeError(msg)
    size = input.shape[2:]
    if 0 in size or (mode == "bicubic" and n != 2):
        msg = f"grid_sample: expected a filled input (an image for bicubic), got {list(input.shape)} with mode {mode!r}"
        raise RuntimeError(msg)
    corners = bool(align_corners)
    at = [
        (c + 1) * ((m - 1) / 2) if corners else ((c + 1) * m - 1) / 2
        for c, m in zip(reversed(grid.unbind(-1)), size, strict=True)
    ]
    rows = input.reshape(*input.shape[:2], math.prod(size))
    return _SAMPLERS[mode](rows, size, at, _inside(padding_mode, corners), padding_mode == "zeros")


def _by_number(n: int) -> Callable[..., Tensor]:
    def function(input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool) -> Tensor:
        if n and input.ndim != n + 2:
            msg = f"grid_sampler_{n}d: expected an input of {n + 2} dimensions, got {list(input.shape)}"
            raise RuntimeError(msg)
        return grid_sample(input, grid, _MODES[interpolation_mode], _PADDINGS[padding_mode], align_corners)

    function.__doc__ = (
        "`grid_sample` with numbers for the modes: 0 bilinear, 1 nearest, 2 bicubic; 0 zeros, 1 border, 2 reflection."
    )
    return composite(method=False, name=f"grid_sampler_{n}d" if n else "grid_sampler")(function)


grid_sampler, grid_sampler_2d, grid_sampler_3d = _by_number(0), _by_number(2), _by_number(3)


@composite(method=False, name="nn.functional.affine_grid")
def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The places, for `grid_sample`, of affine maps: theta [n, 2, 3] and size (n, c, h, w), or [n, 3, 4] and (n, c, d, h, w).

    >>> import tensor as T
    >>> affine_grid(T.eye(2, 3).unsqueeze(0), (1, 1, 1, 2))
    tensor([[[[-0.5000,  0.0000],
              [ 0.5000,  0.0000]]]])
    """
    out, n = tuple(size[2:]), len(size) - 2
    if n not in (2, 3) or min(size) < 1 or tuple(theta.shape) != (size[0], n, n + 1):
        expected = f"maps [n, {n}, {n + 1}] for a size (n, c, *out) of 2 or 3 dimensions"
        msg = f"affine_grid: expected {expected}, got {list(theta.shape)} and {tuple(size)}"
        raise RuntimeError(msg)
    if not theta.is_floating_point():
        msg = f"affine_grid: expected floating-point maps, got {theta.dtype}"
        raise ValueError(msg)
    axes = [np.linspace(-1, 1, m) * (1 if align_corners else (m - 1) / m) if m > 1 else np.zeros(1) for m in out]
    places = np.stack([*reversed(np.meshgrid(*axes, indexing="ij")), np.ones(out)], -1).reshape(-1, n + 1)
    base = theta.new_tensor(places, dtype=theta.dtype)
    return (base @ theta.mT).reshape(size[0], *out, n)
