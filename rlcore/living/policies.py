"""When to edit: policies by the names that a structure file calls them.

A policy is a dataclass. Its fields are its options in the file, but for those with ``init=False``: these are what it remembers,
and go into the checkpoint. It is called once a look and says why now is the time, or nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from rlcore.registry import Registry
from rlcore.types import State
from tensor import structure

__all__ = ["POLICIES", "Dormant", "Drift", "Every", "Look", "Plateau", "Policy", "Utility", "load_memory", "memory"]


class Look(NamedTuple):
    """What a policy may look at."""

    number: int  #: how many looks there were, with this one
    step: int  #: environment steps so far
    value: float | None  #: mean since the last look of what the rule watches; None where there was none
    more_is_better: bool  #: true of returns, false of losses
    net: Any  #: the `tensor.nn.Module` that the first layer of the rule is in
    layer: str  #: the name of that layer inside of ``net``
    x: Any  #: recent observations, a tensor ``[n, d]``; None before there are any


class Policy(Protocol):
    """A dataclass that can be called."""

    def __call__(self, look: Look) -> str:
        """Why the network should change now; empty where it should not."""
        ...


@dataclass
class Every:
    """At every n-th look.

    >>> [n for n in range(1, 7) if Every(3)(Look(n, 0, None, True, None, "", None))]
    [3, 6]
    """

    n: int = 1
    """Looks from one edit to the next."""

    def __post_init__(self) -> None:
        _at_least_one("n", self.n)

    def __call__(self, look: Look) -> str:
        return f"look {look.number}" if look.number % self.n == 0 else ""


@dataclass
class Plateau:
    """When the value has not become better by a share of its best for so many looks.

    >>> policy = Plateau(patience=2)
    >>> [policy(Look(n, 0, value, True, None, "", None)) for n, value in enumerate([10.0, 20.0, 19.0, 20.1], 1)]
    ['', '', '', 'no better than 20 for 2 looks']
    """

    patience: int = 10
    """Looks without progress."""
    threshold: float = 0.01
    """The share of the best value that counts as progress."""
    below: float | None = None
    """Only while a value that should grow is below this (one that should shrink, above); good enough is no plateau."""
    best: float | None = field(default=None, init=False)
    since: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        _at_least_one("patience", self.patience)

    def __call__(self, look: Look) -> str:
        if look.value is None:
            return ""
        sign = 1.0 if look.more_is_better else -1.0
        if self.best is None or sign * (look.value - self.best) > self.threshold * abs(self.best):
            self.best, self.since = look.value, 0
            return ""
        self.since += 1
        if self.since < self.patience or (self.below is not None and sign * (self.below - look.value) <= 0):
            return ""
        why = f"no better than {self.best:.4g} for {self.since} looks"
        self.best, self.since = look.value, 0
        return why


@dataclass
class Drift:
    """When the value has become worse, as ADWIN tells (`tensor.structure.Adwin`)."""

    delta: float = 0.002
    """One minus the confidence."""
    window: structure.Adwin = field(init=False)

    def __post_init__(self) -> None:
        self.window = structure.Adwin(self.delta)

    def __call__(self, look: Look) -> str:
        if look.value is None:
            return ""
        cost = -look.value if look.more_is_better else look.value
        if not self.window.update(cost) or self.window.shift <= 0:
            return ""
        return f"drift by {self.window.shift:.4g} to {abs(self.window.mean):.4g}"

    def state_dict(self) -> State:
        """The window."""
        return {name: [list(map(list, row)) for row in v] if name == "_rows" else v for name, v in vars(self.window).items()}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave."""
        vars(self.window).update(state, _rows=[[(a, b) for a, b in row] for row in state["_rows"]])


@dataclass
class Dormant:
    """When a share of the hidden units says at most ``threshold`` of their layer's mean."""

    share: float = 0.1
    """Of the units."""
    threshold: float = 0.025
    """Of the mean."""

    def __call__(self, look: Look) -> str:
        return structure.dormant(self.share, self.threshold, 1)(structure.Seen(1, None, look.net, look.x))


@dataclass
class Utility:
    """When even the least useful unit of the layer has ``least`` of the mean utility: all are needed."""

    least: float = 0.1
    """Of the mean."""

    def __call__(self, look: Look) -> str:
        return structure.utility(look.layer, self.least, 1)(structure.Seen(1, None, look.net, look.x))


#: Dataclasses as `Policy`, or as `rlcore.living.renewals.Renewal`; third parties add to them with an entry point, and a file
#: may say "module:Name".
POLICIES = Registry(
    "policy",
    {
        "every": "rlcore.living.policies:Every",
        "plateau": "rlcore.living.policies:Plateau",
        "drift": "rlcore.living.policies:Drift",
        "dormant": "rlcore.living.policies:Dormant",
        "utility": "rlcore.living.policies:Utility",
        "continual_backprop": "rlcore.living.renewals:ContinualBackprop",
        "redo": "rlcore.living.renewals:ReDo",
    },
    entry_points="rlcore.policies",
)


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        message = f"{name}: expected at least 1, got {value}"
        raise ValueError(message)


def memory(policy: Any) -> State:
    """What a policy remembers: by its own ``state_dict``, or its fields that are no options."""
    if hasattr(policy, "state_dict"):
        return policy.state_dict()
    return {f.name: getattr(policy, f.name) for f in dataclasses.fields(policy) if not f.init}


def load_memory(policy: Any, state: State) -> None:
    """Restore what `memory` gave."""
    if hasattr(policy, "load_state_dict"):
        policy.load_state_dict(state)
        return
    for name, value in state.items():
        setattr(policy, name, value)
