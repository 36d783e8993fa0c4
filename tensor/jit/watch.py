"""What a change would show in memory: the words of Python's own objects that are compared before a recording is used again.

A check is a list of *rows*, four integers each: a kind, and what it compares. `tensor.jit.codegen.checks` runs such lists as
machine code, at a nanosecond or two a row; reading the same things in Python costs thirty times as much. A row holds while the
word of memory it names is what it was when the row was made, so nothing has to be known of what the word means, only where it
is.

Where things are is CPython's own layout: the offsets are read from the interpreter where it tells them, and `layout_is_known`
tries every one of them on objects made for it. Elsewhere (PyPy, free threading) nothing is watched and Python compares.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import platform
import sys
import types
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tensor.autograd.node import Leaf
from tensor.autograd.tensor import Tensor
from tensor.jit.seams import grad_slot, slot

__all__ = [
    "Row", "address_of", "attribute_row", "cell_rows", "code_rows", "dict_rows", "entry_row", "layout_is_known", "list_rows",
    "offset_of", "set_rows", "tensor_rows", "unheld_rows",
]  # fmt: skip

#: Kinds of rows. Registers hold addresses of objects; the first ones are the arguments of the check.
WORD = 0  # the word at address a is b
ENTRY = 1  # the dict at a has c under the key at b (0: has none)
IS = 2  # register a is b
OTHER = 3  # register a is not b
FIELD = 4  # the word at register a, b bytes on, is c
HALF = 5  # the same of 32 bits
FOLLOW = 6  # register c becomes the word at register a, b bytes on; it is not 0
FIND = 7  # register c becomes what the dict in register a has under the key at b
SAME = 8  # registers a and b are one
LOAD = 9  # register b becomes the word at address a
APART = 10  # registers a and b are two
REGISTERS = 64

Row = tuple[int, int, int, int]

COUNT, TYPE, SIZE, ITEMS, FIRST = 0, 8, 16, 24, 24  # of any object; of one with a size; of a list; of a tuple
DATA, NDIM, DIMENSIONS, STRIDES, DTYPE, WEAK = 16, 24, 32, 40, 56, 72  # of an array
CONTENT = 16  # of a cell, of a float
USED, VERSION, KEYS = 16, 24, 32  # of a dict
USABLE, ENTRIES = 16, 24  # of a dict's keys
ELEMENTS = 24  # of a set: how many it has

#: Dicts count their changes, up to Python 3.12.
VERSIONED = sys.version_info < (3, 13)


def word(address: int) -> int:
    """The eight bytes at an address."""
    return _word_at(address).value


_word_at = ctypes.c_int64.from_address


def here(address: int) -> Row:
    """The word at an address is what it is now."""
    return WORD, address, word(address), 0


@functools.cache
def _function_fields() -> tuple[int, ...]:
    def probe(a: int = 1, *, b: int = 2) -> int:
        return a + b

    wanted = (id(probe.__code__), id(probe.__defaults__), id(probe.__kwdefaults__))
    words = [word(id(probe) + at) for at in range(16, sys.getsizeof(probe) - 7, 8)]
    return tuple(16 + 8 * words.index(value) for value in wanted)


@functools.cache
def offset_of(descriptor: Any) -> int:
    """Where instances keep the attribute of a slot."""
    member = word(id(descriptor) + 40)
    return word(member + 16)


@functools.cache
def layout_is_known() -> bool:
    """Whether this Python keeps everything where the rows look for it."""
    with_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    if platform.python_implementation() != "CPython" or ctypes.sizeof(ctypes.c_void_p) != 8 or not with_gil:
        return False
    try:
        return all(_tried())
    except (ValueError, IndexError):
        return False


def _tried() -> Iterable[bool]:
    """Every place where a row looks, on objects made for it."""
    array = np.zeros((3, 5), np.float32)[:, ::2]
    one, two, number = object(), object(), 2.5
    cell = types.CellType(one)
    some, pair, table, several = [one, two], (one, two), {"one": one}, {1, 2, 3}
    yield [word(id(x) + TYPE) for x in (array, some, pair)] == [id(np.ndarray), id(list), id(tuple)]
    yield word(id(some) + SIZE) == 2 == word(id(pair) + SIZE)
    yield [word(word(id(some) + ITEMS) + 8), word(id(pair) + FIRST + 8)] == [id(two), id(two)]
    yield word(id(array) + DATA) == array.__array_interface__["data"][0]
    yield ctypes.c_int32.from_address(id(array) + NDIM).value == 2
    yield [word(word(id(array) + DIMENSIONS) + 8 * i) for i in (0, 1)] == [3, 3]
    yield [word(word(id(array) + STRIDES) + 8 * i) for i in (0, 1)] == [20, 8]
    yield word(id(array) + DTYPE) == id(array.dtype)
    yield word(id(array) + WEAK) == 0
    reference = weakref.ref(array)
    yield word(id(array) + WEAK) == id(reference)
    yield ctypes.c_double.from_address(id(number) + CONTENT).value == number
    yield word(id(one) + COUNT) & 0xFFFFFFFF == sys.getrefcount(one) - 1
    yield word(id(cell) + CONTENT) == id(one)
    yield word(id(several) + ELEMENTS) == 3
    yield word(id(table) + USED) == 1
    before = dict_rows(table, steady=True), word(id(table) + VERSION)
    table["two"] = two
    del table["two"]
    yield before[0] != dict_rows(table, steady=True)
    yield not VERSIONED or before[1] != word(id(table) + VERSION)
    tensor = Tensor(array)
    yield [word(id(tensor) + offset_of(d)) for d in (slot, Tensor.__dict__["_node"])] == [id(array), id(None)]
    yield all(0 < offset_of(d) < 128 for d in (grad_slot, *_PLAIN))
    yield len(_function_fields()) == 3


def address_of(array: Any) -> int:
    """Where the memory of an array begins."""
    if layout_is_known():
        return _word_at(id(array) + DATA).value
    address: int = array.__array_interface__["data"][0]
    return address


# --- rows for what a recording looked at ------------------------------------------------------------------------------------


def dict_of(x: Any) -> dict[Any, Any] | None:
    """The dict behind a mapping."""
    if type(x) is dict:
        return x
    found = [d for d in gc.get_referents(x) if type(d) is dict] if type(x) is types.MappingProxyType else []
    return found[0] if len(found) == 1 else None


def entry_row(mapping: Any, key: Any) -> list[Row] | None:
    """A dict has what it has under a key; the caller keeps the key and the value alive."""
    found = dict_of(mapping)
    if found is None or type(key) is not str:
        return None
    return [(ENTRY, id(found), id(key), id(found[key]) if key in found else 0)]


def dict_rows(x: Any, steady: bool = False, keys: Iterable[Any] | None = None) -> list[Row] | None:
    """A dict has the entries it has, and in this order.

    Where Python counts the changes of dicts, one row tells; for a dict that changes all the time in ways that do not matter,
    ``steady`` compares its keys and what it has under ``keys`` (all, unless given).
    """
    found = dict_of(x)
    if found is None:
        return None
    if VERSIONED and not steady:
        return [here(id(found) + VERSION)]
    table = word(id(found) + KEYS)
    rows = [here(id(found) + USED), here(id(found) + KEYS), here(table + USABLE), here(table + ENTRIES)]
    for key in found if keys is None else keys:
        row = entry_row(found, key)
        if row is None:
            return None
        rows += row
    return rows


def list_rows(x: Any, steady: bool = False) -> list[Row] | None:
    """A list has the elements it has."""
    if type(x) is tuple:
        return []
    if type(x) is not list:
        return dict_rows(x, steady)
    items = word(id(x) + ITEMS)
    return [here(id(x) + SIZE), here(id(x) + ITEMS), *(here(items + 8 * i) for i in range(len(x)))]


def set_rows(x: set[Any]) -> list[Row]:
    """A set has as many elements as it has."""
    return [here(id(x) + ELEMENTS)]


def cell_rows(x: Any) -> list[Row]:
    """A variable of a closure is what it is."""
    return [here(id(x) + CONTENT)]


def code_rows(x: Any) -> list[Row] | None:
    """A function has the code and the defaults it has."""
    return [here(id(x) + at) for at in _function_fields()] if type(x) is types.FunctionType else None


def attribute_row(x: Any, name: str) -> list[Row] | None:
    """An attribute kept in a slot is what it is."""
    descriptor = _SEAMS.get((type(x), name)) or next((vars(c)[name] for c in type(x).__mro__ if name in vars(c)), None)
    return [here(id(x) + offset_of(descriptor))] if type(descriptor) is types.MemberDescriptorType else None


#: The slots that a recording hides behind properties.
_SEAMS = {(Tensor, "_array"): slot}
_PLAIN = [Tensor.__dict__[name] for name in ("_node", "_version", "_view", "_extra", "__weakref__") if name != "__weakref__"]


# --- rows for arguments, and for what was handed out ------------------------------------------------------------------------


def tensor_rows(register: int, free: int, x: Tensor, captured: Iterable[int]) -> list[Row]:
    """The register holds a tensor whose array is laid out like that of this one, that has a history or is a leaf where this is,
    and whose id is not in ``captured``.

    Two registers from ``free`` on are used.
    """
    at, history = offset_of(Tensor.__dict__["_node"]), list[Row]()
    if x._node is None:
        history = [(FIELD, register, at, id(None))]
    else:
        history = [(FOLLOW, register, at, free), (OTHER, free, id(None), 0), (FOLLOW, free, TYPE, free + 1)]
        history.append((IS if type(x._node) is Leaf else OTHER, free + 1, id(Leaf), 0))
    return [
        (FIELD, register, TYPE, id(Tensor)),
        *history,
        *((OTHER, register, other, 0) for other in captured),
        (FOLLOW, register, offset_of(slot), free),
        *array_rows(free, free + 1, x._array),
    ]


def array_rows(register: int, free: int, array: Any) -> list[Row]:
    """The register holds an array laid out like this one."""
    rows = [
        (FIELD, register, TYPE, id(np.ndarray)),
        (FIELD, register, DTYPE, id(array.dtype)),
        (HALF, register, NDIM, array.ndim),
    ]
    for at, values in ((DIMENSIONS, array.shape), (STRIDES, array.strides)):
        if values:
            rows.append((FOLLOW, register, at, free))
            rows += [(FIELD, free, 8 * i, n) for i, n in enumerate(values)]
    return rows


def unheld_rows(arrays: list[Any], leaves: Mapping[int, Any]) -> list[Row]:
    """Nobody else has hold of the tensors in the list in register 0, over the arrays in the list in register 1.

    ``arrays`` are laid out like those. ``leaves``: by number, the leaf node whose gradient the tensor is, which holds it too.
    """
    rows: list[Row] = [
        (FIELD, 0, SIZE, len(arrays)), (FIELD, 1, SIZE, len(arrays)), (FOLLOW, 0, ITEMS, 2), (FOLLOW, 1, ITEMS, 3)
    ]  # fmt: skip
    none = id(None)
    for i, array in enumerate(arrays):
        rows += [(FOLLOW, 2, 8 * i, 4), (FOLLOW, 3, 8 * i, 5), (HALF, 4, COUNT, 1 + (i in leaves))]
        if i in leaves:
            rows += [(LOAD, id(leaves[i]) + offset_of(grad_slot), 6, 0), (SAME, 4, 6, 0)]
        rows += [(FIELD, 4, offset_of(d), none) for d in _PLAIN]
        rows += [(FIELD, 4, _weakrefs(), 0), (FOLLOW, 4, offset_of(slot), 6), (SAME, 5, 6, 0)]
        rows += [(HALF, 5, COUNT, 2), (FIELD, 5, WEAK, 0), *array_rows(5, 6, array)]
    return rows


@functools.cache
def _weakrefs() -> int:
    """Where tensors keep the references to them that are weak."""
    return int(Tensor.__weakrefoffset__)
