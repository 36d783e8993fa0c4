"""From what a user holds - numbers, nested lists, arrays - to raw arrays and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensor import dtypes
from tensor.autograd.tensor import Size, Tensor
from tensor.device import move

__all__ = ["old_constructor", "tensor", "to_array"]


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A new tensor with a copy of ``data``: a number, nested sequences, a NumPy array, or tensors.

    Python floats become the default dtype (float32), ints int64; NumPy arrays and tensors keep theirs.

    >>> tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    >>> tensor(0.5).dtype
    tensor.float32
    """
    array = to_array(data, copy=True, dtype=dtype)
    if device is not None:
        array = move(array, device)
    t = Tensor(array)
    return t.requires_grad_() if requires_grad else t


def to_array(data: Any, *, copy: bool, dtype: Any = None) -> Any:
    """The raw array for what a user may pass as data; lists of Python floats take the default dtype."""
    if dtype is not None:
        # Straight from Python's float: by way of float32, 0.1 would not be float64's 0.1.
        array = _infer(data, copy, keep_doubles=True)
        return array.astype(dtypes.numpy_dtype(dtype), copy=False)
    return _infer(data, copy, keep_doubles=False)


def _infer(data: Any, copy: bool, keep_doubles: bool) -> Any:
    if isinstance(data, Tensor):
        return data._array.copy() if copy else data._array
    if isinstance(data, (np.ndarray, np.generic)) or hasattr(data, "__cuda_array_interface__"):
        array = np.array(data) if copy and isinstance(data, (np.ndarray, np.generic)) else np.asarray(data)
    else:
        try:
            array = np.asarray(_plain(data))
        except ValueError:  # ragged
            msg = f"tensor: expected nested sequences of one length at each depth, got {data!r}"
            raise ValueError(msg[:200]) from None
        if array.dtype.kind in "OUS":
            msg = f"tensor: expected numbers or nested sequences of one shape, got {type(data).__name__} {data!r}"
            raise TypeError(msg[:200])
        if array.dtype in (np.float64, np.complex128) and not keep_doubles and not _holds_doubles(data):
            default = dtypes.get_default_dtype() if array.dtype.kind == "f" else dtypes.default_complex()
            array = array.astype(default.numpy, copy=False)
    if array.dtype not in dtypes.DTYPES:
        if not array.dtype.isnative:
            return array.astype(array.dtype.newbyteorder("="))
        msg = f"tensor: expected numbers, got an array of {array.dtype}"
        raise TypeError(msg)
    return array


def _holds_doubles(data: Any) -> bool:
    """Whether the first element of nested lists is a NumPy value or tensor of double precision, which keeps its dtype."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    d = getattr(getattr(data, "_array", data), "dtype", None)
    return d is not None and d in (np.float64, np.complex128)


def _plain(data: Any) -> Any:
    if isinstance(data, Tensor):
        return data._array
    if isinstance(data, (list, tuple)) and any(isinstance(x, (Tensor, list, tuple)) for x in data):
        return [_plain(x) for x in data]
    return data


def old_constructor(first: Any, rest: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The array of ``Tensor(2, 3)`` (as the memory held it), ``Tensor([1, 2])`` or ``Tensor(tensor)``, in the default dtype."""
    default = dtypes.get_default_dtype().numpy
    if isinstance(first, int):
        return np.empty((first, *rest), default)
    if isinstance(first, Size):
        return np.empty(first, default)
    return np.asarray(first._array if isinstance(first, Tensor) else to_array(first, copy=False), default)
