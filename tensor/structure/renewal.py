"""Policies that start units anew so that a network goes on learning: continual backprop, and ReDo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor.autograd.inplace import bump
from tensor.autograd.tensor import Tensor
from tensor.nn.module import Module
from tensor.structure.activity import Activity, Ear, outputs, renewable
from tensor.structure.edit import tensors
from tensor.structure.edits import reset_units
from tensor.structure.tester import Tester

__all__ = ["ContinualBackprop", "ReDo"]


def _renew(
    net: Module, layer: str, units: Any, x: Any, step: int, reason: str, optimizer: Any, followers: Sequence[Any],
    activity: Activity | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Reset units of a layer; with an ``activity`` what they say on average is left to the biases of their consumers."""
    before = _said(net, x)
    shifts = []
    if activity is not None:
        for module in (net, *(f for f in followers if isinstance(f, Module))):
            shifts += _means_left(module, activity, units)
    edit = reset_units(net, layer, units.tolist(), x=x, reason=reason).apply(optimizer, *followers)
    for bias, shift in shifts:
        bias._array[...] += shift
        bump(bias)
    change = np.abs(_said(net, x) - before).max() / max(float(np.abs(before).max()), 1e-30)
    return {**edit.log(step), "numbers": units.tolist(), "output_change": float(change)}


def _said(net: Module, x: Any) -> Any:
    return np.concatenate([t._array.ravel() for t in tensors(outputs(net, x))])


def _means_left(module: Module, activity: Activity, units: Any) -> list[tuple[Tensor, Any]]:
    """For each consumer's bias the mean of what units added to its outputs."""
    shifts = []
    for consumer, mean in activity.consumers:
        layer: Any = module.get_submodule(consumer.name)
        if layer.bias is not None:
            gone = consumer.columns[np.isin(consumer.units, units)]
            w = layer.weight._array[:, gone]
            shift = (w * mean[gone].reshape(1, -1, *[1] * (w.ndim - 2))).sum(axis=tuple(range(1, w.ndim)))
            shifts.append((layer.bias, shift.astype(w.dtype)))
    return shifts


class ContinualBackprop:
    """Ever again, a few units that matter least start anew (Dohare et al., Nature 632, 2024).

    A unit's utility is a running mean (``decay``) of what it says, taken absolutely, times the sum of its absolute outgoing
    weights. At each `step`, ``rate`` times the number of units older than ``maturity`` steps are due, those of least utility:
    random weights in, zeros out, moments and step counts of zero; the mean of what they said goes to the biases behind them.
    ``layers``: all hidden ones, unless named; ``x``: an input to follow networks with that are no plain chains. ``events`` is the
    log, `state_dict` what is to be kept for going on. Raises ValueError for options that make no sense, and layers not there.

    >>> import tensor as T
    >>> net = T.nn.Sequential(T.nn.Linear(2, 8), T.nn.ReLU(), T.nn.Linear(8, 1))
    >>> policy = ContinualBackprop(net, T.optim.Adam(net.parameters()), rate=0.1, maturity=3)
    >>> for _ in range(10):
    ...     policy.step(T.randn(4, 2))
    >>> policy.events[0]["edit"], policy.events[0]["units"]
    ('reset_units', 1)
    """

    def __init__(
        self,
        net: Module,
        optimizer: Any = None,
        *followers: Any,
        rate: float = 1e-4,
        maturity: int = 100,
        decay: float = 0.99,
        layers: Sequence[str] | None = None,
        x: Any = None,
    ) -> None:
        if not (0 <= rate <= 1 and maturity >= 0 and 0 <= decay < 1):
            msg = (
                "ContinualBackprop: expected 0 <= rate <= 1, maturity >= 0 and 0 <= decay < 1, "
                f"got {rate}, {maturity} and {decay}"
            )
            raise ValueError(msg)
        self.net, self.optimizer, self.followers = net, optimizer, followers
        self.rate, self.maturity, self.decay = rate, maturity, decay
        self.layers = renewable("ContinualBackprop", net, layers, x)
        self._ear = Ear("ContinualBackprop", net, self.layers)
        self.steps = 0
        self.events: list[dict[str, Any]] = []
        self._testers: dict[str, Tester] = {}
        self._means: dict[str, list[Any]] = {}  # of each consumer's columns

    def step(self, x: Any) -> None:
        """Look at what units say on a batch ``x``, and renew those that are due; call it after the optimizer's step."""
        self.steps += 1
        for name, seen in self._ear(x).items():
            tester = self._tester(name, seen)
            for mean, (_, new) in zip(self._means[name], seen.consumers, strict=True):
                tester.blend(mean, new)
            due = tester.update(seen.utility)
            if due is not None:
                self._replace(name, tester, np.flatnonzero(due), seen, x)
                tester.renewed(due)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on: copies of arrays, and plain values."""
        layers = {
            name: {
                "age": t.age.copy(),
                "utility": t.utility.copy(),
                "due": float(t.due),
                "means": [m.copy() for m in self._means[name]],
            }
            for name, t in self._testers.items()
        }
        return {"steps": self.steps, "events": [dict(event) for event in self.events], "layers": layers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave, on a network of the same structure."""
        self.steps, self.events = state["steps"], [dict(event) for event in state["events"]]
        self._testers, self._means = {}, {}
        for name, kept in state["layers"].items():
            tester = self._testers[name] = Tester(np.shape(kept["age"]), self.rate, self.maturity, self.decay)
            tester.age[...], tester.utility[...], tester.due[...] = kept["age"], kept["utility"], kept["due"]
            self._means[name] = [np.array(mean) for mean in kept["means"]]

    def _tester(self, name: str, seen: Activity) -> Tester:
        """What is known of a layer's units; from the start again where another edit has changed it or what it is heard by."""
        tester = self._testers.get(name)
        shapes = [mean.shape for _, mean in seen.consumers]
        if tester is None or tester.age.shape != seen.utility.shape or [mean.shape for mean in self._means[name]] != shapes:
            tester = self._testers[name] = Tester(seen.utility.shape, self.rate, self.maturity, self.decay)
            self._means[name] = [np.zeros(shape) for shape in shapes]
        return tester

    def _replace(self, name: str, tester: Tester, units: Any, seen: Activity, x: Any) -> None:
        correction = tester.correction
        corrected = []
        for (consumer, _), mean in zip(seen.consumers, self._means[name], strict=True):
            whole = mean.copy()
            whole[consumer.columns] /= correction[consumer.units]
            corrected.append((consumer, whole))
            mean[consumer.columns[np.isin(consumer.units, units)]] = 0
        activity = seen._replace(consumers=corrected)
        reason = f"least utility of {len(correction)} units"
        self.events.append(_renew(self.net, name, units, x, self.steps, reason, self.optimizer, self.followers, activity))


class ReDo:
    """Dormant units start anew (Sokar et al., ICML 2023).

    Every ``period`` steps: units whose mean absolute output is at most ``threshold`` times their layer's mean get random weights
    in, zeros out, moments and step counts of zero. ``events`` is the log.

    >>> import tensor as T
    >>> net = T.nn.Sequential(T.nn.Linear(2, 8), T.nn.ReLU(), T.nn.Linear(8, 1))
    >>> _ = T.nn.init.constant_(net[0].bias, -100.0)
    >>> net[0].bias.data[0] = 100.0
    >>> policy = ReDo(net, period=1)
    >>> policy.step(T.randn(4, 2))
    >>> policy.events[0]["units"], policy.events[0]["output_change"]
    (7, 0.0)
    """

    def __init__(
        self,
        net: Module,
        optimizer: Any = None,
        *followers: Any,
        threshold: float = 0.025,
        period: int = 1000,
        layers: Sequence[str] | None = None,
        x: Any = None,
    ) -> None:
        if threshold < 0 or period < 1:
            msg = f"ReDo: expected threshold >= 0 and period >= 1, got {threshold} and {period}"
            raise ValueError(msg)
        self.net, self.optimizer, self.followers = net, optimizer, followers
        self.threshold, self.period = threshold, period
        self.layers = renewable("ReDo", net, layers, x)
        self._ear = Ear("ReDo", net, self.layers)
        self.steps = 0
        self.events: list[dict[str, Any]] = []

    def step(self, x: Any) -> None:
        """Count a step; when it is time, renew what is dormant on a batch ``x``."""
        self.steps += 1
        if self.steps % self.period:
            return
        for name, seen in self._ear(x).items():
            mean = float(seen.size.mean())
            dormant = np.flatnonzero(seen.size <= self.threshold * mean)
            if 0 < dormant.size < len(seen.size):
                reason = f"{dormant.size} of {len(seen.size)} units at most {self.threshold} of the mean"
                self.events.append(_renew(self.net, name, dormant, x, self.steps, reason, self.optimizer, self.followers))

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on."""
        return {"steps": self.steps, "events": [dict(event) for event in self.events]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.steps, self.events = state["steps"], [dict(event) for event in state["events"]]
