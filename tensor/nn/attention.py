"""Attention of several heads, as a layer."""

from __future__ import annotations

from typing import Any

from tensor.autograd.tensor import Tensor
from tensor.nn import init
from tensor.nn.linear import Linear
from tensor.nn.module import Module
from tensor.nn.parameter import Parameter
from tensor.ops.attention import multi_head_attention_forward
from tensor.ops.create import empty

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Attention of ``num_heads`` heads of embed_dim / num_heads features each (arXiv 1706.03762).

    ``in_proj_weight`` [3 embed_dim, embed_dim] makes queries, keys and values; with a ``kdim`` or ``vdim`` there are
    ``q_proj_weight``, ``k_proj_weight`` and ``v_proj_weight``. ``add_bias_kv`` appends a learnt key and value, ``add_zero_attn``
    a zero one. ``dropout`` acts on the weights. Raises ValueError for an embed_dim that the heads do not divide.

    >>> import tensor as T
    >>> x = T.ones(5, 2, 8)
    >>> output, weights = MultiheadAttention(8, 4)(x, x, x)
    >>> output.shape, weights.shape
    (tensor.Size([5, 2, 8]), tensor.Size([2, 5, 5]))
    """

    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0 or embed_dim % num_heads:
            msg = f"MultiheadAttention: expected a positive embed_dim that num_heads divides, got {embed_dim} and {num_heads}"
            raise ValueError(msg)
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn

        def parameter(*shape: int) -> Parameter:
            return Parameter(empty(*shape, device=device, dtype=dtype))

        shared = self.kdim == self.vdim == embed_dim
        sources = {"q_proj_weight": embed_dim, "k_proj_weight": self.kdim, "v_proj_weight": self.vdim}
        for name, width in sources.items():
            self.register_parameter(name, None if shared else parameter(embed_dim, width))
        self.register_parameter("in_proj_weight", parameter(3 * embed_dim, embed_dim) if shared else None)
        self.register_parameter("in_proj_bias", parameter(3 * embed_dim) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        for name in ("bias_k", "bias_v"):
            self.register_parameter(name, parameter(1, 1, embed_dim) if add_bias_kv else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections anew; biases are zero, but for ``bias_k`` and ``bias_v``."""
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            if getattr(self, name) is not None:
                init.xavier_uniform_(getattr(self, name))
        if self.in_proj_bias is not None and self.out_proj.bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for b in (self.bias_k, self.bias_v):
            if b is not None:
                init.xavier_normal_(b)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The output, shaped as the query, and the weights [batch, L, S] (by head when not averaged), None unless needed.

        ``query``, ``key``, ``value``: [steps, batch, features], [batch, steps, features] with ``batch_first``, or no batch.
        ``key_padding_mask`` [batch, S] and ``attn_mask`` [L, S] or [batch * heads, L, S] are True (or -inf, to be added) where a
        query must not see a key; a query that sees none gets zeros. ``is_causal`` tells that ``attn_mask`` is the causal one.
        """
        swap = self.batch_first and query.ndim == 3
        if swap:
            same_keys, same_values = key is query, value is key
            query = query.transpose(0, 1)
            key = query if same_keys else key.transpose(0, 1)
            value = key if same_values else value.transpose(0, 1)
        output, weights = multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight,
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=self.in_proj_weight is None,
            q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight,
            v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return (output.transpose(0, 1) if swap else output), weights
