"""Actions from agents, checked and in the form that an environment expects."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from numpy.typing import NDArray

from rlcore.errors import SpaceError

__all__ = ["Translator"]


class Translator:
    """Checks the actions of n environments and translates them.

    Agents count from zero: a Discrete or MultiDiscrete space with a ``start`` is shown to them as `space`, the same
    without it, and the start is added here. So ``world.step`` takes whatever ``world.action_space`` samples. Box
    actions are clipped to their bounds and cast to the dtype of their space.

    Args:
        space: of one action of the environment.
        num_envs: n.
        name: of the environment, for error messages.

    Raises:
        SpaceError: the space is not Discrete, MultiDiscrete, MultiBinary or Box.

    >>> translate = Translator(Discrete(3, start=5), 2)
    >>> translate(np.array([0, 2]))
    array([5, 7])
    >>> translate.space
    Discrete(3)
    """

    def __init__(self, space: Space[Any], num_envs: int, name: str = "environment") -> None:
        #: What agents see.
        self.space: Space[Any] = space
        self._translate: Callable[[NDArray[Any]], NDArray[Any]]
        if isinstance(space, Box):
            self._low, self._high, self._dtype = space.low, space.high, space.dtype
            self._translate = self._box
        elif isinstance(space, Discrete):
            if space.start:
                self.space = Discrete(int(space.n), dtype=space.dtype.type)
            self._count, self._start, self._dtype = int(space.n), int(space.start), space.dtype
            self._translate = self._discrete
        elif isinstance(space, MultiDiscrete):
            if np.any(space.start):
                self.space = MultiDiscrete(space.nvec, dtype=space.dtype.type)
            self._counts, self._starts, self._dtype = space.nvec, space.start, space.dtype
            self._translate = self._multi_discrete
        elif isinstance(space, MultiBinary):
            self._counts, self._starts, self._dtype = np.full(space.shape, 2), np.zeros(space.shape, int), space.dtype
            self._translate = self._multi_discrete
        else:
            message = f"{name}: cannot serve the action space {space}: expected Discrete, MultiDiscrete, MultiBinary or Box"
            raise SpaceError(" ".join(message.split()))
        self._shape = (num_envs, *(space.shape or ()))

    def __call__(self, action: NDArray[Any]) -> NDArray[Any]:
        """The environment's own actions ``[n, ...]``.

        Raises:
            ValueError: a wrong shape, dtype or value.
        """
        array = np.asarray(action)
        if array.shape != self._shape:
            message = f"expected actions of shape {self._shape}, got {array.shape}"
            raise ValueError(message)
        return self._translate(array)

    def _discrete(self, action: NDArray[Any]) -> NDArray[Any]:
        integers = _integers(action)
        # Seen as unsigned, a negative number is a huge one: one pass checks both ends.
        if np.maximum.reduce(integers.view(np.uint64)) >= self._count:
            message = f"expected actions from 0 to {self._count - 1}, got {action.tolist()}"
            raise ValueError(message)
        return integers + self._start if self._start else integers

    def _multi_discrete(self, action: NDArray[Any]) -> NDArray[Any]:
        integers = _integers(action)
        if np.count_nonzero((integers < 0) | (integers >= self._counts)):
            message = f"expected actions from 0 to {(self._counts - 1).tolist()}, got {action.tolist()}"
            raise ValueError(message)
        translated: NDArray[Any] = (integers + self._starts).astype(self._dtype, copy=False)
        return translated

    def _box(self, action: NDArray[Any]) -> NDArray[Any]:
        if action.dtype.kind not in "fiu":
            message = f"expected actions of numbers, got {action.dtype}"
            raise ValueError(message)
        # The sum of squares is the cheapest test for NaN; it overflows for large finite numbers too.
        if not math.isfinite(np.vdot(action, action)) and not np.isfinite(action).all():
            message = f"expected finite actions, got {action.tolist()}"
            raise ValueError(message)
        clipped: NDArray[Any] = np.minimum(np.maximum(action, self._low), self._high)
        return clipped.astype(self._dtype, copy=False)


def _integers(action: NDArray[Any]) -> NDArray[np.int64]:
    """As a contiguous int64 array; booleans count as 0 and 1."""
    if action.dtype.kind not in "iub":
        message = f"expected integer actions, got {action.dtype}"
        raise ValueError(message)
    return np.ascontiguousarray(action, dtype=np.int64)
