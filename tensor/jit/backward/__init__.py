"""The backward pass of small graphs as machine code: see the README beside this file."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from tensor.autograd import engine
from tensor.autograd.node import FREED, Leaf, Node, OpNode, Version
from tensor.autograd.tensor import Tensor
from tensor.jit import compiled, watch
from tensor.jit.backward import kernels, walk
from tensor.jit.backward.layout import words
from tensor.jit.codegen import host
from tensor.jit.codegen.entry import builtin
from tensor.jit.codegen.text import SCALARS
from tensor.jit.seams import slot
from tensor.ops.machine import KERNELS
from tensor.ops.matmul import sum_outer, sum_rows
from tensor.ops.plan import Plan

__all__ = ["install", "prepare"]

#: Bytes for the gradients of one pass; a graph that needs more has other costs than Python's.
ARENA = 1 << 20

_API = (
    "PyLong_AsLongLong", "PyLong_FromLongLong", "PyFloat_AsDouble", "PyType_IsSubtype", "PyList_Append", "Py_IncRef", "Py_DecRef",
    "PyObject_Vectorcall", "PyErr_Occurred", "PyErr_Clear",
)  # fmt: skip
_OBJECTS = {
    "None": None, "True": True, "False": False, "tuple": tuple, "int": int, "float": float, "ndarray": np.ndarray,
    "dot": np.ndarray.dot, "Tensor": Tensor, "Leaf": Leaf, "OpNode": OpNode, "FREED": FREED,
    "sum_outer": sum_outer, "sum_rows": sum_rows,
}  # fmt: skip
_NAMES = (*_API, *_OBJECTS, "dtype", "PyArray_New", "kernels")
_word = _NAMES.index


def _workspace() -> Any:
    """What one pass writes to, its arena at a multiple of 64 bytes."""
    count = words.end + ARENA // 8
    whole = np.zeros(count + 8, np.int64)
    start = -(words.end + watch.address_of(whole) // 8) % 8
    return whole[start : start + count]


class Pass:
    """What the engine calls (`engine.Shortcut`)."""

    def __init__(self) -> None:
        self._walks = {dtype: _made(dtype) for dtype in (np.dtype(np.float32), np.dtype(np.float64))}
        self._free: list[Any] = []  # workspaces: two passes at a time, in two threads, have two

    def __call__(self, gradients: dict[Node, Any], release: bool) -> dict[Leaf, Tensor] | None:
        arrays = [g._array if isinstance(g, Tensor) else None for g in gradients.values()]
        walk = self._walks.get(arrays[0].dtype) if arrays[0].__class__ is np.ndarray else None
        if walk is None:
            return None
        free = self._free
        space = free.pop() if free else _workspace()
        held: list[Any] = []
        found: list[Any] = []
        try:
            if not walk(list(gradients), arrays, space, held, found, release):
                return None
            return {leaf: Tensor(g) for leaf, g in zip(found[::2], found[1::2], strict=True)}
        finally:
            free.append(space)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _numpy_api(place: int) -> int:
    """An entry of the table that NumPy has for other libraries."""
    library: Any = import_module("numpy._core._multiarray_umath")
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return watch.word(get(library._ARRAY_API, None) + 8 * place)


def _made(dtype: np.dtype[Any]) -> Callable[..., bool]:
    """The pass for one element type."""
    scalar = SCALARS[dtype]
    width = host.vector_bytes() // scalar.size
    codes = [kernels.write(name, scalar, width, _word) for name in KERNELS]
    code = walk.write(scalar.size, _word, _slots())
    finished = host.compiled([*codes, code])
    values = [_address(getattr(ctypes.pythonapi, name)) for name in _API] + [id(x) for x in _OBJECTS.values()]
    values += [id(dtype), _numpy_api(93), *(finished[c.name].address for c in codes)]
    made: Callable[..., bool] = builtin(finished[code.name].address, values, finished, dtype, *_OBJECTS.values())
    return made


@functools.cache
def _slots() -> dict[str, int]:
    """Where objects keep their attributes."""
    named = {
        **{name: Node.__dict__[name] for name in ("shape", "dtype", "hooks", "number", "edges")},
        **{name: OpNode.__dict__[name] for name in ("plan", "saved")},
        "word": Plan.__dict__["word"],
        "_array": slot,
        "_version": Tensor.__dict__["_version"],
        "value": Version.__dict__["value"],
    }
    return {name: watch.offset_of(descriptor) for name, descriptor in named.items()}


def _layout_is_known() -> bool:
    """Whether Python and NumPy keep everything where the pass looks for it."""
    dense, strided = np.zeros((2, 4)), np.zeros((2, 4))[:, ::2]
    flags = [ctypes.c_int32.from_address(id(a) + walk.FLAGS).value & 0x101 for a in (dense, strided)]
    return watch.layout_is_known() and flags == [0x101, 0x100] and all(0 < at < 128 for at in _slots().values())


def install() -> bool:
    """Make the machine code and have the engine use it; False where that is not possible here."""
    if not host.available() or not _layout_is_known():
        return False
    engine.shortcut.run = _pass()
    return True


@functools.cache
def _pass() -> Pass:
    return Pass()


class _Job:
    """`install`, as the thread that makes machine code takes it."""

    def wanted(self) -> bool:
        return True

    def lower_quickly(self, checker: Any) -> None:
        install()

    def foresee(self) -> None:
        pass


def prepare() -> None:
    """Have the machine code made in the background."""
    compiled.in_background(_Job(), False)
