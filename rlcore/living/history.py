"""What has become of a run's networks: an entry for each edit, and making the same edits again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

import tensor as T
from rlcore.errors import ConfigError
from rlcore.living.edits import Place
from rlcore.living.plan import make_edit
from rlcore.types import EditableAgent, Part
from tensor import structure

__all__ = ["drawing_from", "layer_of", "lines", "replay", "said", "standing", "widths"]

#: Attributes that tell how many units a layer has.
_UNITS = ("out_features", "out_channels", "hidden_size", "embedding_dim")


def widths(parts: Mapping[str, Part]) -> dict[str, int]:
    """The units of each layer, by "part.layer", in order."""
    return {
        f"{part}.{name}": int(getattr(module, attribute))
        for part, (net, *_) in parts.items()
        for name, module in net.named_modules()
        for attribute in _UNITS
        if hasattr(module, attribute)
    }


def layer_of(parts: Mapping[str, Part], name: str) -> tuple[Part, str]:
    """The part that a layer "part.path" is in, and its path there; ConfigError names the parts."""
    part, _, layer = name.partition(".")
    if part not in parts or not layer:
        message = f"layer: expected 'PART.LAYER' with one of the parts {', '.join(map(repr, parts))}, got {name!r}"
        raise ConfigError(message)
    return parts[part], layer


@contextlib.contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Random draws of an edit from a seed of its own, so that they depend on nothing else; the generator is put back."""
    before = T.get_rng_state()
    T.manual_seed(seed)
    try:
        yield
    finally:
        T.set_rng_state(before)


def replay(agent: EditableAgent, edits: Sequence[Mapping[str, Any]]) -> None:
    """Make the edits of a history again, with the same draws, on an agent as it was before them.

    The history is that of `rlcore.LoadedRun.edits`. Units that were chosen by what they said are those that were chosen then.
    Edits that were taken back are left out.

    Raises:
        ConfigError: an edit that only the world's spaces can ask for, or of a layer that is not there.
        ValueError: an edit that cannot be made.
    """
    for entry in standing(edits):
        part, layer = layer_of(agent.parts(), entry["layer"])
        with drawing_from(entry["seed"]):
            _plan(entry, Place(part.net, layer, _sample(agent))).apply(part.optimizer, *part.followers)
        agent.edited()


def standing(edits: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The edits that were not taken back, without the rollbacks.

    >>> [edit["edit"] for edit in standing([{"edit": "grow"}, {"edit": "prune"}, {"edit": "rollback", "back_to": 1}])]
    ['grow']
    """
    left: list[tuple[int, Mapping[str, Any]]] = []
    for number, edit in enumerate(edits):
        left.append((number, edit))
        if edit["edit"] == "rollback":
            left = [(earlier, one) for earlier, one in left if earlier < edit["back_to"]]
    return [edit for _, edit in left]


def _plan(entry: Mapping[str, Any], place: Place) -> structure.Edit:
    chosen = {"prune": structure.prune, "reset_units": structure.reset_units}
    if entry["edit"] in chosen:
        return chosen[entry["edit"]](place.net, place.layer, entry["numbers"], x=place.x)
    if entry["options"] is None:
        message = (
            f"replay: {entry['edit']} of {entry['layer']} came from the world, whose spaces changed; it cannot be made again"
        )
        raise ConfigError(message)
    return make_edit(entry["maker"], entry["options"], "replay")(place)


def _sample(agent: EditableAgent) -> Any:
    sample: Any = agent.sample()
    return None if sample is None else T.from_numpy(np.ascontiguousarray(sample))


# --- for people ---------------------------------------------------------------------------------------------------------


def said(event: Mapping[str, Any]) -> str:
    """An edit as one line for people."""
    text = f"step {event['step']:,}: {event['edit']} {event['layer']}"
    return f"{text} by {event['units']} ({event['reason']})" if event["units"] else f"{text} ({event['reason']})"


def lines(edits: Sequence[Mapping[str, Any]]) -> list[str]:
    """A history as a table for people; renewals of a layer that follow each other are one line."""
    rows = [("step", "edit", "layer", "units", "parameters", "output change", "reward before", "after", "reason")]
    rows += [
        (
            _span(one, last), _named(one, times), one["layer"], f"{units}", f"{one['parameters']:,}", _short(change),
            _short(one["reward_before"]), _short(last["reward_after"]), one["reason"],
        )
        for one, last, times, units, change in _together(edits)
    ]  # fmt: skip
    size = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    right = {0, 3, 4, 5, 6, 7}
    return [
        "  ".join(
            cell.rjust(n) if i in right else cell.ljust(n) for i, (cell, n) in enumerate(zip(row, size, strict=True))
        ).rstrip()
        for row in rows
    ]


def _together(
    edits: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], int, int, float | None]]:
    """Edits, or renewals of a layer that follow each other: first and last, how many, their units, the largest change."""
    for renewed, group in groupby(edits, lambda e: e["edit"] == "reset_units"):
        layers: dict[Any, list[Mapping[str, Any]]] = {}
        for edit in group:
            layers.setdefault((edit["layer"], edit.get("trial")) if renewed else edit["number"], []).append(edit)
        for some in layers.values():
            changes = [e["output_change"] for e in some if e["output_change"] is not None]
            yield some[0], some[-1], len(some), sum(e["units"] for e in some), max(changes, default=None)


def _span(one: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    return f"{one['step']:,}" if one is last else f"{one['step']:,} to {last['step']:,}"


def _named(edit: Mapping[str, Any], times: int) -> str:
    trial = {"running": "on trial"}.get(edit.get("trial", ""), edit.get("trial"))
    name = f"{edit['edit']}, {times} times" if times > 1 else str(edit["edit"])
    return f"{name}, {trial}" if trial else name


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
