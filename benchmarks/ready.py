"""How soon a compiled step is there: the first call, machine code from nothing, and machine code from disk.

    python benchmarks/ready.py [--repeats 5]

The step of `benchmarks/steps.py` at batch 32. Each figure is the best of several fresh processes, in milliseconds: the first call
beside twice an eager one (operators have been used before), and how long after its second call a step runs as machine code.
Exits with 1 where a floor is missed.

About half a minute on two cores. Nothing is recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Name to the most milliseconds that are good.
FLOORS = {"first call beyond two eager steps": 1.0, "machine code from nothing": 100.0, "machine code from disk": 10.0}


def child() -> None:
    """Measure in this process, and print what was found."""
    from peers import batch_of
    from steps import learning_step, network

    import tensor as T
    from tensor.jit import codegen

    net = network(T)
    step = learning_step(T, net, T.optim.Adam(net.parameters(), lr=1e-3))
    x, y = map(T.tensor, batch_of(32))

    def milliseconds(call: object) -> float:
        start = time.perf_counter()
        assert callable(call)
        call()
        return (time.perf_counter() - start) * 1e3

    eager = min(milliseconds(lambda: step(x, y)) for _ in range(50))
    first = min(milliseconds(lambda: T.compile(step)(x, y)) for _ in range(20))
    compiled = T.compile(step)
    for _ in range(2):
        compiled(x, y)
    ready = milliseconds(compiled.wait)
    compiled(x, y)
    codegen.keep_on_disk()
    print(json.dumps({"first": first - 2 * eager, "ready": ready, "native": compiled.plans[0].tier == 1}))


def measured(cache: str) -> dict[str, float]:
    """What a fresh process finds, with this directory for machine code."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RLCORE_CACHE": cache, "OPENBLAS_NUM_THREADS": "1"}
    command = (sys.executable, __file__, "--child")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> int:
    """Print the figures beside their floors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child()
        return 0
    found: dict[str, list[float]] = {name: [] for name in FLOORS}
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as cache:
            for name in ("machine code from nothing", "machine code from disk"):
                figures = measured(cache)
                if not figures["native"]:
                    print("expected machine code, which needs: pip install 'rlcore[compile]'")
                    return 1
                found[name].append(figures["ready"])
                found["first call beyond two eager steps"].append(figures["first"])
    for name, floor in FLOORS.items():
        value = min(found[name])
        print(f"{name:<36}{value:>8.2f} ms   at most {floor}: {'ok' if value <= floor else 'MISSED'}")
    return 0 if all(min(found[name]) <= floor for name, floor in FLOORS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
