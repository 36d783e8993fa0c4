"""The attributes of layers that tell a size: read off their tensors after an edit, so that they always agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensor.nn.attention import MultiheadAttention
from tensor.nn.conv import Conv1d, Conv2d, Conv3d
from tensor.nn.embedding import Embedding
from tensor.nn.linear import Linear
from tensor.nn.module import Module
from tensor.nn.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d, GroupNorm, LayerNorm, RMSNorm
from tensor.nn.rnn import GRU, LSTM, RNN

__all__ = ["MIXING", "names_of_sizes", "sizes"]


def _convolution(m: Any) -> dict[str, Any]:
    out, per_group = m.weight.shape[:2]
    groups = int(out) if m.groups == m.in_channels == m.out_channels else m.groups  # each channel by itself, also those to come
    return {"out_channels": int(out), "in_channels": int(per_group) * groups, "groups": groups}


def _normalized(m: Any) -> dict[str, Any]:
    return {} if m.weight is None else {"normalized_shape": tuple(int(n) for n in m.weight.shape)}


def _batch_norm(m: Any) -> dict[str, Any]:
    t = m.running_mean if m.weight is None else m.weight
    return {} if t is None else {"num_features": int(t.shape[0])}


def _group_norm(m: Any) -> dict[str, Any]:
    if m.weight is None:
        return {}
    channels = int(m.weight.shape[0])
    per_group = m.num_channels // m.num_groups
    return {"num_groups": max(channels // per_group, 1), "num_channels": channels}


def _attention(m: Any) -> dict[str, Any]:
    width, shared = int(m.out_proj.weight.shape[0]), m.in_proj_weight
    key, value = (shared, shared) if shared is not None else (m.k_proj_weight, m.v_proj_weight)
    return {
        "embed_dim": width, "head_dim": width // m.num_heads, "kdim": int(key.shape[1]), "vdim": int(value.shape[1]),
    }  # fmt: skip


def _recurrent(m: Any) -> dict[str, Any]:
    return {"input_size": int(m.weight_ih_l0.shape[1]), "hidden_size": int(m.weight_hh_l0.shape[1])}


TABLE: dict[type, Callable[[Any], dict[str, Any]]] = {
    Linear: lambda m: {"in_features": int(m.weight.shape[1]), "out_features": int(m.weight.shape[0])},
    Embedding: lambda m: {"num_embeddings": int(m.weight.shape[0]), "embedding_dim": int(m.weight.shape[1])},
    GroupNorm: _group_norm,
    MultiheadAttention: _attention,
    **dict.fromkeys((Conv1d, Conv2d, Conv3d), _convolution),
    **dict.fromkeys((BatchNorm1d, BatchNorm2d, BatchNorm3d), _batch_norm),
    **dict.fromkeys((LayerNorm, RMSNorm), _normalized),
    **dict.fromkeys((RNN, GRU, LSTM), _recurrent),
}
#: Layers whose output for one unit depends on all units.
MIXING = LayerNorm, RMSNorm, GroupNorm


def sizes(module: Module) -> dict[str, Any]:
    """What the attributes of a layer should say; empty for layers that have no sizes."""
    for kind in type(module).__mro__:
        if kind in TABLE:
            return TABLE[kind](module)
    return {}


def names_of_sizes(module: Module) -> list[str]:
    """The names of these attributes."""
    return [name for name in sizes(module) if name in vars(module)]
