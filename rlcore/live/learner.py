"""The learner's thread: takes steps from the acting thread, learns, edits networks, publishes what it has learnt, saves."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Space

from rlcore.living.history import drawing_from
from rlcore.living.life import Events, Life
from rlcore.types import Agent, EpisodeEnd, Metrics, State, World

__all__ = ["Learner", "Snapshot", "Spaces", "load_policy", "policy_of", "prepare", "prepare_to_act"]

#: Seconds without a step after which the thread looks whether it is to end.
_IDLE = 0.1
#: Seconds between two looks whether quiet is over.
_QUIET = 5e-4
#: Metrics kept for whoever collects them.
_METRICS = 10_000


class Spaces(NamedTuple):
    """What a world shows and takes, for as long as that stays so."""

    observation: Box
    action: Space[Any]
    since: int = 0  #: the run's step

    @classmethod
    def of(cls, world: World, since: int = 0) -> Spaces:
        """A world's at this moment."""
        return cls(world.observation_space, world.action_space, since)

    def still(self, world: World) -> bool:
        """Whether they have not changed since."""
        return world.observation_space is self.observation and world.action_space is self.action


class Snapshot(NamedTuple):
    """What an agent acts by, as it was at one moment. Nobody writes to it after it was published."""

    version: int
    learnt_at: float  #: `time.perf_counter` when the newest step in it was learnt from
    policy: State
    actor: Agent | None = None  #: made for networks that have changed, belongs to who acts; None: the one of the beginning
    spaces: Spaces | None = None  #: that the policy is for; None: those of the beginning


class _Given(NamedTuple):
    """A step as it is handed over."""

    number: int  #: one more than that of the step before, where the two are neighbours
    step: tuple[Any, ...]
    steps: int
    spaces: Spaces | None
    episodes: tuple[EpisodeEnd, ...]


class _Request(NamedTuple):
    """A wish to save what was learnt from all steps up to a number."""

    number: int
    spaces: Spaces | None
    beside: Any


class Learner:
    """Learns in a thread of its own from steps that `give` hands over.

    The acting thread never waits for it: `give` appends to a bounded queue (where it is full the oldest step is dropped, and
    counted), and `snapshot` is one attribute. Before each step the thread looks whether it is to be quiet, so that a short step
    never runs into the moment of acting.

    Where networks change, an agent that acts by the new ones is made and warmed up in this thread, too, and published when it is
    ready: until then the old one acts.

    Args:
        agent: what learns; belongs to this thread from `start` until `stop` has returned.
        capacity: steps that may wait.
        save: called in this thread with the agent's state and what `request_save` was given.
        life: of the agent's networks; belongs to this thread as the agent does.
        make_actor: makes an agent of the same kind as at its beginning, from a seed.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        capacity: int,
        save: Callable[[State, Any], None],
        life: Life | None = None,
        make_actor: Callable[[int], Agent] | None = None,
    ) -> None:
        self._agent, self._save, self._capacity = agent, save, capacity
        self._life, self._make_actor = life, make_actor
        self._steps: deque[_Given] = deque()
        self._requests: deque[_Request] = deque()
        self._number = self._last = 0  # of the steps given, and of the last that was learnt from
        self._late: tuple[EpisodeEnd, ...] = ()  # of steps that were not learnt from: told with the next one
        self._spaces: Spaces | None = None  # that the agent was made or changed for
        self._actors = 0
        self._wake = threading.Event()
        self._stopping = False
        self._until = float("inf")
        self._thread = threading.Thread(target=self._run, name="rlcore.live.learner", daemon=True)
        self.learnt = self.lost = 0
        self.metrics: deque[Metrics] = deque(maxlen=_METRICS)  #: of each update, to be taken out by the reader
        self.events: list[Events] = []  #: of the agent's networks, in this session
        self.error: Exception | None = None  #: what ended the thread
        self.snapshot: Snapshot  #: what was published last; from `start` on

    # --- called by the acting thread ----------------------------------------------------------------------------

    def start(self, spaces: Spaces | None = None) -> None:
        """Publish what the agent knows by now, for the world's spaces as they are, and begin to learn."""
        self._spaces = spaces
        self.snapshot = Snapshot(0, time.perf_counter(), policy_of(self._agent), None, spaces)
        self._thread.start()

    def give(
        self, step: tuple[Any, ...], *, steps: int = 0, spaces: Spaces | None = None, episodes: tuple[EpisodeEnd, ...] = ()
    ) -> None:
        """Hand over a step, as the arguments of `Agent.observe`, which nobody writes to any more.

        Args:
            step: the arguments.
            steps: of the run, with this one.
            spaces: in which it was taken.
            episodes: that ended with it.
        """
        if len(self._steps) >= self._capacity:
            self._drop()
        self._number += 1
        self._steps.append(_Given(self._number, step, steps, spaces, self._late + episodes))
        self._late = ()
        self._wake.set()

    def _drop(self) -> None:
        try:
            dropped = self._steps.popleft()
        except IndexError:  # the thread was faster
            return
        self._late = dropped.episodes + self._late
        self.lost += 1

    def gap(self, episodes: tuple[EpisodeEnd, ...] = ()) -> None:
        """The next step does not follow on the last: one was not to be learnt from."""
        self._number += 1
        self._late += episodes

    def run_until(self, moment: float) -> None:
        """Begin no step from a moment (of `time.perf_counter`) on, until this is called again with a later one."""
        self._until = moment

    def request_save(self, beside: Any, *, spaces: Spaces | None = None) -> None:
        """Save once all steps given by now are learnt from, and before any later one; ``beside`` is handed on."""
        self._requests.append(_Request(self._number, spaces, beside))
        self._wake.set()

    @property
    def saving(self) -> bool:
        """Whether something asked for is still to be saved."""
        return bool(self._requests)

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
            while not (self._stopping and not self._steps and not self._requests):
                self._wake.wait(_IDLE)
                self._wake.clear()
                self._work()
        except Exception as error:  # raised again by whoever acts
            self.error = error

    def _work(self) -> None:
        """Learn from all that waits, and save at the steps at which that was asked for."""
        while True:
            asked = bool(self._requests)  # looked at first: by now all steps before the request are in the queue
            given = self._take()
            if given is None:
                if not asked:
                    return
                self._answer()
                continue
            while self._requests and self._requests[0].number < given.number:
                self._answer()
            self._learn(given)

    def _take(self) -> _Given | None:
        while self._steps and time.perf_counter() >= self._until:
            time.sleep(_QUIET)
        try:
            return self._steps.popleft()
        except IndexError:  # nothing there, or dropped while it was quiet
            return None

    def _answer(self) -> None:
        request = self._requests[0]
        self._adapt(request.spaces)
        self._save(self._agent.state_dict(), request.beside)
        self._requests.popleft()

    def _learn(self, given: _Given) -> None:
        agent, life = self._agent, self._life
        if given.number != self._last + 1:
            agent.interrupt()
        self._last = given.number
        self._adapt(given.spaces)
        agent.observe(*given.step)
        if life is not None:
            life.add_episodes(given.episodes)
        metrics = agent.learn()
        self.learnt += 1
        if metrics is not None:
            self.metrics.append(metrics)
            if life is not None:
                self._change(life, lambda: life.look(given.steps, metrics))
            if not self._steps:  # only what the next action will be chosen by is worth a copy
                self._publish()
        if life is not None:
            self._hear(life)

    # --- changing -----------------------------------------------------------------------------------------------

    def _adapt(self, spaces: Spaces | None) -> None:
        """Serve the spaces that a step was taken in."""
        life = self._life
        if spaces is None or life is None or spaces is self._spaces:
            return
        self._spaces = spaces
        self._change(life, lambda: life.adapt(*spaces))
        self._hear(life)

    def _change(self, life: Life, edit: Callable[[], None]) -> None:
        """Let networks be edited; if they were, have another agent act."""
        agent: Any = self._agent
        before = getattr(agent, "version", 0)
        edit()
        if getattr(agent, "version", 0) != before:
            self._publish(anew=True)
            prepare(agent)  # nobody waits for this thread, and what is not compiled is slow

    def _hear(self, life: Life) -> None:
        if not life.quiet:
            self.events.append(life.take_events())

    def _publish(self, *, anew: bool = False) -> None:
        policy, last = policy_of(self._agent), self.snapshot
        actor, learnt_at = last.actor, time.perf_counter()
        if anew and self._make_actor is not None:
            self._actors += 1
            with drawing_from(0):  # agents seed the library's generator, which is not theirs here
                actor = self._make_actor(self._actors)
            load_policy(actor, policy)
            prepare_to_act(actor, None if self._spaces is None else self._spaces.observation)
        self.snapshot = Snapshot(last.version + 1, learnt_at, policy, actor, self._spaces)


def policy_of(agent: Agent) -> State:
    """What the agent acts by, as copies; its whole state where it cannot say."""
    return getattr(agent, "policy", agent.state_dict)()


def load_policy(agent: Agent, policy: State) -> None:
    """Let an agent act by what `policy_of` gave."""
    getattr(agent, "load_policy", agent.load_state_dict)(policy)


def prepare(agent: Agent) -> None:
    """Do what would make an agent's first steps slow."""
    getattr(agent, "prepare", _nothing)()


def prepare_to_act(agent: Agent, observation_space: Box | None = None) -> None:
    """Do what would make an agent's first actions slow; and act once, where the observation's space is known."""
    getattr(agent, "prepare_to_act", getattr(agent, "prepare", _nothing))()
    if observation_space is not None:
        agent.act(np.zeros((1, *observation_space.shape), np.float32))


def _nothing() -> None:
    pass
