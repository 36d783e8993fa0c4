"""Noise while training."""

from __future__ import annotations

from typing import Any, ClassVar

from tensor.autograd.tensor import Tensor
from tensor.nn.module import Module
from tensor.ops import dropout as ops

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


class _Dropout(Module):
    """Noise with probability ``p``. Raises ValueError for a probability outside [0, 1]."""

    _function: ClassVar[Any]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            msg = f"{type(self).__name__}: expected a probability in [0, 1], got {p}"
            raise ValueError(msg)
        self.p, self.inplace = p, inplace

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = type(self)._function(x, self.p, self.training, self.inplace)
        return y

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Elements zeroed with probability ``p`` while training, the others scaled by 1 / (1 - p); any shape (arXiv
    1207.0580).

    Raises ValueError for a probability outside [0, 1].

    >>> import tensor as T
    >>> Dropout(0.5).eval()(T.ones(3))
    tensor([1., 1., 1.])
    """

    _function = ops.dropout


class Dropout1d(_Dropout):
    """`Dropout` of whole channels, [n, channels, length] (arXiv 1411.4280)."""

    _function = ops.dropout1d


class Dropout2d(_Dropout):
    """`Dropout` of whole channels, [n, channels, height, width] (arXiv 1411.4280)."""

    _function = ops.dropout2d


class Dropout3d(_Dropout):
    """`Dropout` of whole channels, [n, channels, depth, height, width] (arXiv 1411.4280)."""

    _function = ops.dropout3d


class AlphaDropout(_Dropout):
    """Dropout that keeps mean 0 and variance 1, for networks of SELUs; any shape (arXiv 1706.02515)."""

    _function = ops.alpha_dropout


class FeatureAlphaDropout(_Dropout):
    """`AlphaDropout` of whole channels, [n, channels, ...]."""

    _function = ops.feature_alpha_dropout
