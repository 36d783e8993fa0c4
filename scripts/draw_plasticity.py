"""Draw what `benchmarks/plasticity.py` found: mean curves over seeds, with 95 % confidence intervals.

python scripts/draw_plasticity.py benchmarks/results/plasticity.json docs/_static/plasticity.svg
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

HEIGHT, TOP, BOTTOM = 360, 92, 44
Curve = tuple[str, str, Sequence[float], Sequence[float]]  #: name, color, mean, half of the interval
#: Learners and policies that are drawn, and in which color.
REGRESSION = {
    "linear": "#777777",
    "backprop, step size 0.01": "#e45756",
    "backprop, step size 0.003": "#f58518",
    "continual backprop, rate 1e-4": "#4c78a8",
}
POLICIES = {"backprop": "#e45756", "continual backprop": "#4c78a8", "ReDo": "#54a24b"}


def text(x: float, y: float, content: str, color: str = "#333", size: int = 11, anchor: str = "start") -> str:
    """A line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}">{escape(content)}</text>'


def smooth(values: Sequence[float], width: int) -> list[float]:
    """Means of stretches of ``width`` values."""
    return [sum(values[i : i + width]) / len(values[i : i + width]) for i in range(0, len(values), width)]


def panel(
    left: float, width: float, title: str, below: str, curves: Sequence[Curve], last: str, span: tuple[float, float]
) -> str:
    """Curves over the same tasks, drawn into ``width`` from ``left``; ``last`` is what stands below the right end."""
    low, high = span
    bottom = HEIGHT - BOTTOM

    def y(value: float) -> float:
        return bottom - (min(max(value, low), high) - low) / (high - low) * (bottom - TOP)

    parts = [text(left, 20, title, size=13)]
    for k in range(5):
        value = low + (high - low) * k / 4
        parts.append(f'<path d="M {left} {y(value):.1f} h {width}" stroke="#ddd"/>')
        parts.append(text(left - 6, y(value) + 4, f"{value:.2f}".rstrip("0").rstrip("."), "#777", 10, "end"))
    parts += [text(left, bottom + 16, "0", "#777", 10), text(left + width, bottom + 16, last, "#777", 10, "end")]
    parts.append(text(left + width / 2, bottom + 32, below, "#555", 11, "middle"))
    for number, (name, color, mean, half) in enumerate(curves):
        n = len(mean)
        xs = [left + width * (i + 0.5) / n for i in range(n)]
        upper = [f"{x:.1f},{y(m + h):.1f}" for x, m, h in zip(xs, mean, half, strict=True)]
        lower = [f"{x:.1f},{y(m - h):.1f}" for x, m, h in zip(xs, mean, half, strict=True)]
        line = " ".join(f"{x:.1f},{y(m):.1f}" for x, m in zip(xs, mean, strict=True))
        parts.append(f'<polygon points="{" ".join(upper + lower[::-1])}" fill="{color}" opacity="0.15"/>')
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.6"/>')
        parts.append(f'<path d="M {left} {34 + 14 * number} h 16" stroke="{color}" stroke-width="2.5"/>')
        parts.append(text(left + 22, 38 + 14 * number, name, color))
    return "\n".join(parts)


def curves(found: Mapping[str, Any], colors: Mapping[str, str], part: str = "", width: int = 1) -> list[Curve]:
    """The curves to draw, from a section of the results."""
    picked = {name: found[name][part] if part else found[name] for name in colors}
    return [(name, colors[name], smooth(s["mean"], width), smooth(s["half width"], width)) for name, s in picked.items()]


def draw(results: Mapping[str, Any]) -> str:
    """The picture, as SVG."""
    regression, digits = results["regression"], results["digits"]
    every = max(len(regression["linear"]["mean"]) // 100, 1)
    few = max(digits["tasks"] // 50, 1)
    millions = f"{regression['examples'] / 1e6:g} million examples"
    seeds = f"mean of {regression['seeds']} seeds, 95 % interval"
    tasks = f"{digits['tasks']} tasks, mean of {digits['seeds']} seeds"
    body = [
        panel(
            40,
            470,
            "Slowly-changing regression: squared error",
            seeds,
            curves(regression, REGRESSION, width=every),
            millions,
            (0.2, 1.4),
        ),
        panel(
            570, 240, "Permuted digits: share right", tasks, curves(digits, POLICIES, "right", few), str(digits["tasks"]), (0, 1)
        ),
        panel(870, 240, "Dormant units", tasks, curves(digits, POLICIES, "dormant", few), str(digits["tasks"]), (0, 1)),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1140 {HEIGHT}" font-family="sans-serif">'
        f'<rect width="1140" height="{HEIGHT}" fill="white"/>\n{"".join(body)}\n</svg>\n'
    )


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), encoding="utf-8")
