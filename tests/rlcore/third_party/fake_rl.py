"""A third party's package: agents and environments that rlcore finds through entry points, and knows nothing of.

The agent is a stochastic linear policy with a replay buffer: it draws from its generator at every step and its weights
depend on all it has seen, so any difference between two runs shows in them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from rlcore.buffers import ReplayBuffer
from rlcore.errors import ConfigError, SpaceError
from rlcore.types import EpisodeEnd, Step


@dataclass(frozen=True)
class FakeConfig:
    learning_rate: float = 0.01
    """Step size."""

    batch_size: int = 8
    """Rows per update."""

    hidden_sizes: tuple[int, ...] = (4, 4)
    """Units per layer."""

    target_kl: float | None = None
    """Largest divergence."""

    activation: Literal["tanh", "relu"] = "tanh"
    """Nonlinearity."""

    double: bool = True
    """Double or not."""

    gamma: float = 0.9
    """Discount."""

    sleep: float = 0.0
    """Seconds wasted per update."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            message = f"learning_rate: expected a positive number, got {self.learning_rate}"
            raise ConfigError(message)


class FakeAgent:
    Config = FakeConfig

    def __init__(self, config, observation_space, action_space, *, num_envs, total_steps, seed):
        self.config = config
        self.total_steps = total_steps
        self.rng = np.random.default_rng(seed)
        size = observation_space.shape[0]
        self.weights = self.rng.standard_normal((size, 2)).astype(np.float32)
        self.num_parameters = self.weights.size
        self.buffer = ReplayBuffer(500, {"observation": ((size,), np.float32), "reward": ((), np.float32)})
        self.updates = 0

    def act(self, observation, *, deterministic=False):
        logits = observation @ self.weights
        if not deterministic:
            logits = logits + self.rng.standard_normal(logits.shape)
        return logits.argmax(axis=1)

    def observe(self, observation, action, reward, next_observation, terminated, truncated, valid):
        self.buffer.add(observation=observation[valid], reward=reward[valid])

    def interrupt(self):
        pass

    def learn(self):
        if len(self.buffer) < self.config.batch_size:
            return None
        batch = self.buffer.sample(self.config.batch_size, self.rng)
        gradient = batch["observation"] * batch["reward"][:, None]
        self.weights += np.float32(self.config.learning_rate) * gradient.mean(axis=0)[:, None]
        self.weights /= np.linalg.norm(self.weights)
        self.updates += 1
        if self.config.sleep:
            time.sleep(self.config.sleep)
        return {"loss": float(batch["reward"].mean()), "bad": float("nan")}

    def state_dict(self) -> dict[str, Any]:
        return {
            "weights": self.weights,
            "rng": self.rng.bit_generator.state,
            "buffer": self.buffer.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state) -> None:
        self.weights = state["weights"].copy()
        self.rng.bit_generator.state = state["rng"]
        self.buffer.load_state_dict(state["buffer"])
        self.updates = state["updates"]


class PickyAgent(FakeAgent):
    def __init__(self, config, observation_space, action_space, **options):
        message = f"picky needs a Box action space, got {action_space}"
        raise SpaceError(message)


class BrokenAgent(FakeAgent):
    def learn(self):
        if self.updates == 20:
            message = "singular\nmatrix"
            raise np.linalg.LinAlgError(message)
        return super().learn()


class Walk:
    """n random walks that end beyond 3, or are cut at 20 steps; the first row after an end only resets, as "next step"
    autoreset does. What goes wrong, and when, depends on the id."""

    observation_space = Box(-10, 10, (3,), np.float32)
    action_space = Discrete(2)

    def __init__(self, env_id: str, num_envs: int) -> None:
        self.env_id, self.num_envs = env_id, num_envs
        self.rng = np.random.default_rng(0)
        self.calls = 0
        self._restart(np.ones(num_envs, bool), first=True)
        self.closed = False

    def _restart(self, rows, *, first=False):
        if first:
            self.place = np.zeros((self.num_envs, 3), np.float32)
            self.length = np.zeros(self.num_envs, np.int64)
            self.total = np.zeros(self.num_envs)
            self.done = np.zeros(self.num_envs, bool)
        self.place[rows] = self.rng.uniform(-1, 1, (int(rows.sum()), 3))
        self.length[rows] = 0
        self.total[rows] = 0.0
        self.done[rows] = False

    def reset(self, seed=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self._restart(np.ones(self.num_envs, bool), first=True)
        return self.place.copy()

    def step(self, action):
        self.calls += 1
        valid = ~self.done
        self._restart(self.done.copy())
        noise = self.rng.normal(0, 0.5, (self.num_envs, 3)).astype(np.float32)
        self.place[valid] += (noise + (np.asarray(action)[:, None] - 0.5))[valid]
        reward = np.where(valid, self.place[:, 0], 0).astype(np.float32)
        self.length += valid
        self.total += reward
        terminated = valid & (np.abs(self.place[:, 0]) > 3) & (self.env_id != "Endless-v0")
        truncated = valid & ~terminated & (self.length >= 20) & (self.env_id != "Endless-v0")
        self.done = terminated | truncated
        ends = tuple(EpisodeEnd(int(i), float(self.total[i]), int(self.length[i])) for i in np.flatnonzero(self.done))
        place = self.place.copy()
        if self.calls > 30:
            if self.env_id == "Raises-v0":
                message = "motor\non fire"
                raise RuntimeError(message)
            if self.env_id == "Nan-v0":
                place[-1, 1] = np.nan
            if self.env_id == "Shape-v0":
                place = place[:, :2]
        return Step(place, reward, place, terminated, truncated, valid, ends)

    def state_dict(self):
        return {
            "rng": self.rng.bit_generator.state,
            "place": self.place,
            "length": self.length,
            "total": self.total,
            "done": self.done,
        }

    def load_state_dict(self, state):
        if self.env_id == "Forgetful-v0" or len(state["place"]) != self.num_envs:
            return None
        self.rng.bit_generator.state = state["rng"]
        for name in ("place", "length", "total", "done"):
            setattr(self, name, state[name].copy())
        return self.place.copy()

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)

    def close(self):
        self.closed = True


def make_walk(env_id, *, num_envs=1, **options):
    return Walk(env_id, num_envs)


class GridEnv(gymnasium.Env):
    """A Gymnasium environment of a third party."""

    observation_space = Box(0, 1, (2,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.count += 1
        return np.ones(2, np.float32), float(action), self.count >= 5, False, {}
