"""A policy of your own that says when a network grows: `python examples/08_own_policy.py [STEPS]`.

In a structure file it would be `policy = { name = "my_package.my_module:Schedule", steps = [2000, 5000] }`.
"""

import dataclasses
import sys
import tempfile
from dataclasses import dataclass, field

import rlcore
from rlcore.config import resolve
from rlcore.living import POLICIES, Look


@dataclass
class Schedule:
    """At given steps of the run: a policy is a dataclass that is asked at each look, and says why now is the time, or nothing."""

    steps: tuple[int, ...] = (2_000,)
    """When."""
    done: int = field(default=0, init=False)  # no option, but what it remembers: it goes into the checkpoint

    def __call__(self, look: Look) -> str:
        if self.done < len(self.steps) and look.step >= self.steps[self.done]:
            self.done += 1
            return f"scheduled at {self.steps[self.done - 1]}, return {look.value or 0:.1f}"
        return ""


def main(steps: int = 8_000) -> None:
    POLICIES.register("schedule", Schedule)
    rule = {
        "layer": ["actor.0", "critic.0"],
        "interval": 500,
        "policy": {"name": "schedule", "steps": [2_000, 5_000]},
        "edit": {"name": "grow", "units": 4, "init": "net2wider"},
    }
    settings = resolve("CartPole-v1", "ppo").overlay({"run": {"steps": steps}, "agent": {"hidden_sizes": [8]}}, where=__file__)
    with tempfile.TemporaryDirectory() as directory:
        rlcore.train(dataclasses.replace(settings, structure={"rule": [rule]}), directory)
        for edit in rlcore.load(directory).edits:
            print(edit["step"], edit["layer"], edit["units"], edit["reason"])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
