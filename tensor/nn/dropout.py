"""Noise while training."""

from __future__ import annotations

from tensor.autograd.tensor import Tensor
from tensor.nn.module import Module
from tensor.ops.activation import dropout

__all__ = ["Dropout"]


class Dropout(Module):
    """Elements zeroed with probability ``p`` while training, the others scaled by 1 / (1 - p); any shape (arXiv
    1207.0580).

    Raises ValueError for a probability outside [0, 1].

    >>> import tensor as T
    >>> Dropout(0.5).eval()(T.ones(3))
    tensor([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            msg = f"Dropout: expected a probability in [0, 1], got {p}"
            raise ValueError(msg)
        self.p, self.inplace = p, inplace

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
