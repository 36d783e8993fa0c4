"""Methods that make a tensor a view of what it was: ``squeeze_``, ``transpose_`` and their kin; and ``fill_diagonal_``."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from tensor.autograd.inplace import check_writable, link_view
from tensor.autograd.node import version_of
from tensor.autograd.tensor import Tensor
from tensor.ops.record import attach

__all__ = ["fill_diagonal_"]


def _becoming(name: str) -> Callable[..., Tensor]:
    """The method that makes a tensor a view of what it was."""
    view = getattr(Tensor, name)

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_writable(self, name + "_")
        was = Tensor(self._array, self._node)
        was._version, was._view = version_of(self), self._view
        now = view(was, *args, **kwargs)
        if now is was:
            return self
        views = was._version.views or []
        for i, ref in enumerate(views):  # what it was takes its place: as a view, and as what other views are of
            other = ref()
            if other is self:
                views[i] = weakref.ref(was)
            elif other is not None and other._view is not None and other._view[0] is self:
                other._view = (was, *other._view[1:])
        self._array, self._node = now._array, now._node
        parent, *how = now._view
        link_view(parent, self, tuple(how))
        return self

    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"This tensor becomes its own `{name}`: the same memory in another shape."
    return method


def fill_diagonal_(self: Tensor, value: float, wrap: bool = False) -> Tensor:
    """Write ``value`` on the main diagonal; with ``wrap`` on it again below, in a matrix that is taller than wide."""
    if self.ndim < 2 or (self.ndim > 2 and len(set(self.shape)) > 1):
        msg = f"fill_diagonal_: expected a matrix, or dimensions all of one size, got shape {tuple(self.shape)}"
        raise RuntimeError(msg)
    if self.ndim > 2:
        index = np.arange(self.shape[0])
        self[(index,) * self.ndim] = value
        return self
    rows, columns = self.shape
    for start in range(0, rows if wrap else 1, columns + 1):
        self[start:].diagonal().fill_(value)
    return self


attach(fill_diagonal_=fill_diagonal_)
attach(**{n + "_": _becoming(n) for n in ("squeeze", "unsqueeze", "t", "transpose", "swapaxes", "swapdims")})
