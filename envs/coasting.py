"""CartPole whose engine may learn to coast: a task whose action set gains an action while it runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.spaces import Discrete

__all__ = ["CoastingCartPole"]

_LONGEST = 500


class CoastingCartPole(CartPoleEnv):
    """CartPole in which a push costs half of the reward, and from step ``at`` on there is a third action: no push, which is free.

    Rewards: 0.5 for a step with a push, 1 for one without. Episodes are truncated after 500 steps. The new action is announced as
    every environment announces it: ``action_space`` is another object.

    Args:
        at: the step, over all episodes, after which the third action is there.
        render_mode: as CartPole's.
    """

    action_space: Discrete[Any]

    def __init__(self, at: int = 30_000, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.at = at
        self.steps = self.length_of_episode = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; the steps go on counting."""
        self.length_of_episode = 0
        observation, info = super().reset(seed=seed, options=options)
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Push to the left (0) or right (1), or coast (2)."""
        push, self.force_mag = self.force_mag, 0.0 if action == 2 else self.force_mag
        observation, _, terminated, _, info = super().step(int(action) % 2)  # type: ignore[no-untyped-call]
        self.force_mag = push
        self.steps += 1
        self.length_of_episode += 1
        if self.steps == self.at:
            self.action_space = Discrete(3)
        reward = 1.0 if action == 2 else 0.5
        return observation, reward, terminated, self.length_of_episode >= _LONGEST, info

    def get_state(self) -> dict[str, Any]:
        """All that `step` and `reset` depend on."""
        state = None if self.state is None else np.array(self.state)
        numbers = {name: getattr(self, name) for name in ("steps", "length_of_episode", "steps_beyond_terminated")}
        return {**numbers, "state": state, "actions": int(self.action_space.n)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_state`."""
        given = dict(state)
        self.action_space = Discrete(given.pop("actions"))
        for name, value in given.items():
            setattr(self, name, value)
