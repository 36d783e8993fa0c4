"""When a network changes: triggers that give a reason, and `Growth`, which edits when one does, within a budget and on trial.

A trigger is called with what is known at a step (`Seen`) and returns why now is the time, or nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from tensor.nn.module import Module
from tensor.structure.activity import hidden_layers, measure, outputs
from tensor.structure.drift import Adwin
from tensor.structure.edit import Edit
from tensor.structure.finding import layer_named

__all__ = ["Growth", "Seen", "Trigger", "dormant", "drift", "every", "new_action", "plateau", "utility"]


class Seen(NamedTuple):
    """What a trigger may look at: the step, a number to get small (a loss, an error), the network, and a batch of its inputs."""

    step: int
    value: float | None
    net: Module
    x: Any


Trigger = Callable[[Seen], str]


def every(n: int) -> Trigger:
    """Every n steps.

    >>> [i for i in range(1, 10) if every(4)(Seen(i, None, None, None))]
    [4, 8]
    """
    if n < 1:
        msg = f"every: expected at least 1 step, got {n}"
        raise ValueError(msg)
    return lambda seen: f"every {n} steps" if seen.step and seen.step % n == 0 else ""


def plateau(patience: int, threshold: float = 0.01, smooth: float = 0.99) -> Trigger:
    """The running mean (``smooth``) of the value has not come ``threshold`` (a share) below its best for ``patience`` steps."""
    if patience < 1 or not 0 <= smooth < 1:
        msg = f"plateau: expected patience >= 1 and 0 <= smooth < 1, got {patience} and {smooth}"
        raise ValueError(msg)
    mean: float | None = None
    best, since = float("inf"), 0

    def trigger(seen: Seen) -> str:
        nonlocal mean, best, since
        if seen.value is None:
            return ""
        mean = seen.value if mean is None else smooth * mean + (1 - smooth) * seen.value
        if best == float("inf") or mean < best - threshold * abs(best):
            best, since = mean, 0
            return ""
        since += 1
        if since < patience:
            return ""
        why = f"no better than {best:.4g} for {since} steps"
        best, since = mean, 0
        return why

    return trigger


def drift(delta: float = 0.002) -> Trigger:
    """The mean of the value has become larger, as `Adwin` tells."""
    window = Adwin(delta)

    def trigger(seen: Seen) -> str:
        if seen.value is None:
            return ""
        changed = window.update(seen.value)
        return f"drift by {window.shift:.4g} to {window.mean:.4g}" if changed and window.shift > 0 else ""

    return trigger


def dormant(share: float = 0.1, threshold: float = 0.025, period: int = 100) -> Trigger:
    """Every ``period`` steps, if a ``share`` of the hidden units says at most ``threshold`` of their layer's mean."""

    def trigger(seen: Seen) -> str:
        if seen.x is None or not seen.step or seen.step % period:
            return ""
        sizes = [a.size for a in measure("dormant", seen.net, hidden_layers(seen.net, seen.x), seen.x).values()]
        asleep = sum(int((size <= threshold * size.mean()).sum()) for size in sizes)
        total = sum(len(size) for size in sizes)
        return f"{asleep} of {total} units dormant" if total and asleep >= share * total else ""

    return trigger


def utility(layer: str, least: float, period: int = 100) -> Trigger:
    """Every ``period`` steps, if even the least useful unit of a layer has ``least`` of its mean utility: all are needed."""

    def trigger(seen: Seen) -> str:
        if seen.x is None or not seen.step or seen.step % period:
            return ""
        worth = measure("utility", seen.net, [layer], seen.x)[layer].utility
        lowest = float(worth.min() / max(float(worth.mean()), 1e-30))
        return f"the least useful unit has {lowest:.3g} of the mean" if lowest >= least else ""

    return trigger


def new_action(actions: Callable[[], int], layer: str) -> Trigger:
    """The world has more actions (``actions()``) than the layer has outputs; see `add_outputs`."""

    def trigger(seen: Seen) -> str:
        last: Any = layer_named("new_action", seen.net, layer)
        have, wanted = last.out_features, actions()
        return f"{wanted} actions, {have} outputs" if wanted > have else ""

    return trigger


class Growth:
    """Edits a network when a trigger says why, and keeps a log.

    ``make(net)`` plans the edit. ``budget``: the most parameters there may be; ``latency``: the most seconds that a forward of
    ``x`` may take. Where either would be passed, that is logged, once, and nothing is edited any more. ``trial``: after so many
    steps an edit is undone, with all that was learnt since, unless the mean value is at least ``margin`` (a share) below that of
    as many steps before, or others have edited on top of it. `step` returns the log's new entry, if any; ``events`` has them all:
    step, edit, units, output change, reason.

    >>> import tensor as T
    >>> from tensor import structure
    >>> net = T.nn.Sequential(T.nn.Linear(2, 4), T.nn.Tanh(), T.nn.Linear(4, 1))
    >>> growth = Growth(net, every(2), lambda net: structure.grow(net, "0", 2), budget=30)
    >>> for _ in range(10):
    ...     event = growth.step()
    >>> [(e["step"], e["edit"], e["units"]) for e in growth.events]
    [(2, 'grow', 2), (4, 'over budget', 2)]
    >>> sum(p.numel() for p in net.parameters())
    25
    """

    def __init__(
        self,
        net: Module,
        trigger: Trigger,
        make: Callable[[Module], Edit],
        optimizer: Any = None,
        followers: Sequence[Any] = (),
        *,
        budget: int | None = None,
        latency: float | None = None,
        trial: int = 0,
        margin: float = 0.0,
    ) -> None:
        self.net, self.trigger, self.make = net, trigger, make
        self.optimizer, self.followers = optimizer, tuple(followers)
        self.budget, self.latency, self.trial, self.margin = budget, latency, trial, margin
        self.steps = 0
        self.events: list[dict[str, Any]] = []
        self._values: deque[float] = deque(maxlen=max(trial, 1))
        self._pending: tuple[Edit, float | None, int] | None = None  # an edit on trial, the value before, the step of the verdict
        self._full = False

    def step(self, value: float | None = None, x: Any = None) -> dict[str, Any] | None:
        """Tell of a step: a ``value`` that should get small, and for what measures it a batch of inputs ``x``."""
        self.steps += 1
        if value is not None:
            self._values.append(float(value))
        if self._pending is not None:
            return self._judge() if self.steps >= self._pending[2] else None
        reason = self.trigger(Seen(self.steps, value, self.net, x))
        if not reason or self._full:
            return None
        edit = self.make(self.net)
        edit.reason = edit.reason or reason
        over = self._over(edit, x)
        if over:
            self._full = True
            return self._log({**edit.log(self.steps), "edit": "over budget", "reason": over})
        change = None if x is None else edit.check(x)
        edit.apply(self.optimizer, *self.followers)
        if self.trial:
            before = float(np.mean(self._values)) if self._values else None
            self._pending = edit, before, self.steps + self.trial
            self._values.clear()
        return self._log(edit.log(self.steps, change))

    def _over(self, edit: Edit, x: Any) -> str:
        """By which budget the edit goes too far; empty where it does not."""
        if self.budget is None and (self.latency is None or x is None):
            return ""
        after = edit.preview()
        size = sum(p.numel() for p in after.parameters())
        if self.budget is not None and size > self.budget:
            return f"{size} parameters of {self.budget}"
        if self.latency is not None and x is not None:
            seconds = _seconds(after, x)
            if seconds > self.latency:
                return f"{seconds:.3g} s a forward of {self.latency:.3g}"
        return ""

    def _judge(self) -> dict[str, Any] | None:
        assert self._pending is not None
        edit, before, _ = self._pending
        self._pending = None
        if before is None or not self._values:
            return None
        now = float(np.mean(self._values))
        if now <= before - self.margin * abs(before):
            return self._log({**edit.log(self.steps), "edit": "kept", "reason": f"{before:.4g} before, {now:.4g} after"})
        entry = {**edit.log(self.steps), "edit": "rollback", "reason": f"{before:.4g} before, {now:.4g} after"}
        try:
            edit.undo()
        except RuntimeError as error:  # others, such as `ContinualBackprop`, have edited since
            entry |= {"edit": "kept", "reason": f"{entry['reason']}, but {error}"}
        return self._log(entry)

    def _log(self, entry: dict[str, Any]) -> dict[str, Any]:
        self.events.append(entry)
        return entry


def _seconds(net: Module, x: Any) -> float:
    """What a forward takes: the best of five."""
    times = []
    for _ in range(5):
        start = perf_counter()
        outputs(net, x)
        times.append(perf_counter() - start)
    return min(times)
