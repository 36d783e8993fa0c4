"""Memory that gains slots while it runs."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from tensor import Tensor, nn
from tensor.structure import Change, Edit
from tensor.structure.finding import layer_named
from tensor.structure.listing import Listing
from tensor.structure.resize import Resize

__all__ = ["SMALL", "add_slots", "extend", "new_slots"]

#: What memory holds before anything is written: zero has no direction.
SMALL = 1e-6


def add_slots(net: nn.Module, name: str, slots: int, *, reason: str = "") -> Edit:
    """An edit that gives the memory of the cell ``name`` (an `NTMCell` or `DNCCell`) more slots.

    A state from before the edit gets the new slots, empty, at its next step. Raises ValueError for an unknown layer, one without
    slots, and a number below 1.

    >>> from agents.networks.memory import NTMCell
    >>> net = nn.ModuleDict({"memory": NTMCell(3, 2, hidden_size=8, slots=4, width=4)})
    >>> edit = add_slots(net, "memory", 2)
    >>> edit.plan()
    ['memory.first_memory: [4, 4] -> [6, 4]']
    >>> edit.apply().net["memory"].slots
    6
    """
    cell = layer_named("add_slots", net, name) if name else net
    first = cell._buffers.get("first_memory")
    if first is None:
        msg = f"add_slots: expected a layer with slots (an NTMCell, a DNCCell), got {type(cell).__name__} at {name!r}"
        raise ValueError(msg)
    if slots < 1:
        msg = f"add_slots: expected at least 1 new slot, got {slots}"
        raise ValueError(msg)
    index = np.append(np.arange(len(first)), np.full(slots, -1))
    change = Change(f"{name}.first_memory".lstrip("."), 0, index, SMALL)
    reasons = (f"{name or 'the cell'}: looking by content is a softmax over all slots",)
    return Edit(net, "add_slots", name, Resize(Listing(net), [change]), reasons, reason, slots)


def new_slots(have: int, wanted: int, who: str) -> int:
    """How many slots a state lacks; RuntimeError for one with too many."""
    if have > wanted:
        _too_many(have, wanted, who)
    return wanted - have


def _too_many(have: int, wanted: int, who: str) -> NoReturn:
    msg = f"{who}: expected a state of at most {wanted} slots, got {have}; start from initial_state"
    raise RuntimeError(msg)


def extend(x: Tensor, axes: tuple[int, ...], slots: int, fill: float = 0.0) -> Tensor:
    """``x`` with as many new indices of ``fill`` at the end of each of its axes.

    >>> import tensor as T
    >>> extend(T.ones(1, 2), (1,), 1)
    tensor([[1., 1., 0.]])
    """
    pads = [0, 0] * x.ndim
    for axis in axes:
        pads[2 * (x.ndim - 1 - axis) + 1] = slots
    padded: Tensor = nn.functional.pad(x, pads, value=fill)
    return padded
