#!/usr/bin/env python3
"""Whether units that start anew help an agent whose world keeps changing: `python benchmarks/renewals.py [--jobs 2]`.

PPO, with two hidden layers of ReLUs, on a CartPole whose observation comes in another order every 40,000 steps, of which it is
told nothing. Ten such tasks, five seeds, three agents: as it is; with *continual backprop* as shipped (`continual`); with *ReDo*
as `docs/living.md` has it. Of each task the mean return of the episodes that end in its last quarter, when the agent has had
time to learn it. It is lost plasticity if later tasks are learnt less well than early ones; the first is what a new network does.
After Dohare et al. (Nature 632, 2024) and Abbas et al. (CoLLAs 2023), but hundreds of times shorter.

There is no floor: what comes out is recorded, with 95 % intervals over seeds (Student's t), also of the differences to plain PPO.
Records in ``benchmarks/results/renewals.json``; about five minutes on two cores. Runs are kept in ``runs/renewals``: stopped in
the middle, the same command goes on; to start over, delete them.
"""

import argparse
import dataclasses
import json
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from gymnasium.envs.classic_control.cartpole import CartPoleEnv  # noqa: E402
from gymnasium.spaces import Box  # noqa: E402
from scipy.special import stdtrit  # noqa: E402

import rlcore  # noqa: E402
import tensor as T  # noqa: E402
from rlcore.checkpoint import FILE_NAME  # noqa: E402
from rlcore.config import resolve  # noqa: E402
from rlcore.logging import make_progress  # noqa: E402
from tensor.structure.activity import measure  # noqa: E402

TASK, TASKS, COPIES = 40_000, 10, 8
LAYERS = ["actor.0", "actor.2", "critic.0", "critic.2"]
RENEWALS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "continual_backprop": {"interval": 1, "policy": {"name": "continual_backprop", "rate": 1e-3, "maturity": 50, "decay": 0.99}},
    "redo": {"interval": 20_000, "policy": {"name": "redo", "threshold": 0.025}},
}


class SwitchingCartPole(CartPoleEnv):
    """CartPole whose observation has another order every so many of its steps."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.observation_space = Box(-np.inf, np.inf, (4,), np.float32)
        self.steps = self.length_of_episode = 0
        self._switch(0)

    def _switch(self, task: int) -> None:
        self.order = np.random.default_rng([task, 2024]).permutation(4)  # the same tasks for all copies and seeds

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the steps go on counting."""
        self.length_of_episode = 0
        observation, info = super().reset(seed=seed, options=options)
        return observation[self.order], info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step, of at most 500 in an episode."""
        observation, reward, terminated, _, info = super().step(action)
        self.steps += 1
        self.length_of_episode += 1
        if self.steps % (TASK // COPIES) == 0:
            self._switch(self.steps // (TASK // COPIES))
        return observation[self.order], reward, terminated, self.length_of_episode >= 500, info

    def get_state(self) -> dict[str, Any]:
        """What a run that goes on needs of it."""
        return {name: getattr(self, name) for name in ("state", "steps_beyond_terminated", "steps", "length_of_episode", "order")}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        vars(self).update(state)


def run(name: str, seed: int, directory: Path) -> dict[str, Any]:
    """The returns of each task, and how many units were dormant in the end; a run that is there is gone on with."""
    rlcore.ENVS.register("SwitchingCartPole-v0", SwitchingCartPole)
    settings = resolve("SwitchingCartPole-v0", "ppo").overlay(
        {
            "run": {"steps": TASK * TASKS, "seed": seed, "num_envs": COPIES},
            "agent": {
                "hidden_sizes": [64, 64], "activation": "relu", "learning_rate": 1e-3, "anneal_learning_rate": False,
                "rollout_length": 32, "minibatch_size": 256, "epochs": 20, "gae_lambda": 0.8, "entropy_coefficient": 0.01,
            },
        },
        where="renewals",
    )  # fmt: skip
    renewal = RENEWALS[name]
    if renewal is not None:
        settings = dataclasses.replace(settings, structure={"rule": [{"layer": LAYERS, **renewal}]})
    resume = (directory / FILE_NAME).exists()
    if rlcore.train(settings, directory, resume=resume, progress=make_progress(quiet=True)).signal is not None:
        raise KeyboardInterrupt  # it is saved
    entries = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]

    def mean(first: int, last: int) -> float:
        return float(np.mean([x for e in entries if first < e["step"] <= last for x in e["returns"]]))

    loaded = rlcore.load(directory)
    return {
        "whole": [round(mean(n * TASK, (n + 1) * TASK), 1) for n in range(TASKS)],
        "late": [round(mean(n * TASK + TASK * 3 // 4, (n + 1) * TASK), 1) for n in range(TASKS)],
        "dormant": dormant(loaded.agent),
        "renewed": sum(edit["units"] for edit in loaded.edits),
        "seconds": round(entries[-1]["time"], 1),
    }


def dormant(agent: Any) -> float:
    """The share of hidden units that say at most 0.025 of their layer's mean, on recent observations."""
    counts = []
    x = T.from_numpy(np.ascontiguousarray(agent.sample()))
    for part in ("actor", "critic"):
        for seen in measure("dormant", agent.parts()[part].net, ["0", "2"], x).values():
            counts += (seen.size <= 0.025 * seen.size.mean()).tolist()
    return round(float(np.mean(counts)), 3)


def within(values: Any) -> list[float]:
    """Mean and half of the 95 % interval."""
    values = np.asarray(values, float)
    half = float(stdtrit(len(values) - 1, 0.975)) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return [round(float(values.mean()), 1), round(float(half), 1)]


def summary(runs: dict[str, list[dict[str, Any]]], seeds: list[int]) -> dict[str, Any]:
    """What is recorded of the runs of all agents, seed by seed."""
    late = {name: np.array([one["late"] for one in each]) for name, each in runs.items()}
    figures = {
        name: {
            "first task": within(tasks[:, 0]),
            "tasks 2 to 4": within(tasks[:, 1:4].mean(1)),
            "last three tasks": within(tasks[:, -3:].mean(1)),
            "all tasks": within(tasks.mean(1)),
            "all tasks, beyond plain": within(tasks.mean(1) - late["plain"].mean(1)),
            "last three tasks, beyond plain": within(tasks[:, -3:].mean(1) - late["plain"][:, -3:].mean(1)),
            "dormant units at the end": round(float(np.mean([one["dormant"] for one in runs[name]])), 3),
        }
        for name, tasks in late.items()
    }
    return {
        "tasks": {"steps": TASK, "number": TASKS}, "renewals": RENEWALS, "figures": figures, "seeds": seeds, "runs": runs,
        "machine": {"python": platform.python_version(), "processor": platform.machine(), "cores": os.cpu_count()},
    }  # fmt: skip


def main() -> int:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--dir", type=Path, default=Path("runs/renewals"), help="where runs are kept")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "renewals.json")
    options = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in RENEWALS}
    tasks = [(name, seed) for seed in options.seeds for name in RENEWALS]
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        results = [pool.submit(run, name, seed, options.dir / f"{name}-{seed}") for name, seed in tasks]
        for (name, seed), result in zip(tasks, results, strict=True):
            runs[name].append(result.result())
            print(seed, name, runs[name][-1], flush=True)
    recorded = summary(runs, options.seeds)
    for name, each in recorded["figures"].items():
        print(f"{name}: {each}")
    options.output.write_text(json.dumps(recorded, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
