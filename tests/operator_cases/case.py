"""What a test case of an operator is, and numbers to make one of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import tensor as T
from tensor.ops import OPERATORS

RNG = np.random.default_rng(7)


class Case:
    """Arguments of an operator; float64 arrays are differentiated. ``ref``: the same with NumPy, on the same arguments."""

    def __init__(self, *args: Any, ref: Callable[..., Any] | None = None, second: bool = True, **kwargs: Any) -> None:
        self.args, self.kwargs, self.ref, self.second = args, kwargs, ref, second

    def call(self, name: str, dtype: str | None = None, grad: bool = False, device: str = "cpu") -> tuple[Any, list[Any]]:
        """The operator as a function of its differentiable inputs, and those."""
        leaves: list[Any] = []

        def convert(a: Any) -> Any:
            if isinstance(a, list) and a and isinstance(a[0], np.ndarray):
                return [convert(x) for x in a]
            if not isinstance(a, np.ndarray):
                return a
            t = T.tensor(a, device=device)
            if a.dtype == np.float64:
                t = t if dtype is None else t.to(getattr(T, dtype))
                leaves.append(t.requires_grad_(grad))
                return leaves[-1]
            return t

        args = [convert(a) for a in self.args]

        def function(*xs: Any) -> Any:
            given = iter(xs)
            fill = lambda a: [fill(x) for x in a] if isinstance(a, list) else next(given) if is_leaf(a) else a  # noqa: E731
            result = OPERATORS[name].function(*[fill(a) for a in args], **self.kwargs)
            # Several outputs are checked together, one after the other.
            return T.cat([y.reshape(-1) for y in result]) if isinstance(result, tuple) else result

        def is_leaf(a: Any) -> bool:
            return any(a is leaf for leaf in leaves)

        return function, leaves


def u(low: float, high: float, *shape: int) -> Any:
    """Distinct numbers in (low, high), away from each other and from both ends: no kink within a finite difference."""
    n = math.prod(shape)
    values = low + (high - low) * (np.arange(n) + 0.5 + RNG.uniform(-0.2, 0.2, n)) / max(n, 1)
    return RNG.permutation(values).reshape(shape)


def x(*shape: int) -> Any:
    return u(-2, 2, *(shape or (2, 3)))


def unary(ref: Any, low: float = -2.0, high: float = 2.0, **kwargs: Any) -> Case:
    return Case(u(low, high, 7), ref=ref, **kwargs)


def binary(ref: Any, a: Any = None, b: Any = None) -> Case:
    """Operands that broadcast against each other."""
    return Case(x(2, 1, 3) if a is None else a, u(0.6, 2, 4, 1) if b is None else b, ref=ref)


#: A composite: the function of its differentiable inputs, those inputs, and, where there is one, the same with NumPy.
Composite = tuple[Callable[..., Any], list[Any]] | tuple[Callable[..., Any], list[Any], Callable[..., Any]]


def distinct(*shape: int, low: float = -2.0, high: float = 2.0) -> Any:
    """Distinct numbers, away from 0 and from each other."""
    n = math.prod(shape)
    values = np.linspace(low, high, n + 2)[1:-1] + RNG.uniform(-0.1, 0.1, n) * (high - low) / (n + 1)
    return RNG.permutation(np.where(abs(values) < 1e-2, 0.05, values)).reshape(shape)


def p(*shape: int) -> Any:
    """Probabilities."""
    return distinct(*shape, low=0.1, high=0.9)
