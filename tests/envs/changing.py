"""Environments whose spaces change while they run, as `docs/environments.md` says they announce it."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete


class MoreActions(gymnasium.Env):
    """A third action from step ``at`` on; its reward is the action."""

    observation_space = Box(-1, 1, (2,), np.float32)

    def __init__(self, at: int = 5) -> None:
        self.action_space = Discrete(2)
        self.at, self.steps, self.left = at, 0, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 4
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.steps, self.left = self.steps + 1, self.left - 1
        if self.steps == self.at:
            self.action_space = Discrete(3)
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), float(action), self.left == 0, False, {}

    def get_state(self):
        return {"steps": self.steps, "left": self.left, "actions": int(self.action_space.n)}

    def set_state(self, state):
        self.steps, self.left = state["steps"], state["left"]
        self.action_space = Discrete(state["actions"])


class MoreSensors(MoreActions):
    """A sensor whose name comes first, and with ``later`` another that comes before that, at twice the steps."""

    def __init__(self, at: int = 5) -> None:
        super().__init__(at)
        self.sensors = ["m"]
        self._tell()

    def _tell(self):
        self.observation_space = Dict({name: Box(-9, 9, (1,), np.float32) for name in self.sensors})

    def _look(self):
        return {name: np.array([ord(name) - ord("a")], np.float32) / 10 + self.steps for name in self.sensors}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._look(), {}

    def step(self, action):
        _, reward, terminated, truncated, info = super().step(action)
        if self.steps in (self.at, 2 * self.at):
            self.sensors = [*self.sensors, "z" if self.steps == self.at else "a"]
            self._tell()
        return self._look(), reward, terminated, truncated, info

    def get_state(self):
        return {**super().get_state(), "sensors": list(self.sensors)}

    def set_state(self, state):
        super().set_state(state)
        self.sensors = state["sensors"]
        self._tell()
