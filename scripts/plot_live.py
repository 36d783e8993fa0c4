#!/usr/bin/env python3
"""Draw what `benchmarks/live.py` measured: `python scripts/plot_live.py [results/live.json] [live-car.svg]`.

Needs matplotlib, which is no dependency of the project: `pip install matplotlib`.
"""

import argparse
import json
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="?", type=Path, default=ROOT / "benchmarks" / "results" / "live.json")
    parser.add_argument("output", nargs="?", type=Path, default=ROOT / "docs" / "_static" / "live-car.svg")
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text(encoding="utf-8"))

    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "rlcore"  # the same figures give the same file
    mpl.rcParams["font.size"] = 9
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    drives = [run["drive"] for run in results["runs"]]
    shortest = min(map(len, drives))
    minutes = np.array([stretch["minute"] for stretch in drives[0][:shortest]])
    metres = np.array([[stretch["metres"] for stretch in drive[:shortest]] for drive in drives])
    (line,) = axes.plot(minutes, metres.mean(0), linewidth=2, marker="o", markersize=3, label=f"mean of {len(drives)} seeds")
    for row in metres:
        axes.plot(minutes, row, color=line.get_color(), alpha=0.35, linewidth=0.8)
    axes.set(xlabel="minutes of driving", ylabel="metres along the road, each minute", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output, metadata={"Date": None} if arguments.output.suffix == ".svg" else None, dpi=150)


if __name__ == "__main__":
    main()
