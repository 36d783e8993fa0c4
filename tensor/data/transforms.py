"""What can be done with a sample's picture: a uint8 array ``[height, width(, channels)]``, or a tensor ``[..., height, width]``.

Random ones draw from the default generator, which in a worker depends on the epoch's seed and the batch alone; or from a
``generator`` of their own, of which each worker has a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.random import Generator, default_generator

__all__ = ["CenterCrop", "Compose", "Lambda", "Normalize", "RandomCrop", "RandomHorizontalFlip", "Resize", "ToTensor"]

Picture = Any


def _axes(picture: Picture, who: str) -> tuple[int, int]:
    """Where height and width are."""
    height, width = (-2, -1) if isinstance(picture, Tensor) else (0, 1)
    if getattr(picture, "ndim", 0) < 2:
        msg = f"{who}: expected an array [height, width, ...] or a tensor [..., height, width], got {_shown(picture)}"
        raise TypeError(msg)
    return height, width


def _shown(x: Any) -> str:
    return f"{type(x).__name__} {list(x.shape)}" if hasattr(x, "shape") else type(x).__name__


def _pair(who: str, size: Any) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or any(not isinstance(n, int) or n < 1 for n in pair):
        msg = f"{who}: expected a size >= 1, or a height and a width, got {size!r}"
        raise ValueError(msg)
    return pair


def _cut(picture: Picture, top: int, left: int, size: tuple[int, int]) -> Picture:
    rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
    return picture[..., rows, columns] if isinstance(picture, Tensor) else picture[rows, columns]


def _like(array: Any, picture: Picture) -> Picture:
    return Tensor(array) if isinstance(picture, Tensor) else array


def _raw(picture: Picture) -> Any:
    return picture._array if isinstance(picture, Tensor) else picture


class Compose:
    """Several transforms, one after the other.

    >>> Compose([lambda x: x + 1, lambda x: x * 2])(3)
    8
    """

    def __init__(self, transforms: Iterable[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, sample: Any) -> Any:
        for transform in self.transforms:
            sample = transform(sample)
        return sample


class Lambda:
    """A function as a transform. A ``lambda`` cannot be pickled, and so not go to a worker; a function with a name can."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, sample: Any) -> Any:
        return self.function(sample)


class ToTensor:
    """An array ``[height, width(, channels)]`` as a tensor ``[channels, height, width]``; uint8 becomes float32 from 0 to 1.

    >>> tuple(ToTensor()(np.full((2, 5, 3), 255, np.uint8)).shape)
    (3, 2, 5)
    """

    def __call__(self, picture: Any) -> Tensor:
        if not isinstance(picture, np.ndarray) or picture.ndim not in (2, 3):
            msg = f"ToTensor: expected an array [height, width(, channels)], got {_shown(picture)}"
            raise TypeError(msg)
        planes = picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)
        if planes.dtype != np.uint8:
            return Tensor(np.ascontiguousarray(planes))
        return Tensor(np.multiply(planes, np.float32(1 / 255), dtype=np.float32, order="C"))


class Normalize:
    """``(x - mean) / std``, each a number for each channel of a float tensor ``[..., channels, height, width]``.

    >>> import tensor as T
    >>> Normalize([0.5], [0.25])(T.ones(1, 1, 2))
    tensor([[[2., 2.]]])
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = (np.asarray(v, np.float64).reshape(-1, 1, 1) for v in (mean, std))
        if not self.std.all():
            msg = f"Normalize: expected std without zeros, got {list(std)}"
            raise ValueError(msg)

    def __call__(self, picture: Tensor) -> Tensor:
        if not isinstance(picture, Tensor) or not picture.is_floating_point() or picture.ndim < 3:
            msg = f"Normalize: expected a float tensor [..., channels, height, width], got {_shown(picture)}"
            raise TypeError(msg)
        channels = picture.shape[-3]
        if self.mean.size not in (1, channels) or self.std.size not in (1, channels):
            msg = f"Normalize: expected mean and std of {channels} channels, got {self.mean.size} and {self.std.size}"
            raise ValueError(msg)
        dtype = picture._array.dtype
        return Tensor((picture._array - self.mean.astype(dtype)) / self.std.astype(dtype))


class CenterCrop:
    """The middle of a picture: ``size``, or a height and a width. ValueError for a smaller picture.

    >>> CenterCrop(1)(np.arange(9).reshape(3, 3))
    array([[4]])
    """

    def __init__(self, size: Any) -> None:
        self.size = _pair("CenterCrop", size)

    def __call__(self, picture: Picture) -> Picture:
        height, width = (picture.shape[axis] for axis in _axes(picture, "CenterCrop"))
        _check_fits("CenterCrop", (height, width), self.size)
        return _cut(picture, round((height - self.size[0]) / 2), round((width - self.size[1]) / 2), self.size)


class RandomCrop:
    """A part of a picture, ``size`` or a height and a width, from anywhere in it after ``padding`` with zeros on each side."""

    def __init__(self, size: Any, padding: int = 0, generator: Generator | None = None) -> None:
        self.size, self.padding, self.generator = _pair("RandomCrop", size), padding, generator

    def __call__(self, picture: Picture) -> Picture:
        axes = _axes(picture, "RandomCrop")
        if self.padding:
            widths = [(0, 0)] * picture.ndim
            for axis in axes:
                widths[axis] = (self.padding, self.padding)
            picture = _like(np.pad(_raw(picture), widths), picture)
        height, width = (picture.shape[axis] for axis in axes)
        _check_fits("RandomCrop", (height, width), self.size)
        draw = (self.generator or default_generator).numpy.integers
        return _cut(picture, int(draw(height - self.size[0] + 1)), int(draw(width - self.size[1] + 1)), self.size)


def _check_fits(who: str, given: tuple[int, int], wanted: tuple[int, int]) -> None:
    if given[0] < wanted[0] or given[1] < wanted[1]:
        msg = f"{who}: expected a picture of {list(wanted)} or more, got {list(given)}"
        raise ValueError(msg)


class RandomHorizontalFlip:
    """Left and right exchanged with probability ``p``.

    >>> RandomHorizontalFlip(1.0)(np.array([[1, 2]]))
    array([[2, 1]])
    """

    def __init__(self, p: float = 0.5, generator: Generator | None = None) -> None:
        if not 0 <= p <= 1:
            msg = f"RandomHorizontalFlip: expected a probability, got {p}"
            raise ValueError(msg)
        self.p, self.generator = p, generator

    def __call__(self, picture: Picture) -> Picture:
        _, width = _axes(picture, "RandomHorizontalFlip")
        if (self.generator or default_generator).numpy.random() >= self.p:
            return picture
        return _like(np.flip(_raw(picture), width), picture)


class Resize:
    """Another size, a height and a width: averages, weighted by a triangle as wide as a pixel of the smaller picture.

    This is bilinear interpolation when a picture grows, and has no aliases when it shrinks. uint8 is rounded.

    >>> Resize((1, 2))(np.array([[0, 100], [50, 150]], np.uint8))
    array([[ 25, 125]], dtype=uint8)
    """

    def __init__(self, size: Any) -> None:
        self.size = _pair("Resize", size)

    def __call__(self, picture: Picture) -> Picture:
        axes = _axes(picture, "Resize")
        array = _raw(picture)
        result = array.astype(np.float32) if array.dtype.kind != "f" else array
        for axis, size in zip(axes, self.size, strict=True):
            weights = _triangles(array.shape[axis], size).astype(result.dtype)
            result = np.moveaxis(np.tensordot(weights, result, (1, axis)), 0, axis)
        if array.dtype.kind in "iu":
            result = np.rint(result)
        return _like(np.ascontiguousarray(result.astype(array.dtype, copy=False)), picture)


def _triangles(source: int, target: int) -> Any:
    """The weights ``[target, source]`` of source pixels in target pixels."""
    scale = source / target
    centers = (np.arange(target)[:, None] + 0.5) * scale - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(source) - centers) / max(scale, 1))
    return weights / weights.sum(1, keepdims=True)
