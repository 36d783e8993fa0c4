"""The arithmetic of convolution, over any number of last dimensions.

Three operators, linear in both of their inputs, that are each other's gradients: `convolve`, `convolve_back` (its gradient by the
input, which is what a transposed convolution computes) and `convolve_weight` (its gradient by the weight). Each is one matrix
product over patches written side by side, for a few images at a time, so that the patches stay in the processor's cache. Writing them
is most of the work; in which order depends on what runs of elements lie side by side (`Way`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tensor import cuda
from tensor.autograd.tensor import Tensor
from tensor.ops.record import Array, operator
from tensor.ops.reduce import constant
from tensor.ops.windows import patches_of, places_of, regions, strided

__all__ = ["Geometry", "convolve", "convolve_back", "convolve_weight"]

#: Patches of about this many bytes are made at a time: half of a usual second-level cache.
_CACHE = 1 << 20
_DEVICE_CACHE = 1 << 30  # a CUDA device is busy only with many of them
#: Rows of a result up to this long are too short to work on one by one, unless each of their elements takes little, or few images
#: fit into the cache.
_SHORT_ROW, _LITTLE, _SEVERAL = 16, 32, 8
#: So many images are worked on side by side; fewer are not worth turning.
_MANY = 64


class Way(NamedTuple):
    """How the patches of images of one shape are taken."""

    places: tuple[int, ...]
    padded: tuple[int, ...]
    inside: tuple[slice, ...]  #: the input within the padded input
    whole: bool  #: all images at a time
    last: bool  #: with the channels last: for rows so short that a row of a patch has more elements in all channels
    thin: bool  #: as one image, with the images as one more dimension


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

    def way(self, shape: tuple[int, ...], out: int, kernel: tuple[int, ...], itemsize: int) -> Way:
        """How to take the patches of an input of this shape for so many output channels."""
        return _way(self, shape, out, kernel, itemsize)

    def pointwise(self, kernel: Sequence[int]) -> bool:
        """Whether each place sees exactly one element, so that the input is its own patches."""
        return max(kernel) == 1 == max(self.stride) and not any(self.padding)

    def reverse(self, kernel: Sequence[int], places: Sequence[int], size: Sequence[int]) -> Geometry | None:
        """With which the kernel, turned round, leads from the places back to an input of that size; None where strides leave gaps."""
        reach = [d * (k - 1) for d, k in zip(self.dilation, kernel, strict=True)]
        back = tuple(r - p for r, p in zip(reach, self.padding, strict=True))
        fits = all(m - r + 2 * b == n for m, r, b, n in zip(places, reach, back, size, strict=True))
        return (
            Geometry(self.stride, back, self.dilation, 1)
            if fits and self.groups == 1 == max(self.stride) and min(back) >= 0
            else None
        )

    def turned(self) -> Geometry:
        """The same with the images as one more dimension, along which the kernel has length 1."""
        return Geometry((*self.stride, 1), (*self.padding, 0), (*self.dilation, 1), self.groups)

    def thin(self, batch: int, image_bytes: int, channels: int, kernel: Sequence[int], places: Sequence[int]) -> bool:
        """Whether small images, whose patches take that many bytes, are better worked on side by side, as one more dimension."""
        several = batch >= _MANY and min(batch, _CACHE // max(image_bytes, 1)) >= _SEVERAL
        little = channels // self.groups * math.prod(kernel) < _LITTLE
        return several and places[-1] <= _SHORT_ROW and not little and not self.pointwise(kernel)


@functools.lru_cache(maxsize=1024)
def _way(how: Geometry, shape: tuple[int, ...], out: int, kernel: tuple[int, ...], itemsize: int) -> Way:
    batch, channels, *size = shape
    padded = how.padded(size)
    places = places_of(padded, kernel, how.stride, how.dilation)
    count = math.prod(places)
    image_bytes = channels * math.prod(kernel) * count * itemsize
    thin = how.thin(batch, image_bytes, channels, kernel, places)
    whole = not thin and batch * image_bytes <= _CACHE and not how.pointwise(kernel)
    run = kernel[-1] * channels if how.dilation[-1] == 1 else channels
    last = whole and how.groups == 1 and run >= 2 * places[-1] // how.stride[-1] and batch * count >= 2 * out
    return Way(places, padded, how.inside(size)[1:], whole, last, thin)


def _patches(x: Array, kernel: tuple[int, ...], way: Way, how: Geometry) -> Array:
    """A view of the patches of all images: [images, channels, *kernel, *places], or [images, *places, *kernel, channels]."""
    n = len(kernel)
    if way.last:
        x = x.transpose(0, *range(2, n + 2), 1)
    if any(how.padding):
        shape = (x.shape[0], *way.padded, x.shape[-1]) if way.last else (*x.shape[:2], *way.padded)
        padded = constant(x, shape, 0)
        padded[(slice(None), *way.inside) if way.last else (..., *way.inside)] = x
        x = padded
    elif way.last:
        x = x.copy()
    if not way.last:
        return patches_of(x, kernel, way.places, how.stride, how.dilation, kernel_first=True)
    image, *steps, channel = x.strides
    between = [s * t for s, t in zip(steps, how.stride, strict=True)]
    inside = [s * d for s, d in zip(steps, how.dilation, strict=True)]
    return strided(x, (x.shape[0], *way.places, *kernel, x.shape[-1]), (image, *between, *inside, channel))


def _turned(x: Array) -> Array:
    """[images, channels, *size] as [1, channels, *size, images]."""
    return np.ascontiguousarray(np.moveaxis(x, 0, -1))[None]


def _returned(x: Array) -> Array:
    """The reverse of `_turned`, a view."""
    return np.moveaxis(x[0], -1, 0)


def _steps(images: Array, image_bytes: int) -> Iterator[slice]:
    """A few images at a time."""
    batch, cache = len(images), _CACHE if cuda.device_of(images) is None else _DEVICE_CACHE
    step = max(1, min(batch, cache // max(image_bytes, 1)))
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
    for part in _steps(x, math.prod(shape) * x.itemsize):
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
    kernel, out, batch = weight.shape[2:], weight.shape[0], x.shape[0]
    way = how.way(x.shape, out, kernel, x.itemsize)
    places, groups = way.places, how.groups
    if way.last:
        n = len(kernel)
        columns = _patches(x, kernel, way, how).reshape(batch * math.prod(places), -1)
        r = columns.dot(weight.transpose(*range(2, n + 2), 1, 0).reshape(-1, out))
        if bias is not None:
            r += bias
        return r.reshape(batch, *places, out).transpose(0, n + 1, *range(1, n + 1)).copy()
    matrix = weight.reshape(groups, out // groups, -1)
    if way.whole:
        columns = _patches(x, kernel, way, how).reshape(batch, groups, matrix.shape[2], math.prod(places))
        r = matrix[0].dot(columns[0, 0])[None] if batch == groups == 1 else np.matmul(matrix, columns)
        if bias is not None:
            r += bias.reshape(groups, -1, 1)
        return r.reshape(batch, out, *places)
    r = np.empty_like(x, shape=(batch, out, *places), order="C")
    if way.thin:
        for part in _steps(x, x.itemsize * matrix.shape[2] * groups * math.prod(places)):
            r[part] = _returned(_convolve(_turned(x[part]), weight[..., None], bias, how.turned()))
        return r
    rows = r.reshape(batch, groups, out // groups, math.prod(places))
    for part, columns in _columns(x, kernel, places, how):
        block = np.matmul(matrix, columns, out=rows[part])
        if bias is not None:
            block += bias.reshape(groups, -1, 1)
    return r


@operator({"x": _rule_x, "weight": _rule_weight, "bias": _sum_bias}, dtype="promote", method=False, onnx="Conv")
def convolve(x: Array, weight: Array, bias: Array | None, how: Geometry) -> Array:
    """Cross-correlation: x [batch, channels, *size] with weight [out, channels / groups, *kernel], plus a bias [out]."""
    return _convolve(x, weight, bias, how)


def _convolve_back(g: Array, weight: Array, bias: Array | None, size: tuple[int, ...], how: Geometry) -> Array:
    kernel, places = weight.shape[2:], g.shape[2:]
    batch, channels = g.shape[0], weight.shape[1] * how.groups
    turned_round = how.reverse(kernel, places, size)
    if turned_round is not None and weight.shape[0] <= 2 * channels:
        back = (..., *(slice(None, None, -1),) * len(kernel))
        return _convolve(g, weight.swapaxes(0, 1)[back], bias, turned_round)
    image_bytes = channels * math.prod(kernel) * math.prod(places) * g.itemsize
    matrix = weight.reshape(how.groups, weight.shape[0] // how.groups, -1).swapaxes(1, 2)
    rows = g.reshape(batch, how.groups, weight.shape[0] // how.groups, math.prod(places))
    r = np.empty_like(g, shape=(batch, channels, *size), order="C")
    if how.thin(batch, image_bytes, channels, kernel, places):
        for part in _steps(g, image_bytes):
            count = part.stop - part.start
            r[part] = _returned(_convolve_back(_turned(g[part]), weight[..., None], bias, (*size, count), how.turned()))
        return r
    if how.pointwise(kernel) and tuple(size) == places:
        np.matmul(matrix, rows, out=r.reshape(batch, how.groups, matrix.shape[1], rows.shape[-1]))
    else:
        where = regions(kernel, places, how.stride, how.dilation)
        product: Any = np.multiply if matrix.shape[2] == 1 else np.matmul  # for one column, broadcasting is far faster
        buffer = padded = None
        for part in _steps(g, image_bytes):
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
    way = how.way(x.shape, out, kernel, x.itemsize)
    if way.places != g.shape[2:]:  # of an output padding, which has room for more
        way = way._replace(places=g.shape[2:])
    if way.last:
        n = len(kernel)
        columns = _patches(x, kernel, way, how).reshape(batch * math.prod(way.places), -1)
        product = columns.T.dot(g.transpose(0, *range(2, n + 2), 1).reshape(-1, out))
        return product.reshape(*kernel, x.shape[1], out).transpose(n + 1, n, *range(n)).copy()
    if way.whole:
        columns = _patches(x, kernel, way, how).reshape(batch, how.groups, -1, math.prod(way.places))
        rows = g.reshape(batch, how.groups, out // how.groups, -1)
        product = np.matmul(rows, columns.swapaxes(2, 3))
        return (product[0] if batch == 1 else np.add.reduce(product, 0)).reshape(out, x.shape[1] // how.groups, *kernel)
    image_bytes = x.shape[1] * math.prod(kernel) * math.prod(g.shape[2:]) * x.itemsize
    if how.thin(batch, image_bytes, x.shape[1], kernel, g.shape[2:]):
        parts = (
            _convolve_weight(_turned(g[part]), _turned(x[part]), (*kernel, 1), how.turned())[..., 0]
            for part in _steps(g, image_bytes)
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
