"""An agent of your own, random search over linear policies, on CartPole: `python examples/04_custom_agent.py [STEPS]`."""

import sys
import tempfile
from dataclasses import dataclass

import numpy as np

import rlcore
from rlcore.config import resolve


class RandomSearch:
    @dataclass
    class Config:
        """Try a change of the weights for one episode; keep it where the return was no worse."""

        noise: float = 0.5
        """Standard deviation of a change."""

    def __init__(self, config, observation_space, action_space, *, num_envs, total_steps, seed):
        self.config, self.rng = config, np.random.default_rng(seed)
        self.best = self.trial = np.zeros((observation_space.shape[0], int(action_space.n)))
        self.best_return, self.total, self.over = -np.inf, 0.0, False

    def act(self, observation, *, deterministic=False):
        return (observation @ (self.best if deterministic else self.trial)).argmax(axis=1)

    def observe(self, observation, action, reward, next_observation, terminated, truncated, valid):
        self.total += float(reward[0])  # for one environment, to stay short
        self.over = bool(terminated[0] or truncated[0])

    def learn(self):
        if not self.over:
            return None
        self.best, self.best_return = max((self.trial, self.total), (self.best, self.best_return), key=lambda pair: pair[1])
        self.trial = self.best + self.rng.normal(0, self.config.noise, self.best.shape)
        self.interrupt()
        return {"best_return": self.best_return}

    def interrupt(self):  # the episode under way was cut off: try again
        self.total, self.over = 0.0, False

    def state_dict(self):
        kept = {name: value for name, value in vars(self).items() if name not in ("config", "rng")}
        return {**kept, "generator": self.rng.bit_generator.state}

    def load_state_dict(self, state):
        self.rng.bit_generator.state = state["generator"]
        vars(self).update({name: value for name, value in state.items() if name != "generator"})


if __name__ == "__main__":
    rlcore.AGENTS.register("random-search", RandomSearch)  # an installed package does this with an entry point
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    settings = resolve("CartPole-v1", "random-search").overlay({"run": {"steps": steps}}, where=__file__)
    with tempfile.TemporaryDirectory() as directory:
        rlcore.train(settings, directory)
        print(rlcore.load(directory).evaluate(episodes=20))
