"""One epoch of a loader, made by workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from tensor.data.fetch import END
from tensor.data.pool import ENDED, Failure, Pool, Worker
from tensor.data.position import Position

__all__ = ["InWorkers"]


class InWorkers:
    """Keeps workers busy, and takes their batches in turn: batch n comes from worker n modulo their number.

    So the order depends on nothing that a clock decides. A stream that is through loses its turns.
    """

    def __init__(
        self, pool: Pool, tasks: Iterator[Any], position: Position, *, timeout: float | None, prefetch: int, keep: bool
    ) -> None:
        self._pool, self._tasks, self._position, self._timeout, self._keep = pool, tasks, position, timeout, keep
        self._epoch = pool.begin_epoch()
        count = len(pool.workers)
        in_turn = [(position.turn + i) % count for i in range(count)]
        self._active: deque[Worker] = deque(pool.workers[w] for w in in_turn if not position.ended[w])
        try:
            for worker in self._active:
                w = worker.number
                worker.begin(position.base_seed, position.taken[w], position.datasets[w])
            for _ in range(prefetch):
                for worker in self._active:
                    self._submit(worker)
        except BaseException:
            pool.close()
            raise

    def __iter__(self) -> InWorkers:
        return self

    def __next__(self) -> Any:
        active, position = self._active, self._position
        if active:
            self._pool.check(self._epoch)
        while active:
            worker = active[0]
            if not worker.outstanding:  # the order is through: no task was left for it
                active.popleft()
                continue
            try:
                batch, state, through = worker.receive(self._timeout)
                w = worker.number
                if batch is ENDED:
                    position.ended[w] = True
                    active.popleft()
                    position.turn = active[0].number if active else 0
                    continue
                active.rotate(-1)
                self._submit(worker)
            except BaseException:  # a dead worker, a timeout, Ctrl-C: none leaves a process behind
                self._pool.close()
                raise
            position.taken[w] += 1
            position.datasets[w] = state
            position.ended[w] = through
            position.turn = active[0].number
            if type(batch) is Failure:
                raise batch.error
            return batch
        position.over = True
        if not self._keep:
            self._pool.close()
        raise StopIteration

    def _submit(self, worker: Worker) -> None:
        indices = next(self._tasks, END)
        if indices is not END:
            worker.submit(indices)
