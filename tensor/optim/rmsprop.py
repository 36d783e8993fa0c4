"""RMSprop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tensor.optim.flat import Flat, Run
from tensor.optim.optimizer import Optimizer, Params
from tensor.optim.options import not_negative

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """Gradients divided by their running root mean square (Hinton, Coursera lecture 6e).

    ``centered`` divides by the running standard deviation instead. ``alpha`` is the share of the running averages that
    stays at each step. Raises ValueError for negative options.

    >>> import tensor as T
    >>> w = T.tensor([1.0], requires_grad=True)
    >>> optimizer = RMSprop([w], lr=0.01)
    >>> (w * w).backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.9000])
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "alpha": alpha,
                "eps": eps,
                "centered": centered,
                "weight_decay": weight_decay,
                "maximize": maximize,
            },
        )

    def check(self, options: Mapping[str, Any]) -> None:
        not_negative("RMSprop", options, "lr", "alpha", "eps", "weight_decay", "momentum")

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        names = ["square_avg"]
        if group["momentum"]:
            names.append("momentum_buffer")
        if group["centered"]:
            names.append("grad_avg")
        return tuple(names)

    def update(self, run: Run, group: dict[str, Any], step: int, flat: Flat) -> None:
        p, g, t = run.data, run.grad, run.scratch
        alpha, weight_decay = group["alpha"], group["weight_decay"]
        square, *others = run.rows
        if group["maximize"]:
            np.negative(g, g)
        if weight_decay:
            np.multiply(p, weight_decay, t)
            np.add(g, t, g)
        np.multiply(square, alpha, square)
        np.multiply(g, g, t)
        np.multiply(t, 1 - alpha, t)
        np.add(square, t, square)
        if group["centered"]:
            average = others[-1]
            np.subtract(g, average, t)
            np.multiply(t, 1 - alpha, t)
            np.add(average, t, average)
            np.multiply(average, average, t)
            np.subtract(square, t, t)
            np.sqrt(t, t)
        else:
            np.sqrt(square, t)
        np.add(t, group["eps"], t)
        np.divide(g, t, t)
        if group["momentum"]:
            buffer = others[0]
            np.multiply(buffer, group["momentum"], buffer)
            np.add(buffer, t, buffer)
            np.multiply(buffer, group["lr"], t)
        else:
            np.multiply(t, group["lr"], t)
        np.subtract(p, t, p)
