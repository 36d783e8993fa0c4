"""Rprop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tensor.optim.flat import Flat, Run
from tensor.optim.flat_optimizer import FlatOptimizer
from tensor.optim.passes import start

__all__ = ["Rprop"]


class Rprop(FlatOptimizer):
    """Steps by the sign of the gradient alone, for full batches (Riedmiller and Braun, ICNN 1993).

    An element's step grows by ``etas[1]`` while its gradient keeps its sign and shrinks by ``etas[0]`` where it changes, within
    ``step_sizes``; where it changes, the element waits for one step.

    >>> import tensor as T
    >>> w = T.tensor([1.0], requires_grad=True)
    >>> optimizer = Rprop([w], lr=0.1)
    >>> (w * w).backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.9000])
    """

    lr: float = 1e-2
    etas: tuple[float, float] = (0.5, 1.2)
    step_sizes: tuple[float, float] = (1e-6, 50.0)

    ages = True
    flushes = False  # however small, the sign of the last gradient counts

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return "prev", "step_size"

    def update(self, run: Run, group: dict[str, Any], step: Any, flat: Flat) -> None:
        g, t = run.grad, run.scratch
        previous, size = run.rows
        shrink, grow = group["etas"]
        start(size, group["lr"], step)
        np.multiply(g, previous, t)
        same, turned = t > 0, t < 0
        t[...] = 1
        np.copyto(t, grow, where=same)
        np.copyto(t, shrink, where=turned)
        np.multiply(size, t, size)
        np.clip(size, *group["step_sizes"], out=size)
        np.copyto(g, 0, where=turned)
        previous[...] = g
        np.sign(g, g)
        np.multiply(g, size, g)
        np.subtract(run.data, g, run.data)
