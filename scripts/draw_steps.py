"""Draw what `benchmarks/steps.py --record` kept: the last figures of all variants, and how ours went from commit to commit.

python scripts/draw_steps.py docs/_static/steps.svg
"""

from __future__ import annotations

import json
import math
import sys
from html import escape
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "steps.json"
COLORS = {"compiled": "#4c78a8", "eager": "#9ecae9", "torch": "#e45756", "jax": "#f2a93b", "c": "#8a8a8a"}
NAMES = {"compiled": "T.compile", "eager": "ours, eager", "torch": "PyTorch, eager", "jax": "JAX, jit", "c": "C"}
WIDTH, LEFT, BAR, GAP, HISTORY = 760, 150, 11, 14, 190

Entry = dict[str, dict[str, float]]


def text(x: float, y: float, content: str, anchor: str = "start", size: int = 11, color: str = "#333") -> str:
    """A line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{color}">{escape(content)}</text>'


def duration(us: float) -> str:
    """Microseconds with the unit that people would say."""
    return f"{us / 1e6:.2f} s" if us >= 1e6 else f"{us / 1e3:.3g} ms" if us >= 1e3 else f"{us:.3g} us"


def legend(y: float) -> list[str]:
    """The colour of each variant."""
    parts, x = [], LEFT
    for variant, name in NAMES.items():
        parts += [f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{COLORS[variant]}"/>', text(x + 15, y, name)]
        x += 32 + 6.2 * len(name)
    return parts


def bars(figures: Entry, top: float) -> tuple[list[str], float]:
    """Bars whose length is the logarithm of a call's time, workload by workload; and where they end."""
    times = [us for row in figures.values() for us in row.values()]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    scale = (WIDTH - LEFT - 80) / (high - low)
    parts, y = [], top
    for name, row in figures.items():
        parts.append(text(LEFT - 10, y + BAR * len(row) / 2 + 4, name, "end", 12))
        for variant in sorted(row, key=row.__getitem__):
            length = (math.log10(row[variant]) - low) * scale
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 2}" rx="1.5" fill="{COLORS[variant]}"/>')
            parts.append(text(LEFT + length + 5, y + BAR - 3, duration(row[variant]), size=9, color="#666"))
            y += BAR
        y += GAP
    lines = [LEFT + i * scale for i in range(high - low + 1)]
    grid = [f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{y - GAP + 4}" stroke="#ddd"/>' for x in lines]
    labels = [text(x, y + 2, duration(10.0 ** (low + i)), "middle", 9, "#999") for i, x in enumerate(lines)]
    return grid + parts + labels, y + 10


def history(kept: list[dict[str, Entry]], top: float) -> list[str]:
    """Time relative to PyTorch eager in each kept run, a line for each compiled workload."""
    ratios = {
        name: [entry["us"].get(name, {}) for entry in kept]
        for name in ("step, batch 1", "step, batch 32", "step, batch 256", "act, batch 1", "grow")
    }
    bottom, right = top + HISTORY, WIDTH - 130
    step = (right - LEFT) / max(len(kept) - 1, 1)
    low, high = -2.0, 0.0

    def height(ratio: float) -> float:
        return bottom - (min(max(math.log10(ratio), low), high) - low) / (high - low) * HISTORY

    parts = [text(LEFT, top - 14, "compiled, relative to PyTorch eager, from commit to commit", size=12)]
    for ratio in (0.01, 0.1, 1.0):
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{height(ratio):.1f}" y2="{height(ratio):.1f}" stroke="#ddd"/>')
        parts.append(text(LEFT - 8, height(ratio) + 4, f"{ratio:g}", "end", 9, "#999"))
    for i, entry in enumerate(kept):
        parts.append(text(LEFT + i * step, bottom + 15, str(entry["commit"]), "middle", 9, "#999"))
    shades = ("#08306b", "#2171b5", "#6baed6", "#54a24b", "#b279a2")
    ends = []
    for color, (name, rows) in zip(shades, ratios.items(), strict=True):
        points = [
            (LEFT + i * step, height(r["compiled"] / r["torch"])) for i, r in enumerate(rows) if {"compiled", "torch"} <= set(r)
        ]
        if points:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>' for x, y in points]
            ends.append([points[-1][1], name, color])
    below = -math.inf
    for y, name, color in sorted(ends):
        below = max(y + 4, below + 12)
        parts.append(text(right + 8, below, name, size=10, color=color))
    return parts


def main() -> None:
    kept = json.loads(RESULTS.read_text())
    title = f"Time of a call on one core, at commit {kept[-1]['commit']} (logarithmic)"
    drawn, y = bars(kept[-1]["us"], 64)
    parts = [text(LEFT, 22, title, size=13), *legend(44), *drawn, *history(kept, y + 40)]
    size = f'width="{WIDTH}" height="{y + HISTORY + 70:.0f}" viewBox="0 0 {WIDTH} {y + HISTORY + 70:.0f}"'
    body = '<rect width="100%" height="100%" fill="white"/>' + "".join(parts)
    Path(sys.argv[1]).write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">{body}</svg>\n')


if __name__ == "__main__":
    main()
