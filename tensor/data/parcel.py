"""How the dataset gets to the workers: pickled for each, but with its large arrays in memory that all of them share."""

from __future__ import annotations

import io
import pickle
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

from tensor.data.memory import Block

__all__ = ["Parcel"]

_LARGE = 1 << 16
_ALIGNMENT = 64


class Parcel:
    """Something for several workers. Large arrays in it are written once; each worker maps them, and copies a page on writing.

    It is pickled with each worker's arguments, and arrives as a `Delivery`.
    """

    def __init__(self, content: Any) -> None:
        self.content = content
        self._block = Block()
        self._end = 0
        # By address, with the buffer itself: while it is held, no other can have its address.
        self._stored: dict[tuple[int, int], tuple[int, pickle.PickleBuffer]] = {}

    def __reduce__(self) -> Any:
        sections: list[tuple[int, int]] = []

        def take(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes >= _LARGE:
                sections.append((self._store(raw, buffer), raw.nbytes))
            return raw.nbytes < _LARGE  # True: it is pickled like anything else

        out = io.BytesIO()
        ForkingPickler(out, pickle.HIGHEST_PROTOCOL, True, take).dump(self.content)
        return Delivery, (out.getvalue(), self._block, sections, self._end)

    def _store(self, raw: memoryview, buffer: pickle.PickleBuffer) -> int:
        source = np.frombuffer(raw, np.uint8)
        key = source.__array_interface__["data"][0], raw.nbytes
        if key not in self._stored:
            offset = self._end
            self._end = offset + -(-raw.nbytes // _ALIGNMENT) * _ALIGNMENT
            self._block.reserve(self._end)
            np.frombuffer(self._block.memory, np.uint8, raw.nbytes, offset)[...] = source
            self._stored[key] = offset, buffer
        return self._stored[key][0]

    def close(self) -> None:
        """Let go of the memory, once every worker has been started."""
        self._stored.clear()
        self._block.close()


class Delivery:
    """A parcel in a worker. It is opened there, so that what goes wrong with it can be reported."""

    def __init__(self, pickled: bytes, block: Block, sections: list[tuple[int, int]], size: int) -> None:
        self._pickled, self._block, self._sections, self._size = pickled, block, sections, size

    def open(self) -> Any:
        """The content."""
        memory = self._block.private(self._size)
        return pickle.loads(self._pickled, buffers=[memory[start : start + size] for start, size in self._sections])
