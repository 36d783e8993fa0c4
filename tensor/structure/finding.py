"""Finding the units that an edit concerns, and every slice that goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tensor.naming import instead
from tensor.nn.attention import MultiheadAttention
from tensor.nn.conv import Conv1d, Conv2d, Conv3d
from tensor.nn.embedding import Embedding
from tensor.nn.linear import Linear
from tensor.nn.module import Module
from tensor.nn.parameter import Parameter
from tensor.nn.rnn import GRU, LSTM, RNN
from tensor.ops.create import ones, zeros
from tensor.structure.chain import follow_chain
from tensor.structure.listing import Listing
from tensor.structure.trace import trace
from tensor.structure.units import Units

__all__ = ["Place", "find", "follow", "layer_named", "numbers", "places"]


class Ends(NamedTuple):
    """The parameter and axis of a layer's units, and of its inputs."""

    units: tuple[str, int]
    inputs: tuple[str, int]


_LINEAR = Ends(("weight", 0), ("weight", 1))
ENDS: dict[type, Ends] = {
    **dict.fromkeys((Linear, Conv1d, Conv2d, Conv3d), _LINEAR),
    **dict.fromkeys((RNN, GRU, LSTM), Ends(("weight_hh_l0", 1), ("weight_ih_l0", 1))),
    Embedding: Ends(("weight", 1), ("weight", 0)),
    MultiheadAttention: Ends(("in_proj_weight", 1), ("in_proj_weight", 1)),
}


#: Ends of a network as errors say them.
_SAID = {"input": "the network's input", "output": "the network's output"}


class Place(NamedTuple):
    """An axis that holds units of a group, with the unit (a root) of each of its indices."""

    key: str
    axis: int
    roots: Any


def layer_named(kind: str, net: Module, name: str) -> Module:
    """The layer with a name; ValueError with the nearest names otherwise."""
    if not isinstance(net, Module) or not isinstance(name, str):
        got = f"{type(net).__name__} and {name!r}" if not isinstance(name, Module) else f"the {type(name).__name__} itself"
        msg = f"{kind}: expected a module and the name of a layer in it, such as '0' or 'body.0', got {got}"
        raise TypeError(msg)
    names = dict(net.named_modules())
    if name not in names or (not name and type(net) not in ENDS):
        msg = f"{kind}: no layer {name!r}; {instead(name, names)}"
        raise ValueError(msg)
    return names[name]


def follow(kind: str, there: Listing, x: Any) -> Units:
    """The units of a network: by its layers where it is a plain chain, else by running it on ``x`` or an input made up."""
    found, net = follow_chain(there), there.net
    if found is not None:
        return found
    if x is not None:
        return trace(net, x)
    try:
        return trace(net, made_up(net))
    except Exception as error:
        msg = f"{kind}: expected x, an input to follow {type(net).__name__} with, since none could be made up ({error})"
        raise ValueError(msg) from None


def made_up(net: Module) -> Any:
    """An input for a network by what its first layer says of its size."""
    first = next((m for m in net.modules() if type(m) in ENDS), None)
    p = next(net.parameters())
    if isinstance(first, Linear):
        return ones(2, first.in_features, dtype=p.dtype, device=p.device)
    if isinstance(first, Embedding):
        return zeros(2, 3, dtype=int, device=p.device)
    if isinstance(first, (RNN, GRU, LSTM)):
        return ones(2, 3, first.input_size, dtype=p.dtype, device=p.device)
    msg = f"its first layer, {type(first).__name__}, does not tell the whole size of an input"
    raise ValueError(msg)


def find(kind: str, net: Module, name: str, x: Any, inputs: bool, allowed: Sequence[str] = ()) -> tuple[Units, Any]:
    """What follows what in the network, and the units (a root each) of a layer's outputs, or inputs."""
    layer = layer_named(kind, net, name)
    ends = next((ENDS[k] for k in type(layer).__mro__ if k in ENDS), None)
    if ends is None or getattr(layer, "groups", 1) != 1:
        what = f"{type(layer).__name__} of {layer.groups} groups" if ends else type(layer).__name__
        kinds = "a Linear, an ungrouped convolution, Embedding, RNN, GRU, LSTM or MultiheadAttention"
        msg = f"{kind}: expected {kinds}, got {what} at {name!r}"
        raise ValueError(msg)
    attribute, axis = ends.inputs if inputs else ends.units
    weight = layer._parameters[attribute]
    if weight is None:
        msg = f"{kind}: expected attention whose queries, keys and values come from one weight, got separate ones at {name!r}"
        raise ValueError(msg)
    there = Listing(net)
    found = follow(kind, there, x)
    found.there = there
    key = next(n for n, p in there.tensors.items() if p is weight)
    labels = found.labels[key, axis]
    roots = found.roots(labels)
    group = roots[np.sort(np.unique(roots, return_index=True)[1])]
    why = found.reasons(group)
    if any(end not in why for end in allowed):
        msg = f"{kind}: expected a layer of the network's {allowed[0]}s, got {name!r}, which has none; grow another to widen it"
        raise ValueError(msg)
    why -= set(allowed)
    if not isinstance(layer, Embedding) and (key, 1) not in found.contracted:
        why.add("nothing: the forward does not use it")
    if why:
        msg = f"{kind}: cannot follow the units of {name!r}: they reach {', '.join(_SAID.get(end, end) for end in sorted(why))}"
        raise ValueError(msg)
    return found, group


def places(kind: str, found: Units, group: Any) -> list[Place]:
    """The axes of parameters and buffers that hold any of the units."""
    mask = found.mask(group)
    result = []
    for (key, axis), labels in found.labels.items():
        roots = found.roots(labels)
        if mask[roots].any():
            result.append(Place(key, axis, roots))
            if isinstance(found.there.tensors[key], Parameter) and not found.there.tensors[key].requires_grad:
                msg = f"{kind}: {key} is frozen; call requires_grad_() on it first"
                raise ValueError(msg)
    return result


def numbers(kind: str, units: Sequence[int], n: int) -> Any:
    """Numbers of units, ascending; ValueError for any that are not there."""
    given = np.unique(np.asarray(units, dtype=np.intp))
    if not given.size or given[0] < 0 or given[-1] >= n:
        msg = f"{kind}: expected numbers of units from 0 to {n - 1}, got {list(units)}"
        raise ValueError(msg)
    return given
