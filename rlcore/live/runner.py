"""The live loop: acts at a fixed rate while a thread learns, and gives way by rule where it is late."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcore import checkpoint
from rlcore.config import Settings
from rlcore.errors import ConfigError, RlcoreError, RunError
from rlcore.live.clock import Clock
from rlcore.live.config import Hooks, LiveConfig, LiveResult, safe_action
from rlcore.live.figures import Account, Figures
from rlcore.live.learner import Learner, Snapshot, Spaces, load_policy, policy_of, prepare, prepare_to_act
from rlcore.living.history import said
from rlcore.living.plan import Plan
from rlcore.logging import Logger, Progress
from rlcore.runner import Runner, check_step, deferred_signals, one_line
from rlcore.types import Agent, Sensors, State, Step, World
from tensor.structure import Adwin
from tensor.utils.turns import short_turns

__all__ = ["LiveRunner"]

#: Seconds before an action is due from which the learner begins no step; at most half the time between two actions.
_GUARD = 0.003
#: Seconds before an action is due at which the newest policy is taken over.
_ADOPT = 0.0015
#: Seconds for which a thread may keep the interpreter while another waits; Python's own is 5 ms.
_SWITCH = 2e-4
#: Ticks that are made up for at most; after a longer pause the clock is set anew.
_MAKE_UP = 20


class LiveRunner:
    """Acts on one world in real time while it learns.

    Where time is short, this gives way, in this order: learning rests for a tick; the world goes on with the action before; the
    safe action is given where the observation is older than ``max_age``; the watchdog raises its alarm.

    Args:
        settings: the configuration, stored in every checkpoint.
        config: the rates.
        learner: the agent that learns.
        actor: another of the same kind, which acts by what the first one publishes.
        world: with one environment. Where it has ``sensors`` (`rlcore.types.Sensors`) its ``step`` waits for the next
            observation; else it is stepped at the rate of the configuration.
        path: the checkpoint file.
        hooks: who else has a say.
        plan: when and how the agent's networks change.
        make_actor: makes another actor, from a number that says how many there were, for when the networks have changed.
    """

    def __init__(
        self,
        settings: Settings,
        config: LiveConfig,
        learner: Agent,
        actor: Agent,
        world: World,
        path: Path,
        hooks: Hooks | None = None,
        plan: Plan | None = None,
        make_actor: Callable[[int], Agent] | None = None,
    ) -> None:
        if world.num_envs != 1:
            message = f"num_envs: expected 1 for a live run, got {world.num_envs}"
            raise ConfigError(message)
        self.config, self.hooks = config, hooks or Hooks()
        self._base = Runner(settings, learner, world, path, plan)
        self._actor, self._agent, self._world = actor, learner, world
        self._sensors: Sensors | None = None
        self._safe = _safe_action(world)
        self._thread = Learner(
            learner, capacity=config.backlog, save=self._save, life=self._base.life, make_actor=make_actor
        )  # fmt: skip
        self._told = 0  # of the learner's events
        self._spaces = self._acts_in = Spaces.of(world)  # of the observation at hand, and those that the actor knows
        self._observation = np.zeros((1, *world.observation_space.shape), np.float32)
        self._total, self._interval = Account(), Account()
        self._adwin, self._second = Adwin(), [0.0, 0]
        self._acted_at = 0.0
        self._alarms = 0

    def begin(self) -> None:
        """Start the first episode and write the first checkpoint; raises as `Runner.begin`."""
        self._prepare()
        self._base.begin()

    def restore(self, state: State, *, same_plan: bool = True) -> bool:
        """Continue from a checkpoint; returns whether the episode under way continues too. Raises as `Runner.restore`."""
        goes_on = self._base.restore(state, same_plan=same_plan)
        load_policy(self._actor, policy_of(self._agent))
        self._prepare()
        return goes_on

    def _prepare(self) -> None:
        prepare(self._agent)
        prepare_to_act(self._actor)

    # --- the loop -----------------------------------------------------------------------------------------------

    def run(self, loggers: Sequence[Logger], progress: Progress, *, seconds: float = 0.0) -> LiveResult:
        """Act and learn for the configured minutes, until a signal or a hook says stop.

        Args:
            loggers: take a record for every interval.
            progress: shows how it goes.
            seconds: of the run before this session, for the records.

        Raises:
            WorldError: the environment raised, or gave NaN or a wrong shape.
            RunError: the agent raised. In both cases what was learnt is saved.
            SaveError: a checkpoint or log could not be written.
        """
        intervals: list[Figures] = []
        if self._base.observation is None:
            message = "call begin() or restore() before run()"
            raise RuntimeError(message)
        self._observation = self._base.observation
        self._spaces = self._acts_in = Spaces.of(self._world)
        self._safe = _safe_action(self._world)
        self._sensors = getattr(self._world, "sensors", None)
        if self._sensors is not None and self._sensors.rate != self.config.hz:
            message = f"hz: expected {self._sensors.rate:g}, the rate of {self._base.settings.run.env}, got {self.config.hz:g}"
            raise ConfigError(message)
        progress.start(self._base.tally.steps, self._base.settings.run.steps)
        with deferred_signals() as received, short_turns(_SWITCH), _lasting(), self._watchdog():
            self._thread.start(self._spaces)
            start = time.perf_counter()
            reason = "an error"
            try:
                with _preferred(self.config.priority):
                    reason = self._loop(loggers, progress, received, intervals, start, seconds)
            finally:
                self._request_save()
                self._thread.stop()
        self._raise_learner_error()
        if self._interval.figures.ticks or self._told < len(self._thread.events):
            intervals.append(self._report(loggers, progress, time.perf_counter() - start + seconds))
        return LiveResult(
            figures=self._total.close(self._thread, time.perf_counter() - start, self._alarms),
            intervals=intervals,
            steps=self._base.tally.steps,
            seconds=time.perf_counter() - start,
            reason=reason,
            checkpoint=self._base.path,
            signal=received[0] if received else None,
        )

    def _loop(
        self,
        loggers: Sequence[Logger],
        progress: Progress,
        received: list[int],
        intervals: list[Figures],
        start: float,
        earlier: float,
    ) -> str:
        config, thread, sensors = self.config, self._thread, self._sensors
        load_policy(self._actor, thread.snapshot.policy)
        self._act()  # whatever the first time takes, it takes before the clock starts
        if sensors is not None:  # what came since the reset is old by now
            self._go_on(self._step(self._safe))
        clock = Clock(config.hz)
        clock.start()
        guard = min(_GUARD, clock.period / 2)
        end = start + config.minutes * 60
        next_log, next_save = start + config.log_seconds, start + config.save_seconds
        next_show = start + min(progress.interval, 1.0)
        self._acted_at = observed = time.perf_counter()
        version, passed, missed = -1, 0, 0 if sensors is None else sensors.missed
        while True:
            now = time.perf_counter()
            if received:
                return "a signal"
            if now >= end:
                return "the time is over"
            self._raise_learner_error()
            if sensors is None:
                clock.wait(_ADOPT)
            else:
                clock.due = now - (time.time_ns() - sensors.moment) / 1e9
            snapshot = thread.snapshot
            if snapshot.version != version:
                self._adopt(snapshot)
                version = snapshot.version
            if sensors is None:
                clock.wait()
            due = clock.due
            action, kind = self._choose(observed)
            self._acted_at = ready = time.perf_counter()
            late = ready - due > config.deadline
            if sensors is not None:  # its step waits: this is the time for learning, but for whoever was late
                thread.run_until(0.0 if late or passed else due + clock.period - guard)
            step = self._step(action)
            observed = time.perf_counter()
            for account in (self._total, self._interval):
                account.tick(kind, ready - due, late, ready - snapshot.learnt_at)
            self._learn_from(action, step, usable=kind != "safe")
            if sensors is None:
                passed = clock.advance()
                self._make_up(action, passed, usable=kind != "safe")
                thread.run_until(0.0 if late or passed else clock.due - guard)
            else:
                missed, before = sensors.missed, missed
                passed = max(missed - before, 0)
            if passed:
                self._total.held(passed)
                self._interval.held(passed)
            now = time.perf_counter()
            if now >= next_log:
                intervals.append(self._report(loggers, progress, now - start + earlier))
                next_log = max(next_log + config.log_seconds, now)
                reason = self.hooks.stop(intervals[-1]) if self.hooks.stop is not None else None
                if reason:
                    return reason
            if now >= next_save:
                if not thread.saving:
                    self._request_save()
                next_save = now + config.save_seconds
            if now >= next_show:
                mean = self._base.tally.mean_return
                progress.update(self._base.tally.steps, self._total.figures.ticks / (now - start), mean)
                next_show = now + progress.interval

    def _choose(self, observed: float) -> tuple[NDArray[Any], str]:
        """An action, and who chose it."""
        if self.hooks.stale is not None and self.hooks.stale():
            return self._safe, "safe"
        if self._sensors is not None and self._sensors.age > self.config.max_age:
            return self._safe, "safe"
        action = self._act()
        if self.hooks.take_over is not None:
            taken = self.hooks.take_over(self._observation[0], action[0])
            if taken is not None:
                return np.asarray(taken, action.dtype)[None], "person"
        if time.perf_counter() - observed > self.config.max_age + 1 / self.config.hz:
            return self._safe, "safe"
        return action, "agent"

    def _adopt(self, snapshot: Snapshot) -> None:
        """Act by what was learnt; where networks have changed, with the agent that was made for them."""
        if snapshot.actor is not None:
            self._actor = snapshot.actor
        if snapshot.spaces is not None:
            self._acts_in = snapshot.spaces
        load_policy(self._actor, snapshot.policy)

    def _act(self) -> NDArray[Any]:
        # Where the world has more sensors or actions than the actor knows: they come last.
        known = self._observation[:, : self._acts_in.observation.shape[0]]
        try:
            return self._whole(self._actor.act(known))
        except Exception as error:
            run = self._base.settings.run
            message = f"agent {run.agent} on {self._base.where}: {one_line(error)}"
            raise RunError(message) from error

    def _whole(self, action: NDArray[Any]) -> NDArray[Any]:
        """An action with all parts that the world takes; what the actor does not know of is left alone."""
        if action.ndim < 2 or action.shape[1] == self._safe.shape[1]:
            return action
        return np.concatenate([action, self._safe[:, action.shape[1] :].astype(action.dtype)], 1)

    def _step(self, action: NDArray[Any]) -> Step:
        try:
            step = self._world.step(action)
            check_step(step, (1, *self._world.observation_space.shape))
        except Exception as error:
            raise self._base.world_error(error) from error.__cause__ or error
        return step

    def _make_up(self, action: NDArray[Any], passed: int, *, usable: bool) -> None:
        """The world went on with the action before for so many ticks: so does ours, which only goes on when it is stepped."""
        for _ in range(min(passed, _MAKE_UP)):
            action = self._whole(action)
            self._learn_from(action, self._step(action), usable=usable)

    def _learn_from(self, action: NDArray[Any], step: Step, *, usable: bool) -> None:
        tally = self._base.tally
        if step.valid[0]:
            tally.steps += 1
        tally.add_episodes(step.episodes)
        if self.config.learning:
            if usable:
                # Where a space has grown just now, this is still a transition of the old one: what is new comes last.
                after = step.next_observation[:, : self._observation.shape[1]]
                taken = (self._observation, action, step.reward, after, *step[3:6])
                self._thread.give(taken, steps=tally.steps, spaces=self._spaces, episodes=step.episodes)
            else:
                self._thread.gap(step.episodes)
        self._go_on(step)
        reward = float(step.reward[0])
        self._second[0] += reward
        self._second[1] += 1
        drift = False
        if self._second[1] >= self.config.hz:
            drift = self._adwin.update(self._second[0] / self._second[1])
            self._second = [0.0, 0]
        for account in (self._total, self._interval):
            account.figures.reward += reward
            account.figures.drifts += drift

    def _go_on(self, step: Step) -> None:
        """Take where a step led as what to act on next."""
        self._observation = self._base.observation = step.observation
        if not self._spaces.still(self._world):
            self._spaces, self._safe = Spaces.of(self._world, self._base.tally.steps), _safe_action(self._world)

    # --- what is said and kept ----------------------------------------------------------------------------------

    def _report(self, loggers: Sequence[Logger], progress: Progress, seconds: float) -> Figures:
        tally = self._base.tally
        for events in self._thread.events[self._told :]:
            self._told += 1
            tally.add_edits(events.edits, events.outcomes)
            for event in events.edits:
                progress.message(said(event))
        figures = self._interval.close(self._thread, seconds - self._interval.since, self._alarms)
        self._interval = Account(since=seconds, before=(self._thread.learnt, self._thread.lost, self._alarms))
        while self._thread.metrics:
            tally.add_metrics(self._thread.metrics.popleft())
        tally.add_metrics({f"live/{name}": float(value) for name, value in figures.to_json().items()})
        record = tally.take_record(seconds)
        for logger in loggers:
            logger.log(record)
        return figures

    def _request_save(self) -> None:
        """Have the learner save, with what belongs to this thread as it is now."""
        base = self._base
        metadata = {**base.figures(), "live": {"hz": self.config.hz}}
        beside = {"world": self._world.state_dict(), "tally": base.tally.state_dict(), "metadata": metadata}
        self._thread.request_save({**beside, "told": self._told}, spaces=self._spaces)

    def _save(self, agent: State, beside: dict[str, Any]) -> None:
        """In the learner's thread, to which agent and life belong."""
        tally, events = beside["tally"], self._thread.events[beside["told"] :]
        for kept, new in zip(tally["events"], ([e.edits for e in events], [e.outcomes for e in events]), strict=True):
            kept += [dict(event) for some in new for event in some]
        state = {"agent": agent, "world": beside["world"], "tally": tally, "life": self._base.life.state_dict()}
        checkpoint.save(self._base.path, state, {**beside["metadata"], **self._base.networks()})

    def _raise_learner_error(self) -> None:
        error = self._thread.error
        if error is None:
            return
        self._thread.error = None
        if isinstance(error, RlcoreError):
            raise error
        run = self._base.settings.run
        message = f"agent {run.agent} on {self._base.where}: {one_line(error)}"
        raise RunError(message) from error

    @contextlib.contextmanager
    def _watchdog(self) -> Iterator[None]:
        ended = threading.Event()

        def watch() -> None:
            seen = 0.0
            while not ended.wait(self.config.watchdog / 4):
                silent = time.perf_counter() - self._acted_at
                if self._acted_at and silent > self.config.watchdog and self._acted_at != seen:
                    seen = self._acted_at  # once for each silence
                    self._alarms += 1
                    if self.hooks.on_watchdog is not None:
                        self.hooks.on_watchdog(silent)

        thread = threading.Thread(target=watch, name="rlcore.live.watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@contextlib.contextmanager
def _preferred(wanted: bool) -> Iterator[None]:
    """Run this thread before those of all processes without such a wish; threads that are there already stay as they are."""
    if not wanted:
        yield
        return
    try:
        before = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except (AttributeError, PermissionError) as error:
        message = "priority: this system does not grant it; expected Linux and the right CAP_SYS_NICE"
        raise ConfigError(message) from error
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def _safe_action(world: World) -> NDArray[Any]:
    return np.asarray(getattr(world, "safe_action", safe_action(world.action_space)))[None]


@contextlib.contextmanager
def _lasting() -> Iterator[None]:
    """Have the collector of garbage leave alone what is there for good."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
