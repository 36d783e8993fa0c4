"""Train PPO on CartPole from Python, and evaluate the checkpoint: `python examples/02_train_cartpole.py [STEPS]`."""

import sys
import tempfile

import rlcore
from rlcore.config import resolve


def main(steps: int = 100_000) -> None:
    # The preset of the pair, with a value of our own over it; resolve("CartPole-v1", "ppo", Path("file.toml")) reads a file.
    settings = resolve("CartPole-v1", "ppo").overlay({"run": {"steps": steps}}, where=__file__)

    with tempfile.TemporaryDirectory() as directory:
        result = rlcore.train(settings, directory)
        print(f"{result.episodes} episodes, {result.steps_per_s:,.0f} steps/s")

        run = rlcore.load(directory)  # as anyone would who only has the checkpoint
        print(run.evaluate(episodes=20))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
