"""When each unit of a network came: the history of edits, followed layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["births", "steps_of_widths"]


def births(start: Mapping[str, int], edits: Iterable[Mapping[str, Any]]) -> dict[str, list[int]]:
    """For each layer, for each of its units, the number of the edit that it came or was renewed with; -1 from the beginning.

    >>> edit = {"edit": "grow", "layer": "net.0", "units": 1, "widths": {"net.0": 3, "net.2": 1}}
    >>> births({"net.0": 2, "net.2": 1}, [edit])
    {'net.0': [-1, -1, 0], 'net.2': [-1]}
    """
    units = {name: [-1] * n for name, n in start.items()}
    before = []
    for number, edit in enumerate(edits):
        before.append(units)
        units = before[edit["back_to"]] if edit["edit"] == "rollback" else _after(units, edit, number)
    return units


def _after(units: dict[str, list[int]], edit: Mapping[str, Any], number: int) -> dict[str, list[int]]:
    names = _names(list(units), edit)
    after: dict[str, list[int]] = {}
    for name, width in edit["widths"].items():
        before = list(units.get(names.get(name, ""), ()))
        if name == edit["layer"] and edit.get("numbers"):
            gone = set(edit["numbers"])
            if edit["edit"] == "prune":
                before = [born for i, born in enumerate(before) if i not in gone]
            else:
                before = [number if i in gone else born for i, born in enumerate(before)]
        after[name] = (before + [number] * width)[:width]
    return after


def _names(before: list[str], edit: Mapping[str, Any]) -> dict[str, str]:
    """What each layer was called before the edit; layers that are new are left out."""
    now, layer = list(edit["widths"]), edit["layer"]
    if edit["edit"] == "inject":
        return {
            name: layer if name == f"{layer}.frozen" else name for name in now if name not in (f"{layer}.new", f"{layer}.start")
        }
    new = len(now) - len(before)
    if edit["edit"] != "deepen" or new < 1 or layer not in before:
        return {name: name for name in now if name in before}
    at = before.index(layer) + 1  # what is new comes right behind it, and numbered names go on counting
    return dict(zip([*now[:at], *now[at + new :]], before, strict=True))


def steps_of_widths(start: Mapping[str, int], edits: Iterable[Mapping[str, Any]], last: int) -> dict[str, list[tuple[int, int]]]:
    """For each layer that there is now its units over time, as (step, units); layers that came later begin then."""
    names: dict[str, list[tuple[int, int]]] = {name: [(0, n)] for name, n in start.items()}
    called: list[dict[str, str]] = []  # at each edit: what layers were called before it
    for edit in edits:
        back = edit["edit"] == "rollback"
        was = _called_since(edit["widths"], called[edit["back_to"] :]) if back else _names(list(names), edit)
        called.append(was)
        names = {name: [*names.get(was.get(name, ""), []), (int(edit["step"]), int(n))] for name, n in edit["widths"].items()}
    return {name: [*points, (last, points[-1][1])] for name, points in names.items()}


def _called_since(names: Iterable[str], called: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What layers were called after some edits, where these left them."""
    now = {name: name for name in names}
    for was in called:
        later = {old: new for new, old in was.items()}
        now = {name: later[current] for name, current in now.items() if current in later}
    return now
