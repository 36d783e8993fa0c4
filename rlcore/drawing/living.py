"""A run's networks as they are now, and how they became so: the return, and the units of each layer, with a mark at each edit."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from rlcore.drawing.births import births, steps_of_widths
from rlcore.drawing.scene import Scene, mix
from rlcore.errors import RunError
from rlcore.runs import LoadedRun
from rlcore.types import Part

__all__ = ["draw_run"]

WIDTH, MARGIN = 960.0, 56.0
INK, FAINT, GRID, GROUND = "#1f2937", "#6b7280", "#e5e7eb", "#ffffff"
FIRST = "#33415c"  #: of units that were there from the beginning
SHADES = ("#2a9d8f", "#8ab17d", "#e9c46a", "#f4a261", "#e76f51", "#b5446e")  #: of edits, from the first to the last
PLUS, MINUS = "#4c78a8", "#e07a5f"  #: of weights
LAYERS = ("#33415c", "#4c78a8", "#2a9d8f", "#b5446e", "#e76f51", "#8a7fbf", "#8ab17d", "#c9a227")
#: Lines drawn between two layers: the heaviest weights.
HEAVIEST = 220
#: Discs drawn for a layer in one column.
MOST = 72
#: With more they take turns to the sides.
ALONE = 24
#: With more steps at which units start anew, these are short marks without a word.
SINGLE = 24

Places = list[tuple[float, float]]


def draw_run(run: LoadedRun) -> Scene:
    """The picture of a run.

    Raises:
        RunError: its agent has no networks to show.
    """
    agent: Any = run.agent
    if not hasattr(agent, "parts"):
        message = f"{run.path}: agent {run.settings.run.agent} has no parts() to draw; see rlcore.types.EditableAgent"
        raise RunError(message)
    parts: Mapping[str, Part] = agent.parts()
    born = births(run.start, run.edits)
    curve = _returns(run.path.parent / "metrics.jsonl", run.steps)
    scene = Scene(WIDTH, 872.0)
    _title(scene, run)
    room = (WIDTH - 2 * MARGIN + 24) / len(parts)
    for i, (name, part) in enumerate(parts.items()):
        left = MARGIN - 12 + i * room
        _network(scene, name, part, born, run.edits, (left, 128.0, left + room - 24, 420.0))
    last = max(run.steps, 1)
    chart = (MARGIN, 508.0, WIDTH - MARGIN - 70, 672.0)
    _curve(scene, chart, last, curve, run.edits)
    _widths(scene, (MARGIN, 718.0, WIDTH - MARGIN - 70, 830.0), last, run)
    return scene


def _title(scene: Scene, run: LoadedRun) -> None:
    agent: Any = run.agent
    scene.text((MARGIN, 44), f"{run.settings.run.agent} on {run.settings.run.env}", 22, bold=True)
    number = len(run.edits)
    said = f"{run.steps:,} steps   ·   {agent.num_parameters:,} parameters   ·   {number} edit{'' if number == 1 else 's'}"
    scene.text((MARGIN, 66), said, 12, FAINT)
    if not number:
        return
    x = WIDTH - MARGIN - 238
    scene.text((x, 44), "units by when they came", 11, FAINT)
    scene.circle((x + 5, 60), 5, FIRST)
    scene.text((x + 16, 64), "at the start", 10.5, FAINT)
    ranks = _ranks(run.edits)
    shades = [_shade(rank, ranks) for rank in sorted({*ranks.values()} - {-1})]
    for i in range(min(len(shades), 12)):
        scene.circle((x + 104 + i * 9, 60), 5, shades[i * (len(shades) - 1) // 11 if len(shades) > 12 else i])
    scene.text((x + 104 + min(len(shades), 12) * 9 + 4, 64), "by edits", 10.5, FAINT)


def _ranks(edits: Sequence[Any]) -> dict[int, int]:
    """For each edit the number of its step among the steps with edits; -1 for what there was before."""
    steps = sorted({edit["step"] for edit in edits})
    return {-1: -1, **{number: steps.index(edit["step"]) for number, edit in enumerate(edits)}}


def _shade(rank: int, ranks: Mapping[int, int]) -> str:
    """The colour of what came at a step with edits."""
    if rank < 0:
        return FIRST
    at = rank / max(*ranks.values(), 1) * (len(SHADES) - 1)
    low = min(int(at), len(SHADES) - 2)
    return mix(SHADES[low], SHADES[low + 1], at - low)


# --- the networks ------------------------------------------------------------------------------------------------------


def _network(
    scene: Scene,
    name: str,
    part: Part,
    born: Mapping[str, list[int]],
    edits: Sequence[Any],
    box: tuple[float, float, float, float],
) -> None:
    left, top, right, bottom = box
    layers = [(path, m) for path, m in part.net.named_modules() if getattr(getattr(m, "weight", None), "ndim", 0) == 2]
    scene.text((left + 12, top - 14), name, 13, bold=True)
    if not layers:
        return
    inputs = _input_births(edits, f"{name}.{layers[0][0]}", int(layers[0][1].weight.shape[1]))
    columns = [("observation", inputs)]
    columns += [(f"{name}.{path}", born.get(f"{name}.{path}", [-1] * int(m.weight.shape[0]))) for path, m in layers]
    xs = np.linspace(left + 34, right - 34, len(columns)).tolist()
    places = [_places(len(units), top + 10, bottom - 40) for _, units in columns]
    for i, (_, m) in enumerate(layers):
        if m.weight.shape[1] == len(columns[i][1]):
            _weights(scene, m.weight.detach().numpy(), (xs[i], places[i]), (xs[i + 1], places[i + 1]))
    ranks = _ranks(edits)
    for x, ends, (label, units) in zip(xs, places, columns, strict=True):
        radius = 6.5 if len(ends) <= ALONE else 4.6
        for i, (dx, y) in enumerate(ends):
            number = units[i * len(units) // len(ends)]
            scene.circle((x + dx, y), radius + 1.2, GROUND)
            scene.circle((x + dx, y), radius, _shade(ranks[number], ranks))
        scene.text((x, bottom - 14), f"{len(units)}", 12, anchor="middle", bold=True)
        scene.text((x, bottom), label, 10, FAINT, anchor="middle")


def _input_births(edits: Sequence[Any], layer: str, width: int) -> list[int]:
    came = [
        (i, e["units"]) for i, e in enumerate(edits) if e["edit"] == "add_inputs" and e["layer"].startswith(layer.split(".")[0])
    ]
    later = [number for number, units in came for _ in range(units)]
    return [-1] * (width - len(later)) + later


def _places(units: int, top: float, bottom: float) -> Places:
    """Where a column's discs lie, around its middle: so many that they would touch take turns to the sides."""
    shown = min(units, MOST)
    gap = min(22.0, (bottom - top) / max(shown - 1, 1))
    first = (top + bottom) / 2 - gap * (shown - 1) / 2
    beside = 1 if shown <= ALONE else 2 if shown <= 2 * ALONE else 3
    return [(11.0 * (i % beside - (beside - 1) / 2), first + gap * i) for i in range(shown)]


def _weights(scene: Scene, weight: Any, source: tuple[float, Places], target: tuple[float, Places]) -> None:
    (x0, ends0), (x1, ends1) = source, target
    rows, columns = weight.shape
    size = np.abs(weight)
    largest = max(float(size.max(initial=0)), 1e-30)
    for flat in np.argsort(size, axis=None)[-HEAVIEST:].tolist():  # the heaviest last, above the others
        row, column = divmod(flat, columns)
        share = float(size[row, column]) / largest
        color = mix(GROUND, PLUS if weight[row, column] > 0 else MINUS, 0.10 + 0.75 * share)
        (dx0, y0), (dx1, y1) = ends0[column * len(ends0) // columns], ends1[row * len(ends1) // rows]
        scene.line([(x0 + dx0, y0), (x1 + dx1, y1)], color, 0.5 + 1.3 * share)


# --- the history -------------------------------------------------------------------------------------------------------


#: Steps, the mean return of the last 100 episodes at each, and that of the episodes since the one before.
Curve = tuple[list[int], list[float], list[float | None]]


def _returns(log: Path, until: int) -> Curve:
    """The curves of a run's log; empty where there is none."""
    if not log.exists():
        return [], [], []
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    known = [e for e in entries if e.get("mean_return") is not None and e["step"] <= until]
    latest = [sum(r) / len(r) if (r := [x for x in e["returns"] if x is not None]) else None for e in known]
    return [e["step"] for e in known], [e["mean_return"] for e in known], latest


def _curve(scene: Scene, box: tuple[float, float, float, float], last: int, curve: Curve, edits: Sequence[Any]) -> None:
    left, top, right, bottom = box
    steps, returns, latest = curve
    scene.text((left, top - 26), "return", 13, bold=True)
    scene.text((left + 48, top - 26), "mean of the last 100 episodes, and thin of the latest", 11, FAINT)
    seen = [*returns, *(r for r in latest if r is not None)]
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    if low == high:  # one record, or all alike
        low, high = min(low, 0.0), max(high, 0.0) or 1.0
    low = 0.0 if 0 <= low < 0.5 * high else low
    ticks = _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def place(step: float, value: float) -> tuple[float, float]:
        return left + (right - left) * step / last, bottom - (bottom - top) * (value - low) / max(high - low, 1e-9)

    for tick in ticks:
        _, y = place(0, tick)
        scene.line([(left, y), (right, y)], GRID)
        scene.text((left - 8, y + 3.5), f"{tick:,.10g}", 10, FAINT, anchor="end")
    _marks(scene, box, last, edits, numbered=True)
    own = [place(s, r) for s, r in zip(steps, latest, strict=True) if r is not None]
    if len(own) > 1:
        scene.line(own, mix(GROUND, FIRST, 0.28), 1.1)
    points = [place(s, r) for s, r in zip(steps, returns, strict=True)]
    if len(points) > 1:
        scene.line(points, GROUND, 4.5)
        scene.line(points, FIRST, 2.2)
    if points:
        scene.circle(points[-1], 3.6, FIRST)
        scene.text((points[-1][0] + 9, points[-1][1] + 4), f"{returns[-1]:.4g}", 11, bold=True)


def _widths(scene: Scene, box: tuple[float, float, float, float], last: int, run: LoadedRun) -> None:
    left, top, right, bottom = box
    curves = steps_of_widths(run.start, run.edits, last)
    scene.text((left, top - 20), "units", 13, bold=True)
    scene.text((left + 40, top - 20), "of each layer", 11, FAINT)
    most = max((n for points in curves.values() for _, n in points), default=1)
    ticks = _ticks(0, most)
    high = max(most, ticks[-1])

    def place(step: float, units: float) -> tuple[float, float]:
        return left + (right - left) * step / last, bottom - (bottom - top) * units / high

    for tick in ticks:
        _, y = place(0, tick)
        scene.line([(left, y), (right, y)], GRID)
        scene.text((left - 8, y + 3.5), f"{tick:,.10g}", 10, FAINT, anchor="end")
    _marks(scene, box, last, run.edits)
    ends: dict[int, list[tuple[str, str]]] = {}
    for i, (name, points) in enumerate(curves.items()):
        color = LAYERS[i % len(LAYERS)]
        # Layers that grew together would hide each other: each lies a little beside the last.
        shift = 1.6 * len(ends.get(points[-1][1], ()))
        stairs = [place(s, n) for (s0, n0), (s1, n1) in pairwise(points) for s, n in ((s0, n0), (s1, n0), (s1, n1))]
        scene.line([(x, y + shift) for x, y in stairs], color, 1.8)
        ends.setdefault(points[-1][1], []).append((name, color))
    below = math.inf
    for units in sorted(ends):
        for name, color in ends[units]:
            y = min(place(last, units)[1] + 4, below - 12)
            scene.text((right + 9, y), name, 10.5, color, bold=True)
            below = y
    for tick in _ticks(0, last):
        x, _ = place(tick, 0)
        scene.text((x, bottom + 18), f"{tick:,.10g}", 10, FAINT, anchor="middle")
    scene.text((right, bottom + 34), "environment steps", 10.5, FAINT, anchor="end")


def _marks(
    scene: Scene, box: tuple[float, float, float, float], last: int, edits: Sequence[Any], *, numbered: bool = False
) -> None:
    """A line at each step with edits, and above it what they were."""
    left, top, right, bottom = box
    ranks = _ranks(edits)
    at: dict[int, list[tuple[int, Any]]] = {}
    for number, edit in enumerate(edits):
        at.setdefault(edit["step"], []).append((number, edit))
    renewals = {step for step, here in at.items() if all(edit["edit"] == "reset_units" for _, edit in here)}
    free = -math.inf
    for step, here in sorted(at.items()):
        x = left + (right - left) * step / last
        color = _shade(ranks[here[-1][0]], ranks)
        if step in renewals and len(renewals) > SINGLE:
            scene.line([(x, bottom - 6), (x, bottom)], mix(GROUND, color, 0.75), 1.2)
            continue
        scene.line([(x, top - (4 if numbered else 0)), (x, bottom)], mix(GROUND, color, 0.75), 1.2, dash=3.0)
        if numbered:
            scene.circle((x, top - 6), 3.4, color)
            label = " ".join(sorted({_short(e) for _, e in here if e["edit"] != "reset_units" or len(renewals) <= SINGLE}))
            if x > free:
                scene.text((x, top - 13), label, 9.5, mix(color, INK, 0.35), anchor="middle")
                free = x + 6.0 * len(label)


def _short(edit: Mapping[str, Any]) -> str:
    kind, units = str(edit["edit"]), edit["units"]
    words = {"add_outputs": f"+{units} actions", "add_inputs": f"+{units} inputs", "rollback": "back"}
    return {"grow": f"+{units}", "prune": f"−{units}", "reset_units": f"{units} anew", **words}.get(kind, kind)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers over a range."""
    span = max(high - low, 1e-9)
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if m * step >= span / 5)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]
