"""Learnt vectors for discrete things."""

from __future__ import annotations

from typing import Any

from tensor.autograd.inplace import bump
from tensor.autograd.tensor import Tensor
from tensor.nn import init
from tensor.nn.module import Module
from tensor.nn.parameter import Parameter
from tensor.ops.create import empty
from tensor.ops.normalization import embedding

__all__ = ["Embedding"]


class Embedding(Module):
    """A learnt vector for each integer below ``num_embeddings``: int [...] to [..., embedding_dim].

    The vector of ``padding_idx`` starts at 0 and is never learnt. Raises ValueError for a ``padding_idx`` out of
    range; calling it raises IndexError for an index out of range.

    >>> import tensor as T
    >>> Embedding(10, 3)(T.tensor([[1, 2], [4, 4]])).shape
    tensor.Size([2, 2, 3])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        scale_grad_by_freq: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                msg = f"Embedding: padding_idx {padding_idx} is out of range for {num_embeddings} embeddings"
                raise ValueError(msg)
            padding_idx %= num_embeddings
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx, self.scale_grad_by_freq = padding_idx, scale_grad_by_freq
        self.weight = Parameter(empty(num_embeddings, embedding_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors anew, standard normal."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight._array[self.padding_idx] = 0
            bump(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return embedding(x, self.weight, self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq)

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None) -> Embedding:
        """A layer over given vectors [num_embeddings, embedding_dim], learnt only if ``freeze`` is False."""
        rows, columns = embeddings.shape
        layer = cls(rows, columns, padding_idx)
        layer.weight = Parameter(embeddings.detach(), requires_grad=not freeze)
        return layer

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        text += "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return text + (", scale_grad_by_freq=True" if self.scale_grad_by_freq else "")
