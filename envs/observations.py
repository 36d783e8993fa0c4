"""Observations of any supported space as flat float32 rows, laid out as `gymnasium.spaces.flatten` lays them out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from numpy.typing import NDArray

from rlcore.errors import SpaceError

__all__ = ["Flattener"]


@dataclass(frozen=True, slots=True)
class _OneHot:
    """Where the ones of a Discrete or MultiDiscrete leaf go: digit i holds ``first[i] .. first[i] + counts[i] - 1``."""

    first: NDArray[np.int64]
    counts: NDArray[np.int64]
    offsets: NDArray[np.int64]  # column of each digit's first value


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A part of an observation that is one array."""

    path: tuple[Any, ...]  # keys of Dicts and positions in Tuples, from the root
    shape: tuple[int, ...]  # of one observation's part
    columns: slice
    one_hot: _OneHot | None  # None: the values themselves are copied


class Flattener:
    """Turns observations of one space into flat float32 rows.

    Box and MultiBinary are copied, Discrete and MultiDiscrete become (concatenated) one-hot vectors, Dict and Tuple
    are concatenated in the order of their space.

    Args:
        space: of one observation.
        name: of the environment, for error messages.

    Raises:
        SpaceError: the space is, or holds, none of these.

    >>> from gymnasium.spaces import Box, Dict, Discrete
    >>> flatten = Flattener(Dict({"at": Box(-1, 1, (2,)), "door": Discrete(3)}))
    >>> flatten.batch({"at": np.array([[0.5, -0.5]]), "door": np.array([2])})
    array([[ 0.5, -0.5,  0. ,  0. ,  1. ]], dtype=float32)
    >>> flatten.space.shape
    (5,)
    """

    def __init__(self, space: Space[Any], name: str = "environment") -> None:
        self._leaves: list[_Leaf] = []
        self._needs_zeros = self._may_overflow = False
        bounds = list(self._compile(space, (), name))
        low, high = (np.concatenate(side) if side else np.zeros(0, np.float32) for side in zip(*bounds, strict=True))
        #: Box of shape ``[d]``, float32.
        self.space = Box(low, high, dtype=np.float32)
        self.size: int = low.size
        # Most spaces are one Box or one Discrete: those skip the walk over leaves.
        self._box_shape = space.shape if isinstance(space, Box) and not self._may_overflow else None
        self._discrete = (int(space.start), int(space.n)) if isinstance(space, Discrete) else None

    def _compile(
        self, space: Space[Any], path: tuple[Any, ...], name: str
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Append the leaves of ``space``; yield the bounds of each."""
        if isinstance(space, Dict | Tuple):
            parts = space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces)
            for key, part in parts:
                yield from self._compile(part, (*path, key), name)
            return
        one_hot = None
        if isinstance(space, Box):
            self._may_overflow |= space.dtype.kind == "f" and space.dtype.itemsize > 4
            with np.errstate(over="ignore"):  # a float64 bound beyond float32 is no bound: infinity
                low, high = space.low.astype(np.float32).ravel(), space.high.astype(np.float32).ravel()
        elif isinstance(space, MultiBinary | Discrete | MultiDiscrete):
            if isinstance(space, MultiBinary):
                width = int(np.prod(space.shape))
            else:
                counts = np.atleast_1d(space.nvec if isinstance(space, MultiDiscrete) else space.n).ravel()
                first = np.atleast_1d(space.start).ravel().astype(np.int64)
                counts, width = counts.astype(np.int64), int(counts.sum())
                one_hot = _OneHot(first, counts, np.cumsum(counts) - counts)
                self._needs_zeros = True
            low, high = np.zeros(width, np.float32), np.ones(width, np.float32)
        else:
            message = (
                f"{name}: cannot serve the observation space {space}: expected Box, Discrete, MultiDiscrete, "
                "MultiBinary, or a Dict or Tuple of these"
            )
            raise SpaceError(" ".join(message.split()))
        start = self._leaves[-1].columns.stop if self._leaves else 0
        self._leaves.append(_Leaf(path, space.shape or (), slice(start, start + low.size), one_hot))
        yield low, high

    def batch(self, observation: Any) -> NDArray[np.float32]:
        """Flatten n observations as a `gymnasium.vector.VectorEnv` gives them, into a new array ``[n, d]``.

        Raises:
            ValueError: a part has a wrong shape or an impossible value.
        """
        if self._box_shape is not None:
            array = np.array(observation, dtype=np.float32)
            if array.shape[1:] != self._box_shape or array.ndim != 1 + len(self._box_shape):
                message = f"expected observations of shape (n, {_inside(self._box_shape)}), got {array.shape}"
                raise ValueError(message)
            return array.reshape(len(array), self.size)
        parts = [np.asarray(_descend(observation, leaf.path)) for leaf in self._leaves]
        rows = parts[0].shape[0] if parts and parts[0].ndim else 0
        out = (np.zeros if self._needs_zeros else np.empty)((rows, self.size), np.float32)
        self._write(parts, out)
        return out

    def row(self, observation: Any, out: NDArray[np.float32]) -> None:
        """Flatten one observation into ``out``, which is ``[d]`` and all zeros.

        Raises:
            ValueError: a part has a wrong shape or an impossible value.
        """
        if self._box_shape is not None:
            array = observation if type(observation) is np.ndarray else np.asarray(observation)
            if array.shape != self._box_shape:
                message = f"expected an observation of shape {self._box_shape}, got {array.shape}"
                raise ValueError(message)
            out[:] = array if array.ndim == 1 else array.reshape(-1)
        elif self._discrete is not None:
            start, count = self._discrete
            digit = int(observation) - start
            if not 0 <= digit < count:
                message = f"expected an observation from {start} to {start + count - 1}, got {observation}"
                raise ValueError(message)
            out[digit] = 1.0
        else:
            self._write([np.asarray(_descend(observation, leaf.path))[None] for leaf in self._leaves], out[None])

    def one(self, observation: Any) -> NDArray[np.float32]:
        """Flatten one observation into a new array ``[d]``; raises as `row` does."""
        out = np.zeros(self.size, np.float32)
        self.row(observation, out)
        return out

    def _write(self, parts: list[NDArray[Any]], out: NDArray[np.float32]) -> None:
        rows = len(out)
        # The caller sees the infinity that an overflow leaves; NumPy's own warning would name no environment.
        with np.errstate(over="ignore") if self._may_overflow else contextlib.nullcontext():
            for leaf, part in zip(self._leaves, parts, strict=True):
                if part.shape != (rows, *leaf.shape):
                    where = "".join(f"[{key!r}]" for key in leaf.path)
                    message = f"expected observation{where} of shape {leaf.shape}, got {part.shape[1:]}"
                    raise ValueError(message)
                flat = part.reshape(rows, -1)
                if leaf.one_hot is None:
                    out[:, leaf.columns] = flat
                else:
                    _write_one_hot(leaf.one_hot, flat, out[:, leaf.columns])


def _write_one_hot(spec: _OneHot, values: NDArray[Any], out: NDArray[np.float32]) -> None:
    if values.dtype.kind not in "iu":
        message = f"expected integer observations, got {values.dtype}"
        raise ValueError(message)
    digits = values.astype(np.int64) - spec.first
    if np.count_nonzero((digits < 0) | (digits >= spec.counts)):
        last = spec.first + spec.counts - 1
        message = f"expected observations from {spec.first} to {last}, got {values.tolist()}"
        raise ValueError(message)
    out[np.arange(len(out))[:, None], spec.offsets + digits] = 1.0


def _descend(observation: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        observation = observation[key]
    return observation


def _inside(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
