"""The learner's thread: takes steps from the acting thread, learns, publishes what it has learnt, saves."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from rlcore.types import Agent, Metrics, State

__all__ = ["Learner", "Snapshot", "load_policy", "policy_of"]

#: Seconds without a step after which the thread looks whether it is to end.
_IDLE = 0.1
#: Seconds between two looks whether quiet is over.
_QUIET = 5e-4
#: Metrics kept for whoever collects them.
_METRICS = 10_000


class Snapshot(NamedTuple):
    """What an agent acts by, as it was at one moment. Nobody writes to it after it was published."""

    version: int
    learnt_at: float  #: `time.perf_counter` when the newest step in it was learnt from
    policy: State


class Learner:
    """Learns in a thread of its own from steps that `give` hands over.

    The acting thread never waits for it: `give` appends to a bounded queue (where it is full the oldest step is dropped, and
    counted), and `snapshot` is one attribute. Before each step the thread looks whether it is to be quiet, so that a short step
    never runs into the moment of acting.

    Args:
        agent: what learns; belongs to this thread from `start` until `stop` has returned.
        capacity: steps that may wait.
        save: called in this thread with the agent's state and what `request_save` was given.
    """

    def __init__(self, agent: Agent, *, capacity: int, save: Callable[[State, Any], None]) -> None:
        self._agent, self._save, self._capacity = agent, save, capacity
        self._steps: deque[tuple[Any, ...] | None] = deque()  # None: the steps before and after are not neighbours
        self._request: Any = None
        self._wake = threading.Event()
        self._stopping = False
        self._until = float("inf")
        self._thread = threading.Thread(target=self._run, name="rlcore.live.learner", daemon=True)
        self.learnt = self.lost = 0
        self.metrics: deque[Metrics] = deque(maxlen=_METRICS)  #: of each update, to be taken out by the reader
        self.error: Exception | None = None  #: what ended the thread
        self.snapshot: Snapshot  #: what was published last; from `start` on

    # --- called by the acting thread ----------------------------------------------------------------------------

    def start(self) -> None:
        """Publish what the agent knows by now, and begin to learn."""
        self.snapshot = Snapshot(0, time.perf_counter(), policy_of(self._agent))
        self._thread.start()

    def give(self, step: tuple[Any, ...]) -> None:
        """Hand over a step, as the arguments of `Agent.observe`, which nobody writes to any more."""
        if len(self._steps) >= self._capacity:
            self._drop()
        self._steps.append(step)
        self._wake.set()

    def _drop(self) -> None:
        try:
            while self._steps.popleft() is None:
                pass
        except IndexError:  # the thread was faster
            return
        self._steps.appendleft(None)
        self.lost += 1

    def gap(self) -> None:
        """The next step does not follow on the last."""
        self._steps.append(None)

    def run_until(self, moment: float) -> None:
        """Begin no step from a moment (of `time.perf_counter`) on, until this is called again with a later one."""
        self._until = moment

    def request_save(self, extra: Any) -> None:
        """Save between two steps; ``extra`` is handed on."""
        self._request = extra
        self._wake.set()

    @property
    def backlog(self) -> int:
        """Steps that wait."""
        return len(self._steps)

    def stop(self) -> None:
        """Learn from what waits, save if that was asked for, and end the thread."""
        self._until = float("inf")
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    # --- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                self._wake.wait(_IDLE)
                self._wake.clear()
                while self._steps:
                    self._keep_quiet()
                    self._learn(self._steps.popleft())
                if self._request is not None:
                    extra, self._request = self._request, None
                    self._save(self._agent.state_dict(), extra)
                if self._stopping and not self._steps and self._request is None:
                    return
        except Exception as error:  # raised again by whoever acts
            self.error = error

    def _keep_quiet(self) -> None:
        while time.perf_counter() >= self._until:
            time.sleep(_QUIET)

    def _learn(self, step: tuple[Any, ...] | None) -> None:
        if step is None:
            self._agent.interrupt()
            return
        self._agent.observe(*step)
        metrics = self._agent.learn()
        self.learnt += 1
        if metrics is None:
            return
        self.metrics.append(metrics)
        if not self._steps:  # only what the next action will be chosen by is worth a copy
            self.snapshot = Snapshot(self.snapshot.version + 1, time.perf_counter(), policy_of(self._agent))


def policy_of(agent: Agent) -> State:
    """What the agent acts by, as copies; its whole state where it cannot say."""
    return getattr(agent, "policy", agent.state_dict)()


def load_policy(agent: Agent, policy: State) -> None:
    """Let an agent act by what `policy_of` gave."""
    getattr(agent, "load_policy", agent.load_state_dict)(policy)
