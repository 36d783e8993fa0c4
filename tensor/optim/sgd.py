"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tensor.optim.flat import Flat, Run
from tensor.optim.optimizer import Optimizer, Params
from tensor.optim.options import not_negative

__all__ = ["SGD"]


class SGD(Optimizer):
    """Gradient descent, with momentum (``momentum``, ``dampening``, ``nesterov``) and weight decay.

    The momentum buffer starts as the first gradient. Raises ValueError for negative options and for ``nesterov``
    without momentum or with dampening.

    >>> import tensor as T
    >>> w = T.tensor([1.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.1)
    >>> (w * w).backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.8000])
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def check(self, options: Mapping[str, Any]) -> None:
        not_negative("SGD", options, "lr", "momentum", "weight_decay")
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            msg = f"SGD: nesterov needs momentum and no dampening, got {options['momentum']} and {options['dampening']}"
            raise ValueError(msg)

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def update(self, run: Run, group: dict[str, Any], step: int, flat: Flat) -> None:
        p, g, t = run.data, run.grad, run.scratch
        momentum, weight_decay = group["momentum"], group["weight_decay"]
        if group["maximize"]:
            np.negative(g, g)
        if weight_decay:
            np.multiply(p, weight_decay, t)
            np.add(g, t, g)
        if momentum:
            (buffer,) = run.rows
            if step == 1:
                buffer[...] = g
            else:
                np.multiply(buffer, momentum, buffer)
                np.multiply(g, 1 - group["dampening"], t)
                np.add(buffer, t, buffer)
            if group["nesterov"]:
                np.multiply(buffer, momentum, t)
                np.add(g, t, g)
            else:
                g = buffer
        np.multiply(g, group["lr"], t)
        np.subtract(p, t, p)
