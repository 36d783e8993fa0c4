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
from tensor.jit.backward.layout import State, words
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
}  # fmt: skip
_NAMES = (*_API, *_OBJECTS, "dtype", "PyArray_New", "kernels")
_word = _NAMES.index


class Workspace:
    """What one pass writes to. Two passes at a time, in two threads, have two."""

    __slots__ = ("elements", "memory", "walk")

    def __init__(self, walk: Callable[..., bool], dtype: np.dtype[Any]) -> None:
        self.walk = walk
        count = words.end + ARENA // 8
        whole = np.zeros(count + 8, np.int64)
        start = -(words.end + watch.address_of(whole) // 8) % 8
        self.memory = whole[start : start + count]
        self.elements = self.memory[words.end :].view(dtype)


class Pass:
    """What the engine calls (`engine.Shortcut`)."""

    def __init__(self) -> None:
        self._walks = {dtype: _made(dtype) for dtype in (np.dtype(np.float32), np.dtype(np.float64))}
        self._free: dict[np.dtype[Any], list[Workspace]] = {dtype: [] for dtype in self._walks}

    def __call__(self, gradients: dict[Node, Any], release: bool) -> dict[Leaf, Tensor] | None:
        arrays = [g._array if isinstance(g, Tensor) else None for g in gradients.values()]
        if arrays[0].__class__ is not np.ndarray or (dtype := arrays[0].dtype) not in self._walks:
            return None
        free = self._free[dtype]
        space = free.pop() if free else Workspace(self._walks[dtype], dtype)
        held: list[Any] = []
        found: list[Any] = []
        leaves: dict[Leaf, Tensor] = {}
        try:
            if not space.walk(list(gradients), arrays, space.memory, held, found, release):
                return None
            elements, each = space.elements, iter(found)
            for leaf, state, count, start, other in zip(each, each, each, each, each, strict=True):
                shape = leaf.shape
                if state == State.WEIGHT:
                    out, inner = shape
                    rows = elements[start : start + count * out].reshape(count, out)
                    total = sum_outer(rows, elements[other : other + count * inner].reshape(count, inner))
                elif state == State.BIAS:
                    (out,) = shape
                    total = sum_rows(elements[start : start + count * out].reshape(count, out))
                else:
                    total = elements[start : start + count].reshape(shape).copy()
                leaves[leaf] = Tensor(total)
            return leaves
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
    addresses = host.compiled([*codes, code])
    values = [_address(getattr(ctypes.pythonapi, name)) for name in _API] + [id(x) for x in _OBJECTS.values()]
    values += [id(dtype), _numpy_api(93), *(addresses[c.name] for c in codes)]
    made: Callable[..., bool] = builtin(addresses[code.name], values, dtype, *_OBJECTS.values())
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

    def lower_quickly(self, make_check: Any) -> None:
        install()


def prepare() -> None:
    """Have the machine code made in the background."""
    compiled.in_background(_Job(), False)
