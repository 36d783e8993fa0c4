"""The arithmetic of convolution, over any number of last dimensions.

Three operators, linear in both of their inputs, that are each other's gradients: `convolve`, `convolve_back` (its gradient by the
input, which is what a transposed convolution computes) and `convolve_weight` (its gradient by the weight). Each is one matrix
product over patches written side by side, for a few images at a time, so that the patches stay in the processor's cache.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.record import Array, operator
from tensor.ops.windows import patches_of, places_of, regions

__all__ = ["Geometry", "convolve", "convolve_back", "convolve_weight"]

#: Patches of about this many bytes are made at a time: half of a usual second-level cache.
_CACHE = 1 << 20
#: Rows of a result up to this long are too short to work on one by one, unless each of their elements takes little, or few images
#: fit into the cache.
_SHORT_ROW, _LITTLE, _SEVERAL = 16, 32, 8


class Geometry(NamedTuple):
    """How a kernel moves over the padded input, a number for each dimension."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def padded(self, size: Sequence[int]) -> tuple[int, ...]:
        return tuple(s + 2 * p for s, p in zip(size, self.padding, strict=True))

    def inside(self, size: Sequence[int]) -> tuple[Any, ...]:
        """The index of the input within the padded input."""
        return (..., *(slice(p, p + s) for s, p in zip(size, self.padding, strict=True)))

    def pointwise(self, kernel: Sequence[int]) -> bool:
        """Whether each place sees exactly one element, so that the input is its own patches."""
        return max(kernel) == 1 == max(self.stride) and not any(self.padding)

    def turned(self) -> Geometry:
        """The same with the images as one more dimension, along which the kernel has length 1."""
        return Geometry((*self.stride, 1), (*self.padding, 0), (*self.dilation, 1), self.groups)

    def thin(self, batch: int, image_bytes: int, channels: int, kernel: Sequence[int], places: Sequence[int]) -> bool:
        """Whether small images, whose patches take that many bytes, are better worked on side by side, as one more dimension."""
        several = min(batch, _CACHE // max(image_bytes, 1)) >= _SEVERAL
        little = channels // self.groups * math.prod(kernel) < _LITTLE
        return several and places[-1] <= _SHORT_ROW and not little and not self.pointwise(kernel)


def _turned(x: Array) -> Array:
    """[images, channels, *size] as [1, channels, *size, images]."""
    return np.ascontiguousarray(np.moveaxis(x, 0, -1))[None]


def _returned(x: Array) -> Array:
    """The reverse of `_turned`, a view."""
    return np.moveaxis(x[0], -1, 0)


def _steps(batch: int, image_bytes: int) -> Iterator[slice]:
    """A few images at a time."""
    step = max(1, min(batch, _CACHE // max(image_bytes, 1)))
    for start in range(0, batch, step):
        yield slice(start, min(start + step, batch))


def _columns(x: Array, kernel: Sequence[int], places: Sequence[int], how: Geometry) -> Iterator[tuple[slice, Array]]:
    """Which images, and their patches: [images, groups, channels / groups * kernel, places]."""
    batch, channels, *size = x.shape
    shape = (how.groups, channels // how.groups * math.prod(kernel), math.prod(places))
    if how.pointwise(kernel) and tuple(size) == tuple(places):
        yield slice(0, batch), x.reshape(batch, *shape)
        return
    buffer = padded = None
    for part in _steps(batch, math.prod(shape) * x.itemsize):
        source, count = x[part], part.stop - part.start
        if buffer is None:
            buffer = np.empty_like(x, shape=(count, channels, *kernel, *places), order="C")
        if any(how.padding):
            if padded is None:
                padded = np.zeros_like(x, shape=(count, channels, *how.padded(size)), order="C")
            padded[:count][how.inside(size)] = source
            source = padded[:count]
        np.copyto(buffer[:count], patches_of(source, kernel, places, how.stride, how.dilation, kernel_first=True))
        yield part, buffer[:count].reshape(count, *shape)


def _conjugate(x: Tensor) -> Tensor:
    return x.conj() if x._array.dtype.kind == "c" else x


def _first(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The first places, where an output padding left room for more."""
    return x if tuple(x.shape) == tuple(shape) else x[tuple(slice(0, n) for n in shape)]


def _sum_bias(g: Tensor) -> Tensor:
    return g.sum((0, *range(2, g.ndim)))


def _rule_x(g: Tensor, weight: Tensor, x_shape: Sequence[int], how: Geometry) -> Tensor:
    return convolve_back(g, _conjugate(weight), None, tuple(x_shape[2:]), how)


def _rule_weight(g: Tensor, x: Tensor, weight_shape: Sequence[int], how: Geometry) -> Tensor:
    return convolve_weight(g, _conjugate(x), tuple(weight_shape[2:]), how)


def _back_g(gg: Tensor, g_shape: Sequence[int], weight: Tensor, how: Geometry) -> Tensor:
    return _first(convolve(gg, _conjugate(weight), None, how), g_shape)


def _back_weight(gg: Tensor, g: Tensor, weight_shape: Sequence[int], how: Geometry) -> Tensor:
    return convolve_weight(_conjugate(g), gg, tuple(weight_shape[2:]), how)


def _weight_g(gg: Tensor, g_shape: Sequence[int], x: Tensor, how: Geometry) -> Tensor:
    return _first(convolve(_conjugate(x), gg, None, how), g_shape)


def _weight_x(gg: Tensor, g: Tensor, x_shape: Sequence[int], how: Geometry) -> Tensor:
    return convolve_back(_conjugate(g), gg, None, tuple(x_shape[2:]), how)


def _convolve(x: Array, weight: Array, bias: Array | None, how: Geometry) -> Array:
    kernel, out = weight.shape[2:], weight.shape[0]
    places = places_of(how.padded(x.shape[2:]), kernel, how.stride, how.dilation)
    r = np.empty_like(x, shape=(x.shape[0], out, *places), order="C")
    image_bytes = x.shape[1] * math.prod(kernel) * math.prod(places) * x.itemsize
    if how.thin(len(x), image_bytes, x.shape[1], kernel, places):
        for part in _steps(len(x), image_bytes):
            r[part] = _returned(_convolve(_turned(x[part]), weight[..., None], bias, how.turned()))
        return r
    rows = r.reshape(x.shape[0], how.groups, out // how.groups, math.prod(places))
    matrix = weight.reshape(how.groups, out // how.groups, -1)
    for part, columns in _columns(x, kernel, places, how):
        block = np.matmul(matrix, columns, out=rows[part])
        if bias is not None:
            block += bias.reshape(how.groups, -1, 1)
    return r


@operator({"x": _rule_x, "weight": _rule_weight, "bias": _sum_bias}, dtype="promote", method=False, onnx="Conv")
def convolve(x: Array, weight: Array, bias: Array | None, how: Geometry) -> Array:
    """Cross-correlation: x [batch, channels, *size] with weight [out, channels / groups, *kernel], plus a bias [out]."""
    return _convolve(x, weight, bias, how)


def _convolve_back(g: Array, weight: Array, bias: Array | None, size: tuple[int, ...], how: Geometry) -> Array:
    kernel, places = weight.shape[2:], g.shape[2:]
    batch, channels = g.shape[0], weight.shape[1] * how.groups
    image_bytes = channels * math.prod(kernel) * math.prod(places) * g.itemsize
    matrix = weight.reshape(how.groups, weight.shape[0] // how.groups, -1).swapaxes(1, 2)
    rows = g.reshape(batch, how.groups, weight.shape[0] // how.groups, math.prod(places))
    r = np.empty_like(g, shape=(batch, channels, *size), order="C")
    if how.thin(batch, image_bytes, channels, kernel, places):
        for part in _steps(batch, image_bytes):
            count = part.stop - part.start
            r[part] = _returned(_convolve_back(_turned(g[part]), weight[..., None], bias, (*size, count), how.turned()))
        return r
    if how.pointwise(kernel) and tuple(size) == places:
        np.matmul(matrix, rows, out=r.reshape(batch, how.groups, matrix.shape[1], rows.shape[-1]))
    else:
        where = regions(kernel, places, how.stride, how.dilation)
        product: Any = np.multiply if matrix.shape[2] == 1 else np.matmul  # for one column, broadcasting is far faster
        buffer = padded = None
        for part in _steps(batch, image_bytes):
            count = part.stop - part.start
            if buffer is None or padded is None:
                buffer = np.empty_like(g, shape=(count, how.groups, matrix.shape[1], rows.shape[-1]), order="C")
                padded = np.empty_like(g, shape=(count, channels, *how.padded(size)), order="C")
            columns = product(matrix, rows[part], out=buffer[:count]).reshape(count, channels, *kernel, *places)
            whole = padded[:count]
            whole.fill(0)
            for offset, region in where:
                reached = whole[region]
                reached += columns[(slice(None), slice(None), *offset)]
            r[part] = whole[how.inside(size)]
    if bias is not None:
        r += bias.reshape(-1, *(1,) * len(size))
    return r


@operator({"g": _back_g, "weight": _back_weight, "bias": _sum_bias}, dtype="promote", method=False, onnx="ConvTranspose")
def convolve_back(g: Array, weight: Array, bias: Array | None, size: tuple[int, ...], how: Geometry) -> Array:
    """Each element spread over the places of an output of ``size`` that `convolve` would make it from, plus a bias."""
    return _convolve_back(g, weight, bias, size, how)


def _convolve_weight(g: Array, x: Array, kernel: tuple[int, ...], how: Geometry) -> Array:
    batch, out = g.shape[:2]
    image_bytes = x.shape[1] * math.prod(kernel) * math.prod(g.shape[2:]) * x.itemsize
    if how.thin(batch, image_bytes, x.shape[1], kernel, g.shape[2:]):
        parts = (
            _convolve_weight(_turned(g[part]), _turned(x[part]), (*kernel, 1), how.turned())[..., 0]
            for part in _steps(batch, image_bytes)
        )
        return functools.reduce(np.add, parts)
    rows = g.reshape(batch, how.groups, out // how.groups, math.prod(g.shape[2:]))
    r = np.zeros_like(x, shape=(how.groups, out // how.groups, x.shape[1] // how.groups * math.prod(kernel)), order="C")
    for part, columns in _columns(x, kernel, g.shape[2:], how):
        r += np.matmul(rows[part], columns.swapaxes(2, 3)).sum(0)
    return r.reshape(out, x.shape[1] // how.groups, *kernel)


@operator({"g": _weight_g, "x": _weight_x}, dtype="promote", method=False)
def convolve_weight(g: Array, x: Array, kernel: tuple[int, ...], how: Geometry) -> Array:
    """For each element of the weight, the sum of what it multiplied in `convolve` times the output's gradient."""
    return _convolve_weight(g, x, kernel, how)
