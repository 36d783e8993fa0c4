"""CuPy itself, and raw arrays on their way to it and back. Nothing here imports CuPy before a CUDA device is asked for."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

__all__ = [
    "any_on_device", "array_module", "cupy", "device_count", "device_of", "is_available", "native", "on_host", "pin",
    "scalar_types", "to_device", "to_host",
]  # fmt: skip

log = logging.getLogger(__name__)

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


def native(function: Any, array: Any) -> Any:
    """CuPy's function of the same name where the array is CuPy's, else the function itself.

    NumPy's protocols hand nearly everything over by themselves; what they leave out (`ufunc.at`, identity matrices) asks for its
    function here.
    """
    return getattr(sys.modules["cupy"], function.__name__) if _is_cuda(array) else function


def any_on_device(args: Any) -> bool:
    """Whether any raw array in nested tuples and lists is CuPy's."""
    return "cupy" in sys.modules and any(map(_is_cuda, _flat(args)))


def on_host(function: Callable[..., Any], args: Any) -> Any:
    """A function on copies in the host's memory, its arrays brought back: for what CuPy has not got. The log says each once."""
    _announce(getattr(function, "__qualname__", repr(function)))
    index = next(found for found in map(device_of, _flat(args)) if found is not None)
    return _each(lambda a: to_device(a, index) if isinstance(a, (np.ndarray, np.generic)) else a, function(*_each(to_host, args)))


@cache
def _announce(name: str) -> None:
    log.info("CuPy cannot run %s: it runs on the host, with copies there and back", name)


def _flat(x: Any) -> list[Any]:
    return [leaf for part in x for leaf in _flat(part)] if type(x) in (tuple, list) else [x]


def _each(change: Callable[[Any], Any], x: Any) -> Any:
    return type(x)(_each(change, part) for part in x) if type(x) in (tuple, list) else change(x)


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
