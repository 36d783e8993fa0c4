"""Attention: weighted means of values, weighted by how well keys answer queries (arXiv 1706.03762)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.device import move
from tensor.ops.dropout import dropout
from tensor.ops.join import cat
from tensor.ops.matmul import linear, matmul
from tensor.ops.record import composite

__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]


def _fail(who: str, expected: str, got: Any) -> None:
    msg = f"{who}: expected {expected}, got {got}"
    raise RuntimeError(msg)


def _as_float_mask(mask: Tensor, query: Tensor, blocked: bool, who: str) -> Tensor:
    """What is added to scores: a boolean mask becomes -inf where it equals ``blocked``."""
    kind = mask._array.dtype.kind
    if kind == "b":
        return query.new_zeros(mask.shape).masked_fill(mask if blocked else ~mask, -math.inf)
    if kind != "f":
        _fail(who, "a mask of bool or a floating dtype", mask.dtype)
    return mask.to(query.dtype)


def _causal(query: Tensor, key: Tensor) -> Tensor:
    mask = np.triu(np.full((query.shape[-2], key.shape[-2]), -math.inf, query._array.dtype), 1)
    return Tensor(move(mask, query.device))


def _weights(query: Tensor, key: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """softmax(query @ key.T * scale + mask); 0 for a query that the mask leaves no key."""
    scores = matmul(query * (1 / math.sqrt(query.shape[-1]) if scale is None else scale), key.transpose(-2, -1))
    if mask is None:
        return scores.softmax(-1)
    alone = mask.detach().amax(-1, keepdim=True) == -math.inf
    if not alone.any():
        return (scores + mask).softmax(-1)
    # A softmax of nothing but -inf is NaN, in its gradient too: such a row is computed without the mask, and not used.
    return (scores + mask.masked_fill(alone, 0.0)).softmax(-1).masked_fill(alone, 0.0)


@composite(method=False, name="nn.functional.scaled_dot_product_attention")
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """``softmax(query @ key.T * scale + mask) @ value`` over the last two dimensions.

    [..., L, E], [..., S, E], [..., S, V] to [..., L, V]. ``attn_mask`` [..., L, S]: booleans that are True where a query sees a key, or
    numbers to add; a query that sees no key gets zeros. ``is_causal``: query i sees the keys up to i. ``scale``: 1 / sqrt(E) when
    left out. ``enable_gqa``: groups of query heads (dimension -3) share a head of keys and values (arXiv 2305.13245).

    >>> import tensor as T
    >>> x = T.eye(2).unsqueeze(0)
    >>> T.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)[0, 0]
    tensor([1., 0.])
    """
    who = "scaled_dot_product_attention"
    if is_causal and attn_mask is not None:
        _fail(who, "either attn_mask or is_causal", "both")
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        shapes = ", ".join(str(list(t.shape)) for t in (query, key, value))
        _fail(who, "shapes [..., L, E], [..., S, E], [..., S, V]", shapes)
    if enable_gqa:
        if query.shape[-3] % key.shape[-3] or query.shape[-3] % value.shape[-3]:
            _fail(who, f"heads of keys and values that divide {query.shape[-3]}", f"{key.shape[-3]} and {value.shape[-3]}")
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    mask = None
    if is_causal:
        mask = _causal(query, key)
    elif attn_mask is not None:
        mask = _as_float_mask(attn_mask, query, False, who)
    return matmul(dropout(_weights(query, key, mask, scale), dropout_p), value)


def _projected(
    query: Tensor, key: Tensor, value: Tensor, weights: tuple[Tensor, ...], bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of all heads; one product where they come from the same tensor and weight."""
    if len(weights) == 1:
        if query is key and key is value:
            q, k, v = linear(query, weights[0], bias).chunk(3, -1)
            return q, k, v
        weights = weights[0].chunk(3)
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    q, k, v = (linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))
    return q, k, v


def _attention_mask(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, query: Tensor, shape: tuple[int, int, int, int]
) -> Tensor | None:
    """Both masks as one to add to scores [batch, heads, L, S]."""
    who = "multi_head_attention_forward"
    batch, heads, length, keys = shape
    mask = None
    if attn_mask is not None:
        if tuple(attn_mask.shape) not in ((length, keys), (batch * heads, length, keys)):
            expected = f"attn_mask of shape {[length, keys]} or {[batch * heads, length, keys]}"
            _fail(who, expected, list(attn_mask.shape))
        mask = _as_float_mask(attn_mask, query, True, who)
        mask = mask if mask.ndim == 2 else mask.reshape(shape)
    if key_padding_mask is not None:
        if tuple(key_padding_mask.shape) != (batch, keys):
            _fail(who, f"key_padding_mask of shape {[batch, keys]}", list(key_padding_mask.shape))
        padding = _as_float_mask(key_padding_mask, query, True, who).reshape(batch, 1, 1, keys)
        mask = padding if mask is None else mask + padding
    return mask


@composite(method=False, name="nn.functional.multi_head_attention_forward")
def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Any:
    """Attention of several heads, each on its own projection; what `nn.MultiheadAttention` runs.

    ``query`` [L, batch, E], ``key`` [S, batch, ...], ``value`` [S, batch, ...], or all without the batch. Returns the output
    [L, batch, E] and the weights [batch, L, S] (None unless ``need_weights``), by head when not averaged. Masks are True (or -inf,
    to be added) where a query must not see a key; a query that sees no key gets zeros. ``is_causal`` tells that ``attn_mask`` is
    the causal one.
    """
    who = "multi_head_attention_forward"
    if query.ndim not in (2, 3) or not query.ndim == key.ndim == value.ndim:
        shapes = ", ".join(str(list(t.shape)) for t in (query, key, value))
        _fail(who, "query, key and value of 3 dimensions (a batch) or 2", shapes)
    if query.shape[-1] != embed_dim_to_check:
        _fail(who, f"a query of {embed_dim_to_check} features", query.shape[-1])
    if embed_dim_to_check % num_heads:
        _fail(who, f"features divisible by {num_heads} heads", embed_dim_to_check)
    if key.shape[:-1] != value.shape[:-1]:
        _fail(who, "as many keys as values", f"shapes {list(key.shape)} and {list(value.shape)}")
    if is_causal and attn_mask is None:
        _fail(who, "the attn_mask that is_causal speaks of", None)
    single = query.ndim == 2
    if single:
        same = query is key and key is value
        query = query.unsqueeze(1)
        key, value = (query, query) if same else (key.unsqueeze(1), value.unsqueeze(1))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, width = query.shape
    head = width // num_heads
    separate = (q_proj_weight, k_proj_weight, v_proj_weight)
    weights: Any = separate if use_separate_proj_weight else (in_proj_weight,)
    q, k, v = _projected(query, key, value, weights, in_proj_bias)

    if bias_k is not None and bias_v is not None:
        k, v = (cat([x, b.expand(1, batch, width)]) for x, b in ((k, bias_k), (v, bias_v)))
    q = q.reshape(length, batch, num_heads, head).permute(1, 2, 0, 3)
    k, v = (
        x.reshape(len(x), batch, num_heads, head).permute(1, 2, 0, 3)
        if fixed is None
        else fixed.reshape(batch, num_heads, fixed.shape[1], head)
        for x, fixed in ((k, static_k), (v, static_v))
    )
    if add_zero_attn:
        k, v = (cat([x, x.new_zeros((batch, num_heads, 1, head))], 2) for x in (k, v))
    added = int(bias_k is not None) + int(add_zero_attn)  # keys that no mask speaks of
    shape = (batch, num_heads, length, k.shape[2] - added)
    mask = _attention_mask(attn_mask, key_padding_mask, q, shape)
    if mask is not None and added:
        mask = cat([mask, mask.new_zeros((*mask.shape[:-1], added))], -1)
    attention = dropout(_weights(q, k, mask, None), dropout_p, training)
    y = matmul(attention, v).permute(2, 0, 1, 3).reshape(length, batch, width)
    y = linear(y, out_proj_weight, out_proj_bias)
    y = y.squeeze(1) if single else y
    if not need_weights:
        return y, None
    attention = attention.mean(1) if average_attn_weights else attention
    return y, attention.squeeze(0) if single else attention
