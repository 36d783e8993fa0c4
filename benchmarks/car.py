"""Steps of the car's environments a second, on one core: ``python benchmarks/car.py [--json FILE]``.

Beside them, as a measure of the machine, CartPole-v1. They take turns in blocks; a figure is from the median step of the
quietest block, without resets.

``python benchmarks/car.py --json benchmarks/results/car.json`` records; about ten seconds on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median

import gymnasium

import envs  # registers ours

FLOOR = 5000
ENVS = {
    "rlcore/Car-v0": {},
    "rlcore/CarSensors-v0": {},
    "rlcore/Car-v0, drawn": {"render_mode": "rgb_array"},
    "CartPole-v1": {},
}
BLOCKS, STEPS = 7, 1000


def steps_per_second(env: gymnasium.Env, steps: int) -> float:
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(steps)]
    times = []
    for action in actions:
        started = time.perf_counter()
        *_, terminated, truncated, _ = env.step(action)
        if env.render_mode is not None:
            env.render()
        times.append(time.perf_counter() - started)
        if terminated or truncated:
            env.reset()
    return 1 / median(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    made = {name: envs.make.make_env(name.partition(",")[0], **kwargs) for name, kwargs in ENVS.items()}
    best = dict.fromkeys(made, 0.0)
    for _ in range(BLOCKS):
        for name, env in made.items():
            best[name] = max(best[name], steps_per_second(env, 20 if env.render_mode else STEPS))
    for name, figure in best.items():
        print(f"{name}: {figure:,.0f} steps/s")
    if options.json is not None:
        options.json.write_text(
            json.dumps({"floor": FLOOR, "steps_per_second": {k: round(v) for k, v in best.items()}}, indent=1) + "\n"
        )
    return 0 if best["rlcore/Car-v0"] >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
