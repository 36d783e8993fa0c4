#!/usr/bin/env python3
"""Supervised learning on real streams, each sample predicted before it is learnt: `python benchmarks/online.py [--seeds 5]`.

The streams are those that the package river ships; its own models (with its scaler before them) run on the same samples. One
configuration, the default, serves all. The learning rate was chosen among a few on Phishing, on no other.

Records in ``benchmarks/results/online.json``; about twenty seconds on two cores.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import river  # noqa: E402
from river import compose, datasets, linear_model, multiclass, preprocessing  # noqa: E402

from agents.supervised import OnlineClassifier, OnlineRegressor  # noqa: E402
from rlcore.progressive import progressive  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def scaled(model: Any) -> Any:
    return preprocessing.StandardScaler() | model


def of_numbers(model: Any) -> Any:
    return compose.SelectType(int, float) | scaled(model)


@dataclass(frozen=True)
class Task:
    """A stream, our learner, river's model, and by what both are judged."""

    stream: Callable[[], Any]
    ours: Callable[[int], Any]
    theirs: Callable[[], Any]
    figure: str
    floor: bool = False  #: whether ours must be at least as good


def classifier(seed: int) -> Any:
    return OnlineClassifier(seed=seed)


def regressor(seed: int) -> Any:
    return OnlineRegressor(seed=seed)


TASKS = {
    "Phishing": Task(datasets.Phishing, classifier, lambda: scaled(linear_model.LogisticRegression()), "accuracy", True),
    "Bananas": Task(datasets.Bananas, classifier, lambda: scaled(linear_model.LogisticRegression()), "accuracy"),
    "ImageSegments": Task(
        datasets.ImageSegments, classifier, lambda: scaled(multiclass.OneVsRestClassifier(linear_model.LogisticRegression())),
        "accuracy",
    ),
    "TrumpApproval": Task(
        datasets.TrumpApproval, regressor, lambda: of_numbers(linear_model.LinearRegression(intercept_lr=0.1)),
        "mean_absolute_error",
    ),
}  # fmt: skip


def score(learner: Any, task: Task) -> tuple[float, float]:
    """The figure, and microseconds a sample."""
    samples, begun = list(task.stream()), time.perf_counter()
    (end,) = progressive(learner, samples)
    return getattr(end, task.figure), (time.perf_counter() - begun) / len(samples) * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=TASKS, action="append")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "online.json")
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    missed = False
    for name in arguments.only or TASKS:
        task = TASKS[name]
        theirs, their_us = score(task.theirs(), task)
        ours = [score(task.ours(seed), task) for seed in range(arguments.seeds)]
        figures, our_us = [figure for figure, _ in ours], statistics.median(us for _, us in ours)
        mean = statistics.mean(figures)
        missed |= task.floor and mean < theirs
        print(
            f"{name}: {task.figure} {mean:.4f} ({min(figures):.4f} to {max(figures):.4f} over {len(figures)} seeds), "
            f"river's {theirs:.4f}" + (f": {'ok' if mean >= theirs else 'MISSED'}" if task.floor else "")
            + f"; {our_us:.0f} and {their_us:.0f} us a sample"
        )  # fmt: skip
        results[name] = {
            "figure": task.figure,
            "mean": mean,
            "seeds": figures,
            "river": theirs,
            "us": our_us,
            "river_us": their_us,
        }
    results["machine"] = {"python": platform.python_version(), "river": river.__version__, "cores": os.cpu_count()}
    arguments.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
