"""The most recent transitions, sampled uniformly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlcore.buffers.fields import Fields, allocate, restore, wrong_names

__all__ = ["ReplayBuffer"]


class ReplayBuffer:
    """A ring over arrays ``[capacity, ...]``, one per field, allocated once.

    Args:
        capacity: how many rows are kept; older ones are overwritten.
        fields: field name to (shape of one entry, dtype).

    >>> replay = ReplayBuffer(1000, {"observation": ((4,), np.float32), "action": ((), np.int64)})
    >>> replay.add(observation=np.ones((2, 4)), action=[0, 1])
    >>> batch = replay.sample(32, np.random.default_rng(0))
    >>> len(replay), batch["observation"].shape, batch["action"].dtype
    (2, (32, 4), dtype('int64'))
    """

    def __init__(self, capacity: int, fields: Fields) -> None:
        if capacity < 1:
            message = f"capacity: expected at least 1, got {capacity}"
            raise ValueError(message)
        self.capacity = capacity
        self._arrays = allocate(fields, (capacity,))
        self._size = 0
        self._next = 0

    def add(self, **rows: ArrayLike) -> None:
        """Append k rows: for every field an array ``[k, ...]``, cast to the field's dtype; k may be 0.

        Only rows worth learning from belong here: leave out those that `rlcore.types.Step.valid` marks False.

        Raises:
            TypeError: a field is missing or unknown.
            ValueError: fields of different lengths, or a shape that does not fit.
        """
        if rows.keys() != self._arrays.keys():
            raise wrong_names(rows, self._arrays)
        lengths = {name: len(value) for name, value in rows.items()}  # type: ignore[arg-type]
        start, count = self._next, next(iter(lengths.values()))
        if any(length != count for length in lengths.values()):
            message = "fields of different lengths: " + ", ".join(f"{name} {n}" for name, n in lengths.items())
            raise ValueError(message)
        end = start + count
        if end < self.capacity:  # nothing wraps, as nearly always
            for name, target in self._arrays.items():
                target[start:end] = rows[name]
            self._next, self._size = end, max(self._size, end)
            return
        arrays = {name: np.asarray(value) for name, value in rows.items()}
        if count > self.capacity:  # only the last `capacity` rows survive; leave them where adding one by one would
            start = (start + count - self.capacity) % self.capacity
            arrays = {name: value[-self.capacity :] for name, value in arrays.items()}
            count = self.capacity
        first = min(count, self.capacity - start)  # rows before the end of the ring; the rest wraps to its beginning
        for name, target in self._arrays.items():
            value = arrays[name]
            target[start : start + first] = value[:first]
            if first < count:
                target[: count - first] = value[first:]
        self._next = (start + count) % self.capacity
        self._size = min(self._size + count, self.capacity)

    def sample(self, batch_size: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Rows drawn uniformly with replacement: for every field a new array ``[batch_size, ...]``.

        Raises:
            ValueError: the buffer is empty.
        """
        if not self._size:
            message = "cannot sample from an empty buffer"
            raise ValueError(message)
        index = rng.integers(self._size, size=batch_size)
        return {name: array.take(index, axis=0) for name, array in self._arrays.items()}

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The stored rows ``[len(self), ...]`` of a field in ring order (not by age); not a copy."""
        return self._arrays[name][: self._size]

    def latest(self, name: str, count: int) -> NDArray[Any]:
        """Up to ``count`` rows of a field that were added last, a copy, in no particular order of age."""
        return self._arrays[name].take(np.arange(self._next - min(count, self._size), self._next), axis=0, mode="wrap")

    def convert(self, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        """Replace a field by what ``change`` makes of its array ``[capacity, ...]``: entries of another shape."""
        self._arrays[name] = change(self._arrays[name])

    def __len__(self) -> int:
        return self._size

    def state_dict(self) -> dict[str, Any]:
        """A copy of the filled part, and where the ring stands, so that sampling continues with the same rows."""
        return {
            "size": self._size,
            "next": self._next,
            "fields": {name: array[: self._size].copy() for name, array in self._arrays.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            ValueError: the state is of a buffer with other fields, shapes or dtypes, or it does not fit.
        """
        restore(self._arrays, state["size"], state["fields"])
        self._size, self._next = state["size"], state["next"]
