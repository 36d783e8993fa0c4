"""What a worker knows about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["WorkerInfo", "become", "get_worker_info"]


@dataclass(frozen=True)
class WorkerInfo:
    """Which worker this is, of how many, with which seed, and its copy of the dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """In a worker, what it should know about itself; None in the main process.

    An `IterableDataset` uses it to give each worker a part of its own, as in
    ``itertools.islice(samples, info.id, None, info.num_workers)``.

    >>> get_worker_info() is None
    True
    """
    return _info


def become(info: WorkerInfo) -> None:
    """Make this process that worker."""
    global _info
    _info = info
