"""Attention of several heads; the function that `nn.MultiheadAttention` calls."""

from __future__ import annotations

from typing import Any

import tensor as T
from operator_cases.case import Composite, x


def _two_heads(query: Any, key: Any, w: Any, b: Any, out_w: Any, out_b: Any, bias_k: Any) -> Any:
    mask = T.ones(2, 3, dtype=T.bool).triu(1)
    forward = T.nn.functional.multi_head_attention_forward
    return forward(query, key, key, 2, 2, w, b, bias_k, bias_k, True, 0.0, out_w, out_b, attn_mask=mask)[0]


COMPOSITES: dict[str, Composite] = {
    "nn.functional.multi_head_attention_forward": (
        _two_heads,
        [x(2, 1, 2), x(3, 1, 2), x(6, 2), x(6), x(2, 2), x(2), x(1, 1, 2)],
    ),
}
