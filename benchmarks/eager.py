#!/usr/bin/env python3
"""Eager speed on small networks beside PyTorch: `python benchmarks/eager.py [--rounds 7] [--json FILE]`.

Both libraries run the same source, one thread each, taking turns, so that a machine's drift hits both alike; ratios are medians
over rounds. PyTorch is not a dependency: without it (`pip install torch`) only our own times are printed.

``python benchmarks/eager.py --json benchmarks/results/eager.json`` records; about ten seconds on two cores.
"""

import argparse
import importlib
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

SIZES = (4, 64, 64, 2)


def add(lib: Any, recorded: bool) -> Callable[[], Any]:
    """A sum of two vectors of four."""
    a, b = lib.tensor(np.arange(4, dtype="f")), lib.tensor(np.ones(4, "f"))
    a.requires_grad_(recorded)
    return lambda: a + b


def network(lib: Any, batch: int) -> tuple[Any, Any, Any]:
    """A network with an input and a target."""
    lib.manual_seed(0)
    layers: list[Any] = []
    for i, o in itertools.pairwise(SIZES):
        layers += [lib.nn.Linear(i, o), lib.nn.Tanh()]
    rng = np.random.default_rng(batch)
    x, y = (lib.tensor(rng.normal(size=(batch, n)).astype("f")) for n in (SIZES[0], SIZES[-1]))
    return lib.nn.Sequential(*layers[:-1]), x, y


def act(lib: Any, batch: int) -> Callable[[], Any]:
    """A forward pass without recording, into NumPy."""
    net, x, _ = network(lib, batch)

    def run() -> Any:
        with lib.no_grad():
            return net(x).numpy()

    return run


def step(lib: Any, batch: int) -> Callable[[], Any]:
    """Forward, backward and an Adam update."""
    net, x, y = network(lib, batch)
    optimizer = lib.optim.Adam(net.parameters(), lr=1e-3)

    def run() -> None:
        optimizer.zero_grad()
        ((net(x) - y) ** 2).mean().backward()
        optimizer.step()

    return run


#: Name to (what is run, the largest ratio to PyTorch that is good).
WORK: dict[str, tuple[Callable[[Any], Callable[[], Any]], float]] = {
    "small add": (lambda lib: add(lib, False), 0.8),
    "small add, recorded": (lambda lib: add(lib, True), 0.5),
    **{f"act, batch {b}": ((lambda lib, b=b: act(lib, b)), 0.4) for b in (1, 32, 256)},
    **{f"learning step, batch {b}": ((lambda lib, b=b: step(lib, b)), most) for b, most in ((1, 0.25), (32, 0.25), (256, 0.6))},
}


def microseconds(run: Callable[[], Any], budget: float = 0.08) -> float:
    """Mean time of a call, over as many calls as fit the budget."""
    begun = time.perf_counter()
    run()
    count = max(3, int(budget / max(time.perf_counter() - begun, 1e-7)))
    begun = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - begun) / count * 1e6


def main() -> int:
    """Print a line a workload; 1 where a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    libraries = {"ours": importlib.import_module("tensor")}
    try:
        libraries["torch"] = importlib.import_module("torch")
        libraries["torch"].set_num_threads(1)
    except ImportError:
        print("PyTorch is not installed: no ratios")
    rows, missed = {}, False
    for name, (make, most) in WORK.items():
        runs = {label: make(lib) for label, lib in libraries.items()}
        for run in runs.values():
            for _ in range(30):
                run()
        times = [{label: microseconds(run) for label, run in runs.items()} for _ in range(options.rounds)]
        row = {f"{label}_us": round(statistics.median(t[label] for t in times), 2) for label in runs}
        verdict = ""
        if "torch" in runs:
            row["ratio"] = round(statistics.median(t["ours"] / t["torch"] for t in times), 3)
            missed |= row["ratio"] > most
            verdict = f"  at most {most}: {'ok' if row['ratio'] <= most else 'missed'}"
        rows[name] = row
        print(f"{name:26}" + "  ".join(f"{k} {v}" for k, v in row.items()) + verdict, flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
