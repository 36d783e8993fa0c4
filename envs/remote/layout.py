"""Spaces as data, and what they hold as raw bytes.

Both ends know the spaces, so a batch of n observations needs no description: its leaves follow one another, each as n rows of
fixed size, last index fastest, little-endian.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Text, Tuple
from numpy.typing import NDArray

from rlcore.errors import SpaceError, WorldError

__all__ = ["Layout", "describe_space", "make_space"]

#: What no space that fits in memory exceeds; a description beyond is garbage.
MAX_ITEMS = 1 << 28


def describe_space(space: Space[Any]) -> list[Any]:
    """The space as plain data: lists, numbers, strings, bytes.

    - ``["box", dtype, shape, low, high]``, the bounds as raw bytes (a single item where all are equal)
    - ``["discrete", dtype, n, start]``, ``["multi-discrete", dtype, shape, nvec, start]``, ``["multi-binary", shape]``
    - ``["text", shortest, longest, characters]``
    - ``["dict", [[key, space], ...]]``, ``["tuple", [space, ...]]``

    Raises:
        SpaceError: a space of another kind, whose values have no fixed size.

    >>> describe_space(Discrete(3))
    ['discrete', '<i8', 3, 0]
    >>> make_space(describe_space(Discrete(3)))
    Discrete(3)
    """
    if isinstance(space, Box):
        return ["box", _text(space.dtype), list(space.shape), _bounds(space.low), _bounds(space.high)]
    if isinstance(space, Discrete):
        return ["discrete", _text(space.dtype), int(space.n), int(space.start)]
    if isinstance(space, MultiDiscrete):
        return [
            "multi-discrete",
            _text(space.dtype),
            list(space.shape),
            space.nvec.ravel().tolist(),
            space.start.ravel().tolist(),
        ]
    if isinstance(space, MultiBinary):
        return ["multi-binary", list(space.shape)]
    if isinstance(space, Text):
        return ["text", int(space.min_length), int(space.max_length), "".join(sorted(space.character_set))]
    if isinstance(space, Dict):
        return ["dict", [[str(key), describe_space(part)] for key, part in space.spaces.items()]]
    if isinstance(space, Tuple):
        return ["tuple", [describe_space(part) for part in space.spaces]]
    message = f"remote: cannot send the space {space}: expected Box, Discrete, MultiDiscrete, MultiBinary, Text, Dict or Tuple"
    raise SpaceError(" ".join(message.split()))


def make_space(description: Any) -> Space[Any]:
    """The space of a description.

    Raises:
        SpaceError: it describes none.
    """
    try:
        kind, *rest = description
        space: Space[Any] = _MAKERS[kind](*rest)
        return space
    except (TypeError, ValueError, KeyError, AssertionError, RecursionError) as error:
        message = f"remote: expected the description of a space, got {str(description)[:80]} ({type(error).__name__}: {error})"
        raise SpaceError(message) from None


def _make_box(dtype: str, shape: list[int], low: bytes, high: bytes) -> Space[Any]:
    kind = np.dtype(dtype)
    if kind.kind not in "biuf" or not 0 <= math.prod(shape) <= MAX_ITEMS:
        message = f"no box of {dtype} {shape}"
        raise ValueError(message)
    sides = [np.frombuffer(side, kind).reshape(() if len(side) == kind.itemsize else shape) for side in (low, high)]
    bounds: Any = [np.array(np.broadcast_to(side, shape), kind.newbyteorder("=")) for side in sides]
    kinds: Any = bounds[0].dtype.type
    return Box(bounds[0], bounds[1], tuple(shape), kinds)


def _make_discrete(dtype: str, n: int, start: int) -> Space[Any]:
    kind: Any = np.dtype(dtype).newbyteorder("=").type
    return Discrete(n, start=start, dtype=kind)


def _make_multi_discrete(dtype: str, shape: list[int], nvec: list[int], start: list[int]) -> Space[Any]:
    kind: Any = np.dtype(dtype).newbyteorder("=").type
    return MultiDiscrete(np.array(nvec).reshape(shape), kind, start=np.array(start, kind).reshape(shape))


_MAKERS: dict[str, Any] = {
    "box": _make_box,
    "discrete": _make_discrete,
    "multi-discrete": _make_multi_discrete,
    "multi-binary": lambda shape: MultiBinary(shape),
    "text": lambda shortest, longest, characters: Text(longest, min_length=shortest, charset=characters),
    "dict": lambda parts: Dict({key: make_space(part) for key, part in parts}),
    "tuple": lambda parts: Tuple([make_space(part) for part in parts]),
}


def _text(dtype: Any) -> str:
    return str(np.dtype(dtype).newbyteorder("<").str)


def _bounds(values: NDArray[Any]) -> bytes:
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    first = little.ravel()[:1]
    return (first if little.size and (little == first).all() else little).tobytes()


@dataclass(frozen=True, slots=True)
class _Leaf:
    path: tuple[Any, ...]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_scalar: bool  # a Discrete: a NumPy scalar, not an array
    is_text: bool

    @property
    def bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


class Layout:
    """Values of one space to raw bytes and back.

    >>> layout = Layout(Dict({"at": Box(-1, 1, (2,)), "door": Discrete(3)}))
    >>> raw = layout.pack([{"at": np.zeros(2), "door": 2}])
    >>> len(raw), layout.unpack(raw)["door"]
    (16, np.int64(2))
    """

    def __init__(self, space: Space[Any]) -> None:
        self.space = space
        self._leaves = list(_leaves(space, ()))
        #: Bytes of one value.
        self.size = sum(leaf.bytes for leaf in self._leaves)
        only = self._leaves[0] if len(self._leaves) == 1 and not self._leaves[0].path else None
        self._only = None if only is None or only.is_text or sys.byteorder != "little" else only

    def pack(self, values: Sequence[Any]) -> bytes:
        """The bytes of n values.

        Raises:
            WorldError: a value that is not of the space's form.
        """
        try:
            only = self._only
            if only is not None and len(values) == 1:
                array = np.asarray(values[0], only.dtype)
                if array.shape == only.shape:
                    return array.tobytes()
            return b"".join([self._column(leaf, values) for leaf in self._leaves])
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            message = f"remote: expected values of {self.space}, got {str(values[0])[:100]} ({type(error).__name__}: {error})"
            raise WorldError(" ".join(message.split())) from error

    def _column(self, leaf: _Leaf, values: Sequence[Any]) -> bytes:
        rows = [value if not leaf.path else _descend(value, leaf.path) for value in values]
        if leaf.is_text and any(len(row) * 4 > leaf.dtype.itemsize for row in rows):
            message = f"a text longer than {leaf.dtype.itemsize // 4}"
            raise ValueError(message)
        column = np.array(rows, leaf.dtype)
        if column.shape != (len(values), *leaf.shape):
            message = f"shape {column.shape[1:]} instead of {leaf.shape}"
            raise ValueError(message)
        return column.tobytes()

    def unpack(self, raw: Any) -> Any:
        """The one value of these bytes; its arrays are new.

        Raises:
            WorldError: another number of bytes.
        """
        only = self._only
        if only is not None and len(raw) == self.size:
            if only.is_scalar:
                return np.frombuffer(raw, only.dtype)[0]
            return np.frombuffer(raw, only.dtype).reshape(only.shape).copy()
        return self._build(self.space, iter(self._columns(raw, 1)), 0)

    def unpack_batch(self, raw: Any, count: int) -> Any:
        """n values as `gymnasium.vector` batches them: an array of n rows for each leaf; its arrays are new."""
        return self._build(self.space, iter(self._columns(raw, count)), None)

    def unpack_all(self, raw: Any, count: int) -> list[Any]:
        """n values one by one."""
        columns = self._columns(raw, count)
        return [self._build(self.space, iter(columns), index) for index in range(count)]

    def _columns(self, raw: Any, count: int) -> list[tuple[_Leaf, NDArray[Any]]]:
        if len(raw) != count * self.size:
            message = f"remote: expected {count} values of {self.space}, {count * self.size} bytes, got {len(raw)}"
            raise WorldError(" ".join(message.split()))
        columns, at = [], 0
        for leaf in self._leaves:
            length = count * leaf.bytes
            column = np.frombuffer(raw[at : at + length], leaf.dtype).reshape(count, *leaf.shape)
            columns.append((leaf, column.astype(leaf.dtype.newbyteorder("="))))
            at += length
        return columns

    def _build(self, space: Space[Any], columns: Iterator[tuple[_Leaf, NDArray[Any]]], index: int | None) -> Any:
        if isinstance(space, Dict):
            return {key: self._build(part, columns, index) for key, part in space.spaces.items()}
        if isinstance(space, Tuple):
            return tuple([self._build(part, columns, index) for part in space.spaces])
        leaf, column = next(columns)
        if leaf.is_text:
            return tuple(map(str, column)) if index is None else str(column[index])
        return column if index is None else column[index] if leaf.is_scalar else np.array(column[index])


def _leaves(space: Space[Any], path: tuple[Any, ...]) -> Iterator[_Leaf]:
    if isinstance(space, Dict | Tuple):
        parts = space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces)
        for key, part in parts:
            yield from _leaves(part, (*path, key))
    elif isinstance(space, Text):
        yield _Leaf(path, np.dtype(f"<U{space.max_length}"), (), is_scalar=False, is_text=True)
    else:
        describe_space(space)  # its error says what cannot be sent
        is_scalar = isinstance(space, Discrete)
        yield _Leaf(path, np.dtype(_text(space.dtype)), tuple(space.shape or ()), is_scalar, is_text=False)


def _descend(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value
