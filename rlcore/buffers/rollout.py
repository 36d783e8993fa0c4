"""A fixed number of consecutive steps of n environments, filled, learnt from once, and cleared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike, NDArray

from rlcore.buffers.fields import Fields, allocate, restore, wrong_names

__all__ = ["RolloutBuffer"]


class RolloutBuffer:
    """Arrays ``[length, num_envs, ...]``, one per field, allocated once.

    Args:
        length: steps, the first axis.
        num_envs: the second axis.
        fields: field name to (shape of one entry, dtype).

    >>> import numpy as np
    >>> rollout = RolloutBuffer(2, 3, {"observation": ((4,), np.float32), "valid": ((), np.bool_)})
    >>> rollout.add(observation=np.ones((3, 4)), valid=[True, True, False])
    >>> len(rollout), rollout.full, rollout["observation"].shape
    (1, False, (2, 3, 4))
    """

    def __init__(self, length: int, num_envs: int, fields: Fields) -> None:
        self._arrays = allocate(fields, (length, num_envs))
        self._length = length
        self._size = 0

    def add(self, **entries: ArrayLike) -> None:
        """Store one step: for every field an array ``[num_envs, ...]``, cast to the field's dtype.

        Raises:
            IndexError: the buffer is full; `clear` it first.
            TypeError: a field is missing or unknown.
            ValueError: a shape that does not fit.
        """
        if entries.keys() != self._arrays.keys():
            raise wrong_names(entries, self._arrays)
        row = self._size
        if row == self._length:
            message = f"the rollout of {self._length} steps is full; clear it first"
            raise IndexError(message)
        for name, array in self._arrays.items():
            array[row] = entries[name]
        self._size = row + 1

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The whole array ``[length, num_envs, ...]`` of a field, not a copy; rows from ``len(self)`` on are stale."""
        return self._arrays[name]

    @property
    def names(self) -> tuple[str, ...]:
        """The fields."""
        return tuple(self._arrays)

    def __len__(self) -> int:
        return self._size

    @property
    def full(self) -> bool:
        """True once ``length`` steps are stored."""
        return self._size == self._length

    def clear(self) -> None:
        """Start again from the first row; keeps the memory."""
        self._size = 0

    def state_dict(self) -> dict[str, Any]:
        """A copy of the stored steps."""
        return {"size": self._size, "fields": {name: a[: self._size].copy() for name, a in self._arrays.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            ValueError: the state is of a buffer with other fields, shapes or dtypes.
        """
        restore(self._arrays, state["size"], state["fields"])
        self._size = state["size"]
