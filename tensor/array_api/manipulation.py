"""Shapes: joining, splitting, and putting dimensions in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor import dtypes
from tensor.array_api.array import promoted, standard
from tensor.array_api.axes import Axes, axis_of, each_axis
from tensor.autograd.tensor import Tensor
from tensor.ops import join
from tensor.ops import shape as s

__all__ = [
    "broadcast_arrays", "broadcast_shapes", "broadcast_to", "concat", "expand_dims", "flip", "moveaxis", "permute_dims", "repeat",
    "reshape", "roll", "squeeze", "stack", "tile", "unstack",
]  # fmt: skip


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that arrays of these shapes broadcast to; raises ValueError where they do not.

    >>> broadcast_shapes((3, 1), (1, 2), (2,))
    (3, 2)
    """
    try:
        return np.broadcast_shapes(*map(tuple, shapes))
    except ValueError:
        msg = f"broadcast_shapes: shapes {', '.join(str(tuple(x)) for x in shapes)} do not broadcast"
        raise ValueError(msg) from None


@standard
def broadcast_to(x: Tensor, /, shape: Sequence[int]) -> Tensor:
    """x repeated to a shape without copying."""
    if broadcast_shapes(x.shape, shape) != tuple(shape):
        msg = f"broadcast_to: shape {tuple(x.shape)} does not broadcast to {tuple(shape)}"
        raise ValueError(msg)
    return s.broadcast_to(x, tuple(shape))


@standard
def broadcast_arrays(*arrays: Tensor) -> tuple[Tensor, ...]:
    """All arrays broadcast to their common shape."""
    size = broadcast_shapes(*(x.shape for x in arrays))
    return tuple(s.broadcast_to(x, size) for x in arrays)


@standard
def concat(arrays: Sequence[Tensor], /, *, axis: int | None = 0) -> Tensor:
    """Arrays one after another along an existing axis, or flattened first when it is None."""
    parts = promoted("concat", *arrays)
    if axis is None:
        return join.cat([x.reshape(-1) for x in parts], 0)
    return join.cat(parts, axis_of("concat", axis, parts[0].ndim))


@standard
def stack(arrays: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """Arrays of one shape along a new axis."""
    parts = promoted("stack", *arrays)
    return join.stack(parts, axis_of("stack", axis, parts[0].ndim + 1))


@standard
def unstack(x: Tensor, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The parts along an axis, without it, as views."""
    return join.unbind(x, axis_of("unstack", axis, x.ndim))


@standard
def expand_dims(x: Tensor, /, axis: int | Sequence[int]) -> Tensor:
    """New dimensions of length 1 where ``axis`` says, counted in the result; raises IndexError out of range.

    >>> from tensor import array_api as xp
    >>> expand_dims(xp.zeros((3, 4)), (0, -1)).shape
    tensor.Size([1, 3, 4, 1])
    """
    count = 1 if isinstance(axis, int) else len(axis)
    places = each_axis("expand_dims", axis, x.ndim + count)
    old = iter(x.shape)
    return s.reshape(x, *(1 if i in places else next(old) for i in range(x.ndim + count)))


@standard
def squeeze(x: Tensor, /, axis: int | Sequence[int]) -> Tensor:
    """Without these dimensions, which must have length 1 (ValueError)."""
    gone = each_axis("squeeze", axis, x.ndim)
    if any(x.shape[a] != 1 for a in gone):
        msg = f"squeeze: expected axes of length 1, got axis {axis} of shape {tuple(x.shape)}"
        raise ValueError(msg)
    return s.reshape(x, *(n for i, n in enumerate(x.shape) if i not in gone))


@standard
def reshape(x: Tensor, /, shape: Sequence[int], *, copy: bool | None = None) -> Tensor:
    """The same elements in another shape, where one length may be -1; raises ValueError where ``copy=False`` cannot be kept."""
    r = s.reshape(x, *shape)
    if copy:
        return r.clone()
    if copy is False and not np.may_share_memory(r._array, x._array) and x.size:
        msg = f"reshape: shape {tuple(x.shape)} with strides {x.stride()} cannot become {tuple(shape)} without a copy"
        raise ValueError(msg)
    return r


@standard
def permute_dims(x: Tensor, /, axes: Sequence[int]) -> Tensor:
    """The dimensions in another order, a view."""
    order = each_axis("permute_dims", tuple(axes), x.ndim)
    if len(order) != x.ndim:
        msg = f"permute_dims: expected {x.ndim} axes, got {tuple(axes)}"
        raise ValueError(msg)
    return s.permute(x, *order)


@standard
def moveaxis(x: Tensor, source: int | Sequence[int], destination: int | Sequence[int], /) -> Tensor:
    """Axes moved to other places, the rest in their order."""
    return s.movedim(x, each_axis("moveaxis", source, x.ndim), each_axis("moveaxis", destination, x.ndim))


@standard
def flip(x: Tensor, /, *, axis: Axes = None) -> Tensor:
    """The order along the axes (all when None) reversed."""
    return s.flip(x, *each_axis("flip", axis, x.ndim))


@standard
def roll(x: Tensor, /, shift: int | Sequence[int], *, axis: Axes = None) -> Tensor:
    """Elements shifted along the axes, or in the flattened array, what falls off the end coming back at the start."""
    if axis is None:
        return s.roll(x, shift)
    axes = tuple(axis_of("roll", a, x.ndim) for a in ((axis,) if isinstance(axis, int) else axis))
    shifts = (shift,) * len(axes) if isinstance(shift, int) else tuple(shift)
    if len(shifts) != len(axes):
        msg = f"roll: expected a shift for each axis, got {len(shifts)} shifts and {len(axes)} axes"
        raise ValueError(msg)
    return s.roll(x, shifts, axes) if axes else x.clone()


@standard
def repeat(x: Tensor, repeats: Any, /, *, axis: int | None = None) -> Tensor:
    """Each element repeated next to itself, in the flattened array or along an axis."""
    counts = repeats.to(dtypes.int64) if isinstance(repeats, Tensor) else repeats
    return s.repeat_interleave(x, counts, None if axis is None else axis_of("repeat", axis, x.ndim))


@standard
def tile(x: Tensor, repetitions: Sequence[int], /) -> Tensor:
    """The whole array repeated along each dimension."""
    return s.tile(x, tuple(repetitions))
