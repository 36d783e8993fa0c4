"""Draw what `benchmarks/routing.py` kept: where a Neural Turing machine looks while it copies, and how long ACT thinks.

python scripts/draw_routing.py benchmarks/results/routing.json docs/_static/routing.svg
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, TOP, BOTTOM = 1140, 380, 70, 334
COLORS = {"write": "#e45756", "read": "#4c78a8", "one step": "#e45756", "ACT": "#4c78a8"}


def text(x: float, y: float, content: str, color: str = "#333", size: int = 11, anchor: str = "start") -> str:
    """A line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}">{escape(content)}</text>'


def legend(left: float, names: Sequence[str], labels: Sequence[str]) -> str:
    """Squares of color with what they stand for."""
    parts, x = [], left
    for name, label in zip(names, labels, strict=True):
        parts += [f'<rect x="{x:.1f}" y="34" width="10" height="10" fill="{COLORS[name]}"/>', text(x + 15, 43, label)]
        x += 34 + 6 * len(label)
    return "\n".join(parts)


def heads(seen: Mapping[str, Any], left: float, width: float) -> str:
    """A column for each step, a row for each slot that is looked at: the darker, the more of the head's weight is there."""
    slots, length = seen["slots"], seen["length"]
    pairs = {
        name: [[(int(slot), float(weight)) for slot, weight in (pair.split(":") for pair in step.split())] for step in seen[name]]
        for name in ("write", "read")
    }
    steps = len(pairs["write"])
    # slots lie on a ring: counted from where the sequence is written first
    first = max(pairs["write"][1], key=lambda pair: pair[1])[0]
    at = {
        name: [[((slot - first + slots // 2) % slots - slots // 2, weight) for slot, weight in step] for step in each]
        for name, each in pairs.items()
    }
    rows = [row for columns in at.values() for step in columns for row, weight in step if weight >= 0.5]
    low, high = min(rows), max(rows)
    w, h = width / steps, (BOTTOM - TOP) / (high - low + 1)
    parts = [
        text(left, 20, f"A Neural Turing machine copies {length} vectors: where its heads look", size=13),
        legend(left, ("write", "read"), ("writing head", "reading head")),
        f'<rect x="{left}" y="{TOP}" width="{width}" height="{BOTTOM - TOP}" fill="#f7f7f7"/>',
    ]
    for name, columns in at.items():
        for step, looks in enumerate(columns):
            for row, weight in looks:
                if low <= row <= high:
                    place = f'x="{left + step * w:.1f}" y="{TOP + (row - low) * h:.1f}" width="{w:.1f}" height="{h:.1f}"'
                    parts.append(f'<rect {place} fill="{COLORS[name]}" opacity="{0.85 * weight:.2f}"/>')
    middle = left + (length + 1) * w
    parts.append(f'<path d="M {middle:.1f} {TOP - 6} V {BOTTOM}" stroke="#555" stroke-dasharray="3 3"/>')
    parts.append(text(middle + 4, TOP - 2, "mark: end of the sequence", "#555", 10))
    parts.append(text(left + (length + 1) * w / 2, BOTTOM + 16, "the sequence goes in", "#555", 11, "middle"))
    parts.append(text(middle + (length + 1) * w / 2, BOTTOM + 16, "its copy comes out", "#555", 11, "middle"))
    parts.append(
        text(
            left + width / 2,
            BOTTOM + 34,
            f"steps; rows are slots of the memory, {high - low + 1} of {slots}",
            "#777",
            10,
            "middle",
        )
    )
    return "\n".join(parts)


def ceiling(value: float) -> float:
    """The next number above that divides well."""
    power = 10.0 ** math.floor(math.log10(value or 1))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value)


def curves(
    runs: Sequence[Mapping[str, Any]], what: str, variants: Sequence[str], left: float, width: float, title: str, below: str
) -> str:
    """A thin line for each seed, by the difficulty of the input."""
    series = [(variant, run[variant][what]) for variant in variants for run in runs]
    top = ceiling(max(value for _, values in series for value in values))
    count = len(series[0][1])

    def y(value: float) -> float:
        return BOTTOM - value / top * (BOTTOM - TOP)

    parts = [text(left, 20, title, size=13), legend(left, variants, variants)]
    for k in range(5):
        parts.append(f'<path d="M {left} {y(top * k / 4):.1f} h {width}" stroke="#ddd"/>')
        parts.append(text(left - 6, y(top * k / 4) + 4, f"{top * k / 4:.2g}", "#777", 10, "end"))
    xs = [left + width * (i + 0.5) / count for i in range(count)]
    parts += [text(x, BOTTOM + 16, str(i), "#777", 10, "middle") for i, x in enumerate(xs, 1)]
    parts.append(text(left + width / 2, BOTTOM + 34, below, "#555", 11, "middle"))
    for variant, values in series:
        points = [(x, y(value)) for x, value in zip(xs, values, strict=True)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{COLORS[variant]}" stroke-width="1.5"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{COLORS[variant]}"/>' for x, y in points]
    return "\n".join(parts)


def draw(results: Mapping[str, Any]) -> str:
    """The picture, as SVG."""
    logic = list(results["logic"].values())
    below = f"gates in the chain, {len(logic)} seeds"
    body = [
        heads(results["attention"], 20, 480),
        curves(logic, "ponder by difficulty", ["ACT"], 560, 250, "Chains of logic gates: time taken", below),
        curves(logic, "error by difficulty", ["one step", "ACT"], 870, 250, "Share of wrong answers", below),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{"".join(body)}\n</svg>\n'
    )


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), encoding="utf-8")
