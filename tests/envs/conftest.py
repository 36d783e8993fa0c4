"""Environments made to be checked: what they give follows from how often they were stepped."""

from __future__ import annotations

import os
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


class CountingEnv(gymnasium.Env[Any, Any]):
    """Observes [episode, step]; rewards with the step; ends after `length` steps, every second episode by truncation.

    With `as_dict` the same numbers come as a Dict of a Box and a one-hot step.
    """

    def __init__(self, length: int = 3, *, as_dict: bool = False) -> None:
        self.length, self.as_dict = length, as_dict
        self.episode, self.count = -1, 0
        box = Box(-1e3, 1e3, (2,), np.float32)
        self.observation_space = Dict({"at": box, "step": Discrete(length + 1)}) if as_dict else box
        self.action_space = Discrete(2)

    def observe(self) -> Any:
        at = np.array([self.episode, self.count], np.float32)
        return {"at": at, "step": np.int64(self.count)} if self.as_dict else at

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.count = self.episode + 1, 0
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.count < self.length, "stepped after its end"
        self.count += 1
        over, even = self.count == self.length, self.episode % 2 == 0
        return self.observe(), float(self.count), over and even, over and not even, {"noise": self.count}


class ResumableEnv(CountingEnv):
    """The same, able to give its state."""

    def get_state(self) -> tuple[int, int]:
        return self.episode, self.count

    def set_state(self, state: tuple[int, int]) -> None:
        assert type(state) is tuple
        self.episode, self.count = state


@pytest.fixture(scope="session")
def counting_env() -> type[CountingEnv]:
    return CountingEnv


@pytest.fixture(scope="session")
def resumable_env() -> type[ResumableEnv]:
    return ResumableEnv
