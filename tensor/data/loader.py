"""`DataLoader`: batches of a dataset in some order, made here or by worker processes."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from tensor import cuda
from tensor.autograd.tensor import Tensor
from tensor.data.collate import convert, default_collate, default_convert
from tensor.data.dataset import IterableDataset
from tensor.data.fetch import Recipe
from tensor.data.in_process import InProcess
from tensor.data.position import Position
from tensor.data.sampler import BatchSampler, RandomSampler, SequentialSampler, Stream, restore, state_of
from tensor.ops.random import Generator

__all__ = ["DataLoader"]

T_co = TypeVar("T_co", covariant=True)


class DataLoader(Generic[T_co]):
    """Iterates over a dataset in batches, once an epoch; in any order, with or without worker processes.

    - ``batch_size``, ``shuffle``, ``drop_last``; or a ``sampler`` of indices; or a ``batch_sampler`` of lists of them.
      ``batch_size=None`` gives single samples.
    - ``num_workers``: processes that make the batches ahead, ``prefetch_factor`` each (2). They are started afresh, so the
      dataset must be picklable and a script guarded by ``if __name__ == "__main__":``; they see a copy of the dataset. Batches
      come in order, through shared memory. ``persistent_workers`` keeps them for the next epoch, ``timeout`` is the longest
      wait for a batch in seconds (0: for ever).
    - ``collate_fn`` makes a batch of a list of samples: `default_collate`. ``worker_init_fn(id)`` runs first in each worker.
    - ``generator``: where the order and the workers' seeds come from; without one they follow ``manual_seed``. In a worker the
      global generators start each batch from the epoch's seed and the batch's number, so that an epoch is the same with any
      number of workers.
    - ``pin_memory``: batches in page-locked memory, where there is a CUDA device; elsewhere a warning says that it has no
      effect.

    A worker's error is raised here, with its type and its traceback; a worker that dies is a RuntimeError that tells how.
    `state_dict` and `load_state_dict` save the position within an epoch, and take it up again exactly.

    >>> import tensor as T
    >>> loader = DataLoader(T.arange(5), batch_size=2)
    >>> list(loader)
    [tensor([0, 1]), tensor([2, 3]), tensor([4])]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Sequence[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
    ) -> None:
        self.dataset = dataset
        self.num_workers, self.timeout, self.prefetch_factor = num_workers, timeout, prefetch_factor
        self.persistent_workers, self.worker_init_fn, self.generator = persistent_workers, worker_init_fn, generator
        self.batch_size, self.drop_last = batch_size, drop_last
        self._check_workers(multiprocessing_context)
        self._stream = Stream(generator)
        self._streaming = isinstance(dataset, IterableDataset)
        self._choose_order(shuffle, sampler, batch_sampler)
        self._batched = self.batch_size is not None or self.batch_sampler is not None
        self.collate_fn = collate_fn or (default_collate if self._batched else default_convert)
        self.pin_memory = pin_memory
        self._pin = pin_memory and cuda.is_available()
        if pin_memory and not self._pin:
            warnings.warn("DataLoader: pin_memory has no effect, there is no CUDA device", stacklevel=2)
        self._pool: Any = None
        self._position: Position | None = None
        self._resume: Position | None = None

    def _check_workers(self, context: Any) -> None:
        if self.num_workers < 0 or self.timeout < 0:
            msg = f"DataLoader: expected num_workers and timeout >= 0, got {self.num_workers} and {self.timeout}"
            raise ValueError(msg)
        theirs = [name for name in ("timeout", "prefetch_factor", "persistent_workers") if getattr(self, name)]
        if theirs and not self.num_workers:
            msg = f"DataLoader: {' and '.join(theirs)} without effect, expected num_workers > 0, got 0"
            raise ValueError(msg)
        if self.prefetch_factor is not None and self.prefetch_factor < 1:
            msg = f"DataLoader: expected prefetch_factor >= 1, got {self.prefetch_factor}"
            raise ValueError(msg)
        method = getattr(context, "get_start_method", lambda: context)()
        if method not in (None, "spawn"):
            msg = f"DataLoader: workers are started by 'spawn' alone (a fork copies locks that nobody will open), got {method!r}"
            raise ValueError(msg)

    def _choose_order(self, shuffle: bool | None, sampler: Any, batch_sampler: Any) -> None:
        if self._streaming and (shuffle or sampler is not None or batch_sampler is not None):
            msg = "DataLoader: an IterableDataset decides its own order, without shuffle, sampler or batch_sampler"
            raise ValueError(msg)
        if shuffle and sampler is not None:
            msg = "DataLoader: expected a sampler or shuffle, got both"
            raise ValueError(msg)
        if batch_sampler is not None:
            if self.batch_size != 1 or shuffle or sampler is not None or self.drop_last:
                msg = "DataLoader: batch_sampler takes the place of batch_size, shuffle, sampler and drop_last"
                raise ValueError(msg)
            self.batch_size = None
        elif self.batch_size is None and self.drop_last:
            msg = "DataLoader: drop_last needs a batch_size"
            raise ValueError(msg)
        elif self.batch_size is not None and (not isinstance(self.batch_size, (int, np.integer)) or self.batch_size < 1):
            msg = f"DataLoader: expected batch_size to be a positive integer or None, got {self.batch_size!r}"
            raise ValueError(msg)
        if sampler is None and not self._streaming:
            sampler = RandomSampler(self.dataset, generator=self.generator) if shuffle else SequentialSampler(self.dataset)
        self.sampler = sampler
        if self.batch_size is not None and not self._streaming:
            batch_sampler = BatchSampler(sampler, self.batch_size, self.drop_last)
        self.batch_sampler = batch_sampler

    @property
    def _order(self) -> Any:
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    def __len__(self) -> int:
        if not self._streaming:
            return len(self._order)
        count = len(self.dataset)
        if self.batch_size is None:
            return count
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[T_co]:
        position = self._position = self._begin()
        order = itertools.repeat(None) if self._streaming else self._order
        tasks = itertools.islice(iter(order), 0 if self._streaming else position.total, None)
        recipe = Recipe(self.dataset, self.collate_fn, self._batched, self.batch_size, self.drop_last)
        batches = self._in_workers(recipe, tasks, position) if self.num_workers else InProcess(recipe, tasks, position)
        return map(_pin, batches) if self._pin else batches

    def _in_workers(self, recipe: Recipe, tasks: Iterator[Any], position: Position) -> Iterator[Any]:
        if os.name != "posix":
            msg = f"DataLoader: workers need a POSIX system (open files that processes share), got {os.name}; use num_workers=0"
            raise RuntimeError(msg)
        from tensor.data.in_workers import InWorkers  # multiprocessing is imported only where it is used
        from tensor.data.pool import Pool

        prefetch, keep = self.prefetch_factor or 2, self.persistent_workers
        pool = self._pool
        if pool is None or pool.closed:
            pool = Pool(recipe, self.worker_init_fn, self.num_workers, prefetch)
            self._pool = pool if keep else None
        return InWorkers(pool, tasks, position, timeout=self.timeout or None, prefetch=prefetch, keep=keep)

    def _begin(self) -> Position:
        """An epoch's position: its first batch, or where `load_state_dict` said."""
        resumed, self._resume = self._resume, None
        if resumed is not None:
            self._stream.generator().set_state(resumed.start["generator"])
            restore(self._order, resumed.start["sampler"])
        position = Position.begin(self._start(), max(self.num_workers, 1), resumed)
        position.base_seed = Stream.draw_seed(self._stream.generator())
        return position

    def _start(self) -> dict[str, Any]:
        """All that the next epoch's order and seeds depend on."""
        return {"generator": self._stream.generator().get_state(), "sampler": state_of(self._order)}

    def state_dict(self) -> dict[str, Any]:
        """The position: how the epoch of the latest iterator began, and how many batches have been taken from it.

        Plain values, with the states of a dataset that has its own. Between epochs it is the beginning of the next.

        >>> loader = DataLoader(range(6), batch_size=2, shuffle=True)
        >>> batches = iter(loader)
        >>> _ = next(batches)
        >>> again = DataLoader(range(6), batch_size=2, shuffle=True)
        >>> again.load_state_dict(loader.state_dict())
        >>> [a.tolist() for a in again] == [b.tolist() for b in batches]
        True
        """
        if self._resume is not None:
            return self._resume.state_dict()
        if self._position is None or self._position.over:
            return Position.begin(self._start(), max(self.num_workers, 1), None).state_dict()
        return self._position.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a position given by `state_dict`: the next iterator gives the batches that remained, then come the same epochs.

        The loader must have been made like the one that was saved; only the number of workers may differ, where the dataset has
        an index. A stream without a ``state_dict`` of its own is skipped through.
        """
        position = Position.from_state(state)
        if self._streaming and len(position.taken) != max(self.num_workers, 1):
            msg = f"load_state_dict: the stream was read by {len(position.taken)} workers, this loader has {self.num_workers}"
            raise ValueError(msg)
        self._resume = position


def _pin(batch: Any) -> Any:
    """The batch with its tensors in page-locked memory, from where a copy to the GPU goes on beside other work."""
    return convert(batch, _pinned)


def _pinned(leaf: Any) -> Any:
    if type(leaf) is not Tensor or type(leaf._array) is not np.ndarray:
        return leaf
    array = leaf._array
    memory = cuda.cupy().cuda.alloc_pinned_memory(array.nbytes)
    copy = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
    copy[...] = array
    return Tensor(copy)
