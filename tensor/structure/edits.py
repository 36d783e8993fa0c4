"""Edits of width: each finds every slice that goes with the units it concerns, and returns an `Edit` to look at first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.naming import quoted
from tensor.nn.conv import Conv1d, Conv2d, Conv3d
from tensor.nn.embedding import Embedding
from tensor.nn.module import Module
from tensor.nn.normalization import GroupNorm
from tensor.structure.change import Change
from tensor.structure.draws import INITS, Draws, steepest
from tensor.structure.edit import Edit
from tensor.structure.finding import Place, find, made_up, numbers, places
from tensor.structure.heads import attentions, grow_heads
from tensor.structure.resize import Resize
from tensor.structure.rewrite import Rewrite, Shift
from tensor.structure.sizes import MIXING
from tensor.structure.units import Units

__all__ = ["add_inputs", "add_outputs", "grow", "prune", "reset_units"]


def grow(
    net: Module,
    name: str,
    units: int,
    *,
    x: Any = None,
    init: str = "zero_out",
    loss: Callable[[], Tensor] | None = None,
    reason: str = "",
) -> Edit:
    """Give the layer ``name`` (Linear, a convolution, Embedding, RNN, GRU, LSTM, MultiheadAttention) more units.

    Rules (``init``) that keep the function: "zero_out" (random weights in, zeros out), "net2wider" (copies of random units, which
    share their outgoing weights; arXiv 1511.05641), "pair" (an even number: alike in pairs that go out with opposite signs),
    "gradmax" (nothing comes in, and what goes out makes the gradient of ``loss()``, which runs the network once, as large as it
    can be; arXiv 2201.05125; for Linear, activation, Linear in a row). "random" does not. Through a LayerNorm or RMSNorm only
    "net2wider" by a multiple of the width does, since mean and deviation stay. Layers joined by a sum grow together.
    ``x`` is an input to follow the network with, which networks need that are no `Sequential` of layers and do not
    take what their first layer takes. Raises ValueError for an unknown layer, a size below 1, frozen weights, and units that
    cannot be followed to where they end.

    >>> import tensor as T
    >>> net = T.nn.Sequential(T.nn.Linear(2, 3), T.nn.ReLU(), T.nn.Linear(3, 1))
    >>> edit = grow(net, "0", 2)
    >>> edit.check(T.ones(4, 2)).absolute < 1e-6
    True
    >>> edit.apply().net[2].in_features
    5
    """
    return _widen("grow", net, name, units, x, init, reason, loss)


def add_outputs(net: Module, name: str, units: int, *, x: Any = None, init: str = "zero_out", reason: str = "") -> Edit:
    """Give a network's last layer more outputs, of zero weights and biases ("random" draws them); the others stay."""
    return _widen("add_outputs", net, name, units, x, init, reason)


def add_inputs(net: Module, name: str, units: int, *, x: Any = None, init: str = "zero_out", reason: str = "") -> Edit:
    """Let a network's first layer take more features, put last, with zero weights ("random" draws them).

    An Embedding gets more rows, drawn as its first were.
    """
    return _widen("add_inputs", net, name, units, x, init, reason)


def prune(net: Module, name: str, units: Sequence[int], *, x: Any = None, reason: str = "") -> Edit:
    """Take the units with these numbers out of a layer, with all that goes in and out of them."""
    found, group = find("prune", net, name, x, inputs=False)
    gone = numbers("prune", units, len(group))
    held = places("prune", found, group)
    for path, _ in attentions(found.there, held):
        msg = (
            f"prune: expected units that no heads hang on, got those of {name!r}, which the MultiheadAttention at {path!r} splits"
        )
        raise ValueError(msg)
    if len(gone) == len(group):
        msg = f"prune: expected at least 1 unit to be left in {name!r}, got all {len(group)} to prune"
        raise ValueError(msg)
    mask = found.mask(group[gone])
    changes = [Change(key, axis, np.flatnonzero(~mask[roots])) for key, axis, roots in held]
    norms = _norms(found, mask, -len(gone), len(gone))
    edit = _edit(found, "prune", name, changes, norms, reason, len(gone), x, found.plain, (LOST,))
    edit.numbers = tuple(gone.tolist())
    return edit


def reset_units(
    net: Module, name: str, units: Sequence[int], *, x: Any = None, reason: str = "", shifts: Sequence[Shift] = ()
) -> Edit:
    """Start units anew in place: random weights in, zeros out, no moments and a step count of zero.

    All arrays keep their memory, so a compiled step goes on as it is. ``shifts``: what the units said on average, for the biases
    behind them.
    """
    found, group = find("reset_units", net, name, x, inputs=False)
    again = numbers("reset_units", units, len(group))
    draw = Draws(found, "zero_out", len(again), len(group))
    mask = found.mask(group[again])
    changes = [
        draw.change(key, axis, np.where(mask[roots], -1, np.arange(len(roots))))
        for key, axis, roots in places("reset_units", found, group)
    ]
    norms = _norms(found, mask, 0, len(again))
    edit = _edit(found, "reset_units", name, changes, norms, reason, len(again), x, True, (LOST,))
    assert isinstance(edit.action, Resize)
    edit.action, edit.numbers = Rewrite(edit.action, shifts), tuple(again.tolist())
    return edit


CONVOLUTIONS = Conv1d, Conv2d, Conv3d
#: Why units that stop to say what they said are missed.
LOST = "what the units said is lost, unless it was nothing"
#: What the units of an edit may reach, and the rules by which they may start.
REACH = {"grow": (), "add_outputs": ("output",), "add_inputs": ("input",)}
STARTS = {"grow": INITS, "add_outputs": ("zero_out", "random"), "add_inputs": ("zero_out", "random")}


def _widen(
    kind: str, net: Module, name: str, units: int, x: Any, init: str, reason: str, loss: Callable[[], Tensor] | None = None
) -> Edit:
    if init not in STARTS[kind]:
        msg = f"{kind}: expected init to be one of {quoted(STARTS[kind])}, got {init!r}"
        raise ValueError(msg)
    if not isinstance(units, (int, np.integer)):
        msg = f"{kind}: expected a whole number of units, got {units!r}"
        raise TypeError(msg)
    if units < 1:
        msg = f"{kind}: expected at least 1 new unit, got {units}"
        raise ValueError(msg)
    if init == "pair" and units % 2:
        msg = f"{kind}: expected an even number of new units for init 'pair', got {units}"
        raise ValueError(msg)
    found, group = find(kind, net, name, x, kind == "add_inputs", REACH[kind])
    draw = Draws(found, "zero_in" if kind == "add_outputs" and init == "zero_out" else init, units, len(group))
    if init == "gradmax":
        if loss is None:
            msg = f"{kind}: expected loss, a function that runs the network, for init 'gradmax', got None"
            raise ValueError(msg)
        draw.directions = steepest(net, name, units, loss)
    mask = found.mask(group)
    held = places(kind, found, group)
    _check_tied(kind, name, held, found, init)
    changes = []
    for place in held:
        index, repeats = _spread(kind, name, place, group, mask, units, draw.copied)
        changes.append(draw.change(place.key, place.axis, index, repeats))
    changes += grow_heads(kind, found.there, held, units, draw)
    layer: Any = net.get_submodule(name)
    inputs = kind == "add_inputs" and not isinstance(layer, Embedding)  # whose rows are no features
    why = ("init 'random': what is new is heard at once",) if init == "random" and (kind == "grow" or inputs) else ()
    whole = init == "net2wider" and units % len(group) == 0
    edit = _edit(
        found,
        kind,
        name,
        changes,
        _norms(found, mask, units, len(group)),
        reason,
        units,
        x,
        found.plain or kind == "add_inputs",
        why,
        GroupNorm if init == "zero_out" else (),
        1 + units // len(group) if whole else 0,
    )
    if inputs:
        axis = 1 - layer.weight.ndim if isinstance(layer, CONVOLUTIONS) else -1
        edit.inputs = axis, len(group), units
    return edit


def _check_tied(kind: str, name: str, held: Sequence[Place], found: Units, init: str) -> None:
    """Raise ValueError for weights that units come from and go into, where these would have to start apart."""
    tied = [place.key for place in held if (place.key, place.axis) in found.contracted & found.looked_up]
    if tied and init not in ("zero_out", "random"):
        msg = f"{kind}: expected init zero_out or random for {name!r}, whose units come from and go into {tied[0]}, got {init!r}"
        raise ValueError(msg)


def _spread(kind: str, name: str, place: Place, group: Any, mask: Any, units: int, copied: Any) -> tuple[Any, int]:
    """The index map of an axis: behind each stretch that lists all units (the gates of an LSTM, flattened channels), the new."""
    key, axis, roots = place
    inside = mask[roots]
    parts: list[Any] = []
    at, repeats = 0, 1
    while at < len(roots):
        if not inside[at]:
            parts.append([at])
            at += 1
            continue
        other = np.flatnonzero(roots[at:] != roots[at])
        repeats = int(other[0]) if other.size else len(roots) - at
        end = at + repeats * len(group)
        if not np.array_equal(roots[at:end], np.repeat(group, repeats)):
            msg = f"{kind}: expected the units of {name!r} in one order, got another in {key}, axis {axis}"
            raise ValueError(msg)
        new = np.full((units, repeats), -1) if copied is None else at + copied[:, None] * repeats + np.arange(repeats)
        parts += [np.arange(at, end), new.ravel()]
        at = end
    return np.concatenate(parts), repeats


def _norms(found: Units, mask: Any, units: int, among: int) -> dict[str, int]:
    """The new sizes of norms without parameters: for every ``among`` of their units that are in the mask, ``units`` come."""
    counts = {path: (labels.size, int(mask[found.roots(labels)].sum())) for path, labels in found.norms.items()}
    return {path: size + count * units // among for path, (size, count) in counts.items() if count}


def _edit(
    found: Units, kind: str, name: str, changes: list[Change], norms: dict[str, int], reason: str, units: int, x: Any,
    known_to_run: bool, why: tuple[str, ...] = (), apart: type | tuple[()] = (), copies: int = 0,
) -> Edit:  # fmt: skip
    """The edit of these changes.

    Norms that are ``apart`` keep what is new from what is old; those of which all units are there ``copies`` times find the same
    mean and deviation as before.
    """
    there = found.there
    action = Resize(there, changes, norms)
    owners = {key.rpartition(".")[0] for key in action.changes} | norms.keys()
    mixing = [(path, m) for path, m in there.modules.items() if path in owners and isinstance(m, MIXING)]
    said = []
    for path, m in mixing:
        if isinstance(m, GroupNorm):
            _check_groups(kind, path, m, action.changes[f"{path}.weight".lstrip(".")].shape[0])
        elif copies and action.size(path) == copies * m.normalized_shape[-1]:
            continue
        if not isinstance(m, apart):
            said.append(f"{path}: {type(m).__name__} mixes all units")
    reasons = (*said, *why)
    edit = Edit(there.net, kind, name, action, reasons, reason, units)
    if not known_to_run:
        edit.try_out(made_up(there.net) if x is None else x)
    return edit


def _check_groups(kind: str, path: str, norm: GroupNorm, channels: int) -> None:
    per_group = norm.num_channels // norm.num_groups
    if channels % per_group:
        msg = f"{kind}: expected whole groups of {per_group} channels, as of the GroupNorm at {path!r}, got {channels} channels"
        raise ValueError(msg)
