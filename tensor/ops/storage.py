"""The memory under a tensor: what it is a window of, and giving it another size or other memory in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensor.autograd.inplace import bump
from tensor.autograd.tensor import Tensor
from tensor.ops.record import attach
from tensor.ops.shape import as_strided

__all__: list[str] = []


def _refuse(x: Tensor, who: str) -> None:
    if x._node is not None or x._view is not None:
        what = "requires grad" if x._node is not None else "is a view"
        msg = f"{who}: cannot change the memory of a tensor that {what}; use it on a detached copy"
        raise RuntimeError(msg)


def resize_(x: Tensor, *sizes: Any) -> Tensor:
    """This tensor with another shape: its elements in order, cut off or followed by whatever the new memory holds."""
    _refuse(x, "resize_")
    shape = tuple(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
    old = x._array.reshape(-1)
    new = np.empty_like(x._array, shape=shape)
    n = min(old.size, new.size)
    new.reshape(-1)[:n] = old[:n]
    x._array = new
    bump(x)
    return x


def resize_as_(x: Tensor, other: Tensor) -> Tensor:
    """`resize_` to another tensor's shape."""
    return resize_(x, tuple(other.shape))


def as_strided_(x: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Tensor:
    """This tensor as another window, of any size and strides, over its memory."""
    _refuse(x, "as_strided_")
    x._array = as_strided(x, size, stride, storage_offset)._array
    bump(x)
    return x


def _address(a: Any) -> int:
    return int(a.ctypes.data if isinstance(a, np.ndarray) else a.data.ptr)


def storage_offset(x: Tensor) -> int:
    """How many elements after the start of the memory this tensor starts."""
    owner = x._array
    while isinstance(getattr(owner, "base", None), x._array.__class__):
        owner = owner.base
    return int((_address(x._array) - _address(owner)) // x._array.dtype.itemsize)


def is_set_to(x: Tensor, other: Tensor) -> bool:
    """Whether both are the same window of the same memory."""
    a, b = x._array, other._array
    return _address(a) == _address(b) and a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype


def apply_(x: Tensor, function: Callable[[Any], Any]) -> Tensor:
    """Each element replaced by ``function(element)``, one at a time; nothing is recorded."""
    _refuse(x, "apply_")
    flat = x._array.reshape(-1)
    x._array[...] = np.array([function(v) for v in flat.tolist()], dtype=x._array.dtype).reshape(x._array.shape)
    bump(x)
    return x


def map_(x: Tensor, other: Tensor, function: Callable[[Any, Any], Any]) -> Tensor:
    """Each element replaced by ``function(element, other's element)``, broadcast; nothing is recorded."""
    _refuse(x, "map_")
    second = np.broadcast_to(other._array, x._array.shape).reshape(-1).tolist()
    pairs = zip(x._array.reshape(-1).tolist(), second, strict=True)
    x._array[...] = np.array([function(a, b) for a, b in pairs], dtype=x._array.dtype).reshape(x._array.shape)
    bump(x)
    return x


attach(
    resize_=resize_,
    resize_as_=resize_as_,
    as_strided_=as_strided_,
    storage_offset=storage_offset,
    is_set_to=is_set_to,
    apply_=apply_,
    map_=map_,
)
