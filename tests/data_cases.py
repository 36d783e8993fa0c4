"""Datasets that tests send to workers: a worker imports them by name, so they are not in a test module."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import tensor as T
from tensor.data import Dataset, IterableDataset, get_worker_info


class Numbers(Dataset[Any]):
    """``([i, i + 0.5], i)``: what most tests need."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Any:
        return np.array([i, i + 0.5], np.float32), i


class Wide(Dataset[Any]):
    """Samples of 256 KiB, each full of its own index."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, i: int) -> Any:
        return np.full((256, 256), i, np.float32)


class Draws(Dataset[Any]):
    """Samples that draw from all three global generators."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> Any:
        return i, random.random(), np.random.random(), T.rand(2)  # noqa: NPY002


class Told(Dataset[Any]):
    """What a worker is told about itself, beside the index."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> Any:
        info = get_worker_info()
        assert info is not None
        assert type(info.dataset) is Told
        return (
            i,
            info.id,
            info.num_workers,
            T.initial_seed() == info.seed,
            os.environ.get("OMP_NUM_THREADS"),
            info.seed,
            os.getpid(),
        )


class Unpicklable(Exception):
    """An error that needs two arguments, and is given one when it is unpickled."""

    def __init__(self, text: str, value: int) -> None:
        super().__init__(text)
        self.value = value


class Troubled(Numbers):
    """Numbers, but at index 5 something happens."""

    def __init__(self, trouble: str) -> None:
        super().__init__(12)
        self.trouble = trouble

    def __getitem__(self, i: int) -> Any:
        if i == 5:
            getattr(self, self.trouble)()
        return super().__getitem__(i)

    def refuse(self) -> None:
        msg = "sample 5 is bad"
        raise LookupError(msg)

    def refuse_oddly(self) -> None:
        msg = "odd"
        raise Unpicklable(msg, 5)

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def leave(self) -> None:
        os._exit(3)

    def sleep(self) -> None:
        time.sleep(30)


class Everything(Dataset[Any]):
    """Samples of all kinds of values: containers, strings, empty arrays, dates, records, one array twice."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: int) -> Any:
        return {"pair": (i, float(i)), "name": f"sample {i}", "none": np.empty((0, 3)), "flag": i > 0, "list": [T.ones(2) * i]}


def odd_batch(samples: list[Any]) -> Any:
    """A collate_fn whose batch is no tensor: what cannot lie in shared memory is pickled, and identity is kept."""
    array = np.arange(len(samples))
    return {
        "twice": (array, array), "view": array[::-1], "dates": np.array(["2020-01-01"], "M8[D]"), "none": None,
        "objects": np.array([None, "x"], object), "record": np.zeros(2, [("a", "i4")]), "text": "t" * 300_000,
        "gradient": T.ones(2, requires_grad=True),
    }  # fmt: skip


class Part(IterableDataset[Any]):
    """0 .. length - 1, each worker its share; worker 0's share is ``more`` longer."""

    def __init__(self, length: int, more: int = 0) -> None:
        self.length, self.more = length, more

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        if info is None:
            yield from range(self.length)
            return
        yield from range(info.id, self.length, info.num_workers)
        if info.id == 0:
            yield from range(100, 100 + self.more)

    def __len__(self) -> int:
        return self.length


class Noisy(Part):
    """A share with a draw beside each sample."""

    def __iter__(self) -> Iterator[Any]:
        return ((i, random.random()) for i in super().__iter__())


class Resumable(IterableDataset[Any]):
    """Counts, and knows where it is. ``skipped`` tells whether it was made to count again."""

    def __init__(self, length: int) -> None:
        self.length, self.at, self.asked = length, 0, 0

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        base = 0 if info is None else 100 * info.id
        while self.at < self.length:
            self.at += 1
            self.asked += 1
            yield base + self.at, self.asked
        self.at = 0

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


def refuse_to_start(worker: int) -> None:
    msg = f"worker {worker} finds no disk"
    raise OSError(msg)


def seed_numpy(worker: int) -> None:
    np.random.seed(worker)  # noqa: NPY002
