"""Rates of each element by the size of its gradients so far: Adagrad, Adadelta, RMSprop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tensor.optim.flat import Flat, Run
from tensor.optim.flat_optimizer import FlatOptimizer
from tensor.optim.passes import average, average_square, decay_weights, descend, start

__all__ = ["Adadelta", "Adagrad", "RMSprop"]


class Adagrad(FlatOptimizer):
    """Gradients divided by the root of the sum of all their squares so far (Duchi et al., JMLR 12, 2011).

    The rate is ``lr / (1 + (step - 1) * lr_decay)``; the sums start at ``initial_accumulator_value``.

    >>> import tensor as T
    >>> w = T.tensor([1.0], requires_grad=True)
    >>> optimizer = Adagrad([w], lr=0.1)
    >>> (w * w).backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.9000])
    """

    lr: float = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    ages = True

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return ("sum",)

    def update(self, run: Run, group: dict[str, Any], step: Any, flat: Flat) -> None:
        g, t, (total,) = run.grad, run.scratch, run.rows
        decay_weights(run, group)
        start(total, group["initial_accumulator_value"], step)
        np.multiply(g, g, t)
        np.add(total, t, total)
        np.sqrt(total, t)
        np.add(t, group["eps"], t)
        np.divide(g, t, t)
        descend(run, t, group["lr"] / (1 + (step - 1) * group["lr_decay"]))


class Adadelta(FlatOptimizer):
    """Steps as large as the last ones were, in the units of the parameters themselves (arXiv 1212.5701).

    ``rho`` is the share of the running averages that stays at each step, from 0 to 1.

    >>> import tensor as T
    >>> w = T.tensor([1.0], requires_grad=True)
    >>> optimizer = Adadelta([w], lr=10.0)
    >>> (w * w).backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.9684])
    """

    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0

    counts = False

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return "square_avg", "acc_delta"

    def update(self, run: Run, group: dict[str, Any], step: Any, flat: Flat) -> None:
        g, t = run.grad, run.scratch
        squares, changes = run.rows
        rho, eps = group["rho"], group["eps"]
        decay_weights(run, group)
        average_square(squares, g, rho, t)
        for mean, scale in ((squares, np.divide), (changes, np.multiply)):
            np.add(mean, eps, t)
            np.sqrt(t, t)
            scale(g, t, g)
        average_square(changes, g, rho, t)
        descend(run, g, group["lr"])


class RMSprop(FlatOptimizer):
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

    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    counts = False

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        others = ("momentum_buffer", group["momentum"]), ("grad_avg", group["centered"])
        return ("square_avg", *(name for name, wanted in others if wanted))

    def update(self, run: Run, group: dict[str, Any], step: Any, flat: Flat) -> None:
        g, t = run.grad, run.scratch
        alpha, momentum = group["alpha"], group["momentum"]
        square, *others = run.rows
        decay_weights(run, group)
        average_square(square, g, alpha, t)
        if group["centered"]:
            mean = others[-1]
            average(mean, g, alpha, t)
            np.multiply(mean, mean, t)
            np.subtract(square, t, t)
            np.sqrt(t, t)
        else:
            np.sqrt(square, t)
        np.add(t, group["eps"], t)
        np.divide(g, t, t)
        if momentum:
            buffer = others[0]
            np.multiply(buffer, momentum, buffer)
            np.add(buffer, t, buffer)
            t = buffer
        descend(run, t, group["lr"])
