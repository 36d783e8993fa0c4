"""Other dtypes, devices and layouts of the same elements."""

from __future__ import annotations

from typing import Any

from tensor import cuda, dtypes
from tensor.autograd.data import to_array
from tensor.autograd.tensor import Tensor
from tensor.device import as_device, move
from tensor.device import device as Device
from tensor.ops.record import Array, operator
from tensor.ops.shape import permute

__all__ = ["as_tensor"]


@operator({"x": lambda g: g}, name="cast", method=False, onnx="Cast")
def _cast(x: Array, dtype: Any) -> Array:
    """The elements as another dtype, a copy."""
    d = dtypes.numpy_dtype(dtype)
    return x.real.astype(d) if x.dtype.kind == "c" and d.kind != "c" and d.kind != "b" else x.astype(d)


@operator({"x": lambda g, source: g.to(source)}, name="move", method=False)
def _move(x: Array, target: Any, source: Any) -> Array:
    """The elements on another device."""
    return move(x, target)


def _to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """This tensor with another dtype, on another device, or like another tensor; itself when nothing changes."""
    dtype, device, copy = kwargs.get("dtype"), kwargs.get("device"), kwargs.get("copy", False)
    for a in args:
        if isinstance(a, Tensor):
            dtype, device = a.dtype, a.device
        elif isinstance(a, (str, Device)):
            device = a
        elif isinstance(a, bool):  # non_blocking
            continue
        elif a is not None:
            dtype = a
    x = self
    if dtype is not None and dtypes.numpy_dtype(dtype) != x._array.dtype:
        x = _cast(x, dtype)
    if device is not None and as_device(device) != x.device:
        x = _move(x, device, x.device)
    return x.clone() if copy and x is self else x


def _cuda(self: Tensor, device: Any = None, non_blocking: bool = False) -> Tensor:
    """This tensor on a CUDA device, the current one when none is named; itself when it is there already."""
    index = cuda.current_device() if device is None else as_device(device).index
    return _to(self, device=Device("cuda", index))


def _contiguous(self: Tensor) -> Tensor:
    """In row-major order; itself when it is already."""
    return self if self._array.flags.c_contiguous else row_major(self)


@operator({"x": lambda g: g}, method=False)
def row_major(x: Array) -> Array:
    """A copy in row-major order."""
    return x.copy(order="C")


def _install() -> None:
    def conversion(d: dtypes.dtype) -> Any:
        def method(self: Tensor) -> Tensor:
            return _to(self, d)

        method.__doc__ = f"This tensor as {d}; itself when it is already."
        return method

    names = {
        "half": dtypes.float16, "float": dtypes.float32, "double": dtypes.float64, "int": dtypes.int32, "long": dtypes.int64,
        "short": dtypes.int16, "char": dtypes.int8, "byte": dtypes.uint8, "bool": dtypes.bool_,
        "cfloat": dtypes.complex64, "cdouble": dtypes.complex128,
    }  # fmt: skip
    for name, d in names.items():
        setattr(Tensor, name, conversion(d))
    methods: dict[str, Any] = {
        "to": _to,
        "contiguous": _contiguous,
        "to_gradient_dtype": lambda self, d: _cast(self, d),
        "cpu": lambda self: _to(self, device="cpu"),
        "cuda": _cuda,
        "pin_memory": lambda self: Tensor(cuda.pin(self._array)),
        "type_as": lambda self, other: _to(self, other.dtype),
        "view_as": lambda self, other: self.view(other.shape),
        "reshape_as": lambda self, other: self.reshape(other.shape),
        "T": property(lambda self: permute(self, *range(self.ndim - 1, -1, -1)) if self.ndim else self),
        "mT": property(lambda self: self.transpose(-2, -1)),
        "H": property(lambda self: self.transpose(0, 1).conj() if self.ndim == 2 else self.conj()),
        "mH": property(lambda self: self.transpose(-2, -1).conj()),
    }
    for name, f in methods.items():
        setattr(Tensor, name, f)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor for anything that `tensor` takes, sharing memory where that is possible."""
    t = data if isinstance(data, Tensor) else Tensor(to_array(data, copy=False, dtype=dtype))
    return _to(t, dtype=dtype, device=device)


_install()
