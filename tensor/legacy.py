"""Names from PyTorch's first years, so that old scripts and tutorials run: ``FloatTensor``, ``.type()``, ``.new()``.

>>> import tensor as T
>>> x = T.FloatTensor([[1, 2], [3, 4]])
>>> x.type(), isinstance(x, T.FloatTensor), isinstance(x, T.LongTensor)
('tensor.FloatTensor', True, False)
>>> x.type("tensor.LongTensor").type()
'tensor.LongTensor'
>>> x.new([5, 6])
tensor([5., 6.])
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tensor import cuda, dtypes
from tensor.autograd.data import tensor
from tensor.autograd.tensor import Size, Tensor
from tensor.ops.create import empty
from tensor.ops.record import attach

__all__ = [
    "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor", "HalfTensor", "IntTensor", "LongTensor",
    "ShortTensor", "set_default_tensor_type",
]  # fmt: skip


class TensorType(type):
    """A class such as ``FloatTensor``: calling it makes tensors of one dtype, and they count as its instances."""

    dtype: dtypes.dtype
    device: str

    def __call__(cls, *args: Any) -> Tensor:
        """From sizes (contents as memory held them), or from data: nested numbers, an array, a tensor."""
        sizes = args[0] if len(args) == 1 and isinstance(args[0], Size) else args
        if all(isinstance(n, (int, np.integer)) for n in sizes):
            return empty(*(sizes or (0,)), dtype=cls.dtype, device=cls.device)
        if len(args) != 1:
            msg = f"{cls.__name__}: expected sizes, or one sequence, array or tensor, got {len(args)} arguments"
            raise TypeError(msg)
        return tensor(args[0], dtype=cls.dtype, device=cls.device)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is cls.dtype and instance.device.type == cls.device

    def __repr__(cls) -> str:
        return f"<class '{cls.full_name()}'>"

    def full_name(cls) -> str:
        """As ``x.type()`` gives it."""
        return f"tensor.cuda.{cls.__name__}" if cls.device == "cuda" else f"tensor.{cls.__name__}"


def _types(name: str, dtype: dtypes.dtype) -> TensorType:
    """The class of this name on the CPU; the one for CUDA goes to `tensor.cuda`."""
    for device in ("cuda", "cpu"):
        doc = f"Tensors of {dtype.name} on {device}: called with sizes or with data."
        made = TensorType(name, (), {"dtype": dtype, "device": device, "__doc__": doc})
        TYPES[made.full_name()] = made
        if device == "cuda":
            setattr(cuda, name, made)
    return made


#: By full name.
TYPES: dict[str, TensorType] = {}

FloatTensor = _types("FloatTensor", dtypes.float32)
DoubleTensor = _types("DoubleTensor", dtypes.float64)
HalfTensor = _types("HalfTensor", dtypes.float16)
ByteTensor = _types("ByteTensor", dtypes.uint8)
CharTensor = _types("CharTensor", dtypes.int8)
ShortTensor = _types("ShortTensor", dtypes.int16)
IntTensor = _types("IntTensor", dtypes.int32)
LongTensor = _types("LongTensor", dtypes.int64)
BoolTensor = _types("BoolTensor", dtypes.bool_)

_NAMES = {(t.dtype, t.device): name for name, t in TYPES.items()}


def _name(t: Tensor) -> str:
    known = _NAMES.get((t.dtype, t.device.type))
    if known is None:
        msg = f"type: {t.dtype} has no name of the kind of FloatTensor; use dtype"
        raise TypeError(msg)
    return known


def _type(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The name of the tensor's type, or the tensor as another: a dtype, ``FloatTensor``, or its name ``"tensor.FloatTensor"``."""
    if dtype is None:
        return _name(self)
    if isinstance(dtype, str):
        known = TYPES.get(dtype.replace("torch.", "tensor."))
        if known is None:
            msg = f"type: expected a name such as 'tensor.FloatTensor', got {dtype!r}"
            raise ValueError(msg)
        dtype = known
    if isinstance(dtype, TensorType):
        return self.to(device=dtype.device, dtype=dtype.dtype)
    return self.to(dtype=dtype)


def _new(self: Tensor, *args: Any) -> Tensor:
    """A tensor of this one's dtype and device, from sizes or from data."""
    return TYPES[_name(self)](*args)


def set_default_tensor_type(t: TensorType | str) -> None:
    """`set_default_dtype` by the name of a type on the CPU: ``FloatTensor``, ``DoubleTensor`` or ``HalfTensor``."""
    known = TYPES.get(t.replace("torch.", "tensor.")) if isinstance(t, str) else t
    if not isinstance(known, TensorType) or known.device != "cpu":
        msg = f"set_default_tensor_type: expected FloatTensor, DoubleTensor or HalfTensor, got {t!r}"
        raise TypeError(msg)
    dtypes.set_default_dtype(known.dtype)


attach(type=_type, new=_new)
