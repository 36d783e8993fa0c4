"""CuPy itself, and raw arrays on their way to it and back. Nothing here imports CuPy before a CUDA device is asked for."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from typing import Any

import numpy as np

__all__ = ["array_module", "cupy", "device_count", "device_of", "is_available", "pin", "scalar_types", "to_device", "to_host"]

#: Scalars that NumPy's reductions return in place of 0-d arrays.
scalar_types: tuple[type[Any], ...] = (np.generic,)


@cache
def cupy() -> Any:
    """CuPy, or an error that says what is missing."""
    try:
        module = importlib.import_module("cupy")
    except ImportError as e:
        msg = "CUDA tensors need CuPy: pip install 'rlcore[cuda]'"
        raise RuntimeError(msg) from e
    try:
        if module.cuda.runtime.getDeviceCount() > 0:
            return module
    except Exception as e:
        msg = f"CuPy is installed but finds no CUDA device: {e}"
        raise RuntimeError(msg) from e
    msg = "CuPy is installed but finds no CUDA device"
    raise RuntimeError(msg)


def is_available() -> bool:
    """Whether CUDA tensors can be made: CuPy is installed and a device answers.

    >>> is_available() in (True, False)
    True
    """
    try:
        cupy()
    except RuntimeError:
        return False
    return True


def device_count() -> int:
    """How many CUDA devices there are; 0 without CuPy."""
    return int(cupy().cuda.runtime.getDeviceCount()) if is_available() else 0


def _is_cuda(array: Any) -> bool:
    return "cupy" in sys.modules and isinstance(array, sys.modules["cupy"].ndarray)


def device_of(array: Any) -> int | None:
    """The CUDA device number of a raw array, None on the CPU."""
    return int(array.device.id) if _is_cuda(array) else None


def array_module(array: Any) -> Any:
    """The module (NumPy's interface) that makes arrays beside this one."""
    return sys.modules["cupy"] if _is_cuda(array) else np


def to_device(array: Any, index: int | None) -> Any:
    """The raw array on CUDA device ``index`` (None: the current one); the same object when it is there already."""
    cp = cupy()
    if index is None:
        index = int(cp.cuda.runtime.getDevice())
    if device_of(array) == index:
        return array
    with cp.cuda.Device(index):
        return cp.asarray(array)


def to_host(array: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """The raw array as a NumPy array; the same object when it is one already."""
    host: np.ndarray[Any, np.dtype[Any]] = cupy().asnumpy(array) if _is_cuda(array) else array
    return host


def pin(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy in page-locked memory, from which a device can fetch it by itself."""
    memory = cupy().cuda.alloc_pinned_memory(max(array.nbytes, 1))
    pinned = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
    pinned[...] = array
    return pinned
