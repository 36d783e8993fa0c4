"""How much each unit says and how much of it is heard: measured where units are consumed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tensor.autograd.modes import no_grad
from tensor.nn.linear import Linear
from tensor.nn.module import Module
from tensor.structure.finding import ENDS, find, layer_named
from tensor.structure.units import Units

__all__ = ["Activity", "Consumer", "Ear", "hidden_layers", "measure", "outputs", "renewable"]


class Consumer(NamedTuple):
    """A layer that takes units in: which of its columns (numbers) is which unit (the same place in ``units``)."""

    name: str
    columns: Any
    units: Any


class Activity(NamedTuple):
    """Of one layer's units on a batch, each an array of [units].

    ``size``: mean of what they say, taken absolutely; ``utility``: the same weighted by the weights going out. ``consumers`` has
    for each consumer the mean of each of its columns, by sign.
    """

    size: Any
    utility: Any
    consumers: list[tuple[Consumer, Any]]


def outputs(net: Module, x: Any) -> Any:
    """What a network says, unrecorded and as in evaluation: no running statistics move, nothing is dropped."""
    learning = [m for m in net.modules() if m.training]
    for m in learning:
        m.training = False
    try:
        with no_grad():
            return net(*(x if isinstance(x, tuple) else (x,)))
    finally:
        for m in learning:
            m.training = True


def renewable(kind: str, net: Module, layers: Sequence[str] | None, x: Any) -> list[str]:
    """The layers named, or all hidden ones; ValueError for one that is not there, and where there are none."""
    if layers is not None:
        for name in layers:
            layer_named(kind, net, name)
        return list(layers)
    found = hidden_layers(net, x)
    if not found:
        msg = f"{kind}: expected hidden layers that can be followed, got none in {type(net).__name__}; give x, an input"
        raise ValueError(msg)
    return found


def hidden_layers(net: Module, x: Any = None) -> list[str]:
    """The names of the layers whose units can be followed to layers that hear them, first of those that have the same units.

    Left out are units that also go into what is no plain weight of a layer, as those of recurrences and attention do.
    """
    names: list[str] = []
    seen: set[int] = set()
    for name, module in net.named_modules():
        if type(module) in ENDS and name:
            try:
                found, group = find("hidden_layers", net, name, x, inputs=False)
            except ValueError:
                continue
            mask = found.mask(group)
            into = [key for key, axis in found.contracted if mask[found.roots(found.labels[key, axis])].any()]
            if all(key.rpartition(".")[2] == "weight" for key in into) and not seen & set(group.tolist()):
                seen |= set(group.tolist())
                names.append(name)
    return names


def _consumers(net: Module, found: Units, group: Any) -> list[Consumer]:
    number = {int(root): i for i, root in enumerate(group)}
    mask = found.mask(group)
    result = []
    for key, axis in found.contracted:
        path, _, own = key.rpartition(".")
        roots = found.roots(found.labels[key, axis])
        columns = np.flatnonzero(mask[roots])
        if columns.size and own == "weight":
            result.append(Consumer(path, columns, np.array([number[int(r)] for r in roots[columns]])))
    return sorted(result)


def measure(kind: str, net: Module, layers: Sequence[str], x: Any) -> dict[str, Activity]:
    """Run a network on ``x``, unrecorded, and see what goes into the consumers of the layers' units."""
    return Ear(kind, net, layers)(x)


class Ear:
    """`measure`, again and again: the consumers are looked for once, and again when the structure has changed."""

    def __init__(self, kind: str, net: Module, layers: Sequence[str]) -> None:
        self.kind, self.net, self.layers = kind, net, layers
        self._key: Any = None
        self._heard: dict[str, tuple[int, list[Consumer]]] = {}
        self._modules: dict[str, Any] = {}  # the consumers

    def __call__(self, x: Any) -> dict[str, Activity]:
        net = self.net
        key = [(m, m._structure) for m in net.modules()]
        if key != self._key:
            found = {name: find(self.kind, net, name, x, inputs=False) for name in self.layers}
            self._heard = {name: (len(group), _consumers(net, units, group)) for name, (units, group) in found.items()}
            paths = {consumer.name for _, consumers in self._heard.values() for consumer in consumers}
            self._modules = {path: net.get_submodule(path) for path in paths}
            self._key = key
        inputs: dict[str, Any] = {}
        handles = [module.register_forward_pre_hook(_keep(inputs, path)) for path, module in self._modules.items()]
        try:
            outputs(net, x)
        finally:
            for handle in handles:
                handle.remove()
        return {name: self._activity(n, consumers, inputs) for name, (n, consumers) in self._heard.items()}

    def _activity(self, n: int, consumers: list[Consumer], inputs: dict[str, Any]) -> Activity:
        size: Any = 0.0
        utility: Any = 0.0
        times: Any = 0
        means = []
        for consumer in consumers:
            layer = self._modules[consumer.name]
            h, w = inputs[consumer.name], layer.weight._array
            # Over all axes but that of the columns.
            h = h.reshape(-1, h.shape[-1]) if isinstance(layer, Linear) else np.moveaxis(h, 1, -1).reshape(-1, h.shape[1])
            loud = np.abs(h).mean(0)[consumer.columns]
            going = np.abs(w).sum(axis=tuple(i for i in range(w.ndim) if i != 1))[consumer.columns]
            size = size + np.bincount(consumer.units, loud, n)
            utility = utility + np.bincount(consumer.units, loud * going, n)
            times = times + np.bincount(consumer.units, minlength=n)
            means.append((consumer, h.mean(0)))
        return Activity(size / np.maximum(times, 1), utility, means)


def _keep(inputs: dict[str, Any], path: str) -> Any:
    def hook(module: Module, given: tuple[Any, ...]) -> None:
        inputs[path] = given[0]._array

    return hook
