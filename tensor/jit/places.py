"""Where a recording looks: values in holders, how to read them, and how to watch the memory they are in."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from threading import get_ident
from typing import Any, NamedTuple

import numpy as np

from tensor import dtypes
from tensor.autograd import batched, engine, modes, node
from tensor.device import device
from tensor.jit import watch
from tensor.nn.hooks import EVERYWHERE

__all__ = [
    "BYTES", "CELL", "CODE", "ELEMENTS", "EMPTY_CELL", "ENTRIES", "KEPT", "MISSING", "PLAIN", "SCOPE", "VALUES", "Place",
    "Reader", "attribute", "attributes", "content", "entry", "same", "settings", "settings_rows",
]  # fmt: skip

#: Values that never change, compared by value and type.
PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), np.dtype, np.generic, dtypes.dtype, device, range)
#: What a key or a cell has that has nothing.
MISSING = object()


def settings() -> tuple[Any, ...]:
    """The switches of the library that operators look at."""
    return (
        modes.is_grad_enabled(), modes.is_inference_mode_enabled(), dtypes.get_default_dtype(),
        len(EVERYWHERE), engine.watch.backward, node.new_node,
        node.next_number, len(batched.active.levels), bool(modes.rerun) and get_ident() in modes.rerun,
    )  # fmt: skip


def settings_rows() -> list[watch.Row] | None:
    """What to watch of the `settings`; None while one of them is other than usual in some thread, and only Python can tell."""
    if modes.disabled or modes.inferring or modes.rerun or batched.everywhere:
        return None
    found = [
        *(watch.set_rows(each) for each in (modes.disabled, modes.inferring, modes.rerun)), watch.list_rows(batched.everywhere),
        watch.list_rows(EVERYWHERE), watch.entry_row(vars(dtypes), "_default"), watch.entry_row(vars(engine.watch), "backward"),
        *(watch.entry_row(vars(node), name) for name in ("new_node", "next_number")),
    ]  # fmt: skip
    return [row for rows in found for row in rows or ()]


def same(a: Any, b: Any) -> bool:
    """Whether two values are one, or plain and equal in every respect."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) is float:
        return a == b and math.copysign(1, a) == math.copysign(1, b)
    if type(a) is tuple or type(a) is frozenset:
        return len(a) == len(b) and (all(map(same, a, b)) if type(a) is tuple else a == b)
    if type(a) is slice:
        return same((a.start, a.stop, a.step), (b.start, b.stop, b.step))
    return isinstance(a, PLAIN) and bool(a == b)


class Reader(NamedTuple):
    """A way to look at a holder: ``text`` reads it as the elements of a tuple, with ``@`` for the holder; ``rows`` watches it.

    ``rows(holder, steady)`` gives what `tensor.jit.watch` compares, None where only Python can; ``steady`` where the holder
    changes often in ways that do not matter.
    """

    text: str
    rows: Callable[[Any, bool], list[watch.Row] | None]


ELEMENTS = Reader("*@", watch.list_rows)
VALUES = Reader("*@.values()", watch.dict_rows)
ENTRIES = Reader("*@, *@.values()", watch.dict_rows)
KEPT = Reader("kept(@)", lambda x, steady: None)
BYTES = Reader("@.shape, @.dtype, @.tobytes()", lambda x, steady: None)
CELL = Reader("@.cell_contents", lambda x, steady: watch.cell_rows(x))
EMPTY_CELL = Reader("content(@)", lambda x, steady: watch.cell_rows(x))
CODE = Reader("@.__code__, @.__defaults__, @.__kwdefaults__", lambda x, steady: watch.code_rows(x))


@functools.cache
def entry(key: str) -> Reader:
    """What a mapping has under a key."""
    return Reader(f"@.get({key!r}, MISSING)", lambda x, steady: watch.entry_row(x, key))


@functools.cache
def attribute(name: str, certain: bool = False) -> Reader:
    """An attribute kept in a slot; ``certain``: it is there."""
    text = f"@.{name}" if certain else f"getattr(@, {name!r}, MISSING)"
    return Reader(text, lambda x, steady: watch.attribute_row(x, name))


def attributes(names: Iterable[str]) -> Reader:
    """The keys of an object's attributes, and those of these names."""
    names = tuple(names)
    text = ", ".join(["*@", *(f"@.get({n!r}, MISSING)" for n in names)])
    return Reader(text, lambda x, steady: watch.dict_rows(x, steady, names))


class Place:
    """Values in one holder, as a `Reader` sees them."""

    __slots__ = ("holder", "name", "noise", "reader", "values")

    def __init__(self, name: str, holder: Any, reader: Reader) -> None:
        self.name, self.holder, self.reader = name, holder, reader
        self.values = self.read()
        self.noise = 0  #: how often memory changed without the values

    def read(self) -> tuple[Any, ...]:
        """The values now."""
        values: tuple[Any, ...] = _reader(self.reader.text)(self.holder)
        return values

    def rows(self) -> list[watch.Row] | None:
        """What to watch; None where only Python can tell."""
        return None if self.noise > 2 * NOISE else self.reader.rows(self.holder, self.noise > NOISE)

    def holds(self) -> bool:
        """Whether the values are what they were."""
        try:
            now = self.read()
        except (ValueError, KeyError):
            return False
        return len(now) == len(self.values) and all(map(same, now, self.values))


@functools.cache
def _reader(text: str) -> Callable[[Any], tuple[Any, ...]]:
    reader: Callable[[Any], tuple[Any, ...]] = eval(f"lambda x: ({text.replace('@', 'x')},)", dict(SCOPE))
    return reader


#: How often a place is watched in one way although its memory changes while its values do not.
NOISE = 3
SCOPE: dict[str, Any] = {
    "MISSING": MISSING,
    "content": lambda cell: content(cell),
    "kept": lambda x: frozenset(x),
    "settings": settings,
}


def content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return MISSING
