"""What is done to samples on their way to a learner: windows of several, and a shuffle that needs no index."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from envs.streams.errors import StreamAddressError
from tensor.data import IterableDataset, default_collate

__all__ = ["Pipeline"]

T = TypeVar("T")


class Pipeline(IterableDataset[T]):
    """Samples to be gone through once, in one process, by a `DataLoader` or a loop."""

    def windows(self, length: int, stride: int = 1) -> Pipeline[Any]:
        """The last ``length`` samples as one, each array with a time axis before its own; one every ``stride`` samples.

        No window spans a gap in the aligned time.

        >>> import numpy as np
        >>> from envs.streams import open_stream
        >>> aligned = open_stream({"speed": np.arange(5.0)}, rates=10).align(rate=10)
        >>> [window["speed"].tolist() for window in aligned.windows(3, stride=2)]
        [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]
        """
        return _Windows(self, length, stride)

    def shuffle(self, buffer: int, seed: int = 0) -> Pipeline[T]:
        """In another order: each sample drawn from the ``buffer`` that are held back. The same seed gives the same order.

        >>> import numpy as np
        >>> from envs.streams import open_stream
        >>> aligned = open_stream({"speed": np.arange(6.0)}, rates=10).align(rate=10)
        >>> sorted(moment["speed"].item() for moment in aligned.shuffle(4))
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
        """
        return _Shuffled(self, buffer, seed)

    def __reduce__(self) -> Any:
        msg = f"{type(self).__name__}: a stream belongs to one process; expected num_workers=0, or open_stream in the worker"
        raise TypeError(msg)


class _Windows(Pipeline[Any]):
    def __init__(self, samples: Iterable[Any], length: int, stride: int) -> None:
        if length < 1 or stride < 1:
            msg = f"windows: expected length and stride >= 1, got {length} and {stride}"
            raise StreamAddressError(msg)
        self._samples, self._length, self._stride = samples, length, stride

    def __iter__(self) -> Iterator[Any]:
        held: deque[Any] = deque(maxlen=self._length)
        period = getattr(self._samples, "period", None)
        wait = 0
        for sample in self._samples:
            if period is not None and held and abs(sample.t - held[-1].t - period) > 1:
                held.clear()
                wait = 0
            held.append(sample)
            if len(held) == self._length:
                if not wait:
                    yield default_collate(list(held))
                wait = (wait + 1) % self._stride


class _Shuffled(Pipeline[T]):
    def __init__(self, samples: Iterable[T], buffer: int, seed: int) -> None:
        if buffer < 1:
            msg = f"shuffle: expected a buffer >= 1, got {buffer}"
            raise StreamAddressError(msg)
        self._samples, self._buffer, self._seed = samples, buffer, seed

    def __iter__(self) -> Iterator[T]:
        draw = random.Random(self._seed)
        held: list[T] = []
        for sample in self._samples:
            if len(held) < self._buffer:
                held.append(sample)
                continue
            which = draw.randrange(self._buffer)
            out, held[which] = held[which], sample
            yield out
        draw.shuffle(held)
        yield from held
