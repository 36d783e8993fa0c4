"""Mixtures of experts."""

from __future__ import annotations

from collections.abc import Sequence

import tensor as T
from tensor import Tensor, nn

__all__ = ["MixtureOfExperts", "load_balance"]


def load_balance(probabilities: Tensor, chosen: Tensor) -> Tensor:
    """How unevenly inputs are spread over experts (Fedus et al. 2021, arXiv 2101.03961).

    1 for evenly, up to the number of experts for all to one.     ``probabilities`` ``[n, experts]`` are the router's, ``chosen``
    ``[n, k]`` the experts taken. Its gradient reaches the router.

    >>> load_balance(T.tensor([[1.0, 0.0], [1.0, 0.0]]), T.tensor([[0], [0]])).item()
    2.0
    """
    experts = probabilities.shape[-1]
    share = T.bincount(chosen.reshape(-1), minlength=experts).to(probabilities.dtype) / chosen.numel()
    balance: Tensor = (share * probabilities.mean(0)).sum() * experts
    return balance


class MixtureOfExperts(nn.Module):
    """Runs each input through the ``k`` experts that a router likes best (Shazeer et al. 2017, arXiv 1701.06538).

    ``[n, features]`` to the outputs ``[n, ...]``, weighted by the softmax over the chosen experts' scores, and the
    `load_balance` to add to the loss. An expert sees only the rows that chose it, one that nobody chose does not run. Raises
    ValueError for a ``k`` that is not from 1 to the number of experts.

    >>> layer = MixtureOfExperts(4, [nn.Linear(4, 2) for _ in range(8)], k=2)
    >>> y, balance = layer(T.randn(5, 4))
    >>> y.shape, balance.shape
    (tensor.Size([5, 2]), tensor.Size([]))
    """

    def __init__(self, features: int, experts: Sequence[nn.Module], k: int = 2) -> None:
        super().__init__()
        if not 1 <= k <= len(experts):
            msg = f"MixtureOfExperts: expected k from 1 to the number of experts, {len(experts)}, got {k}"
            raise ValueError(msg)
        self.k = k
        self.router = nn.Linear(features, len(experts))
        self.experts = nn.ModuleList(experts)

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs, and how unevenly the experts were used."""
        scores = self.router(input)
        best, chosen = scores.topk(self.k, -1)
        gates, n = best.softmax(-1).reshape(-1), len(input)
        # the rows in the order of their experts: each expert's are a stretch
        order = chosen.reshape(-1).argsort(stable=True)
        counts = T.bincount(chosen.reshape(-1), minlength=len(self.experts)).tolist()
        rows, parts, start = order // self.k, [], 0
        for expert, count in zip(self.experts, counts, strict=True):
            if count:
                parts.append(expert(input.index_select(0, rows[start : start + count])))
                start += count
        outputs = T.cat(parts)
        weights = gates.index_select(0, order).reshape(-1, *[1] * (outputs.ndim - 1))
        mixed = outputs.new_zeros(n, *outputs.shape[1:]).index_add(0, rows, outputs * weights)
        return mixed, load_balance(scores.softmax(-1), chosen)

    def extra_repr(self) -> str:
        return f"k={self.k}"
