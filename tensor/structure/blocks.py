"""Layers that edits put into networks."""

from __future__ import annotations

from typing import Any

from tensor.autograd.tensor import Tensor
from tensor.nn.module import Module

__all__ = ["Injection", "Residual"]


class Residual(Module):
    """``x + body(x)``.

    >>> import tensor as T
    >>> Residual(T.nn.Identity())(T.ones(2))
    tensor([2., 2.])
    """

    def __init__(self, body: Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, input: Tensor) -> Tensor:
        result: Tensor = input + self.body(input)
        return result


class Injection(Module):
    """``frozen(x) + (new(x) - start(x))``: what was learnt, kept, beside a part that learns from the start (arXiv 2305.15555).

    ``start`` is ``new`` as it began, so that at first their difference is exactly zero. Of several outputs each is such a sum.
    """

    def __init__(self, frozen: Module, new: Module, start: Module) -> None:
        super().__init__()
        self.frozen, self.new, self.start = frozen, new, start

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return _beside(*(m(*args, **kwargs) for m in (self.frozen, self.new, self.start)))


def _beside(frozen: Any, new: Any, start: Any) -> Any:
    if isinstance(frozen, Tensor):
        return frozen + (new - start)
    return None if frozen is None else tuple(_beside(*parts) for parts in zip(frozen, new, start, strict=True))
