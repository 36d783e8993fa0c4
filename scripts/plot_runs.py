#!/usr/bin/env python3
"""Draw the learning curves of runs, one line per group of seeds: `python scripts/plot_runs.py curve.svg PPO=runs/ppo-*`.

Needs matplotlib, which is no dependency of the project: `pip install matplotlib`.
"""

import argparse
import glob
import json
from pathlib import Path

import numpy as np


def read(directory: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps of a run's log, and the mean return of its last 100 training episodes at each."""
    with (Path(directory) / "metrics.jsonl").open(encoding="utf-8") as file:
        entries = [json.loads(line) for line in file]
    points = [(entry["step"], entry["mean_return"]) for entry in entries if entry["mean_return"] is not None]
    steps, returns = np.array(points, np.float64).T
    return steps, returns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="the picture; its suffix chooses the format")
    parser.add_argument("groups", nargs="+", help="LABEL=PATTERN, the directories of runs that differ only by their seed")
    parser.add_argument("--title", default="")
    parser.add_argument("--limit", type=float, help="draw a dashed line at this return")
    arguments = parser.parse_args()

    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "rlcore"  # the same runs give the same file
    mpl.rcParams["font.size"] = 9
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    if arguments.limit is not None:
        axes.axhline(arguments.limit, color="0.6", linewidth=1, linestyle="--")
    for group in arguments.groups:
        label, _, pattern = group.partition("=")
        runs = [read(directory) for directory in sorted(glob.glob(pattern))]  # noqa: PTH207
        if not runs:
            parser.error(f"no run matches {pattern!r}")
        grid = np.linspace(max(steps[0] for steps, _ in runs), min(steps[-1] for steps, _ in runs), 200)
        curves = np.stack([np.interp(grid, steps, returns) for steps, returns in runs])
        (line,) = axes.plot(grid, curves.mean(0), linewidth=2, label=f"{label} (mean of {len(runs)} seeds)")
        for curve in curves:
            axes.plot(grid, curve, color=line.get_color(), alpha=0.3, linewidth=0.8)
    axes.set(xlabel="environment steps", ylabel="return, last 100 training episodes", title=arguments.title)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(arguments.output, metadata={"Date": None} if arguments.output.endswith(".svg") else None, dpi=150)


if __name__ == "__main__":
    main()
