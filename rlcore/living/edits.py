"""What to change: edits by the names that a structure file calls them.

An edit is a dataclass whose fields are its options in the file. Called with a place, it plans the change there and returns a
`tensor.structure.Edit`, applied by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from rlcore.registry import Registry, load_object
from tensor import structure
from tensor.structure.activity import measure
from tensor.structure.finding import layer_named

__all__ = ["EDITS", "Deepen", "EditMaker", "Grow", "Inject", "Place", "Prune", "Replace", "ResetUnits"]


class Place(NamedTuple):
    """Where a network is to be edited."""

    net: Any  #: a `tensor.nn.Module`
    layer: str  #: the name of a layer inside of it
    x: Any  #: recent observations, a tensor ``[n, d]``; None before there are any


class EditMaker(Protocol):
    """A dataclass that can be called."""

    def __call__(self, place: Place) -> structure.Edit:
        """The edit, planned; ValueError where it cannot be made."""
        ...


@dataclass(frozen=True)
class Grow:
    """More units for a layer."""

    units: int = 8
    """How many."""
    init: Literal["zero_out", "net2wider", "pair", "random"] = "zero_out"
    """How they start; all but "random" keep what the network does."""

    def __call__(self, place: Place) -> structure.Edit:
        return structure.grow(place.net, place.layer, self.units, init=self.init, x=_followed(place))


@dataclass(frozen=True)
class Deepen:
    """A new layer of the same width behind the layer and its activation."""

    init: Literal["exact", "identity", "residual"] = "exact"
    """An identity map, a residual branch, or whichever keeps what the network does."""

    def __call__(self, place: Place) -> structure.Edit:
        return structure.deepen(place.net, place.layer, init=None if self.init == "exact" else self.init, x=place.x)


@dataclass(frozen=True)
class Inject:
    """The layer frozen, and a new one beside it that learns (plasticity injection, arXiv 2305.15555)."""

    def __call__(self, place: Place) -> structure.Edit:
        return structure.inject(place.net, place.layer)


@dataclass(frozen=True)
class Prune:
    """Fewer units: those of least utility go."""

    units: int = 1
    """How many."""

    def __call__(self, place: Place) -> structure.Edit:
        return structure.prune(place.net, place.layer, _least_useful("prune", place, self.units), x=_followed(place))


@dataclass(frozen=True)
class ResetUnits:
    """The units of least utility start anew, in place."""

    units: int = 1
    """How many."""

    def __call__(self, place: Place) -> structure.Edit:
        return structure.reset_units(place.net, place.layer, _least_useful("reset_units", place, self.units), x=_followed(place))


@dataclass(frozen=True)
class Replace:
    """Another module in the place of the layer."""

    make: str = ""
    """"module:function", called with the `Place`; returns the new layer."""

    def __call__(self, place: Place) -> structure.Edit:
        layer_named("replace", place.net, place.layer)
        if ":" not in self.make:
            message = f"replace: expected make = 'module:function', got {self.make!r}"
            raise ValueError(message)
        return structure.replace(place.net, place.layer, load_object(self.make)(place), x=place.x)


#: Dataclasses as `EditMaker`; third parties add to them with an entry point, and a file may say "module:Name".
EDITS = Registry(
    "edit",
    {
        "grow": "rlcore.living.edits:Grow",
        "deepen": "rlcore.living.edits:Deepen",
        "inject": "rlcore.living.edits:Inject",
        "prune": "rlcore.living.edits:Prune",
        "reset_units": "rlcore.living.edits:ResetUnits",
        "replace": "rlcore.living.edits:Replace",
    },
    entry_points="rlcore.edits",
)


def _followed(place: Place) -> Any:
    """An input to follow the network with, of few rows: what units are one does not depend on how many."""
    return None if place.x is None else place.x[:2]


def _least_useful(kind: str, place: Place, units: int) -> list[int]:
    layer_named(kind, place.net, place.layer)
    if place.x is None:
        message = f"{kind}: expected observations to measure units by, got none yet"
        raise ValueError(message)
    utility = measure(kind, place.net, [place.layer], place.x)[place.layer].utility
    return sorted(np.argsort(utility, kind="stable")[:units].tolist())
