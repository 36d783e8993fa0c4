#!/usr/bin/env python3
"""Speed on a CUDA device beside PyTorch's: `python benchmarks/gpu.py [--rounds 5] [--json FILE]`.

Both libraries run the same source on the same device, taking turns; a workload is timed from an idle device until it is idle
again, over as many calls as fill a tenth of a second. The floor is what the device could do at best: bytes that must move over
the bandwidth of a large copy, or operations over the rate of a large float32 product, both measured in the same run. PyTorch is
not a dependency: without it (`pip install torch`) only our own times are printed.

``python benchmarks/gpu.py --json benchmarks/results/gpu.json`` records; about a minute on an H200.
"""

import argparse
import importlib
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

Make = Callable[[Any], Callable[[], Any]]
SIDE = 4096


def square(lib: Any, seed: int = 0, side: int = SIDE) -> Any:
    """A matrix of normal numbers on the device."""
    return lib.tensor(np.random.default_rng(seed).normal(size=(side, side)).astype("f")).to("cuda")


def elementwise(function: Callable[[Any, Any, Any], Any], side: int = SIDE) -> Make:
    """A workload on two matrices, without recording."""

    def make(lib: Any) -> Callable[[], Any]:
        a, b = square(lib, 0, side), square(lib, 1, side)
        return lambda: function(lib, a, b)

    return make


def network(lib: Any, sizes: tuple[int, ...], batch: int) -> tuple[Any, Any, Any]:
    """A network with an input and a target on the device."""
    lib.manual_seed(0)
    layers: list[Any] = []
    for i, o in itertools.pairwise(sizes):
        layers += [lib.nn.Linear(i, o), lib.nn.ReLU()]
    rng = np.random.default_rng(batch)
    x, y = (lib.tensor(rng.normal(size=(batch, n)).astype("f")).to("cuda") for n in (sizes[0], sizes[-1]))
    return lib.nn.Sequential(*layers[:-1]).to("cuda"), x, y


def learn(sizes: tuple[int, ...], batch: int) -> Make:
    """Forward, backward and an Adam update."""

    def make(lib: Any) -> Callable[[], Any]:
        net, x, y = network(lib, sizes, batch)
        optimizer = lib.optim.Adam(net.parameters(), lr=1e-3)

        def run() -> None:
            loss = ((net(x) - y) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return run

    return make


def convolve(lib: Any) -> Callable[[], Any]:
    """A convolution of 32 images, forward and backward."""
    rng = np.random.default_rng(0)
    x = lib.tensor(rng.normal(size=(32, 32, 64, 64)).astype("f")).to("cuda").requires_grad_()
    conv = lib.nn.Conv2d(32, 64, 3, padding=1).to("cuda")
    return lambda: conv(x).sum().backward()


def upload(lib: Any) -> Callable[[], Any]:
    """64 MB from the host to the device."""
    x = lib.tensor(np.ones((SIDE, SIDE), "f"))
    return lambda: x.to("cuda")


N = SIDE * SIDE
# name -> (workload, bytes that must move, float32 operations)
WORKLOADS: dict[str, tuple[Make, int, int]] = {
    "copy": (elementwise(lambda _, a, __: a.clone()), 8 * N, 0),
    "matmul": (elementwise(lambda _, a, b: a @ b), 12 * N, 2 * SIDE**3),
    "add of 4": (elementwise(lambda _, a, b: a + b, 2), 48, 0),
    "add": (elementwise(lambda _, a, b: a + b), 12 * N, 0),
    "tanh": (elementwise(lambda lib, a, _: lib.tanh(a)), 8 * N, 0),
    "gelu": (elementwise(lambda lib, a, _: lib.nn.functional.gelu(a)), 8 * N, 0),
    "a*b + tanh(a)": (elementwise(lambda lib, a, b: a * b + lib.tanh(a)), 12 * N, 0),
    "sum": (elementwise(lambda _, a, __: a.sum()), 4 * N, 0),
    "sum of rows": (elementwise(lambda _, a, __: a.sum(1)), 4 * N, 0),
    "softmax": (elementwise(lambda lib, a, _: lib.softmax(a, -1)), 8 * N, 0),
    "layer norm": (elementwise(lambda lib, a, _: lib.nn.functional.layer_norm(a, (SIDE,))), 8 * N, 0),
    "cumsum": (elementwise(lambda lib, a, _: lib.cumsum(a, -1)), 8 * N, 0),
    "transpose": (elementwise(lambda _, a, __: a.t().contiguous()), 8 * N, 0),
    "step 4-64-64-2, batch 32": (learn((4, 64, 64, 2), 32), 0, 0),
    "step 1024-4096-1024, batch 1024": (learn((1024, 4096, 1024), 1024), 0, 6 * 1024 * 2 * 1024 * 4096),
    "step of 4 layers of 2048, batch 256": (learn((2048,) * 5, 256), 0, 6 * 256 * 4 * 2048 * 2048),
    "conv2d forward, backward": (convolve, 0, 6 * 32 * 64 * 64 * 64 * 32 * 9),
    "upload 64 MB": (upload, 4 * N, 0),
}


def seconds(run: Callable[[], Any], wait: Callable[[], Any], fill: float = 0.1) -> float:
    """Time of a call, over as many as fill ``fill`` seconds."""
    wait()
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < fill:
        run()
        calls += 1
        if calls % 16 == 0:
            wait()  # so that the clock sees the device's work
    wait()
    return (time.perf_counter() - start) / calls


def measure(libraries: dict[str, Any], make: Make, rounds: int) -> dict[str, Any]:
    """Median seconds of each library over rounds in which they take turns; an error's text in place of a time."""
    runs: dict[str, Callable[[], Any]] = {}
    out: dict[str, Any] = {}
    for name, lib in libraries.items():
        try:
            run = make(lib)
            for _ in range(130):  # kernels are compiled when they are first used, an optimizer's last at its 64th step
                run()
            runs[name] = run
        except Exception as e:
            out[name] = f"{type(e).__name__}: {e}".splitlines()[0]
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run, libraries[name].cuda.synchronize))
    return out | {name: statistics.median(taken) for name, taken in times.items()}


def timed(row: dict[str, Any]) -> dict[str, float]:
    """The libraries that could run a workload, and their seconds."""
    return {name: row[name] for name in ("ours", "torch") if isinstance(row.get(name), float)}


def floor(rows: dict[str, dict[str, Any]], moved: int, operations: int) -> float:
    """Seconds that so many bytes or operations take at the rates of the fastest copy and product in this run."""
    copy, product = (min(timed(rows[name]).values(), default=math.inf) for name in ("copy", "matmul"))
    return max(moved * copy / WORKLOADS["copy"][1], operations * product / WORKLOADS["matmul"][2])


def main() -> None:
    """Measure all workloads, print a table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="a part of the names of workloads")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    libraries = {"ours": importlib.import_module("tensor")}
    try:
        libraries["torch"] = importlib.import_module("torch")
    except ImportError:
        print("without PyTorch (pip install torch) there is nothing to compare with")
    rows = {name: measure(libraries, WORKLOADS[name][0], options.rounds) for name in ("copy", "matmul")}
    ratios = []
    for name, (make, moved, operations) in WORKLOADS.items():
        if options.only not in name and name not in rows:
            continue
        row = rows.setdefault(name, {}) or measure(libraries, make, options.rounds)
        rows[name] = row = row | {"floor": floor(rows, moved, operations)}
        shown = " ".join(f"{k} {v * 1e6:10.1f} us" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        if len(times := timed(row)) == 2:
            ratios.append(times["ours"] / times["torch"])
            shown += f" {ratios[-1]:7.2f}x"
        print(f"{name:36} {shown}", flush=True)
    if ratios:
        print(f"geometric mean of {len(ratios)}: {statistics.geometric_mean(ratios):.2f}x PyTorch's time")
    if options.json:
        about = {
            "device": libraries["ours"].cuda.get_device_name(),
            "torch": getattr(libraries.get("torch"), "__version__", None),
        }
        options.json.write_text(json.dumps({"about": about, "workloads": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
