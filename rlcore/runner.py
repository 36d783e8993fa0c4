"""The loop: act, step, observe, learn; logged, checkpointed, and stopped without losing anything.

The runner knows agents and worlds by `rlcore.types` only. It draws no random number and reads no clock for anything
but display, so how often it logs and saves changes no result, and a resumed run is the same run bit for bit.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcore import checkpoint
from rlcore.config import Settings
from rlcore.errors import CheckpointError, RlcoreError, RunError, WorldError
from rlcore.living.history import said
from rlcore.living.life import Life
from rlcore.living.plan import Plan
from rlcore.logging import Logger, Progress
from rlcore.tally import Tally
from rlcore.types import Agent, State, Step, World

__all__ = ["Runner", "TrainResult", "check_step", "deferred_signals", "one_line"]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a session of training ended."""

    steps: int  #: of the whole run, over all sessions
    steps_per_s: float  #: of this session: the loop with its checkpoints, without imports and set-up
    episodes: int  #: finished in the whole run
    mean_return: float | None  #: of the last 100 training episodes; None where none has finished
    checkpoint: Path  #: the file
    signal: int | None  #: the signal that ended the session early, for example SIGINT; None where it ran to its end


class Runner:
    """Trains one agent on one world and keeps its checkpoint.

    Args:
        settings: the run's configuration; stored in every checkpoint.
        agent: the learner, fresh or about to be restored by `restore`.
        world: where it learns.
        path: the checkpoint file.
        plan: when and how the agent's networks change.

    Call `begin` or `restore`, then `run`.
    """

    def __init__(self, settings: Settings, agent: Agent, world: World, path: Path, plan: Plan | None = None) -> None:
        self.settings = settings
        self.life = Life(agent, plan, seed=settings.run.seed, num_envs=world.num_envs)
        self.life.check(world.observation_space)
        self.path = path
        self.tally = Tally()
        self._agent = agent
        self._world = world
        self.observation: NDArray[np.float32] | None = None  #: what to act on next; None before `begin` or `restore`

    def begin(self) -> None:
        """Start the first episodes and write the first checkpoint: from here on the run can be resumed.

        Raises:
            WorldError: the environment could not be reset.
            SaveError: the checkpoint could not be written.
        """
        self.observation = self._reset(self.settings.run.seed)
        self.save()

    def restore(self, state: State, *, same_plan: bool = True) -> bool:
        """Continue from a checkpoint's state; returns whether the episodes under way continue too.

        Where the environments cannot give their state, new episodes are begun, from a seed that depends only on the
        run's seed and step, so that resuming twice from the same checkpoint gives the same.

        Args:
            state: what `rlcore.checkpoint.load` gave.
            same_plan: False where the rules of `plan` are others than those of the checkpoint, and begin now.

        Raises:
            CheckpointError: the state does not fit this agent or world.
        """
        try:
            self.tally.load_state_dict(state["tally"])
            self._agent.load_state_dict(state["agent"])
            if "life" in state:
                self.life.load_state_dict(state["life"], same_plan=same_plan)
            self.observation = self._world.load_state_dict(state["world"])
        except RlcoreError:
            raise
        except Exception as error:
            run = self.settings.run
            message = f"{self.path}: does not fit agent {run.agent} on {run.env}: {one_line(error)}"
            raise CheckpointError(message) from error
        if self.observation is not None:
            return True
        self._agent.interrupt()
        sequence = np.random.SeedSequence([self.settings.run.seed, self.tally.steps])
        self.observation = self._reset(int(sequence.generate_state(1)[0]))
        self.tally.add_metrics({"resume/episodes_restarted": 1.0})
        return False

    def save(self) -> None:
        """Write the checkpoint.

        Raises:
            SaveError: it could not be written; the previous one is whole.
        """
        state = {
            "agent": self._agent.state_dict(),
            "world": self._world.state_dict(),
            "tally": self.tally.state_dict(),
            "life": self.life.state_dict(),
        }
        checkpoint.save(self.path, state, self.metadata())

    def metadata(self) -> dict[str, Any]:
        """What a checkpoint says of the run beside its state."""
        return {**self.figures(), **self.networks()}

    def figures(self) -> dict[str, Any]:
        """How far the run has come."""
        return {
            "settings": self.settings.to_json(),
            "steps": self.tally.steps,
            "episodes": self.tally.episodes,
            "mean_return": self.tally.mean_return,
        }

    def networks(self) -> dict[str, Any]:
        """What the agent's networks have become."""
        return {"parameters": getattr(self._agent, "num_parameters", None), "structure": self.life.describe()}

    def run(self, loggers: Sequence[Logger], progress: Progress, *, seconds: float = 0.0) -> TrainResult:
        """Train to the configured number of steps, or until a signal (Ctrl-C) ends the session after the step at hand.

        Args:
            loggers: take every record.
            progress: shows how far the run is.
            seconds: of training before this session, for the records.

        Raises:
            WorldError: the environment raised, or gave NaN or a wrong shape; names environment and step.
            RunError: the agent raised; names agent, environment and step.
            SaveError: a checkpoint or log could not be written. In each case the last good checkpoint stays.
        """
        first, start = self.tally.steps, time.perf_counter()
        progress.start(first, self.settings.run.steps)
        with deferred_signals() as received:
            self._loop(loggers, progress, received, start - seconds)
            if self.tally.recorded < self.tally.steps and not received:
                self._log(loggers, time.perf_counter() - start + seconds)
            if self.tally.steps > first:
                self.save()
        elapsed = time.perf_counter() - start
        speed = (self.tally.steps - first) / elapsed
        progress.update(self.tally.steps, speed, self.tally.mean_return)
        return TrainResult(
            steps=self.tally.steps,
            steps_per_s=speed,
            episodes=self.tally.episodes,
            mean_return=self.tally.mean_return,
            checkpoint=self.path,
            signal=received[0] if received else None,
        )

    def _loop(self, loggers: Sequence[Logger], progress: Progress, received: list[int], zero: float) -> None:
        run, tally, agent, world, life = self.settings.run, self.tally, self._agent, self._world, self.life
        observation = self.observation
        if observation is None:
            message = "call begin() or restore() before run()"
            raise RuntimeError(message)
        clock, count_valid, shape = time.perf_counter, np.count_nonzero, observation.shape
        first, begun = tally.steps, clock()
        next_log, next_save = _after(tally.steps, run.log_every), _after(tally.steps, run.checkpoint_every)
        next_show = begun + min(progress.interval, 1.0)  # the first figures come soon
        observations, actions = world.observation_space, world.action_space
        acting = False  # whose fault an exception is: between the agent's calls and the world's
        try:
            while tally.steps < run.steps and not received:
                action = agent.act(observation)
                acting = True
                step = world.step(action)
                width = shape[1]
                changed = world.observation_space is not observations or world.action_space is not actions
                if changed:
                    observations, actions = world.observation_space, world.action_space
                    shape = (shape[0], *observations.shape)
                check_step(step, shape)
                acting = False
                # Where a space has grown just now, this is still a transition of the old one: what is new comes last.
                after = step.next_observation[:, :width] if changed else step.next_observation
                agent.observe(observation, action, step.reward, after, *step[3:6])
                self.observation = observation = step.observation
                tally.steps += int(count_valid(step.valid))
                if step.episodes:
                    tally.add_episodes(step.episodes)
                    life.add_episodes(step.episodes)
                if changed:
                    life.adapt(observations, actions, tally.steps)
                metrics = agent.learn()
                if metrics is not None:
                    tally.add_metrics(metrics)
                    life.look(tally.steps, metrics)
                if tally.steps >= run.steps:
                    life.finish(tally.steps)
                if not life.quiet:
                    self._tell(progress)
                if tally.steps >= next_log:
                    self._log(loggers, clock() - zero)
                    next_log = _after(tally.steps, run.log_every)
                if tally.steps >= next_save:
                    self.save()
                    next_save = _after(tally.steps, run.checkpoint_every)
                if (now := clock()) >= next_show:
                    progress.update(tally.steps, (tally.steps - first) / (now - begun), tally.mean_return)
                    next_show = now + progress.interval
        except RlcoreError as error:
            if acting:
                raise self.world_error(error) from error.__cause__ or error
            raise
        except Exception as error:
            if acting:
                raise self.world_error(error) from error.__cause__ or error
            message = f"agent {run.agent} on {self.where}: {one_line(error)}"
            raise RunError(message) from error

    def _tell(self, progress: Progress) -> None:
        events = self.life.take_events()
        self.tally.add_edits(events.edits, events.outcomes)
        for event in events.edits:
            progress.message(said(event))

    def _log(self, loggers: Sequence[Logger], seconds: float) -> None:
        record = self.tally.take_record(seconds)
        for logger in loggers:
            logger.log(record)

    def _reset(self, seed: int) -> NDArray[np.float32]:
        try:
            observation = self._world.reset(seed)
            _check_finite("observation", observation)
        except Exception as error:
            raise self.world_error(error) from error.__cause__ or error
        return observation

    @property
    def where(self) -> str:
        """Environment and step, for errors."""
        return f"{self.settings.run.env} at step {self.tally.steps:,}"

    def world_error(self, error: Exception) -> WorldError:
        """The error with environment and step in front, unless the world has named them itself."""
        if isinstance(error, WorldError):
            return error
        return WorldError(f"{self.where}: {one_line(error)}")


def _after(step: int, every: int) -> int:
    """The first multiple of ``every`` beyond ``step``: it depends on the step alone, so resuming keeps the grid."""
    return (step // every + 1) * every


def check_step(step: Step, shape: tuple[int, ...]) -> None:
    """Refuse what no agent can learn from.

    A dot product of an array with itself is the cheapest test for NaN (1 us for all three, against 8 for `isfinite`);
    it also overflows for large finite numbers, so only where it is not finite are the elements looked at.
    """
    if step.observation.shape != shape or step.next_observation.shape != shape:
        message = f"expected observations of shape {shape}, got {step.observation.shape}, {step.next_observation.shape}"
        raise ValueError(message)
    if step.reward.shape != shape[:1]:
        message = f"expected rewards of shape {shape[:1]}, got {step.reward.shape}"
        raise ValueError(message)
    total = np.vdot(step.observation, step.observation) + np.vdot(step.next_observation, step.next_observation)
    if not math.isfinite(total + np.vdot(step.reward, step.reward)):
        _check_finite("observation", step.observation)
        _check_finite("observation", step.next_observation)
        _check_finite("reward", step.reward)


def _check_finite(name: str, array: NDArray[Any]) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        index = int(np.argwhere(~finite)[0][0])
        message = f"expected finite numbers, got the {name} {array[index]} from environment {index}"
        raise ValueError(message)


def one_line(error: Exception) -> str:
    """What an error says, with its kind where it is not one of ours."""
    text = " ".join(str(error).split())
    if text and (isinstance(error, RlcoreError) or type(error) is ValueError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextlib.contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of being stopped by them; a second one stops at once, as usual."""
    received: list[int] = []
    previous: dict[int, Any] = {}

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[number])

    # Python delivers signals to the main thread, and lets only that one set handlers.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.getsignal(number)
            signal.signal(number, receive)
    try:
        yield received
    finally:
        for handled, handler in previous.items():
            signal.signal(handled, handler)
