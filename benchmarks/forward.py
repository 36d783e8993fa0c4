"""A learning step whose loop is the caller's: only the network, or only the loss, is compiled; time a step beside PyTorch eager.

    python benchmarks/forward.py [--rounds 7] [--json FILE]

A 4-64-64-2 network with Adam, one thread each; variants take turns within a round. Needs PyTorch as the peer; its own compiler is
measured too where it works. Exits with 1 where the compiled network misses its floor.

About a minute on two cores. Nothing is recorded.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from compiled import ready, seconds  # noqa: E402
from workloads import Call, mlp, normal  # noqa: E402

#: Time of the step with a compiled network relative to PyTorch eager.
FLOOR = 0.35
BATCHES = (1, 32, 256)


def step(T: Any, batch: int, what: str) -> Call:
    """A step with ``what`` compiled: nothing, the network, the loss."""
    T.manual_seed(0)
    net = mlp(T, 4, 64, 64, 2)
    optimizer = T.optim.Adam(net.parameters(), lr=1e-3)
    x, y = normal(T, batch, 4), normal(T, batch, 2, seed=1)
    forward = T.compile(net) if what == "network" else net

    def error(x: Any, y: Any) -> Any:
        return ((forward(x) - y) ** 2).mean()

    loss = T.compile(error) if what == "loss" else error

    def call() -> None:
        optimizer.zero_grad()
        loss(x, y).backward()
        optimizer.step()

    return call


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    tensor, torch = importlib.import_module("tensor"), importlib.import_module("torch")
    torch.set_num_threads(1)
    figures: dict[str, dict[str, float]] = {}
    for batch in BATCHES:
        calls = {
            "torch": step(torch, batch, "nothing"),
            "eager": step(tensor, batch, "nothing"),
            "network": step(tensor, batch, "network"),
            "loss": step(tensor, batch, "loss"),
        }
        try:
            compiled = step(torch, batch, "network")
            compiled()
            calls["torch, network"] = compiled
        except Exception as e:
            print(f"torch.compile: {type(e).__name__}")
        for call in calls.values():
            ready(call)
        times: dict[str, list[float]] = {kind: [] for kind in calls}
        for _ in range(given.rounds):
            for kind, call in calls.items():
                times[kind].append(seconds(call, 0.1))
        row = {kind: round(statistics.median(each) * 1e6, 1) for kind, each in times.items()}
        for kind in calls:
            ratios = [a / b for a, b in zip(times[kind], times["torch"], strict=True)]
            row[f"{kind}/torch"] = round(statistics.median(ratios), 3)
        figures[f"batch {batch}"] = row
        print(f"batch {batch:<4d}" + "  ".join(f"{key} {value:g}" for key, value in row.items()), flush=True)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    held = all(row["network/torch"] <= FLOOR for row in figures.values())
    print(f"compiled network: floor {FLOOR}x PyTorch eager: {'held' if held else 'missed'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
