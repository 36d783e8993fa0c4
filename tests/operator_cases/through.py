"""Cases of operators that finite differences cannot judge alone: on complex numbers, or on matrices of a kind that a change must keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tensor as T
from operator_cases.case import Case


class Through(Case):
    """A case whose differentiable inputs pass through ``before`` (one function each) and whose result passes through ``after``."""

    def __init__(self, before: list[Callable[[Any], Any]], after: Callable[[Any], Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.before, self.after = before, after

    def call(self, name: str, dtype: str | None = None, grad: bool = False, device: str = "cpu") -> tuple[Any, list[Any]]:
        """The operator between its two functions, and the inputs of the first."""
        function, leaves = super().call(name, dtype, grad, device)
        return lambda *xs: self.after(function(*[f(x) for f, x in zip(self.before, xs, strict=True)])), leaves


def same(x: Any) -> Any:
    return x


def pairs(x: Any) -> Any:
    """Complex numbers as pairs of real ones, of a tensor or an array."""
    return T.view_as_real(x) if isinstance(x, T.Tensor) else np.stack([x.real, x.imag], -1)


def from_pairs(x: Any) -> Any:
    """Pairs of real numbers as complex ones, of a tensor or an array."""
    return T.view_as_complex(x) if isinstance(x, T.Tensor) else x[..., 0] + 1j * x[..., 1]


def symmetric(x: Any) -> Any:
    """A symmetric matrix, of a tensor or an array."""
    return x + x.mT
