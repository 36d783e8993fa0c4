"""The columns of flat observations by what they are: where a space changes in mid-run, new components come last."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space, flatten_space
from gymnasium.spaces import Dict as DictSpace
from gymnasium.spaces import Tuple as TupleSpace
from numpy.typing import NDArray

from rlcore.types import State

__all__ = ["Layout"]


class Layout:
    """The columns that the observations of spaces have together, in the order in which they appeared.

    >>> layout = Layout()
    >>> layout.place(DictSpace({"b": Discrete(2)}))
    array([0, 1])
    >>> layout.place(DictSpace({"a": Box(-1, 1, (1,)), "b": Discrete(2)}))  # flattened, "a" comes first
    array([2, 0, 1])
    >>> layout.space.shape
    (3,)
    """

    def __init__(self) -> None:
        self._columns: dict[tuple[Any, ...], int] = {}
        self._bounds: list[tuple[float, float]] = []
        self.space = Box(0, 0, (0,), np.float32)  #: of all columns; another object whenever one has come

    def state_dict(self) -> State:
        """The columns, with their bounds."""
        return {"columns": list(self._columns), "bounds": [[float(low), float(high)] for low, high in self._bounds]}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave."""
        self._columns = {name: place for place, name in enumerate(state["columns"])}
        self._bounds = [(low, high) for low, high in state["bounds"]]
        low, high = np.array(self._bounds, np.float32).T
        self.space = Box(low, high, dtype=np.float32)

    def place(self, space: Space[Any]) -> NDArray[np.intp]:
        """For each column of a space's flat observations its place here; columns that are new are added."""
        names = _names(space, ())
        flat: Any = flatten_space(space)
        added = False
        for name, low, high in zip(names, flat.low.ravel(), flat.high.ravel(), strict=True):
            if name not in self._columns:
                self._columns[name] = len(self._columns)
                self._bounds.append((low, high))
                added = True
        if added:
            low, high = np.array(self._bounds, np.float32).T
            self.space = Box(low, high, dtype=np.float32)
        return np.array([self._columns[name] for name in names], np.intp)


def _names(space: Space[Any], path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """What each column of a flat observation stands for, in the order of `gymnasium.spaces.flatten`."""
    if isinstance(space, DictSpace | TupleSpace):
        items = space.spaces.items() if isinstance(space, DictSpace) else enumerate(space.spaces)
        return [name for key, part in items for name in _names(part, (*path, key))]
    if isinstance(space, Discrete):
        return [(*path, int(space.start) + i) for i in range(int(space.n))]
    if isinstance(space, MultiDiscrete):
        digits = zip(space.start.ravel().tolist(), space.nvec.ravel().tolist(), strict=True)
        return [(*path, digit, first + i) for digit, (first, n) in enumerate(digits) for i in range(n)]
    return [(*path, *index) for index in np.ndindex(space.shape or ())]
