"""Policies that choose units of a layer to start anew, look by look: continual backprop, and ReDo."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from rlcore.living.edits import Place
from rlcore.types import State
from tensor import structure

__all__ = ["ContinualBackprop", "ReDo", "Renewal"]


@runtime_checkable
class Renewal(Protocol):
    """A dataclass as `Policy` is one, for rules without an edit."""

    def plan(self, name: str, place: Place) -> structure.Edit | None:
        """Look at the layer that the rule calls ``name``; an edit in place, to be applied at once, or None."""
        ...


@dataclass
class ContinualBackprop:
    """At each look a few units that matter least start anew (Dohare et al., Nature 632, 2024).

    See `tensor.structure.ContinualBackprop`, whose steps are looks here.
    """

    rate: float = 1e-4
    """The share of a layer's mature units that falls due at each look; fractions add up."""
    maturity: int = 100
    """Looks that a unit is left alone after it was new."""
    decay: float = 0.99
    """Of the running mean of a unit's utility, from look to look."""
    known: dict[str, structure.ContinualBackprop] = field(default_factory=dict, init=False, repr=False)
    kept: dict[str, State] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        _within("rate", self.rate, 0 <= self.rate <= 1, "from 0 to 1")
        _within("maturity", self.maturity, self.maturity >= 0, "of at least 0")
        _within("decay", self.decay, 0 <= self.decay < 1, "from 0 to below 1")

    def plan(self, name: str, place: Place) -> structure.Edit | None:
        """The units that are due, if any; they count as renewed from now on."""
        policy = self.known.get(name)
        if policy is None or policy.net is not place.net:  # the network is another object after a rollback
            kept = self.kept.pop(name, None) if policy is None else policy.state_dict()
            policy = self.known[name] = structure.ContinualBackprop(
                place.net, rate=self.rate, maturity=self.maturity, decay=self.decay, layers=[place.layer], x=place.x
            )
            if kept is not None:
                policy.load_state_dict(kept)
        return next(iter(policy.plan(place.x)), None)

    def state_dict(self) -> State:
        """What is known of the units of each layer."""
        return {**self.kept, **{name: policy.state_dict() for name, policy in self.known.items()}}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave."""
        self.known, self.kept = {}, dict(state)


@dataclass
class ReDo:
    """At each look the units start anew that say next to nothing (Sokar et al., ICML 2023)."""

    threshold: float = 0.025
    """The share of the layer's mean at or below which a unit is dormant."""

    def __post_init__(self) -> None:
        _within("threshold", self.threshold, self.threshold >= 0, "of at least 0")

    def plan(self, name: str, place: Place) -> structure.Edit | None:
        """The dormant units, if any."""
        policy = structure.ReDo(place.net, threshold=self.threshold, period=1, layers=[place.layer], x=place.x)
        return next(iter(policy.plan(place.x)), None)


def _within(name: str, value: float, ok: bool, expected: str) -> None:
    if not ok:
        message = f"{name}: expected a number {expected}, got {value}"
        raise ValueError(message)
