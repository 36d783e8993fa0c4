#!/usr/bin/env python3
"""Networks that change while an agent learns: `python benchmarks/living.py [--only plateau] [--jobs 1]`.

*plateau*: PPO on CartPole-v1 begins with 4 hidden units and grows by the shipped structure file `plateau`; beside it the same run
without growth. 100 evaluation episodes of each seed.

*trial*: PPO on CartPole-v1 begins with 64 hidden units and loses four at a time by the shipped structure file `slim`, on trial;
beside it the same without trials, and without a structure file. 100 evaluation episodes of each seed.

*new-action*: DQN on CoastingCartPole-v0, whose action set gains an action at step 30,000: the mean return of the 5,000 steps
before, and of each stretch of 2,500 steps after; and how often the new action is taken in the 2,000 steps from 8,000 after on.

*streaming-action*: the same of `stream-q` and `stream-sarsa`, with default options (and `stream-sarsa-taken`: with `--next-value
taken`), and the action at step 50,000, when they act well: returns as above, over the 50,000 steps that follow; after how many
steps the action first is a tenth of all, and what share it is of the last 5,000.

*stall*: the longest time from one call of `act` to the next, in milliseconds, of a DQN that learns at every step, in 380
steps after an edit, and in 200 without one, by the clock and as the thread's own processor time (which other processes on the
machine do not count into); of several edits the median and the worst.

*live*: `run-agent live stream-ac CartPole-v1` at 50 Hz with an edit of both networks every five seconds, and without any, in
turn: ticks that were missed, and milliseconds from the moment an action is due to the action.

Records in ``benchmarks/results/living.json``; about half an hour on two cores. *live* alone takes seven minutes, six of them in
real time, and is recorded with ``--priority``.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

RUN_AGENT = (sys.executable, "-c", "import sys; from rlcore.cli import main; sys.exit(main())")
SEEDS = range(5)
NAMES = ("plateau", "trial", "new-action", "streaming-action", "stall", "live")
PLATEAU = ("--env", "CartPole-v1", "--agent", "ppo", "--hidden-sizes", 4, "--steps", 150_000, "--no-anneal-learning-rate")
SLIM = ("--env", "CartPole-v1", "--agent", "ppo", "--hidden-sizes", 64, "--steps", 150_000, "--no-anneal-learning-rate")
CHANGE, PERIOD_MS = 30_000, 20.0
NEW_ACTION = (
    "--env", "CoastingCartPole-v0", "--agent", "dqn", "--steps", 45_000, "--double", "--n-step", 3,
    "--target-update-interval", 200, "--train-interval", 8, "--gradient-steps", 4, "--exploration-final-epsilon", 0.04,
    "--hidden-sizes", 128, 128, "--learning-rate", 5e-4, "--new-action-tries", 2_000,
)  # fmt: skip


def run_agent(*arguments: object) -> dict[str, Any]:
    """One command; the JSON object on the last line of its output."""
    command = [*RUN_AGENT, *map(str, arguments), "--json"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def train(directory: Path, *arguments: object) -> None:
    """A run, or what is left of it."""
    if (directory / "checkpoint.safetensors").exists():
        run_agent("train", "--resume", directory, "--quiet")
    else:
        run_agent("train", *arguments, "--dir", directory, "--quiet")


def plateau(seed: int, directory: Path) -> dict[str, Any]:
    """Scores with growth and without."""
    result: dict[str, Any] = {"seed": seed}
    for name, flags in {"grown": ("--structure", "plateau"), "fixed": ()}.items():
        run = directory / f"plateau-{name}-{seed}"
        train(run, *PLATEAU, "--seed", seed, *flags)
        score = run_agent("eval", run, "--episodes", 100, "--seed", 10_000 + seed)
        structure = run_agent("info", run)["structure"]
        result[name] = {"mean_return": score["mean_return"], "layers": structure["now"]}
        if flags:
            keep = ("step", "edit", "layer", "units", "parameters", "output_change", "reward_before", "reward_after", "reason")
            result["edits"] = [{k: edit[k] for k in keep} for edit in structure["edits"]]
    print(
        f"plateau seed {seed}: grown {result['grown']['mean_return']:.1f}, fixed {result['fixed']['mean_return']:.1f}", flush=True
    )
    return result


def trial(seed: int, directory: Path) -> dict[str, Any]:
    """Scores and units of networks that lose units, on trial and for good, and of those that lose none."""
    text = (ROOT / "rlcore" / "structures" / "slim.toml").read_text()
    for_good = directory / f"slim-{seed}.toml"
    for_good.write_text(text[: text.index("[rule.trial]")])
    result: dict[str, Any] = {"seed": seed}
    for name, structure in {"on trial": ("--structure", "slim"), "for good": ("--structure", for_good), "untouched": ()}.items():
        run = directory / f"trial-{name.replace(' ', '-')}-{seed}"
        train(run, *SLIM, "--seed", seed, *structure)
        score = run_agent("eval", run, "--episodes", 100, "--seed", 10_000 + seed)
        history = run_agent("info", run)["structure"]
        kinds = [edit["edit"] for edit in history["edits"]]
        result[name] = {
            "mean_return": score["mean_return"],
            "units": history["now"]["actor.0"],
            "rollbacks": kinds.count("rollback"),
        }
    print(f"trial seed {seed}: {result}", flush=True)
    return result


def new_action(seed: int, directory: Path) -> dict[str, Any]:
    """Returns around the change, and the share of the new action in what the trained agent does."""
    from rlcore import checkpoint
    from rlcore.runs import load

    run = directory / f"new-action-{seed}"
    train(run, *NEW_ACTION, "--seed", seed, "--checkpoint-every", 10_000)
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    def mean(first: int, last: int) -> float:
        returns = [x for e in entries if first < e["step"] <= last for x in e["returns"]]
        return round(statistics.mean(returns), 1)

    before = mean(CHANGE - 5_000, CHANGE)
    after = {str(start): mean(start, start + 2_500) for start in range(CHANGE, 45_000, 2_500)}
    state, _ = checkpoint.load(run)
    fields = state["agent"]["replay"]["fields"]
    late = fields["action"][CHANGE + 8_000 : CHANGE + 10_000]
    score = load(run).evaluate(episodes=20, seed=10_000 + seed)
    result = {
        "seed": seed,
        "before": before,
        "after": after,
        "worst_share": round(min(value for start, value in after.items() if int(start) < CHANGE + 10_000) / before, 3),
        "new_action_share": round(float((late == 2).mean()), 3),
        "evaluation": score.mean,
    }
    print(f"new-action seed {seed}: {result}", flush=True)
    return result


STREAMING = {"stream-q": (), "stream-sarsa": (), "stream-sarsa-taken": ("--next-value", "taken")}
STREAMING_CHANGE, STREAMING_STEPS = 50_000, 100_000


def streaming_action(name: str, seed: int, directory: Path) -> dict[str, Any]:
    """Returns around the change, and how soon and how much the new action is used."""
    run = directory / f"streaming-action-{name}-{seed}"
    flags = STREAMING[name]
    command = (
        "--env",
        "CoastingCartPole-v0",
        "--env-args",
        f"at={STREAMING_CHANGE}",
        "--agent",
        name.removesuffix("-taken"),
        "--steps",
        STREAMING_STEPS,
        *flags,
    )
    train(run, *command, "--seed", seed)
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    def mean(first: int, last: int) -> float:
        return round(statistics.mean(x for e in entries if first < e["step"] <= last for x in e["returns"]), 1)

    def share(some: list[dict[str, Any]]) -> float:
        # A step is worth 1 with the new action, and half of that with another.
        steps = sum(sum(e["lengths"]) for e in some)
        return (2 * sum(sum(e["returns"]) for e in some) - steps) / max(steps, 1)

    before = mean(STREAMING_CHANGE - 5_000, STREAMING_CHANGE)
    after = {start: mean(start, start + 2_500) for start in range(STREAMING_CHANGE, STREAMING_STEPS, 2_500)}
    late = [e for e in entries if e["step"] > STREAMING_CHANGE]
    worst = min(after, key=lambda start: after[start])
    result = {
        "agent": name,
        "seed": seed,
        "before": before,
        "after": {str(start): value for start, value in after.items()},
        "worst_share": round(after[worst] / before, 3),
        "worst_at": worst - STREAMING_CHANGE,
        "steps_to_a_tenth": next((e["step"] - STREAMING_CHANGE for e in late if share([e]) >= 0.1), None),
        "new_action_share": round(share([e for e in late if e["step"] > STREAMING_STEPS - 5_000]), 3),
    }
    print(f"streaming-action: {result}", flush=True)
    return result


def stall(rounds: int = 12) -> dict[str, Any]:
    """Milliseconds from `act` to `act`."""
    from gymnasium.spaces import Box, Discrete

    from agents.dqn import DQN, DQNConfig
    from rlcore.living import Life, read_plan

    rule = {"layer": "network.0", "interval": 1, "policy": {"name": "every"}, "edit": {"name": "grow", "units": 8}}
    config = DQNConfig(train_interval=1, learning_starts=100, batch_size=32)
    agent = DQN(config, Box(-1, 1, (4,), np.float32), Discrete(2), num_envs=1, total_steps=100_000, seed=0)
    life = Life(agent, read_plan({"rule": [rule]}, "stall"))
    rng, x = np.random.default_rng(0), np.zeros((1, 4), np.float32)
    no = np.zeros(1, bool)

    def longest(count: int, edit_at: int) -> tuple[float, float]:
        nonlocal x
        worst, busy = 0.0, 0.0
        start = time.perf_counter(), time.thread_time()
        for i in range(count):
            action = agent.act(x)
            now = time.perf_counter(), time.thread_time()
            worst, busy = max(worst, now[0] - start[0]), max(busy, now[1] - start[1])
            after = rng.uniform(-1, 1, (1, 4)).astype(np.float32)
            agent.observe(x, action, np.ones(1, np.float32), after, no, no, ~no)
            metrics = agent.learn()
            if i == edit_at and metrics is not None:
                life.look(agent.steps, metrics)
            x = after
            spent = time.perf_counter() - now[0]
            time.sleep(max(0.0, PERIOD_MS / 1e3 / 4 - spent))  # a world at 200 Hz
            # What this world sleeps is not the agent's.
            slept = time.perf_counter() - now[0] - spent
            start = now[0] + slept, now[1]
        return worst * 1e3, busy * 1e3

    longest(500, -1)
    quiet, edited = [], []
    for _ in range(rounds):
        quiet.append(longest(200, -1))
        edited.append(longest(400, 20))  # until machine code has taken over
    assert len(life.edits) == rounds
    figures = {"median": statistics.median, "worst": max}
    result = {
        name: {
            clock: {k: round(f([v[i] for v in values]), 2) for k, f in figures.items()}
            for i, clock in enumerate(("clock", "processor"))
        }
        for name, values in (("quiet", quiet), ("edited", edited))
    }
    print(f"stall: {result}", flush=True)
    return result


LIVE = ("stream-ac", "CartPole-v1", "--hz", 50, "--minutes", 1)


def live(directory: Path, flags: list[str], rounds: int = 3) -> dict[str, Any]:
    """Figures of runs in real time, with edits and without."""
    from rlcore.runs import load

    structure = directory / "growth.toml"
    structure.write_text(
        "[[rule]]\nlayer = ['actor.0', 'critic.0']\ninterval = 250\n"
        "policy = {name = 'every'}\nedit = {name = 'grow', units = 8}\n"
    )
    runs: dict[str, list[dict[str, Any]]] = {"quiet": [], "edited": []}
    edits = 0
    for number in range(rounds):
        for name, extra in (("quiet", []), ("edited", ["--structure", structure])):
            run = directory / f"live-{name}-{number}"
            runs[name].append(run_agent("live", *LIVE, *extra, *flags, "--dir", run, "--seed", number, "--quiet"))
            edits += len(load(run).edits)
    result: dict[str, Any] = {
        name: {
            **{figure: sum(run[figure] for run in each) for figure in ("ticks", "missed", "held", "lost")},
            "p99_ms": round(statistics.median(run["latency_p99_ms"] for run in each), 2),
            "worst_ms": round(max(run["latency_max_ms"] for run in each), 2),
        }
        for name, each in runs.items()
    }
    result["edits"] = edits
    print(f"live: {result}", flush=True)
    return result


def seeds(task: Callable[[int, Path], dict[str, Any]], directory: Path, jobs: int) -> list[dict[str, Any]]:
    """A task for each seed."""
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda seed: task(seed, directory), SEEDS))


def main() -> int:
    """Run, print, record; 1 where a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=NAMES, action="append")
    parser.add_argument("--priority", action="store_true", help="run-agent live --priority, for a machine with other work")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--dir", type=Path, help="where runs are kept; runs that are there are gone on with")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "living.json")
    options = parser.parse_args()
    names = options.only or list(NAMES)
    results: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    met = {}
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.dir or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        if "plateau" in names:
            runs = seeds(plateau, directory, options.jobs)
            met["plateau"] = all(run["grown"]["mean_return"] >= 475 for run in runs)
            results["plateau"] = {"command": list(map(str, PLATEAU)), "floor": ">= 475 in 5 of 5 seeds, grown", "seeds": runs}
        if "trial" in names:
            runs = seeds(trial, directory, options.jobs)
            results["trial"] = {"command": list(map(str, SLIM)), "floor": "shown, no floor", "seeds": runs}
        if "new-action" in names:
            runs = seeds(new_action, directory, options.jobs)
            met["new-action"] = all(run["worst_share"] >= 0.9 and run["new_action_share"] >= 0.1 for run in runs)
            floor = "in the 10,000 steps after the change no stretch below 0.9 of before, and the new action at least a tenth"
            results["new-action"] = {"command": list(map(str, NEW_ACTION)), "floor": floor, "seeds": runs}
        if "streaming-action" in names:
            each = [
                seeds(lambda seed, where, n=name: streaming_action(n, seed, where), directory, options.jobs) for name in STREAMING
            ]
            results["streaming-action"] = {"floor": "shown, no floor", "seeds": [run for runs in each for run in runs]}
        if "stall" in names:
            busy = round(os.getloadavg()[0], 1)
            results["stall"] = {"floor": f"worst <= {PERIOD_MS:g} ms (50 Hz)", "milliseconds": stall(), "load": busy}
            met["stall"] = results["stall"]["milliseconds"]["edited"]["clock"]["worst"] <= PERIOD_MS
        if "live" in names:
            busy = round(os.getloadavg()[0], 1)
            flags = ["--priority"] if options.priority else []
            figures = live(directory, flags)
            command = [*map(str, LIVE), *flags]
            results["live"] = {
                "command": command,
                "floor": f"worst <= {PERIOD_MS:g} ms (50 Hz)",
                "figures": figures,
                "load": busy,
            }
            met["live"] = figures["edited"]["worst_ms"] <= PERIOD_MS
    for name, ok in met.items():
        results[name]["reached"] = ok
        print(f"{name}: {results[name]['floor']}: {'ok' if ok else 'MISSED'}")
    results["machine"] = {"python": platform.python_version(), "processor": platform.machine(), "cores": os.cpu_count()}
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    return int(not all(met.values()))


if __name__ == "__main__":
    sys.exit(main())
