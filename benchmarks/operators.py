#!/usr/bin/env python3
"""Operators beside NumPy (small arrays) and PyTorch (large ones): `python benchmarks/operators.py [--rounds 7] [--json FILE]`.

- Overhead: what an operator without a gradient costs beyond NumPy's function on the same array of 8 float32.
- Large arrays: time relative to PyTorch's, one thread each, a million elements (products and convolutions: what their sizes say).

Libraries take turns, so that a machine's drift hits them alike; figures are medians over rounds of the best of several calls.
PyTorch is not a dependency: without it (`pip install torch`) only the overhead is measured.

``python benchmarks/operators.py --json benchmarks/results/operators.json`` records; about half a minute on two cores.
"""

import argparse
import importlib
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

N = 1_000_000
OVERHEAD = 0.35  #: microseconds
GEOMETRIC_MEAN = 1.3
CONV2D = 2.0

#: Functions of one, and of two arrays, under the same name in NumPy.
SMALL_UNARY = ("exp", "tanh", "sin", "sqrt", "abs", "neg")
SMALL_BINARY = ("add", "sub", "mul", "div", "maximum")
IN_NUMPY = {"neg": "negative", "sub": "subtract", "mul": "multiply", "div": "divide"}
OPERATORS = {"add": "__add__", "sub": "__sub__", "mul": "__mul__", "div": "__truediv__", "neg": "__neg__"}


def array(*shape: int, seed: int = 0) -> Any:
    """Reproducible float32 numbers around 0."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def below(high: int, *shape: int) -> Any:
    """Reproducible indices."""
    return np.random.default_rng(2).integers(0, high, shape)


def conv2d(lib: Any, x: Any, weight: Any) -> Any:
    """A convolution that keeps the size of the image."""
    return lib.nn.functional.conv2d(x, weight, padding=1)


#: Name to (inputs, function of the library and its tensors).
LARGE: dict[str, tuple[list[Any], Callable[..., Any]]] = {
    "add": ([array(N), array(N, seed=1)], lambda lib, a, b: a + b),
    "add, broadcast": ([array(1000, 1000), array(1000, seed=1)], lambda lib, a, b: a + b),
    "mul by a number": ([array(N)], lambda lib, a: a * 2.5),
    "div": ([array(N), array(N, seed=1)], lambda lib, a, b: a / b),
    "exp": ([array(N)], lambda lib, a: a.exp()),
    "tanh": ([array(N)], lambda lib, a: a.tanh()),
    "sigmoid": ([array(N)], lambda lib, a: a.sigmoid()),
    "relu": ([array(N)], lambda lib, a: a.relu()),
    "sqrt": ([abs(array(N))], lambda lib, a: a.sqrt()),
    "clamp": ([array(N)], lambda lib, a: a.clamp(-1, 1)),
    "where": ([array(N), array(N, seed=1)], lambda lib, a, b: lib.where(a > 0, a, b)),
    "sum": ([array(N)], lambda lib, a: a.sum()),
    "sum over rows": ([array(1000, 1000)], lambda lib, a: a.sum(0)),
    "sum over columns": ([array(1000, 1000)], lambda lib, a: a.sum(1)),
    "mean over columns": ([array(1000, 1000)], lambda lib, a: a.mean(1)),
    "max over columns": ([array(1000, 1000)], lambda lib, a: a.amax(1)),
    "argmax": ([array(1000, 1000)], lambda lib, a: a.argmax(1)),
    "var": ([array(1000, 1000)], lambda lib, a: a.var(1)),
    "cumsum": ([array(1000, 1000)], lambda lib, a: a.cumsum(1)),
    "softmax": ([array(1000, 1000)], lambda lib, a: a.softmax(1)),
    "log_softmax": ([array(1000, 1000)], lambda lib, a: a.log_softmax(1)),
    "layer_norm": ([array(1000, 1000)], lambda lib, a: lib.nn.functional.layer_norm(a, (1000,))),
    "index by rows": ([array(10_000, 100), below(10_000, 10_000)], lambda lib, a, i: a[i]),
    "index_select": ([array(10_000, 100), below(10_000, 10_000)], lambda lib, a, i: a.index_select(0, i)),
    "gather": ([array(1000, 1000), below(1000, 1000, 1000)], lambda lib, a, i: a.gather(1, i)),
    "slice": ([array(1000, 1000)], lambda lib, a: a[::2, 1:].contiguous()),
    "mask": ([array(N)], lambda lib, a: a[a > 0]),
    "transpose": ([array(1000, 1000)], lambda lib, a: a.t().contiguous()),
    "cat": ([array(500, 1000), array(500, 1000, seed=1)], lambda lib, a, b: lib.cat([a, b])),
    "sort": ([array(1000, 1000)], lambda lib, a: a.sort(1)),
    "matmul 512": ([array(512, 512), array(512, 512, seed=1)], lambda lib, a, b: a @ b),
    "bmm 64 x 128": ([array(64, 128, 128), array(64, 128, 128, seed=1)], lambda lib, a, b: a @ b),
    "linear": ([array(1000, 1000), array(100, 1000, seed=1)], lambda lib, a, w: lib.nn.functional.linear(a, w)),
    "conv2d 16x32x32x32": ([array(16, 32, 32, 32), array(64, 32, 3, 3, seed=1)], conv2d),
    "conv2d 8x3x64x64": ([array(8, 3, 64, 64), array(32, 3, 3, 3, seed=1)], conv2d),
    "max_pool2d": ([array(16, 64, 32, 32)], lambda lib, a: lib.nn.functional.max_pool2d(a, 2)),
    "avg_pool2d": ([array(16, 64, 32, 32)], lambda lib, a: lib.nn.functional.avg_pool2d(a, 2)),
}  # fmt: skip


def best(run: Callable[[], Any], count: int) -> float:
    """Microseconds of the fastest call."""
    fastest = math.inf
    for _ in range(count):
        begun = time.perf_counter()
        run()
        fastest = min(fastest, time.perf_counter() - begun)
    return fastest * 1e6


def mean(run: Callable[[], Any], count: int = 20_000) -> float:
    """Microseconds of a call, over many: for what is shorter than the clock."""
    begun = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - begun) / count * 1e6


def overhead(lib: Any, rounds: int) -> dict[str, dict[str, float]]:
    """What each small operator costs beyond NumPy's; as an operator of Python where there is one."""
    rows = {}
    a, b = array(8), abs(array(8, seed=1)) + 1
    x, y = lib.tensor(a), lib.tensor(b)
    for name in (*SMALL_UNARY, *SMALL_BINARY):
        ufunc = getattr(np, IN_NUMPY.get(name, name))
        ours = getattr(lib.Tensor, OPERATORS.get(name, name))
        given, tensors = ((b,), (y,)) if name in SMALL_UNARY else ((a, b), (x, y))
        times = []
        for _ in range(rounds):
            if len(given) == 1:
                times.append((mean(lambda f=ufunc, p=given[0]: f(p)), mean(lambda f=ours, p=tensors[0]: f(p))))
            else:
                times.append(
                    (
                        mean(lambda f=ufunc, p=given[0], q=given[1]: f(p, q)),
                        mean(lambda f=ours, p=tensors[0], q=tensors[1]: f(p, q)),
                    )
                )
        numpy_us, ours_us = (statistics.median(t[i] for t in times) for i in (0, 1))
        rows[name] = {"numpy_us": round(numpy_us, 3), "ours_us": round(ours_us, 3), "overhead_us": round(ours_us - numpy_us, 3)}
        print(f"{name:22}" + "  ".join(f"{k} {v}" for k, v in rows[name].items()), flush=True)
    return rows


def large(libraries: dict[str, Any], rounds: int, only: str | None) -> dict[str, dict[str, float]]:
    """Each large workload in both libraries."""
    rows = {}
    for name, (arrays, function) in LARGE.items():
        if only and only not in name:
            continue
        runs = {label: partial(function, lib, *[lib.tensor(x) for x in arrays]) for label, lib in libraries.items()}
        for run in runs.values():
            run()
        times = [{label: best(run, 5) for label, run in runs.items()} for _ in range(rounds)]
        row = {f"{label}_us": round(statistics.median(t[label] for t in times), 1) for label in runs}
        row["ratio"] = round(statistics.median(t["ours"] / t["torch"] for t in times), 3)
        rows[name] = row
        print(f"{name:22}" + "  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    return rows


def main() -> int:
    """Print a line an operator; 1 where a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", help="a part of a name: only large workloads that contain it")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ours = importlib.import_module("tensor")
    results: dict[str, Any] = {}
    missed = False
    if not options.only:
        results["overhead"] = overhead(ours, options.rounds)
        worst = max(row["overhead_us"] for row in results["overhead"].values())
        missed |= worst > OVERHEAD
        print(f"largest overhead {worst} us, at most {OVERHEAD}: {'ok' if worst <= OVERHEAD else 'missed'}\n")
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        print("PyTorch is not installed: no ratios")
        return int(missed)
    torch.set_num_threads(1)
    results["large"] = rows = large({"ours": ours, "torch": torch}, options.rounds, options.only)
    geometric = math.exp(statistics.fmean(math.log(row["ratio"]) for row in rows.values()))
    convolution = max((row["ratio"] for name, row in rows.items() if name.startswith("conv2d")), default=0.0)
    results["geometric_mean"] = round(geometric, 3)
    missed |= geometric > GEOMETRIC_MEAN or convolution > CONV2D
    print(f"geometric mean {geometric:.3f} x PyTorch, at most {GEOMETRIC_MEAN}; conv2d {convolution:.2f}, at most {CONV2D}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
