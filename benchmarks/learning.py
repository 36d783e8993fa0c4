#!/usr/bin/env python3
"""Train and evaluate the reference runs: `python benchmarks/learning.py [--only ppo-cartpole] [--jobs 2]`.

Every run is a `run-agent train` followed by a `run-agent eval`, with the presets as they are shipped. Runs that are
already complete in the directory are only evaluated; interrupted ones continue.

Records in ``benchmarks/results/learning.json``; about 40 minutes on two cores, of which `stream-ac-cartpole` takes 15.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUN_AGENT = (sys.executable, "-c", "import sys; from rlcore.cli import main; sys.exit(main())")


@dataclass(frozen=True)
class Task:
    """Several seeds of one pair, and what they must reach."""

    agent: str
    env: str
    steps: int
    seeds: int
    floor: str  #: in words
    reached: Callable[[list[float]], bool]
    flags: tuple[str, ...] = ()  #: what differs from the preset


TASKS = {
    "ppo-cartpole": Task(
        "ppo", "CartPole-v1", 100_000, 5, "mean >= 480, and >= 475 in at least four seeds",
        lambda means: mean(means) >= 480 and sum(m >= 475 for m in means) >= 4,
    ),
    "dqn-cartpole": Task("dqn", "CartPole-v1", 50_000, 5, "mean >= 400", lambda means: mean(means) >= 400),
    "stream-q-cartpole": Task("stream-q", "CartPole-v1", 200_000, 5, "mean >= 400", lambda means: mean(means) >= 400),
    "stream-ac-cartpole": Task("stream-ac", "CartPole-v1", 200_000, 5, "mean >= 400", lambda means: mean(means) >= 400),
    "stream-sarsa-cartpole": Task("stream-sarsa", "CartPole-v1", 200_000, 5, "mean >= 400", lambda means: mean(means) >= 400),
    "stream-q-intentional-cartpole": Task(
        "stream-q", "CartPole-v1", 200_000, 5, "mean >= 400", lambda means: mean(means) >= 400, ("--step-rule", "intentional"),
    ),
    "stream-ac-intentional-cartpole": Task(
        "stream-ac", "CartPole-v1", 200_000, 5, "mean >= 400", lambda means: mean(means) >= 400, ("--step-rule", "intentional"),
    ),
    **{
        f"{agent}{name}-acrobot": Task(agent, "Acrobot-v1", 100_000, 3, "shown, no floor", lambda means: True, flags)
        for agent in ("stream-q", "stream-ac")
        for name, flags in (("", ()), ("-intentional", ("--step-rule", "intentional")))
    },
    "ppo-pendulum": Task("ppo", "Pendulum-v1", 200_000, 3, "mean >= -250", lambda means: mean(means) >= -250),
}  # fmt: skip


def run_agent(*arguments: object) -> dict[str, Any]:
    """One command; the JSON object on the last line of its output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*RUN_AGENT, *map(str, arguments), "--json"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def one_seed(name: str, task: Task, seed: int, directory: Path, episodes: int) -> dict[str, Any]:
    run = directory / f"{name}-{seed}"
    if (run / "checkpoint.safetensors").exists():
        trained = run_agent("train", "--resume", run, "--quiet")
    else:
        flags = ("--env", task.env, "--agent", task.agent, "--steps", task.steps, "--seed", seed, *task.flags)
        trained = run_agent("train", *flags, "--dir", run, "--quiet")
    score = run_agent("eval", run, "--episodes", episodes, "--seed", 10_000 + seed)
    print(f"{name} seed {seed}: {score['mean_return']:.1f} ± {score['std_return']:.1f}, {trained['steps_per_s']:,.0f} steps/s")
    kept = ("mean_return", "std_return", "median", "iqm", "episodes")
    return {"seed": seed, "steps": trained["steps"], "steps_per_s": trained["steps_per_s"], **{k: score[k] for k in kept}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TASKS, action="append", help="one of the tasks; may be repeated")
    parser.add_argument("--episodes", type=int, default=100, help="of each evaluation (20 to 100)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; steps_per_s is honest with 1 only")
    parser.add_argument("--dir", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "learning.json")
    arguments = parser.parse_args()

    names = arguments.only or list(TASKS)
    results: dict[str, Any] = json.loads(arguments.output.read_text(encoding="utf-8")) if arguments.output.exists() else {}
    missed = False
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for name in names:
            task = TASKS[name]
            seeds = list(
                pool.map(
                    lambda seed, name=name, task=task: one_seed(name, task, seed, arguments.dir, arguments.episodes),
                    range(task.seeds),
                )
            )
            means = [seed["mean_return"] for seed in seeds]
            reached = task.reached(means)
            missed |= not reached
            print(f"{name}: mean {mean(means):.1f} over {task.seeds} seeds; {task.floor}: {'ok' if reached else 'MISSED'}")
            results[name] = {
                "agent": task.agent,
                "env": task.env,
                "steps": task.steps,
                "floor": task.floor,
                "reached": reached,
                "mean_return": mean(means),
                "seeds": seeds,
                "machine": {"python": platform.python_version(), "processor": platform.machine(), "cores": os.cpu_count()},
            }
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
