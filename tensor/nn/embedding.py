"""Learnt vectors for discrete things, one by one or in bags."""

from __future__ import annotations

from typing import Any, Self

from tensor.autograd.inplace import bump
from tensor.autograd.tensor import Tensor
from tensor.nn import init
from tensor.nn.module import Module
from tensor.nn.parameter import Parameter
from tensor.ops import embedding as ops
from tensor.ops.create import empty

__all__ = ["Embedding", "EmbeddingBag"]


class _Table(Module):
    """A learnt vector for each integer below ``num_embeddings``, and how they are looked up."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        max_norm: float | None,
        norm_type: float,
        scale_grad_by_freq: bool,
        sparse: bool,
        weight: Tensor | None,
        freeze: bool,
        factory: dict[str, Any],
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                msg = f"{name}: padding_idx {padding_idx} is out of range for {num_embeddings} embeddings"
                raise ValueError(msg)
            padding_idx %= num_embeddings
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        if weight is None:
            self.weight = Parameter(empty(num_embeddings, embedding_dim, **factory), requires_grad=not freeze)
            self.reset_parameters()
        elif tuple(weight.shape) != (num_embeddings, embedding_dim):
            msg = f"{name}: expected vectors of shape [{num_embeddings}, {embedding_dim}], got {list(weight.shape)}"
            raise ValueError(msg)
        else:
            self.weight = Parameter(weight.detach(), requires_grad=not freeze)

    def reset_parameters(self) -> None:
        """Draw the vectors anew, standard normal."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight._array[self.padding_idx] = 0
            bump(self.weight)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        **options: Any,
    ) -> Self:
        """A layer over given vectors [num_embeddings, embedding_dim], learnt only if ``freeze`` is False."""
        if embeddings.ndim != 2:
            msg = f"{cls.__name__}: expected vectors [num_embeddings, embedding_dim], got {list(embeddings.shape)}"
            raise ValueError(msg)
        options |= {"padding_idx": padding_idx, "max_norm": max_norm, "norm_type": norm_type}
        options |= {"scale_grad_by_freq": scale_grad_by_freq, "_weight": embeddings, "_freeze": freeze}
        make: Any = cls
        layer: Self = make(*embeddings.shape, **options)
        return layer

    def _shown_options(self) -> dict[str, tuple[Any, Any]]:
        """Options with the values that are not shown."""
        return {
            "padding_idx": (self.padding_idx, None),
            "max_norm": (self.max_norm, None),
            "norm_type": (self.norm_type, 2),
            "scale_grad_by_freq": (self.scale_grad_by_freq, False),
        }

    def extra_repr(self) -> str:
        shown = [f"{name}={value}" for name, (value, usual) in self._shown_options().items() if value != usual]
        return ", ".join([f"{self.num_embeddings}, {self.embedding_dim}", *shown])


class Embedding(_Table):
    """A learnt vector for each integer below ``num_embeddings``: int [...] to [..., embedding_dim].

    The vector of ``padding_idx`` starts at 0 and is never learnt. ``max_norm`` scales the vectors that are looked up down to that
    norm; ``scale_grad_by_freq`` divides gradients by how often a vector is looked up. Raises ValueError for a ``padding_idx`` out
    of range; calling it raises IndexError for an index out of range.

    >>> import tensor as T
    >>> Embedding(10, 3)(T.tensor([[1, 2], [4, 4]])).shape
    tensor.Size([2, 2, 3])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        factory = {"device": device, "dtype": dtype}
        options = (padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight, _freeze, factory)
        super().__init__(num_embeddings, embedding_dim, *options)

    def forward(self, x: Tensor) -> Tensor:
        options = (self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse)
        return ops.embedding(x, self.weight, *options)

    def _shown_options(self) -> dict[str, tuple[Any, Any]]:
        return super()._shown_options() | {"sparse": (self.sparse, False)}


class EmbeddingBag(_Table):
    """The "sum", "mean" or "max" of the learnt vectors in each bag of integers: to [bags, embedding_dim].

    Bags are the rows of a matrix, or the parts of a vector that start at ``offsets``; ``per_sample_weights`` (for "sum") multiply
    the vectors. The other options are those of `Embedding`.

    >>> import tensor as T
    >>> EmbeddingBag(10, 3)(T.tensor([1, 2, 4, 4]), T.tensor([0, 3])).shape
    tensor.Size([2, 3])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if mode not in ("sum", "mean", "max"):
            msg = f"EmbeddingBag: expected mode 'sum', 'mean' or 'max', got {mode!r}"
            raise ValueError(msg)
        factory = {"device": device, "dtype": dtype}
        options = (padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight, _freeze, factory)
        super().__init__(num_embeddings, embedding_dim, *options)
        self.mode, self.include_last_offset = mode, include_last_offset

    def forward(self, x: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        return ops.embedding_bag(
            x,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )

    def _shown_options(self) -> dict[str, tuple[Any, Any]]:
        shown = super()._shown_options()
        padding = shown.pop("padding_idx")
        return shown | {"mode": (repr(self.mode), None), "padding_idx": padding}
