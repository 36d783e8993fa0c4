"""An environment of your own, trained with PPO: `python examples/03_custom_env.py [STEPS]`."""

import sys
import tempfile

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

import rlcore
from rlcore.config import resolve


class Docking(gymnasium.Env):
    """Bring a drifting craft to rest at 0: thrust left, none or right; the cost is the distance and the speed."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.speed, self.time = self.np_random.uniform(-1, 1), 0.0, 0
        return self._observation(), {}

    def step(self, action):
        self.speed += 0.05 * (int(action) - 1)
        self.at += self.speed
        self.time += 1
        lost = abs(self.at) > 2
        reward = -10.0 if lost else 1.0 - abs(self.at) - abs(self.speed)
        return self._observation(), reward, lost, self.time >= 100, {}

    def _observation(self):
        return np.array([self.at, self.speed], np.float32)

    # With these two, a run that was killed continues bit for bit, in the middle of an episode.
    def get_state(self):
        return {"at": self.at, "speed": self.speed, "time": self.time}

    def set_state(self, state):
        self.at, self.speed, self.time = state["at"], state["speed"], state["time"]


def main(steps: int = 40_000) -> None:
    rlcore.ENVS.register("Docking-v0", Docking)  # an installed package does this with an entry point
    values = {"run": {"steps": steps}, "agent": {"rollout_length": 64, "minibatch_size": 128, "learning_rate": 1e-3}}
    settings = resolve("Docking-v0", "ppo").overlay(values, where=__file__)
    with tempfile.TemporaryDirectory() as directory:
        rlcore.train(settings, directory)
        print(rlcore.load(directory).evaluate(episodes=20))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
