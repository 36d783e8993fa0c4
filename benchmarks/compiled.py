"""Learning steps of many kinds (`workloads.py`), eager and compiled, beside PyTorch eager: time a step, and the ratio in one run.

    python benchmarks/compiled.py [--rounds 5] [--only ppo,lstm] [--json FILE]

Needs PyTorch as the peer (`pip install torch`). One thread each; variants take turns within a round. Exits with 1 where the
geometric mean misses its floor.

``python benchmarks/compiled.py --json benchmarks/results/compiled.json`` records; about a minute on two cores.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import time
from math import exp, log
from pathlib import Path
from typing import Any

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from workloads import WORKLOADS, Call  # noqa: E402

#: Geometric means of time relative to PyTorch eager that the project holds itself to.
FLOORS = {"compiled": 0.25, "eager": 0.6}


def seconds(call: Call, budget: float) -> float:
    """Mean time of a call."""
    start = time.perf_counter()
    call()
    once = max(time.perf_counter() - start, 1e-7)
    count = max(3, int(budget / once))
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def ready(call: Call) -> None:
    """Call until machine code, if any comes, has taken over."""
    for _ in range(20):
        call()
    until = time.perf_counter() + 1.5
    while time.perf_counter() < until:
        call()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=0.05, help="seconds a measurement")
    parser.add_argument("--only", default="", help="parts of names, separated by commas")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    tensor, torch = importlib.import_module("tensor"), importlib.import_module("torch")
    torch.set_num_threads(1)
    names = [n for n in WORKLOADS if not given.only or any(part in n for part in given.only.split(","))]
    figures: dict[str, Any] = {}
    for name in names:
        make = WORKLOADS[name]
        calls = {"torch": make(torch, False), "eager": make(tensor, False), "compiled": make(tensor, True)}
        for call in calls.values():
            ready(call) if call is calls["compiled"] else [call() for _ in range(20)]
        times: dict[str, list[float]] = {kind: [] for kind in calls}
        for _ in range(given.rounds):
            for kind, call in calls.items():
                times[kind].append(seconds(call, given.budget))
        row = {kind: round(statistics.median(values) * 1e6, 2) for kind, values in times.items()}
        for kind in FLOORS:
            row[f"{kind}/torch"] = round(statistics.median(a / b for a, b in zip(times[kind], times["torch"], strict=True)), 4)
        figures[name] = row
        print(f"{name:26s}" + "  ".join(f"{key} {value:g}" for key, value in row.items()), flush=True)
    held = True
    for kind, floor in FLOORS.items():
        mean = exp(statistics.mean(log(figures[name][f"{kind}/torch"]) for name in names))
        figures[f"geometric mean, {kind}"] = round(mean, 4)
        held &= mean <= floor
        print(f"geometric mean, {kind}: {mean:.3f}x PyTorch eager, floor {floor}x: {'held' if mean <= floor else 'missed'}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
