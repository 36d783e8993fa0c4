"""The edits: each finds, by `trace`, every slice that goes with the units it concerns, and returns an `Edit` to look at first."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from tensor.autograd.modes import no_grad
from tensor.nn.module import Module
from tensor.ops.random import randint
from tensor.structure.edit import MIXING, Change, Edit
from tensor.structure.trace import Units, trace

__all__ = ["INITS", "add_inputs", "add_outputs", "grow", "prune", "reset_units"]

#: How new units start: random with nothing going out, as copies that share what goes out, or random both ways.
INITS = ("zero_out", "net2wider", "random")


def grow(net: Module, name: str, units: int, *, x: Any, init: str = "zero_out", reason: str = "") -> Edit:
    """Give the layer ``name`` (Linear or a convolution) more units; ``x`` is an input to follow the network with.

    ``init``: "zero_out" (random weights in, zeros out) and "net2wider" (copies of random units, which share their outgoing
    weights; arXiv 1511.05641) keep the function, "random" does not. Layers joined by a sum grow together. Raises
    ValueError for an unknown layer, a size below 1, frozen weights, and units that cannot be followed to where they end.

    >>> import tensor as T
    >>> net = T.nn.Sequential(T.nn.Linear(2, 3), T.nn.ReLU(), T.nn.Linear(3, 1))
    >>> x = T.ones(4, 2)
    >>> edit = grow(net, "0", 2, x=x)
    >>> edit.check(x).absolute < 1e-6
    True
    >>> edit.apply().net[2].in_features
    5
    """
    if init not in INITS:
        msg = f"grow: expected init {', '.join(INITS)}, got {init!r}"
        raise ValueError(msg)
    return _widen("grow", net, name, units, x, init, reason, axis=0)


def add_outputs(net: Module, name: str, units: int, *, x: Any, init: str = "zero_out", reason: str = "") -> Edit:
    """Give a network's last layer more outputs, of zero weights and biases ("random" draws them); the others stay."""
    return _widen("add_outputs", net, name, units, x, init, reason, axis=0)


def add_inputs(net: Module, name: str, units: int, *, x: Any, init: str = "zero_out", reason: str = "") -> Edit:
    """Let a network's first layer take more features, put last, with zero weights ("random" draws them)."""
    return _widen("add_inputs", net, name, units, x, init, reason, axis=1)


def prune(net: Module, name: str, units: Sequence[int], *, x: Any, reason: str = "") -> Edit:
    """Take the units with these numbers out of a layer, with all that goes in and out of them."""
    found, group = _group("prune", net, name, x, 0, allowed=set())
    gone = _numbers("prune", units, len(group))
    if len(gone) == len(group):
        msg = f"prune: expected at least 1 unit to be left in {name}, got all {len(group)} to prune"
        raise ValueError(msg)
    changes = [
        Change(key, axis, np.flatnonzero(~np.isin(roots, group[gone])))
        for key, axis, roots in _places("prune", net, found, group)
    ]
    return _edit(net, "prune", name, changes, reason, len(gone), x)


def reset_units(net: Module, name: str, units: Sequence[int], *, x: Any, reason: str = "") -> Edit:
    """Start units anew in place: random weights in, zeros out, no moments and a step count of zero."""
    found, group = _group("reset_units", net, name, x, 0, allowed=set())
    again = _numbers("reset_units", units, len(group))
    draw = _Draws(net, found, "zero_out")
    changes = []
    for key, axis, roots in _places("reset_units", net, found, group):
        index = np.where(np.isin(roots, group[again]), -1, np.arange(len(roots)))
        changes.append(draw.change(key, axis, index))
    return _edit(net, "reset_units", name, changes, reason, len(again), x)


# --- finding ------------------------------------------------------------------------------------------------------


def _layer(kind: str, net: Module, name: str) -> None:
    names = dict(net.named_modules())
    if name not in names:
        near = difflib.get_close_matches(name, [n for n in names if n], 3, 0.0)
        msg = f"{kind}: no layer {name!r}; nearest are {', '.join(near) or 'none'}"
        raise ValueError(msg)


def _group(kind: str, net: Module, name: str, x: Any, axis: int, allowed: set[str]) -> tuple[Units, Any]:
    """The trace, and the units (one label each) of the layer's weight along an axis."""
    _layer(kind, net, name)
    layer = net.get_submodule(name)
    weight = layer._parameters.get("weight")
    found = trace(net, x)
    key = next((n for n, p in net.named_parameters() if p is weight and weight is not None), None)
    if key is None or (key, 1) not in found.contracted:
        msg = (
            f"{kind}: expected a Linear or an ungrouped convolution that the forward uses, got {type(layer).__name__} at {name!r}"
        )
        raise ValueError(msg)
    roots = found.roots(found.labels[key, axis])
    group = np.array(list(dict.fromkeys(roots.tolist())), dtype=np.intp)
    why = found.reasons(group) - allowed
    if why:
        msg = f"{kind}: cannot follow the units of {name!r}: they reach {', '.join(sorted(why))}"
        raise ValueError(msg)
    return found, group


def _places(kind: str, net: Module, found: Units, group: Any) -> list[tuple[str, int, Any]]:
    """The axes of parameters and buffers that hold any of the units, with the unit of each index."""
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    places = []
    for (key, axis), labels in found.labels.items():
        roots = found.roots(labels)
        if np.isin(roots, group).any():
            places.append((key, axis, roots))
            if key in frozen:
                msg = f"{kind}: {key} is frozen; call requires_grad_() on it first"
                raise ValueError(msg)
    return places


def _numbers(kind: str, units: Sequence[int], n: int) -> Any:
    numbers = np.unique(np.asarray(units, dtype=np.intp))
    if not numbers.size or numbers[0] < 0 or numbers[-1] >= n:
        msg = f"{kind}: expected numbers of units from 0 to {n - 1}, got {list(units)}"
        raise ValueError(msg)
    return numbers


# --- widening -----------------------------------------------------------------------------------------------------


def _widen(kind: str, net: Module, name: str, units: int, x: Any, init: str, reason: str, axis: int) -> Edit:
    _layer(kind, net, name)
    if units < 1:
        msg = f"{kind}: expected at least 1 new unit, got {units}"
        raise ValueError(msg)
    allowed = {"grow": set[str](), "add_outputs": {"output"}, "add_inputs": {"input"}}[kind]
    found, group = _group(kind, net, name, x, axis, allowed)
    draw = _Draws(net, found, init, zero_in=kind == "add_outputs" and init == "zero_out")
    copied = draw.rng.integers(len(group), size=units) if init == "net2wider" else None
    changes = []
    for key, at, roots in _places(kind, net, found, group):
        inside = np.flatnonzero(np.isin(roots, group))
        start, end = int(inside[0]), int(inside[-1]) + 1
        repeats = (end - start) // len(group)
        if not np.array_equal(roots[start:end], np.repeat(group, repeats)):
            msg = f"{kind}: the units of {name!r} lie in another order in {key}, axis {at}"
            raise ValueError(msg)
        of = np.full((units, repeats), -1) if copied is None else start + copied[:, None] * repeats + np.arange(repeats)
        index = np.concatenate([np.arange(end), of.ravel(), np.arange(end, len(roots))])
        changes.append(draw.change(key, at, index))
    return _edit(net, kind, name, changes, reason, units, None if kind == "add_inputs" else x)


class _Draws:
    """How new slices start; the same draws for whoever follows, since they are part of the edit."""

    def __init__(self, net: Module, found: Units, init: str, zero_in: bool = False) -> None:
        self.rng = np.random.default_rng(int(randint(0, 2**31 - 1, (1,)).item()))
        self.found, self.init, self.zero_in = found, init, zero_in
        self.shapes = {name: list(t.shape) for name, t in [*net.named_parameters(), *net.named_buffers()]}

    def change(self, key: str, axis: int, index: Any) -> Change:
        shape = self.shapes[key]
        new = np.asarray(index) < 0
        if (key, axis) in self.found.contracted:
            times = np.bincount(index[~new], minlength=shape[axis])
            factor = None if (times <= 1).all() else np.where(new, 1.0, 1.0 / np.maximum(times[index], 1))
            fill = self._uniform(shape, axis, int(new.sum()), shape[1:]) if self.init == "random" else 0.0
        else:
            factor, fill = None, self._incoming(key, axis, int(new.sum()))
        shape[axis] = len(index)
        return Change(key, axis, index, fill, factor)

    def _incoming(self, key: str, axis: int, n: int) -> Any:
        shape = self.shapes[key]
        owner, _, name = key.rpartition(".")
        weight = f"{owner}.weight".lstrip(".")
        if (weight, 1) in self.found.contracted:
            return 0.0 if self.zero_in else self._uniform(shape, axis, n, self.shapes[weight][1:])
        return 1.0 if name in ("weight", "running_var") else 0.0

    def _uniform(self, shape: Sequence[int], axis: int, n: int, fan_in: Sequence[int]) -> Any:
        bound = 1 / math.sqrt(max(math.prod(fan_in), 1))
        return self.rng.uniform(-bound, bound, (*shape[:axis], n, *shape[axis + 1 :]))


def _edit(net: Module, kind: str, name: str, changes: list[Change], reason: str, units: int, x: Any) -> Edit:
    touched = dict.fromkeys(change.name for change in changes)
    shapes = {key: tuple(t.shape) for key, t in [*net.named_parameters(), *net.named_buffers()] if key in touched}
    owners = {key.rpartition(".")[0] for key in touched}
    mixing = [(path, m) for path, m in net.named_modules() if isinstance(m, MIXING) and path in owners]
    reasons = tuple(f"{path}: {type(m).__name__} mixes all units" for path, m in mixing)
    edit = Edit(net, kind, name, changes, shapes, reasons, reason, units)
    if x is not None:
        _try(edit, x)
    return edit


def _try(edit: Edit, x: Any) -> None:
    """Refuse an edit after which the forward fails: a size that code or a layer without weights holds fast."""
    copy = deepcopy(edit.net).eval()
    Edit(copy, edit.kind, edit.name, edit.changes, edit.shapes).apply()
    try:
        with no_grad():
            copy(*(x if isinstance(x, tuple) else (x,)))
    except Exception as error:
        msg = f"{edit.kind}: after the edit of {edit.name!r} the forward fails: {error}"
        raise ValueError(msg) from error
