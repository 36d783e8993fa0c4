"""A small network beside its peers: `tensor` eager and compiled, PyTorch, JAX, and C: time a call, in one run.

    python benchmarks/steps.py [--rounds 7] [--only step,act,grow,tree] [--record]

Peers that are not installed are left out (`pip install torch jax`); C needs a compiler. One thread each; variants take turns
within a round. ``--record`` adds the figures to ``benchmarks/results/steps.json`` under the commit; `scripts/draw_steps.py` draws
them. Exits with 1 where a floor is missed.

About a minute on two cores.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from compiled import ready, seconds  # noqa: E402
from peers import SIZES, Call, batch_of, c_step, jax_step  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "steps.json"

#: (workload, variant, relative to, at most).
FLOORS = [
    ("step, batch 1", "compiled", "c", 2.0), ("step, batch 32", "compiled", "c", 1.5), ("step, batch 256", "compiled", "c", 1.0),
    ("step, batch 1", "compiled", "jax", 0.1), ("step, batch 32", "compiled", "jax", 0.2),
    ("step, batch 256", "compiled", "jax", 0.5), ("act, batch 1", "compiled", "torch", 0.1), ("tree", "eager", "torch", 0.35),
    ("grow", "compiled", "torch", 0.25), ("grow, slowest step", "compiled", "5 ms", 1.0),
]  # fmt: skip


def network(T: Any, sizes: tuple[int, ...] = SIZES) -> Any:
    """Linear layers with tanh between them."""
    T.manual_seed(0)
    layers: list[Any] = []
    for i, o in pairwise(sizes):
        layers += [T.nn.Linear(i, o), T.nn.Tanh()]
    return T.nn.Sequential(*layers[:-1])


def learning_step(T: Any, net: Any, optimizer: Any) -> Callable[[Any, Any], Any]:
    """Forward, backward and update."""

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = ((net(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return step


def step(T: Any, size: int, compiled: bool = False) -> Call:
    """One learning step with Adam."""
    net = network(T)
    run = learning_step(T, net, T.optim.Adam(net.parameters(), lr=1e-3))
    x, y = map(T.tensor, batch_of(size))
    if compiled:
        run = T.compile(run)
    return lambda: run(x, y)


def act(T: Any, size: int, compiled: bool = False) -> Call:
    """A forward pass without recording, into NumPy."""
    net, x = network(T), T.tensor(batch_of(size)[0])

    def run(x: Any) -> Any:
        with T.no_grad():
            return net(x)

    chosen = T.compile(run) if compiled else run
    return lambda: chosen(x).numpy()


def tree(T: Any, leaves: int = 15, hidden: int = 32) -> Call:
    """A learning step on a new random binary tree at every call."""
    T.manual_seed(0)
    rng = random.Random(0)
    join, leaf, head = T.nn.Linear(2 * hidden, hidden), T.nn.Linear(8, hidden), T.nn.Linear(hidden, 1)
    optimizer = T.optim.SGD([*join.parameters(), *leaf.parameters(), *head.parameters()], lr=1e-3)
    words = T.randn(64, 1, 8)

    def encode(count: int) -> Any:
        if count == 1:
            return T.tanh(leaf(words[rng.randrange(64)]))
        left = rng.randrange(1, count)
        return T.tanh(join(T.cat([encode(left), encode(count - left)], 1)))

    def call() -> None:
        optimizer.zero_grad()
        (head(encode(leaves)) ** 2).mean().backward()
        optimizer.step()

    return call


def grow(T: Any, compiled: bool, steps: int = 1000, every: int = 100, units: int = 8) -> tuple[float, float]:
    """Seconds of a run whose second hidden layer gains units again and again, and of its slowest step."""
    x, y = map(T.tensor, batch_of(32))
    hidden, slowest = SIZES[2], 0.0
    net = network(T)
    optimizer = T.optim.Adam(net.parameters(), lr=1e-3)
    ours = T.__name__ == "tensor"
    run = T.compile(learning_step(T, net, optimizer)) if compiled else learning_step(T, net, optimizer)
    begin = time.perf_counter()
    for i in range(steps):
        start = time.perf_counter()
        if i and i % every == 0:
            hidden += units
            if ours:
                T.structure.grow(net, "2", units, init="zero_out").apply(optimizer)
            else:  # what PyTorch's users write: a larger network, the old one's weights in it, a new optimizer
                larger = network(T, (*SIZES[:2], hidden, SIZES[3]))
                with T.no_grad():
                    for new, old in zip(larger.parameters(), net.parameters(), strict=True):
                        new[tuple(map(slice, old.shape))] = old
                net = larger
                optimizer = T.optim.Adam(net.parameters(), lr=1e-3)
                run = learning_step(T, net, optimizer)
        run(x, y)
        slowest = max(slowest, time.perf_counter() - start)
    return time.perf_counter() - begin, slowest


def calls(libraries: dict[str, Any], only: list[str]) -> dict[str, dict[str, Call]]:
    """The variants of each workload that can run here."""
    ours, torch = libraries["tensor"], libraries.get("torch")
    work: dict[str, dict[str, Call | None]] = {}
    for kind, make in (("step", step), ("act", act)):
        for size in (1, 32, 256):
            if kind in only:
                row = work[f"{kind}, batch {size}"] = {"eager": make(ours, size), "compiled": make(ours, size, compiled=True)}
                row |= {"torch": make(torch, size) if torch else None}
                row |= {"jax": jax_step(size), "c": c_step(size)} if kind == "step" else {}
    if "tree" in only:
        work["tree"] = {"eager": tree(ours), "torch": tree(torch) if torch else None}
    return {name: {variant: call for variant, call in row.items() if call} for name, row in work.items()}


def measure(row: dict[str, Call], rounds: int) -> dict[str, float]:
    """Median microseconds of each variant over rounds in which they take turns."""
    for variant, call in row.items():
        ready(call) if variant == "compiled" else [call() for _ in range(20)]
    times: dict[str, list[float]] = {variant: [] for variant in row}
    for _ in range(rounds):
        for variant, call in row.items():
            times[variant].append(seconds(call, 0.05))
    return {variant: round(statistics.median(taken) * 1e6, 2) for variant, taken in times.items()}


def growing(libraries: dict[str, Any], rounds: int) -> dict[str, dict[str, float]]:
    """Median microseconds of growing runs and of their slowest steps."""
    runs: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        runs.setdefault("compiled", []).append(grow(libraries["tensor"], compiled=True))
        if "torch" in libraries:
            runs.setdefault("torch", []).append(grow(libraries["torch"], compiled=False))
    both = {variant: [round(statistics.median(t) * 1e6, 1) for t in zip(*taken, strict=True)] for variant, taken in runs.items()}
    return {name: {variant: t[i] for variant, t in both.items()} for i, name in enumerate(("grow", "grow, slowest step"))}


def record(figures: dict[str, dict[str, float]]) -> None:
    """Keep the figures under the commit they were measured on."""
    log = subprocess.run(["git", "log", "-1", "--format=%h %cs"], cwd=ROOT, capture_output=True, text=True, check=True)
    commit, date = log.stdout.split()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    kept = [entry for entry in kept if entry["commit"] != commit]
    kept.append({"commit": commit, "date": date, "processor": platform.machine(), "us": figures})
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="step,act,tree,grow", help="kinds of workloads, separated by commas")
    parser.add_argument("--record", action="store_true", help="add the figures to benchmarks/results/steps.json")
    given = parser.parse_args()
    only = given.only.split(",")
    libraries = {"tensor": importlib.import_module("tensor")}
    try:
        libraries["torch"] = importlib.import_module("torch")
        libraries["torch"].set_num_threads(1)
    except ImportError:
        print("without PyTorch: pip install torch")
    figures: dict[str, dict[str, float]] = {}
    for name, row in calls(libraries, only).items():
        figures[name] = measure(row, given.rounds)
        print(f"{name:20s}" + "  ".join(f"{variant} {us:g} us" for variant, us in figures[name].items()), flush=True)
    if "grow" in only:
        figures |= growing(libraries, given.rounds)
        for name in ("grow", "grow, slowest step"):
            print(f"{name:20s}" + "  ".join(f"{variant} {us / 1e3:.2f} ms" for variant, us in figures[name].items()))
    held = True
    for name, variant, other, floor in FLOORS:
        row = figures.get(name, {}) | {"5 ms": 5000.0}
        if variant in row and other in row:
            ratio = row[variant] / row[other]
            held &= ratio <= floor
            print(f"{name}: {variant} is {ratio:.3f}x {other}, floor {floor:g}x: {'held' if ratio <= floor else 'MISSED'}")
    if given.record:
        record(figures)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
