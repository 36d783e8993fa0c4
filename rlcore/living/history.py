"""What has become of a run's networks: an entry for each edit, and making the same edits again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import tensor as T
from rlcore.errors import ConfigError
from rlcore.living.edits import Place
from rlcore.living.plan import make_edit
from rlcore.types import EditableAgent, Part
from tensor import structure

__all__ = ["drawing_from", "layer_of", "lines", "replay", "said", "widths"]

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
        message = f"layer: expected 'PART.LAYER' with one of the parts {', '.join(parts)}, got {name!r}"
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
    """A history as a table for people."""
    rows = [("step", "edit", "layer", "units", "parameters", "output change", "reward before", "after", "reason")]
    rows += [
        (
            f"{e['step']:,}", _named(e), e["layer"], f"{e['units']}", f"{e['parameters']:,}", _short(e["output_change"]),
            _short(e["reward_before"]), _short(e["reward_after"]), e["reason"],
        )
        for e in edits
    ]  # fmt: skip
    size = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    right = {0, 3, 4, 5, 6, 7}
    return [
        "  ".join(
            cell.rjust(n) if i in right else cell.ljust(n) for i, (cell, n) in enumerate(zip(row, size, strict=True))
        ).rstrip()
        for row in rows
    ]


def _named(edit: Mapping[str, Any]) -> str:
    trial = {"running": "on trial", None: ""}.get(edit.get("trial"), edit.get("trial"))
    return f"{edit['edit']}, {trial}" if trial else str(edit["edit"])


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
