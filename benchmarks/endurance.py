#!/usr/bin/env python3
"""Whether a long run grows or slows down: a million learning steps on one batch, and a chain of 200,000 nodes backward.

    python benchmarks/endurance.py [--steps 1000000] [--compiled]

Prints resident memory and the time of a step at ten points of the run; memory's growth after the first tenth must stay under
1 MB. On one batch a run converges, and its gradients and moments become so small that unprepared code slows down tenfold.

About two minutes on two cores; compiled, a quarter of a minute. Nothing is recorded.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tensor as T


def resident() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def steps(n: int, compiled: bool) -> tuple[list[float], list[float]]:
    """Memory, and microseconds a step, at ten points of ``n`` learning steps of a small network."""
    T.manual_seed(0)
    net = T.nn.Sequential(T.nn.Linear(4, 8), T.nn.Tanh(), T.nn.Linear(8, 2))
    optimizer = T.optim.Adam(net.parameters(), lr=1e-3)
    x, y = T.randn(4, 4), T.randn(4, 2)

    def step(x: T.Tensor, y: T.Tensor) -> T.Tensor:
        optimizer.zero_grad()
        loss = ((net(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    call = T.compile(step) if compiled else step
    seen, times, begun = [], [], time.perf_counter()
    for i in range(1, n + 1):
        call(x, y)
        if i % (n // 10) == 0:
            seen.append(round(resident(), 2))
            times.append(round((time.perf_counter() - begun) / (n // 10) * 1e6, 2))
            begun = time.perf_counter()
    return seen, times


def chain(n: int) -> float:
    """Seconds for ``n`` operations in a row and back."""
    begun = time.perf_counter()
    x = T.ones(1, requires_grad=True)
    y = x
    for _ in range(n):
        y = y + 1
    y.backward()
    assert x.grad is not None
    assert x.grad.item() == 1
    del y
    return time.perf_counter() - begun


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--compiled", action="store_true")
    options = parser.parse_args()
    memory, times = steps(options.steps, options.compiled)
    print(
        json.dumps(
            {
                "steps": options.steps,
                "us_per_step": times,
                "resident_mb": memory,
                "growth_mb": round(memory[-1] - memory[0], 2),
                "chain_of_200000_s": round(chain(200_000), 2),
            }
        )
    )
