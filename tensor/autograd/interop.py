"""Sharing memory with other libraries: DLPack, NumPy's ``__array__``, Python's buffers, CUDA's array interface.

Nothing is copied unless asked for: what one side writes, the other reads. A tensor that requires grad is not handed out, since
writes from outside could not be recorded; use ``t.detach()``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tensor import cuda, dtypes
from tensor.autograd.data import to_array
from tensor.autograd.tensor import Tensor
from tensor.device import as_device, device_of, move

__all__ = ["asarray", "from_dlpack", "to_device"]

#: DLPack's number of a kind of device (dlpack.h); pinned host memory (3) is read like any other.
_ON_HOST = {1, 3}
_ON_CUDA = 2

_NUMBERS = (bool, int, float, complex)


def _exported(t: Tensor, who: str) -> Any:
    if t._node is not None:
        msg = f"{who}: the tensor requires grad; use t.detach()"
        raise BufferError(msg)
    return t._array


def _dlpack(
    self: Tensor,
    /,
    *,
    stream: Any = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[Any, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """A DLPack capsule of this tensor's memory (https://dmlc.github.io/dlpack).

    Raises BufferError for a tensor that requires grad, and where ``copy=False`` cannot be kept.
    """
    array = _exported(self, "__dlpack__")
    if isinstance(array, np.ndarray) and not array.flags.writeable and (max_version is None or max_version < (1, 0)) and not copy:
        msg = "__dlpack__: read-only memory can only be shared with a reader of DLPack 1.0 or later; pass copy=True"
        raise BufferError(msg)
    options = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
    return array.__dlpack__(**{name: value for name, value in options.items() if value is not None})


def _dlpack_device(self: Tensor, /) -> tuple[int, int]:
    """DLPack's numbers of the device: (kind, index)."""
    kind, index = self._array.__dlpack_device__()
    return int(kind), int(index)


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor over the memory of an array of another library, of any that speaks DLPack.

    ``copy``: None shares the memory where that is possible, True copies it, False raises ValueError where it cannot be shared.
    Raises TypeError for what does not speak DLPack, or has a dtype that tensors do not have.

    >>> import numpy as np
    >>> a = np.zeros(3)
    >>> t = from_dlpack(a)
    >>> a[0] = 7
    >>> t
    tensor([7., 0., 0.], dtype=tensor.float64)
    """
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        msg = f"from_dlpack: expected an array with __dlpack__ and __dlpack_device__, got {type(x).__name__}"
        raise TypeError(msg)
    kind = int(x.__dlpack_device__()[0])
    if kind in _ON_HOST:
        try:
            array = np.from_dlpack(x)
        except RuntimeError as e:  # NumPy's own, for a dtype that it does not have
            msg = f"from_dlpack: no tensor dtype for that of the {type(x).__name__}: {e}"
            raise TypeError(msg) from None
    elif kind == _ON_CUDA:
        array = cuda.cupy().from_dlpack(x)
    else:
        msg = f"from_dlpack: expected memory of the CPU or of a CUDA device, got DLPack device kind {kind}"
        raise BufferError(msg)
    return Tensor(_settle(_known(array, "from_dlpack"), device, copy, "from_dlpack"))


def _known(array: Any, who: str) -> Any:
    if array.dtype not in dtypes.DTYPES:
        msg = f"{who}: no tensor dtype for {array.dtype}"
        raise TypeError(msg)
    return array


def _settle(array: Any, device: Any, copy: bool | None, who: str) -> Any:
    """A shared raw array on the device asked for, copied if that was asked for too."""
    there = device is None or _same_device(array, device)
    if copy is False and not there:
        msg = f"{who}: memory on {device_of(array)} cannot be shared with {as_device(device)}; leave copy=False away"
        raise ValueError(msg)
    if not there:
        return move(array, device)
    return array.copy() if copy else array


def _same_device(array: Any, device: Any) -> bool:
    here, wanted = device_of(array), as_device(device)
    return here.type == wanted.type and (wanted.index is None or (here.index or 0) == wanted.index)


def asarray(obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor for numbers, nested sequences, tensors, and arrays that speak DLPack, ``__array__`` or the buffer protocol.

    ``copy``: None shares memory where that is possible (tensors are returned as they are), True always copies, False raises
    ValueError where a copy is needed.

    >>> import numpy as np
    >>> a = np.arange(6)[::-2]
    >>> t = asarray(a)
    >>> t[0] = 50
    >>> a.tolist()
    [50, 3, 1]
    """
    if isinstance(obj, Tensor):
        result = _converted(obj, dtype, device, copy)
    else:
        shared = _foreign(obj)
        if shared is None:
            if copy is False:
                msg = f"asarray: Python's numbers and sequences are always copied, got {type(obj).__name__} and copy=False"
                raise ValueError(msg)
            result = Tensor(_settle(_from_python(obj, dtype), device, None, "asarray"))
        else:
            result = _converted(Tensor(shared), dtype, device, copy)
    return result.requires_grad_() if requires_grad else result


def _converted(t: Tensor, dtype: Any, device: Any, copy: bool | None) -> Tensor:
    """The tensor with another dtype or on another device, itself where neither changes and no copy is asked for."""
    recast = dtype is not None and dtypes.as_dtype(dtype) is not t.dtype
    if copy is False and recast:
        msg = f"asarray: {t.dtype} cannot become {dtypes.as_dtype(dtype)} without a copy; leave copy=False away"
        raise ValueError(msg)
    moved = device is not None and not _same_device(t._array, device)
    if copy is False and moved:
        _settle(t._array, device, copy, "asarray")
    result = t.to(dtype) if recast else t
    if moved:
        result = result.to(device=device)
    return result.clone() if copy and result is t else result


def _foreign(obj: Any) -> Any:
    """The raw array of an object that has memory to share; None for Python's own numbers and sequences."""
    if isinstance(obj, (*_NUMBERS, list, tuple, range)):
        return None
    if hasattr(obj, "__array__"):
        return to_array(np.asarray(obj), copy=False)
    if hasattr(obj, "__cuda_array_interface__"):
        return to_array(obj, copy=False)
    if hasattr(obj, "__dlpack__"):
        return from_dlpack(obj)._array
    try:
        return _known(np.asarray(memoryview(obj)), "asarray")
    except TypeError:
        return None


def _from_python(obj: Any, dtype: Any) -> Any:
    """Numbers and nested sequences; whole numbers straight to their dtype, since float64 holds uint64 only roughly."""
    if dtype is not None and dtypes.numpy_dtype(dtype).kind in "iu" and _holds_only_numbers(obj):
        return np.asarray(obj, dtype=dtypes.numpy_dtype(dtype))
    return to_array(obj, copy=True, dtype=dtype)


def _holds_only_numbers(obj: Any) -> bool:
    return all(map(_holds_only_numbers, obj)) if isinstance(obj, (list, tuple)) else isinstance(obj, _NUMBERS)


def _buffer(self: Tensor, flags: int, /) -> memoryview:
    """Python's buffer protocol (PEP 688, Python 3.12): ``memoryview(t)``, ``bytes(t)``; CPU tensors only."""
    array = _exported(self, "__buffer__")
    if not isinstance(array, np.ndarray):
        msg = f"__buffer__: the tensor is on {self.device}; use t.cpu()"
        raise BufferError(msg)
    writable = 1  # PyBUF_WRITABLE
    if flags & writable and not array.flags.writeable:
        msg = "__buffer__: the tensor's memory is read-only"
        raise BufferError(msg)
    return memoryview(array.__array__())  # type: ignore[arg-type]  # arrays are buffers, which typeshed knows from Python 3.12 on


def _cuda_array_interface(self: Tensor) -> Any:
    """CUDA's array interface; there is no such attribute on a CPU tensor."""
    array = self._array
    if device_of(array).type != "cuda":
        msg = "__cuda_array_interface__: the tensor is on cpu"
        raise AttributeError(msg)
    return _exported(self, "__cuda_array_interface__").__cuda_array_interface__


def to_device(self: Tensor, device: Any, /, *, stream: Any = None) -> Tensor:
    """This tensor on a device, itself when it is there already; ``stream`` must be None: copies follow the current stream."""
    if stream is not None:
        msg = f"to_device: expected stream None (the current one), got {stream!r}"
        raise ValueError(msg)
    return self if _same_device(self._array, device) else self.to(device=as_device(device))


def _attach() -> None:
    methods: dict[str, Any] = {
        "__dlpack__": _dlpack,
        "__dlpack_device__": _dlpack_device,
        "__buffer__": _buffer,
        "__cuda_array_interface__": property(_cuda_array_interface),
        "to_device": to_device,
    }
    for name, method in methods.items():
        setattr(Tensor, name, method)


_attach()
