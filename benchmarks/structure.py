#!/usr/bin/env python3
"""Edits of networks that learn: what they cost, and what they are good for.

    python benchmarks/structure.py [--tasks 100] [--json FILE]

*Edits*: planning and applying a growth by 8 units, with Adam's state, and a learning step before and after it; medians of 25.

*Permuted digits*: the digits of scikit-learn, 8 x 8, their pixels in another order for each task; one pass over each task in
batches of 8, and the share classified rightly before learning from it. Plain Adam, continual backprop and ReDo run on the same
data from the same weights; shown is the mean over the first and the last tasks, for each seed.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

import tensor as T  # noqa: E402
from tensor import nn, structure  # noqa: E402

#: Sizes of a network, and the milliseconds that an edit of it may take.
EDITS = {(4, 64, 64, 2): 1.0, (100, 900, 900, 100): 5.0, (4, 1000, 1000, 2): 5.0}
POLICIES: dict[str, Callable[[Any, Any], Any]] = {
    "plain": lambda net, optimizer: None,
    "continual backprop": lambda net, optimizer: structure.ContinualBackprop(net, optimizer, rate=1e-4, maturity=100),
    "ReDo": lambda net, optimizer: structure.ReDo(net, optimizer, threshold=0.025, period=1000),
}


def network(sizes: tuple[int, ...], activation: Any) -> nn.Sequential:
    """Linear layers with an activation between."""
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


def edit_times(sizes: tuple[int, ...], rounds: int = 25) -> dict[str, float]:
    """Milliseconds of plan, apply, both, and of learning steps before and after."""
    times: dict[str, list[float]] = {name: [] for name in ("plan", "apply", "edit", "step before", "step after")}
    for seed in range(rounds):
        T.manual_seed(seed)
        net, x = network(sizes, nn.Tanh), T.randn(8, sizes[0])
        optimizer = T.optim.Adam(net.parameters())

        def step(net: Any = net, x: Any = x, optimizer: Any = optimizer) -> float:
            start = time.perf_counter()
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
            return time.perf_counter() - start

        step()
        times["step before"].append(min(step() for _ in range(3)))
        start = time.perf_counter()
        edit = structure.grow(net, "2", 8)
        planned = time.perf_counter()
        edit.apply(optimizer)
        done = time.perf_counter()
        times["plan"].append(planned - start)
        times["apply"].append(done - planned)
        times["edit"].append(done - start)
        step()
        times["step after"].append(min(step() for _ in range(3)))
    return {name: round(statistics.median(values) * 1e3, 3) for name, values in times.items()}


def permuted_digits(policy: str, tasks: int, seed: int) -> tuple[list[float], int]:
    """The share classified rightly in each task, and how many units started anew."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels, classes = (digits.data / 16).astype(np.float32), digits.target
    rng = np.random.default_rng(seed)
    T.manual_seed(seed)
    net = network((64, 64, 64, 10), nn.ReLU)
    optimizer = T.optim.Adam(net.parameters(), lr=3e-3)
    renewal = POLICIES[policy](net, optimizer)
    shares = []
    for _ in range(tasks):
        order, pixel_order = rng.permutation(len(pixels)), rng.permutation(64)
        right = 0
        for start in range(0, len(order) - 7, 8):
            rows = order[start : start + 8]
            x, y = T.tensor(pixels[rows][:, pixel_order]), T.tensor(classes[rows])
            scores = net(x)
            right += int((scores.detach().numpy().argmax(1) == classes[rows]).sum())
            loss = nn.functional.cross_entropy(scores, y)
            optimizer.zero_grad()
            loss.backward()
            del scores, loss  # a graph that is alive would be searched at an edit
            optimizer.step()
            if renewal is not None:
                renewal.step(x)
        shares.append(right / (len(order) // 8 * 8))
    return shares, 0 if renewal is None else sum(event["units"] for event in renewal.events)


def main() -> int:
    """Print the figures; 1 where an edit takes longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {"edits": {}, "permuted digits": {}}
    slow = False
    for sizes, most in EDITS.items():
        times = edit_times(sizes)
        slow |= times["edit"] > most
        result["edits"]["-".join(map(str, sizes))] = times
        print(f"{'-'.join(map(str, sizes)):18s}", *(f"{name} {ms:.2f} ms" for name, ms in times.items()), f"(at most {most})")
    few = max(options.tasks // 10, 1)
    for policy in POLICIES:
        runs = []
        for seed in range(options.seeds):
            shares, units = permuted_digits(policy, options.tasks, seed)
            first, last = float(np.mean(shares[:few])), float(np.mean(shares[-few:]))
            runs.append(
                {"first": round(first, 4), "last": round(last, 4), "units": units, "tasks": [round(s, 4) for s in shares]}
            )
            print(
                f"{policy}, seed {seed}: first {few} tasks {first:.3f}, last {few} {last:.3f}, {units} units renewed", flush=True
            )
        result["permuted digits"][policy] = runs
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
