"""The worker processes as the main process sees them: started, given tasks, listened to, and always ended."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
import time
import weakref
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from typing import Any, NoReturn

from tensor.data.channel import Channel
from tensor.data.fetch import Recipe
from tensor.data.memory import Block, Lender
from tensor.data.parcel import Parcel
from tensor.data.worker import BATCH, EPOCH, ERROR, TASK, serve

__all__ = ["ENDED", "Failure", "Pool", "Worker"]

#: What `Worker.receive` gives where the worker's stream is through.
ENDED = object()

#: Blocks a worker has beyond those of batches under way: the batches that the user may hold without copying them.
_SPARE = 2

#: Seconds that workers have to finish what they are doing, before they are told by a signal.
_GRACE = 2.0

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Failure:
    """An error of a worker, as it is to be raised."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Worker:
    """One worker process: a channel to it, and its blocks."""

    def __init__(self, number: int, count: int, parcel: Parcel, prefetch: int) -> None:
        self.number = number
        self.outstanding = 0
        near, far = socket.socketpair()
        blocks = [Block() for _ in range(prefetch + _SPARE)]
        self._lender = Lender(blocks, _SPARE)
        self._channel = Channel(near)
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(
            target=serve, args=(number, count, far, blocks, parcel), name=f"DataLoader worker {number}", daemon=True
        )
        try:
            with _quietly():
                self.process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as e:
            self.close()
            msg = f"DataLoader: what goes to a worker (dataset, collate_fn, worker_init_fn) must be picklable, but: {e}"
            raise pickle.PicklingError(msg) from e
        except BaseException:
            self.close()
            raise
        finally:
            far.close()  # else its end would not be seen when the worker dies

    def begin(self, base_seed: int, taken: int, state: Any) -> None:
        """Begin an epoch, ``taken`` batches of which have been taken before."""
        while self.outstanding:  # what the last epoch left behind
            self._lender.free(self._reply(None)[1])
        self._send((EPOCH, base_seed, taken, state))

    def submit(self, indices: Any) -> None:
        """Ask for a batch."""
        self._send((TASK, self._lender.take(), indices))
        self.outstanding += 1

    def receive(self, timeout: float | None) -> tuple[Any, Any, bool]:
        """The next batch in the order they were asked for, or ENDED, or a Failure.

        With the dataset's state after it, and whether the stream is through with it.
        """
        what, block, *rest = self._reply(timeout)
        if what == BATCH:
            size, used, packed, state, through = rest
            return self._lender.open(block, packed, size, used), state, through
        self._lender.free(block)
        return (Failure(self._error(*rest)) if what == ERROR else ENDED), None, False

    def _send(self, message: Any) -> None:
        try:
            self._channel.send(pickle.dumps(message))
        except BrokenPipeError:
            self._raise_death()

    def _reply(self, timeout: float | None) -> Any:
        try:
            message = self._channel.receive(timeout)
        except TimeoutError:
            msg = f"DataLoader: timed out, no batch from worker {self.number} (pid {self.process.pid}) in {timeout:g} s"
            raise RuntimeError(msg) from None
        if message is None:
            self._raise_death()
        self.outstanding -= 1
        return pickle.loads(message)

    def _error(self, described: bytes) -> Exception:
        error, trace = pickle.loads(described)
        error.add_note(f"Raised in DataLoader worker {self.number} (pid {self.process.pid}). Its traceback:\n\n{trace}")
        return error  # type: ignore[no-any-return]

    def _raise_death(self) -> NoReturn:
        self.process.join(_GRACE)
        code = self.process.exitcode
        who = f"DataLoader: worker {self.number} (pid {self.process.pid})"
        if code is None:
            msg = f"{who} hung up"
        elif code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            hint = "; the system does that when it runs out of memory" if name == "SIGKILL" else ""
            msg = f"{who} was killed by signal {name}{hint}"
        else:
            msg = (
                f"{who} exited with code {code}, see its output above; a script that uses workers must start its work "
                "under `if __name__ == '__main__':`, since each worker imports it"
            )
        raise RuntimeError(msg) from None

    def close(self) -> None:
        """Hang up; the worker ends when it notices."""
        self._channel.close()
        for block in self._lender.blocks:
            block.close()

    def join(self, deadline: float) -> None:
        """Wait for the end of the process, and from ``deadline`` on bring it about."""
        for end in (None, self.process.terminate, self.process.kill):
            if end is not None:
                end()
                deadline = time.monotonic() + _GRACE
            self.process.join(max(0.0, deadline - time.monotonic()))
            if self.process.exitcode is not None:
                break
        self.process.close()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """What a starting process inherits: one thread for arithmetic, and deaf to Ctrl-C, at which it would print a traceback."""
    resource_tracker.ensure_running()  # else starting it, within, would undo the mask
    added = [name for name in _ONE_THREAD if name not in os.environ]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Pool:
    """All workers of a loader. They end with the last reference to it, if not before."""

    def __init__(self, recipe: Recipe, worker_init_fn: Callable[[int], None] | None, count: int, prefetch: int) -> None:
        self._epoch = 0
        self.workers: list[Worker] = []
        self._end = weakref.finalize(self, _end, self.workers, os.getpid())
        parcel = Parcel((recipe, worker_init_fn))
        try:
            for number in range(count):
                self.workers.append(Worker(number, count, parcel, prefetch))
        except BaseException:
            self.close()
            raise
        finally:
            parcel.close()

    @property
    def closed(self) -> bool:
        """Whether the workers have been ended."""
        return not self._end.alive

    def begin_epoch(self) -> int:
        """Number a new epoch; the one before is over."""
        self._epoch += 1
        return self._epoch

    def check(self, epoch: int) -> None:
        """RuntimeError where an epoch's workers are gone: a newer one has them, or something went wrong with them."""
        if epoch != self._epoch:
            msg = "DataLoader: this iterator is over, a newer one has taken its persistent workers"
            raise RuntimeError(msg)
        if self.closed:
            msg = "DataLoader: the workers have ended, after an error that was raised before"
            raise RuntimeError(msg)

    def close(self) -> None:
        """End all workers; returns when they have ended."""
        self._end()


def _end(workers: list[Worker], owner: int) -> None:
    if os.getpid() != owner:  # a fork of the main process has no say in it
        return
    for worker in workers:
        worker.close()
    deadline = time.monotonic() + _GRACE
    for worker in workers:
        worker.join(deadline)
