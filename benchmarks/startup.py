#!/usr/bin/env python3
"""Time and memory before and while the first steps are taken: `python benchmarks/startup.py [--json FILE]`.

Each figure is the best of several fresh processes (the first ones pay for files that are not cached yet).

About half a minute on two cores. Nothing is recorded.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
RUN_AGENT = (sys.executable, "-c", "import sys; from rlcore.cli import main; sys.exit(main())")
TRAIN = (*RUN_AGENT, "train", "--env", "CartPole-v1", "--agent", "ppo")

#: Name to (what is measured, the largest value that is good).
FLOORS = {
    "import_tensor_s": 0.15,  # beyond `import numpy`
    "help_s": 0.7,
    "first_progress_s": 2.0,
    "peak_memory_mb": 200.0,
}


def seconds(command: tuple[str, ...], repeats: int) -> float:
    """The shortest wall time of a command."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True)
        best = min(best, time.perf_counter() - start)
    return best


def first_progress(directory: str) -> float:
    """Seconds until `run-agent train` shows a step beyond the first."""
    command = (*TRAIN, "--dir", directory)
    start = time.perf_counter()
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        lines = (line for line in process.stderr if line.startswith("step ") and not line.startswith("step 0 "))
        shown = next(lines, None)
        elapsed = time.perf_counter() - start
        process.terminate()
        process.stderr.read()
    return elapsed if shown else float("nan")


def peak_memory_mb(directory: str, steps: int) -> float:
    """The largest resident size of a training process. `ru_maxrss` is the maximum over all children: this one comes last."""
    command = (*TRAIN, "--steps", str(steps), "--dir", directory, "--quiet")
    subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100_000, help="of the run whose memory is measured")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()

    python = sys.executable
    numpy = seconds((python, "-c", "import numpy"), arguments.repeats)
    figures = {
        "import_numpy_s": numpy,
        "import_tensor_s": seconds((python, "-c", "import numpy, tensor"), arguments.repeats) - numpy,
        "help_s": seconds((*RUN_AGENT, "--help"), arguments.repeats),
        "train_help_s": seconds((*RUN_AGENT, "train", "--agent", "ppo", "--help"), arguments.repeats),
    }
    with tempfile.TemporaryDirectory() as directory:
        figures["first_progress_s"] = min(first_progress(f"{directory}/{i}") for i in range(min(arguments.repeats, 3)))
        figures["peak_memory_mb"] = peak_memory_mb(f"{directory}/memory", arguments.steps)
    for name, value in figures.items():
        floor = FLOORS.get(name)
        verdict = "" if floor is None else f"   at most {floor}: {'ok' if value <= floor else 'MISSED'}"
        print(f"{name:<18}{value:>9.3f}{verdict}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if all(figures[name] <= floor for name, floor in FLOORS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
