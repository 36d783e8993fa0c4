"""Grow a policy in flight: PPO begins with four hidden units and gets more when its return stands still.

    python examples/07_grow_in_flight.py [STEPS]

The command line does the same: run-agent train --env CartPole-v1 --agent ppo --hidden-sizes 4 --structure plateau
"""

import dataclasses
import sys
import tempfile

import rlcore
from rlcore.config import resolve
from rlcore.drawing import draw_run

STRUCTURE = {
    "budget": {"parameters": 2_000},
    "rule": [
        {
            "layer": ["actor.0", "critic.0"],
            "interval": 1_000,  # environment steps from look to look
            "policy": {"name": "plateau", "patience": 2, "threshold": 0.1},
            "edit": {"name": "grow", "units": 8},
            "budget": {"units": 64},
        }
    ],
}


def main(steps: int = 30_000) -> None:
    settings = resolve("CartPole-v1", "ppo").overlay({"run": {"steps": steps}, "agent": {"hidden_sizes": [4]}}, where=__file__)
    settings = dataclasses.replace(settings, structure=STRUCTURE)

    with tempfile.TemporaryDirectory() as directory:
        rlcore.train(settings, directory)
        run = rlcore.load(directory)  # the grown network, from its checkpoint alone
        print("units", run.start["actor.0"], "->", run.agent.actor[0].out_features)
        for edit in run.edits:
            print(edit["step"], edit["edit"], edit["layer"], edit["reason"], edit["reward_before"], edit["reward_after"])
        print(f"a picture of {len(draw_run(run).svg()):,} characters of SVG")  # run-agent draw writes it to a file
        print(run.evaluate(episodes=10))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
