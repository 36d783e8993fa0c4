"""Edits that have to prove themselves: PPO grows on trial, within a latency, while units of no use start anew.

    python examples/10_keep_what_helps.py [STEPS]

Growth after which the return falls is taken back. The same as a file for `run-agent train --structure` is in docs/living.md.
"""

import dataclasses
import sys
import tempfile

import rlcore
from rlcore.config import resolve

LAYERS = ["actor.0", "critic.0"]
STRUCTURE = {
    "budget": {"latency_ms": 5.0},  # of acting
    "rule": [
        {
            "layer": LAYERS,
            "interval": 1_000,  # environment steps from look to look
            "policy": {"name": "plateau", "patience": 2, "threshold": 0.1},
            "edit": {"name": "grow", "units": 8, "init": "random"},  # which changes what the networks say
            "trial": {"episodes": 20, "tolerance": 0.0, "rest": 2},
        },
        {"layer": LAYERS, "interval": 1_000, "policy": {"name": "continual_backprop", "rate": 0.02, "maturity": 3}},
    ],
}


def main(steps: int = 30_000) -> None:
    settings = resolve("CartPole-v1", "ppo").overlay({"run": {"steps": steps}, "agent": {"hidden_sizes": [8]}}, where=__file__)
    settings = dataclasses.replace(settings, structure=STRUCTURE)

    with tempfile.TemporaryDirectory() as directory:
        rlcore.train(settings, directory)
        run = rlcore.load(directory)
        for edit in run.edits:
            print(edit["step"], edit["edit"], edit["layer"], edit["units"], edit.get("trial", ""), edit["reason"])
        print("units", run.start["actor.0"], "->", run.agent.actor[0].out_features)
        print(run.evaluate(episodes=10))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
