"""Windows over the last dimensions: all patches as a view, and patches added up where they came from.

The two are each other's gradient. What convolution and pooling share about sizes is here too.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor import cuda
from tensor.autograd.tensor import Tensor
from tensor.ops.padding import constant_pad_nd
from tensor.ops.record import Array, attach, composite, operator

__all__ = [
    "Ints",
    "fixed",
    "fold",
    "patches_of",
    "places_of",
    "regions",
    "sizes",
    "symmetric",
    "unfold",
    "unfold_dim",
    "windows",
    "windows_back",
]

Ints = int | Sequence[int]
Sized = tuple[int, ...]


def sizes(who: str, what: str, value: Any, n: int) -> tuple[int, ...]:
    """A number for each of ``n`` dimensions: one given number, or one number alone in a sequence, counts for all."""
    values = (value,) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(values) not in (1, n):
        msg = f"{who}: expected {what} to be a number or {n} numbers, got {value!r}"
        raise RuntimeError(msg)
    return tuple(int(v) for v in values) * (n if len(values) == 1 else 1)


def fixed(value: Any) -> Any:
    """Numbers that may have come in a list, as what can be looked up."""
    return tuple(value) if isinstance(value, list) else value


def symmetric(padding: Sequence[int]) -> list[int]:
    """The same padding before and after each dimension, as `constant_pad_nd` takes it: the last dimension first."""
    return [p for n in reversed(padding) for p in (n, n)]


def places_of(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """How many windows there are along each dimension."""
    return tuple((s - d * (k - 1) - 1) // t + 1 for s, k, t, d in zip(size, kernel, stride, dilation, strict=True))


def patches_of(
    x: Array, kernel: Sequence[int], places: Sequence[int], stride: Sequence[int], dilation: Sequence[int], *, kernel_first: bool
) -> Array:
    """A view of the patches of a raw array: [..., *kernel, *places], or [..., *places, *kernel]."""
    return strided(x, *_spans(x.shape, x.strides, tuple(kernel), tuple(places), tuple(stride), tuple(dilation), kernel_first))


@functools.lru_cache(maxsize=1024)
def _spans(
    shape: Sized, strides: Sized, kernel: Sized, places: Sized, stride: Sized, dilation: Sized, kernel_first: bool
) -> tuple[Sized, Sized]:
    """Shape and strides of a view of patches."""
    lead = len(shape) - len(kernel)
    steps = strides[lead:]
    inside = (kernel, tuple(s * d for s, d in zip(steps, dilation, strict=True)))
    between = (places, tuple(s * t for s, t in zip(steps, stride, strict=True)))
    first, second = (inside, between) if kernel_first else (between, inside)
    return shape[:lead] + first[0] + second[0], strides[:lead] + first[1] + second[1]


def strided(x: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """A view of a raw array with any shape and strides."""
    if type(x) is np.ndarray and x.flags.c_contiguous:
        return np.ndarray(shape, x.dtype, x, 0, strides)  # an eighth of the time of `as_strided`, whose body is Python
    # NumPy's protocols leave this one function out.
    return cuda.array_module(x).lib.stride_tricks.as_strided(x, shape, strides)


def regions(
    kernel: Sequence[int], places: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[tuple[tuple[int, ...], tuple[Any, ...]]]:
    """For each offset within the kernel, the index of what all windows have there."""
    return [
        (
            offset,
            (
                ...,
                *(slice(o * d, o * d + (p - 1) * t + 1, t) for o, d, p, t in zip(offset, dilation, places, stride, strict=True)),
            ),
        )
        for offset in np.ndindex(*kernel)
    ]


@operator({"x": lambda g, x_shape, kernel, stride, dilation: g.windows_back(x_shape, kernel, stride, dilation)}, view=True)
def windows(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Array:
    """All patches of the last n dimensions, [..., *places, *kernel], a view."""
    size = x.shape[x.ndim - len(kernel) :]
    places = places_of(size, kernel, stride, dilation)
    if any(p < 1 for p in places):
        msg = f"kernel {kernel} with dilation {dilation} is larger than the (padded) input {tuple(size)}"
        raise RuntimeError(msg)
    return patches_of(x, kernel, places, stride, dilation, kernel_first=False)


@operator({"g": lambda gg, g_shape, kernel, stride, dilation: _as_many(gg.windows(kernel, stride, dilation), g_shape)})
def windows_back(
    g: Array, shape: Sequence[int], kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Array:
    """Patches added up where `windows` took them from."""
    n = len(kernel)
    r: Array = np.zeros_like(g, shape=tuple(shape), order="C")
    for offset, where in regions(kernel, g.shape[g.ndim - 2 * n : g.ndim - n], stride, dilation):
        region = r[where]
        region += g[(..., *offset)]
    return r


def _as_many(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The first of the windows, where there are more than were added up."""
    return x if tuple(x.shape) == tuple(shape) else x[tuple(slice(0, n) for n in shape)]


@composite(method=False, name="nn.functional.unfold")
def unfold(input: Tensor, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1) -> Tensor:
    """The patches of images as columns: [n, c, h, w] to [n, c * kernel, places].

    >>> import tensor as T
    >>> unfold(T.arange(6.0).reshape(1, 1, 2, 3), 2)
    tensor([[[0., 1.],
             [1., 2.],
             [3., 4.],
             [4., 5.]]])
    """
    if input.ndim not in (3, 4):
        msg = f"unfold: expected images [n, c, h, w] or [c, h, w], got {list(input.shape)}"
        raise RuntimeError(msg)
    x = input.unsqueeze(0) if input.ndim == 3 else input
    x = constant_pad_nd(x, symmetric(sizes("unfold", "padding", padding, 2)))
    p = windows(x, *(sizes("unfold", what, v, 2) for what, v in (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation))))  # fmt: skip
    n, c, h, w, a, b = p.shape
    y = p.permute(0, 1, 4, 5, 2, 3).reshape(n, c * a * b, h * w)
    return y.squeeze(0) if input.ndim == 3 else y


@composite(method=False, name="nn.functional.fold")
def fold(input: Tensor, output_size: Ints, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1) -> Tensor:
    """Columns of patches added up to images: [n, c * kernel, places] to [n, c, *output_size]; the gradient of `unfold`.

    >>> import tensor as T
    >>> fold(T.ones(1, 4, 2), (2, 3), 2)
    tensor([[[[1., 2., 1.],
              [1., 2., 1.]]]])
    """
    named = {"output_size": output_size, "kernel_size": kernel_size, "dilation": dilation, "padding": padding, "stride": stride}
    size, kernel, spread, pad, step = (sizes("fold", what, value, 2) for what, value in named.items())
    if input.ndim not in (2, 3):
        msg = f"fold: expected columns [n, c * kernel, places] or [c * kernel, places], got {list(input.shape)}"
        raise RuntimeError(msg)
    x = input.unsqueeze(0) if input.ndim == 2 else input
    whole = [s + 2 * p for s, p in zip(size, pad, strict=True)]
    places = places_of(whole, kernel, step, spread)
    area, count = kernel[0] * kernel[1], places[0] * places[1]
    if x.shape[1] % area or x.shape[2] != count:
        msg = f"fold: expected columns [n, c * {area}, {count}] for output_size {size}, got {list(input.shape)}"
        raise RuntimeError(msg)
    channels = x.shape[1] // area
    patches = x.reshape(x.shape[0], channels, *kernel, *places).permute(0, 1, 4, 5, 2, 3)
    y = windows_back(patches, (x.shape[0], channels, *whole), kernel, step, spread)
    y = constant_pad_nd(y, [-p for p in symmetric(pad)]) if any(pad) else y
    return y.squeeze(0) if input.ndim == 2 else y


def unfold_dim(x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """All slices of ``size`` along one dimension, ``step`` apart, in a new last dimension."""
    if not x.ndim:
        return x.reshape(1)[:size] if size else x.reshape(1)[:0]
    d = dimension % x.ndim
    return windows(x.movedim(d, -1), (size,), (step,), (1,)).movedim(-2, d)


attach(unfold=unfold_dim)
