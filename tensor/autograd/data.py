"""From what a user holds - numbers, nested lists, arrays - to raw arrays and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensor import dtypes
from tensor.autograd.tensor import Tensor
from tensor.device import move

__all__ = ["tensor", "to_array"]


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A new tensor with a copy of ``data``: a number, nested sequences, a NumPy array, or tensors.

    Python floats become the default dtype (float32), ints int64; NumPy arrays and tensors keep theirs.

    >>> tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    >>> tensor(0.5).dtype
    tensor.float32
    """
    array = to_array(data, copy=True)
    if dtype is not None:
        array = array.astype(dtypes.numpy_dtype(dtype), copy=False)
    if device is not None:
        array = move(array, device)
    t = Tensor(array)
    return t.requires_grad_() if requires_grad else t


def to_array(data: Any, *, copy: bool) -> Any:
    """The raw array for what a user may pass as data; lists of Python floats take the default dtype."""
    if isinstance(data, Tensor):
        return data._array.copy() if copy else data._array
    if isinstance(data, (np.ndarray, np.generic)) or hasattr(data, "__cuda_array_interface__"):
        array = np.array(data) if copy and isinstance(data, (np.ndarray, np.generic)) else np.asarray(data)
    else:
        array = np.asarray(_plain(data))
        if array.dtype == np.float64:
            array = array.astype(dtypes.get_default_dtype().numpy)
        elif array.dtype == np.complex128:
            array = array.astype(dtypes.default_complex().numpy)
        elif array.dtype.kind == "O" or array.dtype.kind in "US":
            msg = f"tensor: expected numbers or nested sequences of one shape, got {type(data).__name__} {data!r}"
            raise TypeError(msg[:200])
    if array.dtype not in dtypes.DTYPES:
        if not array.dtype.isnative:
            return array.astype(array.dtype.newbyteorder("="))
        msg = f"tensor: expected numbers, got an array of {array.dtype}"
        raise TypeError(msg)
    return array


def _plain(data: Any) -> Any:
    if isinstance(data, Tensor):
        return data._array
    if isinstance(data, (list, tuple)) and any(isinstance(x, (Tensor, list, tuple)) for x in data):
        return [_plain(x) for x in data]
    return data
