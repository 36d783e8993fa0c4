"""Heads of attention: they grow with the width of the model, as a `MultiheadAttention` takes, splits and gives one width."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tensor.nn.attention import MultiheadAttention
from tensor.structure.change import Change
from tensor.structure.draws import Draws
from tensor.structure.finding import Place
from tensor.structure.listing import Listing

__all__ = ["attentions", "grow_heads"]


def attentions(there: Listing, places: Iterable[Place]) -> Iterator[tuple[str, MultiheadAttention]]:
    """Those whose width is among the places, by name; one of several that share their weights."""
    concerned = {(place.key, place.axis) for place in places}
    names: dict[int, str] = {}
    seen = set()
    for path, m in there.modules.items():
        if isinstance(m, MultiheadAttention):
            names = names or _names(there)
            query = m.q_proj_weight if m.in_proj_weight is None else m.in_proj_weight
            if (names[id(query)], 1) in concerned and id(query) not in seen:
                seen.add(id(query))
                yield path, m


def grow_heads(kind: str, there: Listing, places: Iterable[Place], units: int, draw: Draws) -> list[Change]:
    """The changes inside of attentions whose width grows: each head gets its share of the units.

    New queries are zero and new keys are drawn, so that no weight of the attention changes; new values are drawn, and nothing
    goes out of them. Old queries are scaled against the division of scores by the root of a head's width. With init "random" all
    is drawn. Raises ValueError for units that the heads cannot share.
    """
    changes = []
    for path, m in attentions(there, places):
        names = _names(there)
        if units % m.num_heads:
            heads = f"the heads of the MultiheadAttention at {path!r}"
            msg = f"{kind}: expected a multiple of {m.num_heads} units, {heads}, got {units}"
            raise ValueError(msg)
        old, new = m.head_dim, m.head_dim + units // m.num_heads
        split = np.full((m.num_heads, new), -1)
        split[:, :old] = np.arange(m.embed_dim).reshape(m.num_heads, old)
        one = split.ravel()
        three = np.concatenate([np.where(one < 0, -1, one + k * m.embed_dim) for k in range(3)])
        scale = math.sqrt(new / old)
        q, kv = (scale, draw.init == "random"), (1.0, True)
        biases, none = (1.0, False), (scale, False)
        for tensor, axis, index, parts in (
            (m.in_proj_weight, 0, three, (q, kv, kv)), (m.in_proj_bias, 0, three, (none, biases, biases)),
            (m.q_proj_weight, 0, one, (q,)), (m.k_proj_weight, 0, one, (kv,)), (m.v_proj_weight, 0, one, (kv,)),
            (m.bias_k, 2, one, (biases,)), (m.bias_v, 2, one, (biases,)),
            (m.out_proj.weight, 1, one, ((1.0, draw.init == "random"),)),
        ):  # fmt: skip
            if tensor is not None:
                changes.append(_change(names[id(tensor)], axis, index, parts, draw))
    return changes


def _names(there: Listing) -> dict[int, str]:
    return {id(p): name for name, p in there.parameters.items()}


def _change(key: str, axis: int, index: Any, parts: tuple[tuple[float, bool], ...], draw: Draws) -> Change:
    """Of stretches of equal length, each with a factor for what is old, and whether what is new is drawn."""
    shape = draw.shapes[key]
    fill = np.zeros((*shape[:axis], int((index < 0).sum()), *shape[axis + 1 :]))
    factor = np.ones(len(index))
    for old, new, (scale, drawn) in zip(
        np.split(np.arange(len(index)), len(parts)), np.split(np.arange(fill.shape[axis]), len(parts)), parts, strict=True
    ):
        factor[old] = scale
        if drawn:
            fan_in = shape[1:] if axis == 0 else [len(index)]
            fill[(slice(None),) * axis + (new,)] = draw.uniform(shape, axis, len(new), fan_in)
    shape[axis] = len(index)
    return Change(key, axis, index, fill, None if (factor == 1).all() else factor)
