"""Observations and rewards scaled by running statistics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from rlcore.errors import CheckpointError
from rlcore.types import Sensors, State, Step, World

__all__ = ["NormalizedWorld", "RunningMeanStd"]

_EPSILON = 1e-8
_LIMIT = 10.0


class RunningMeanStd:
    """Mean and variance of all rows seen, in float64, by the parallel update of Chan, Golub and LeVeque (1979).

    Args:
        shape: of one row.

    >>> statistics = RunningMeanStd((2,))
    >>> statistics.update(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> statistics.update(np.array([[5.0, 5.0]]))
    >>> statistics.mean, statistics.count
    (array([3., 5.]), 3)
    >>> statistics.var.round(3)
    array([2.667, 0.   ])
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.count: Any = 0  #: rows; where columns have come later, an array with the number of each
        self.mean = np.zeros(shape)  #: float64
        self._squares = np.zeros(shape)  # sum of squared distances from the mean

    @property
    def var(self) -> NDArray[np.float64]:
        """Population variance, float64; 1 before two rows have been seen, since one has no spread."""
        if isinstance(self.count, np.ndarray):
            return np.where(self.count > 1, self._squares / np.maximum(self.count, 1), 1.0)
        return self._squares / self.count if self.count > 1 else np.ones_like(self.mean)

    @property
    def std(self) -> NDArray[np.float64]:
        """``sqrt(var + 1e-8)``, what to divide by."""
        std: NDArray[np.float64] = np.sqrt(self.var + _EPSILON)
        return std

    def update(self, rows: NDArray[Any]) -> None:
        """Take in rows ``[n, *shape]`` of any float dtype; none at all is fine."""
        count = len(rows)
        if not count:
            return
        rows = rows.astype(np.float64, copy=False)
        total = self.count + count
        if count == 1:  # one step of a streaming learner: Welford's form of the same, in fewer operations
            delta = rows[0] - self.mean
            self.mean = self.mean + delta / total
            self._squares = self._squares + delta * (rows[0] - self.mean)
        else:
            mean = np.add.reduce(rows) / count
            centred = rows - mean
            delta = mean - self.mean
            self.mean = self.mean + delta * (count / total)
            between = delta * delta * (self.count * count / total)
            self._squares = self._squares + np.add.reduce(centred * centred) + between
        self.count = total

    def widen(self, width: int) -> None:
        """Take rows of more columns from now on; each counts from its own beginning."""
        new = width - len(self.mean)
        self.count = np.append(np.broadcast_to(self.count, self.mean.shape), np.zeros(new, np.int64))
        self.mean, self._squares = np.append(self.mean, np.zeros(new)), np.append(self._squares, np.zeros(new))

    def state_dict(self) -> State:
        """Everything, exactly."""
        return {
            "count": np.array(self.count) if isinstance(self.count, np.ndarray) else self.count,
            "mean": np.array(self.mean),
            "squares": np.array(self._squares),
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave.

        Raises:
            ValueError: it is of rows of another shape.
        """
        if np.shape(state["mean"]) != np.shape(self.mean):
            message = f"expected statistics of shape {np.shape(self.mean)}, got {np.shape(state['mean'])}"
            raise ValueError(message)
        self.count, self.mean, self._squares = state["count"], np.array(state["mean"]), np.array(state["squares"])
        if isinstance(self.count, np.ndarray):
            self.count = self.count.copy()


class NormalizedWorld:
    """A world whose observations are standardised and whose rewards are scaled, both clipped to ±10.

    Observations become ``(x - mean) / sqrt(var + 1e-8)``. Every observation counts once in the statistics, whichever
    way the environments reset themselves: where a valid step led, and where an episode began. (The first
    observation of an episode is a real one, though the action of a step that only resets was ignored.)

    Rewards are divided by the deviation of the running discounted return, which starts anew with each episode; no
    mean is subtracted, since that would change what is optimal. Steps that are not valid do not count.

    `Step.episodes` keep the environment's own rewards.

    Args:
        world: where to step.
        observation: whether to standardise observations.
        reward: whether to scale rewards.
        discount: of the running return, as the agent's.
        training: False freezes the statistics and leaves rewards as they are.

    >>> import envs
    >>> world = NormalizedWorld(envs.make_world("Pendulum-v1", num_envs=2), observation=True, reward=True)
    >>> bool(abs(world.reset(seed=0)).max() <= 10)
    True
    """

    def __init__(
        self,
        world: World,
        *,
        observation: bool = True,
        reward: bool = False,
        discount: float = 0.99,
        training: bool = True,
    ) -> None:
        self._world = world
        self._observation = RunningMeanStd(world.observation_space.shape) if observation else None
        self._reward = RunningMeanStd() if reward else None
        self._discount = discount
        self.training = training
        self.num_envs = world.num_envs
        self.action_space = world.action_space
        self._inner = self.observation_space = world.observation_space
        if observation:
            self.observation_space = Box(-_LIMIT, _LIMIT, world.observation_space.shape, np.float32)
        self._running_return = np.zeros(self.num_envs)

    def reset(self, seed: int | None = None) -> NDArray[np.float32]:
        """Start n new episodes; returns the first observations ``[n, d]`` float32. Raises as the world within does."""
        observation = self._world.reset(seed)
        self._running_return = np.zeros(self.num_envs)
        if self._observation is not None and self.training:
            self._observation.update(observation)
        return self._standardise(observation)

    def step(self, action: NDArray[Any]) -> Step:
        """Take one action each; raises as the world within does."""
        step = self._world.step(action)
        if self._world.observation_space is not self._inner or self._world.action_space is not self.action_space:
            self._follow()
        observation, reward, next_observation = step.observation, step.reward, step.next_observation
        if self._reward is not None and self.training:
            reward = self._scale(self._reward, step)
        if self._observation is not None:
            if self.training:
                self._observation.update(_observed(step))
            next_observation = self._standardise(step.next_observation)
            same = step.observation is step.next_observation
            observation = next_observation if same else self._standardise(step.observation)
        return Step(observation, reward, next_observation, *step[3:])

    def _follow(self) -> None:
        """Take on spaces that have changed in the world within."""
        width, before = self._world.observation_space.shape, self.observation_space.shape
        self._inner, self.action_space = self._world.observation_space, self._world.action_space
        if width == before:
            return
        self.observation_space = self._inner
        if self._observation is not None:
            self._observation.widen(width[0])
            self.observation_space = Box(-_LIMIT, _LIMIT, width, np.float32)

    def _standardise(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        statistics = self._observation
        if statistics is None:
            return rows
        scaled = (rows - statistics.mean) / statistics.std
        np.minimum(np.maximum(scaled, -_LIMIT, out=scaled), _LIMIT, out=scaled)
        return scaled.astype(np.float32)

    def _scale(self, statistics: RunningMeanStd, step: Step) -> NDArray[np.float32]:
        running = self._running_return * self._discount + step.reward
        everywhere = np.count_nonzero(step.valid) == self.num_envs
        statistics.update(running if everywhere else running[step.valid])
        running *= ~(step.terminated | step.truncated)
        # A step that only reset began an episode, whose trace is still empty (and its reward was 0).
        self._running_return = running if everywhere else running * step.valid
        scaled = step.reward / math.sqrt(statistics.var + _EPSILON)
        clipped: NDArray[np.float32] = np.minimum(np.maximum(scaled, -_LIMIT), _LIMIT).astype(np.float32)
        return clipped

    def state_dict(self) -> State:
        """The statistics, and the state of the world within."""
        return {
            "world": self._world.state_dict(),
            "observation": None if self._observation is None else self._observation.state_dict(),
            "reward": None if self._reward is None else self._reward.state_dict(),
            "running_return": np.array(self._running_return),
        }

    def load_state_dict(self, state: State) -> NDArray[np.float32] | None:
        """Restore; the statistics also where the episodes cannot be continued, or there is another number of them.

        Returns:
            The current observations ``[n, d]``, or None where `reset` must be called.

        Raises:
            CheckpointError: the state has no statistics, or of observations of another shape.
        """
        mine = {"observation": self._observation, "reward": self._reward}
        kept = {name: statistics for name, statistics in mine.items() if statistics is not None}
        for name in kept:
            if not isinstance(state, dict) or state.get(name) is None:
                message = f"the state holds no statistics of the {name}, which this world normalises"
                raise CheckpointError(message)
        observation = self._world.load_state_dict(state["world"])
        self._follow()
        for name, statistics in kept.items():
            try:
                statistics.load_state_dict(state[name])
            except ValueError as error:
                message = f"statistics of the {name}: {error}"
                raise CheckpointError(message) from error
        if observation is None:
            return None
        self._running_return = np.array(state["running_return"])
        return self._standardise(observation)

    def row(self, observation: Any) -> NDArray[np.float32]:
        """An observation of the world within as a row ``[1, d]``, standardised by the statistics so far."""
        rows: NDArray[np.float32] = self._world.row(observation)  # type: ignore[attr-defined]
        return self._standardise(rows)

    def executed(self, action: NDArray[Any]) -> Any:
        """An action as the world within has it."""
        return self._world.executed(action)  # type: ignore[attr-defined]

    @property
    def sensors(self) -> Sensors | None:
        """Those of the world within."""
        return getattr(self._world, "sensors", None)

    def render(self) -> NDArray[np.uint8] | None:
        """A picture of environment 0, where the world within can give one; see `envs.world.VectorWorld.render`."""
        render = getattr(self._world, "render", None)
        return None if render is None else render()

    def close(self) -> None:
        """Release windows, processes and sockets."""
        self._world.close()


def _observed(step: Step) -> NDArray[np.float32]:
    """The observations that this step brought, each once: where valid steps led, and where episodes began."""
    if step.observation is step.next_observation:
        return step.next_observation  # a step that only reset has its new observation in this array too
    began = ~step.valid | step.terminated | step.truncated
    return np.concatenate([step.next_observation[step.valid], step.observation[began]])
