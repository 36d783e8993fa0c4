"""Stochastic gradient descent, and its average over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tensor.optim.flat import Flat, Run
from tensor.optim.flat_optimizer import FlatOptimizer
from tensor.optim.passes import at_first, decay_weights, descend, start

__all__ = ["ASGD", "SGD"]


class SGD(FlatOptimizer):
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

    lr: float = 1e-3
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    ages = True

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            msg = f"SGD: nesterov needs momentum and no dampening, got {options['momentum']} and {options['dampening']}"
            raise ValueError(msg)

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def update(self, run: Run, group: dict[str, Any], step: Any, flat: Flat) -> None:
        g, t = run.grad, run.scratch
        momentum = group["momentum"]
        decay_weights(run, group)
        if momentum:
            (buffer,) = run.rows
            np.multiply(buffer, momentum, buffer)
            np.multiply(g, 1 - group["dampening"], t)
            np.add(buffer, t, buffer)
            start(buffer, g, step)
            if group["nesterov"]:
                np.multiply(buffer, momentum, t)
                np.add(g, t, g)
            else:
                g = buffer
        descend(run, g, group["lr"])


class ASGD(FlatOptimizer):
    """Gradient descent with a rate that decays as ``lr / (1 + lambd * lr * step) ** alpha``, and the average of its path.

    The average, ``state[p]["ax"]``, counts from step ``t0`` on; before, it is the parameter itself. Weights also shrink by
    ``lambd`` times the rate (Polyak and Juditsky, SIAM J. Control Optim. 30(4), 1992).

    >>> import tensor as T
    >>> w = T.tensor([1.0], requires_grad=True)
    >>> optimizer = ASGD([w], lr=0.1)
    >>> (w * w).backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.8000])
    """

    lr: float = 1e-2
    lambd: float = 1e-4
    alpha: float = 0.75
    t0: float = 1e6
    weight_decay: float = 0.0

    ages = True
    scalar_names = ("eta", "mu")

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return ("ax",)

    def update(self, run: Run, group: dict[str, Any], step: Any, flat: Flat) -> None:
        t, (mean,) = run.scratch, run.rows
        lr, lambd = group["lr"], group["lambd"]
        eta, mu = (at_first(step, first, later) for first, later in zip((lr, 1.0), flat.get_scalars(run), strict=True))
        decay_weights(run, group)
        np.multiply(run.data, 1 - lambd * eta, run.data)
        descend(run, run.grad, eta)
        np.subtract(run.data, mean, t)
        np.multiply(t, mu, t)
        np.add(mean, t, mean)
        start(mean, run.data, mu)
        # The rate and the share of the next step: what it will be is settled by this step's options.
        flat.set_scalars(run, lr / (1 + lambd * lr * step) ** group["alpha"], 1 / np.maximum(1.0, step - group["t0"]))
