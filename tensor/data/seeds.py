"""Random numbers in a worker: a function of the epoch's seed and the batch's number alone.

So an epoch is the same however many workers there are, and goes on the same after a resume, whatever the samples draw.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from tensor.ops.random import default_generator, manual_seed

__all__ = ["Streams"]

_ODD = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: successive multiples are spread over all of 64 bits (Knuth, TAOCP 3, 6.4)


class Streams:
    """The global generators of this library, of Python and of NumPy.

    Those that ``worker_init_fn`` seeded by itself are left to it.
    """

    def __init__(self) -> None:
        self._python = self._numpy = self._ours = True
        self._base: Any = None
        self._seed = 0
        self._seen: tuple[Any, ...] = ()

    def start(self, base_seed: int, worker: int) -> None:
        """Seed for an epoch: with the worker's own seed, as ``initial_seed`` tells, and what runs before a batch draws."""
        self._seed, own = base_seed, base_seed + worker
        if self._python:
            random.seed(own)
        if self._numpy:
            np.random.seed(own % 2**32)  # noqa: NPY002 - datasets use the global one
        if self._ours:
            manual_seed(own)
        # All workers share the epoch's stream; a batch jumps to its own part of it.
        self._base = np.random.PCG64(base_seed % 2**64).state

    def watch(self) -> None:
        """Remember the positions, before ``worker_init_fn`` is called."""
        self._seen = self._positions()

    def leave_what_changed(self) -> None:
        """Leave alone from now on whatever has been seeded or drawn from since `watch`."""
        now = self._positions()
        self._python, self._numpy, self._ours = (a == b for a, b in zip(now, self._seen, strict=True))

    @staticmethod
    def _positions() -> tuple[Any, ...]:
        state = np.random.get_state(legacy=False)["state"]  # type: ignore[call-overload,unused-ignore]  # noqa: NPY002
        return random.getstate(), (state["key"].tobytes(), state["pos"]), default_generator.numpy.bit_generator.state

    def at(self, batch: int) -> None:
        """Go to the numbers of a batch."""
        mixed = (self._seed + (batch + 1) * _ODD) % 2**64
        if self._python:
            random.seed(mixed)
        if self._numpy:
            np.random.seed(mixed >> 32)  # noqa: NPY002
        if self._ours:
            bits: Any = default_generator.numpy.bit_generator
            bits.state = self._base
            bits.advance((batch + 1) << 64)
