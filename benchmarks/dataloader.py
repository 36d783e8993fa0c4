#!/usr/bin/env python3
"""Loading many small items by two workers, beside PyTorch: `python benchmarks/dataloader.py [--rounds 3] [--json FILE]`.

Both libraries run the same dataset code and loop, taking turns, so that a drift of the machine hits both alike; ratios are
medians over rounds. An epoch is timed from `iter` to the last batch, the start of the workers included: ours are started afresh
(spawn), PyTorch's as it does by default. `kept` is an epoch of persistent workers that are running already. PyTorch is not a
dependency: without it (`pip install torch`) only our own times are printed.

``python benchmarks/dataloader.py --json benchmarks/results/dataloader.json`` records; about five minutes on two cores.
"""

import argparse
import importlib
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

ITEMS, WIDTH, WORKERS = 100_000, 16, 2


class Items:
    """Rows and their classes, as anyone would write it: for both libraries, of either's tensors or of arrays."""

    def __init__(self, rows: Any, classes: Any) -> None:
        self.rows, self.classes = rows, classes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return self.rows[i], int(self.classes[i])


def arrays(lib: Any) -> Items:
    """A dataset of NumPy arrays."""
    rng = np.random.default_rng(0)
    return Items(rng.random((ITEMS, WIDTH), dtype=np.float32), rng.integers(0, 10, ITEMS))


def tensors(lib: Any) -> Items:
    """A dataset of the library's own tensors."""
    items = arrays(lib)
    return Items(lib.tensor(items.rows), items.classes)


#: Name to (dataset, batch size, the smallest ratio to PyTorch's throughput that is good).
WORK: dict[str, tuple[Callable[[Any], Items], int, float]] = {
    f"{make.__name__}, batches of {size}": (make, size, 1.5) for make in (arrays, tensors) for size in (32, 64, 128)
}


def epoch(loader: Any) -> tuple[float, float]:
    """Seconds to the first batch, and to the end."""
    begun = time.perf_counter()
    batches = iter(loader)
    count = len(next(batches)[0])
    first = time.perf_counter() - begun
    for rows, _ in batches:
        count += len(rows)
    whole = time.perf_counter() - begun
    if count != ITEMS:
        msg = f"expected {ITEMS} items, got {count}"
        raise RuntimeError(msg)
    return first, whole


def measure(lib: Any, data: Any, make: Callable[[Any], Items], size: int) -> dict[str, float]:
    """One round of a workload."""
    options = {"batch_size": size, "shuffle": True, "num_workers": WORKERS}
    items = make(lib)
    first, whole = epoch(data.DataLoader(items, **options))
    kept = data.DataLoader(items, persistent_workers=True, **options)
    epoch(kept)
    return {"items_per_s": ITEMS / whole, "kept_items_per_s": ITEMS / epoch(kept)[1], "first_batch_s": first}


def main() -> int:
    """Print a line a workload; 1 where a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ours = importlib.import_module("tensor")
    libraries = {"ours": (ours, ours.data)}
    try:
        torch = importlib.import_module("torch")
        libraries["torch"] = (torch, importlib.import_module("torch.utils.data"))
    except ImportError:
        print("PyTorch is not installed: no ratios")
    rows, missed = {}, False
    for name, (make, size, least) in WORK.items():
        rounds = [{label: measure(*lib, make, size) for label, lib in libraries.items()} for _ in range(options.rounds)]
        row: dict[str, float] = {}
        for label in libraries:
            for what in rounds[0][label]:
                median = statistics.median(r[label][what] for r in rounds)
                row[f"{label}_{what}"] = round(median, 3) if median < 100 else round(median)
        verdict = ""
        if "torch" in libraries:
            for what in ("", "kept_"):
                ratios = (r["ours"][f"{what}items_per_s"] / r["torch"][f"{what}items_per_s"] for r in rounds)
                row[f"{what}ratio"] = round(statistics.median(ratios), 2)
            good = row["ratio"] >= least
            missed |= not good
            verdict = f"  at least {least}: {'ok' if good else 'missed'}"
        rows[name] = row
        print(f"{name:24}" + "  ".join(f"{k} {v}" for k, v in row.items()) + verdict, flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
