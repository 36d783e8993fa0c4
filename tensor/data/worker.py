"""What runs in a worker process: it makes the batches it is told to, until the main process hangs up or dies."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import threading
import traceback
from functools import partial
from multiprocessing import connection, process
from typing import Any

from tensor.data.channel import Channel
from tensor.data.collate import collate, default_collate
from tensor.data.fetch import END, Fetcher, Recipe
from tensor.data.info import WorkerInfo, become
from tensor.data.memory import Arena, Block
from tensor.data.parcel import Delivery
from tensor.data.seeds import Streams

__all__ = ["BATCH", "ENDED", "EPOCH", "ERROR", "TASK", "serve"]

#: What the main process says: (EPOCH, base seed, batches taken before, dataset's state), (TASK, block, indices).
EPOCH, TASK = range(2)
#: What a worker says: (BATCH, block, its size, bytes used, packed batch, dataset's state, whether its stream is through),
#: (ENDED, block), (ERROR, block, description).
BATCH, ENDED, ERROR = range(3)


def serve(number: int, count: int, endpoint: socket.socket, blocks: list[Block], parcel: Delivery) -> None:
    """The main function of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process' affair: it hangs up
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_die_with_the_parent, daemon=True).start()
    with contextlib.suppress(BrokenPipeError):
        _Worker(number, count, Channel(endpoint), blocks, parcel).run()


def _die_with_the_parent() -> None:
    """However the parent dies and whatever this process is busy with, it does not outlive it."""
    parent = process.parent_process()
    pid = os.getppid()
    # The second is for a parent whose end of the pipe lives on in some other child of it.
    while parent is not None and not connection.wait([parent.sentinel], timeout=1) and os.getppid() == pid:
        pass
    os._exit(1)


class _Worker:
    def __init__(self, number: int, count: int, channel: Channel, blocks: list[Block], parcel: Delivery) -> None:
        self._number, self._count, self._channel, self._blocks, self._parcel = number, count, channel, blocks, parcel
        self._arena = Arena()
        self._streams = Streams()
        self._recipe: Recipe | None = None
        self._fetcher: Fetcher | None = None
        self._taken = 0
        self._failure: bytes | None = None

    def run(self) -> None:
        while (message := self._channel.receive()) is not None:
            what, *rest = pickle.loads(message)
            if what == TASK:
                self._channel.send(self._answer(*rest))
            else:
                self._begin(*rest)

    def _begin(self, base_seed: int, taken: int, state: Any) -> None:
        """Begin an epoch. What fails is the answer to all that is asked of it."""
        self._taken, self._failure = taken, None
        try:
            self._streams.start(base_seed, self._number)
            recipe = self._introduce(base_seed)
            # Only the library's own function writes straight into the block: nobody else can keep what will be overwritten.
            own = recipe.collate_fn is default_collate
            self._fetcher = recipe.fetcher(partial(collate, empty=self._arena.empty) if own else recipe.collate_fn, state)
            if state is None:
                for batch in range(taken):
                    self._streams.at(batch * self._count + self._number)
                    self._fetcher.skip()
        except Exception as e:
            self._failure = _describe(e)

    def _introduce(self, base_seed: int) -> Recipe:
        """What to make batches of, from the parcel in the first epoch; `get_worker_info` knows of it."""
        worker_init_fn = None
        recipe = self._recipe
        if recipe is None:
            recipe, worker_init_fn = self._parcel.open()
        become(WorkerInfo(self._number, self._count, base_seed + self._number, recipe.dataset))
        if worker_init_fn is not None:
            self._streams.watch()
            worker_init_fn(self._number)
            self._streams.leave_what_changed()
        self._recipe = recipe
        return recipe

    def _answer(self, number: int, indices: Any) -> bytes:
        if self._failure is not None or self._fetcher is None:
            return pickle.dumps((ERROR, number, self._failure))
        block = self._blocks[number]
        self._arena.begin(block)
        self._streams.at(self._taken * self._count + self._number)
        self._taken += 1
        try:
            batch = self._fetcher.fetch(indices)
            if batch is END:
                return pickle.dumps((ENDED, number))
            packed = self._arena.pack(batch)
            state, through = self._fetcher.state(), self._fetcher.through
            return pickle.dumps((BATCH, number, block.size, self._arena.used, packed, state, through))
        except Exception as e:
            return pickle.dumps((ERROR, number, _describe(e)))


def _describe(error: Exception) -> bytes:
    """The error with its traceback as text; only the text where the error cannot be pickled and unpickled."""
    trace = "".join(traceback.format_exception(error))
    try:
        pickled = pickle.dumps((error, trace))
        pickle.loads(pickled)
    except Exception:
        return pickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), trace))
    return pickled
