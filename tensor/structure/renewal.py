"""Policies that start units anew so that a network goes on learning: continual backprop, and ReDo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor.nn.module import Module
from tensor.structure.activity import Activity, Ear, outputs, renewable
from tensor.structure.edit import Edit, tensors
from tensor.structure.edits import reset_units
from tensor.structure.rewrite import Shift
from tensor.structure.tester import Tester

__all__ = ["ContinualBackprop", "ReDo"]


def _apply(edit: Edit, x: Any, step: int, optimizer: Any, followers: Sequence[Any]) -> dict[str, Any]:
    """Apply a renewal; its entry in the log."""
    before = _said(edit.net, x)
    edit.apply(optimizer, *followers)
    change = np.abs(_said(edit.net, x) - before).max() / max(float(np.abs(before).max()), 1e-30)
    return {**edit.log(step), "numbers": list(edit.numbers), "output_change": float(change)}


def _said(net: Module, x: Any) -> Any:
    return np.concatenate([t._array.ravel() for t in tensors(outputs(net, x))])


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
        for edit in self.plan(x):
            self.events.append(_apply(edit, x, self.steps, self.optimizer, self.followers))

    def plan(self, x: Any) -> list[Edit]:
        """The same for who applies the edits, one for each layer with units that are due; these count as renewed from now on."""
        self.steps += 1
        edits = []
        for name, seen in self._ear(x).items():
            tester = self._tester(name, seen)
            for mean, (_, new) in zip(self._means[name], seen.consumers, strict=True):
                tester.blend(mean, new)
            due = tester.update(seen.utility)
            if due is not None:
                edits.append(self._renewal(name, tester, np.flatnonzero(due), seen, x))
                tester.renewed(due)
        return edits

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

    def _renewal(self, name: str, tester: Tester, units: Any, seen: Activity, x: Any) -> Edit:
        """Units start anew; what they said on average is left to the biases behind them."""
        correction, shifts = tester.correction, []
        for (consumer, _), mean in zip(seen.consumers, self._means[name], strict=True):
            gone = np.isin(consumer.units, units)
            columns = consumer.columns[gone]
            shifts.append(Shift(consumer.name, columns, mean[columns] / correction[consumer.units[gone]]))
            mean[columns] = 0
        reason = f"least utility of {len(correction)} units"
        return reset_units(self.net, name, units.tolist(), x=x, reason=reason, shifts=shifts)


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
        for edit in self.plan(x):
            self.events.append(_apply(edit, x, self.steps, self.optimizer, self.followers))

    def plan(self, x: Any) -> list[Edit]:
        """The same for who applies the edits, one for each layer with dormant units."""
        self.steps += 1
        edits: list[Edit] = []
        if self.steps % self.period:
            return edits
        for name, seen in self._ear(x).items():
            mean = float(seen.size.mean())
            dormant = np.flatnonzero(seen.size <= self.threshold * mean)
            if 0 < dormant.size < len(seen.size):
                reason = f"{dormant.size} of {len(seen.size)} units at most {self.threshold} of the mean"
                edits.append(reset_units(self.net, name, dormant.tolist(), x=x, reason=reason))
        return edits

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on."""
        return {"steps": self.steps, "events": [dict(event) for event in self.events]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.steps, self.events = state["steps"], [dict(event) for event in state["events"]]
