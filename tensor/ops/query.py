"""What a tensor or a dtype is: questions whose answers are plain Python values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor import dtypes
from tensor.autograd.tensor import Size, Tensor
from tensor.ops.record import attach

__all__ = [
    "broadcast_shapes", "finfo", "get_device", "iinfo", "is_complex", "is_floating_point", "is_nonzero", "is_same_size", "is_signed", "is_tensor",
    "numel", "result_type",
]  # fmt: skip


def is_tensor(obj: Any) -> bool:
    """Whether an object is a tensor."""
    return isinstance(obj, Tensor)


def is_floating_point(x: Tensor) -> bool:
    """Whether the elements are floating-point numbers."""
    return x.is_floating_point()


def is_complex(x: Tensor) -> bool:
    """Whether the elements are complex numbers."""
    return x.is_complex()


def is_signed(x: Tensor) -> bool:
    """Whether the dtype has negative numbers."""
    return x.dtype.is_signed


def is_nonzero(x: Tensor) -> bool:
    """Whether the only element is not zero; RuntimeError for more or fewer elements."""
    if x.numel() != 1:
        msg = f"is_nonzero: expected a tensor with one element, got shape {list(x.shape)}"
        raise RuntimeError(msg)
    return bool(x._array.item())


def is_same_size(x: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape."""
    return x.shape == other.shape


def numel(x: Tensor) -> int:
    """The number of elements."""
    return x.numel()


def get_device(x: Tensor) -> int:
    """The number of the CUDA device that holds the tensor, -1 on the CPU."""
    return -1 if x.device.index is None else int(x.device.index)


def result_type(a: Any, b: Any) -> dtypes.dtype:
    """The dtype of an arithmetic operation on two operands, tensors or Python numbers.

    >>> import tensor as T
    >>> T.result_type(T.tensor([1, 2]), 1.5)
    tensor.float32
    """
    return dtypes.as_dtype(dtypes.result_dtype(tuple(x._array if isinstance(x, Tensor) else x for x in (a, b))))


def broadcast_shapes(*shapes: int | Sequence[int]) -> Size:
    """The shape that shapes broadcast to.

    >>> import tensor as T
    >>> T.broadcast_shapes((2, 1), (3,))
    tensor.Size([2, 3])
    """
    try:
        return Size(np.broadcast_shapes(*((s,) if isinstance(s, int) else tuple(s) for s in shapes)))
    except ValueError:
        msg = f"broadcast_shapes: shapes {', '.join(str(s) for s in shapes)} do not broadcast"
        raise RuntimeError(msg) from None


class finfo:  # PyTorch's name
    """The limits of a floating-point dtype (of the parts of a complex one), the default dtype when none is given.

    >>> import tensor as T
    >>> T.finfo(T.float32).eps
    1.1920928955078125e-07
    """

    def __init__(self, dtype: dtypes.dtype | None = None) -> None:
        d = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
        if not (d.is_floating_point or d.is_complex):
            msg = f"finfo: expected a floating-point or complex dtype, got {d}; use iinfo for integers"
            raise TypeError(msg)
        limits = np.finfo(d.numpy)
        self.dtype, self.bits = d.to_real().name, int(limits.bits)
        self.eps, self.resolution = float(limits.eps), float(limits.resolution)
        self.min, self.max = float(limits.min), float(limits.max)
        self.tiny = self.smallest_normal = float(limits.tiny)

    def __repr__(self) -> str:
        return f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, tiny={self.tiny:g}, dtype={self.dtype})"


class iinfo:  # PyTorch's name
    """The limits of an integer dtype.

    >>> import tensor as T
    >>> T.iinfo(T.int8).max
    127
    """

    def __init__(self, dtype: dtypes.dtype) -> None:
        d = dtypes.as_dtype(dtype)
        if d.kind != 1:
            msg = f"iinfo: expected an integer dtype, got {d}; use finfo for floating-point ones"
            raise TypeError(msg)
        limits = np.iinfo(d.numpy)
        self.dtype, self.bits, self.min, self.max = d.name, int(limits.bits), int(limits.min), int(limits.max)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


def _always(answer: bool) -> property:
    return property(lambda self: answer)


attach(
    is_signed=is_signed,
    is_nonzero=is_nonzero,
    is_same_size=is_same_size,
    get_device=get_device,
    is_cpu=property(lambda self: not self.is_cuda),
    is_sparse=_always(False),
    is_quantized=_always(False),
    is_meta=_always(False),
)
