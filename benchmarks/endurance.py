#!/usr/bin/env python3
"""Whether a long run grows: a million eager learning steps, and a chain of 200,000 nodes backward.

    python benchmarks/endurance.py [--steps 1000000]

Prints resident memory at ten points of the run; its growth after the first tenth must stay under 1 MB.
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


def steps(n: int) -> list[float]:
    """Memory at ten points of ``n`` learning steps of a small network."""
    T.manual_seed(0)
    net = T.nn.Sequential(T.nn.Linear(4, 8), T.nn.Tanh(), T.nn.Linear(8, 2))
    optimizer = T.optim.Adam(net.parameters(), lr=1e-3)
    x, y = T.randn(4, 4), T.randn(4, 2)
    seen = []
    for i in range(1, n + 1):
        optimizer.zero_grad()
        ((net(x) - y) ** 2).mean().backward()
        optimizer.step()
        if i % (n // 10) == 0:
            seen.append(round(resident(), 2))
    return seen


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
    options = parser.parse_args()
    begun = time.perf_counter()
    memory = steps(options.steps)
    took = time.perf_counter() - begun
    print(
        json.dumps(
            {
                "steps": options.steps,
                "us_per_step": round(took / options.steps * 1e6, 1),
                "resident_mb": memory,
                "growth_mb": round(memory[-1] - memory[0], 2),
                "chain_of_200000_s": round(chain(200_000), 2),
            }
        )
    )
