"""Adam and its kin: steps along a running mean of the gradients over the root of their running square."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any

import numpy as np

from tensor.optim.flat import Flat, Run
from tensor.optim.flat_optimizer import FlatOptimizer
from tensor.optim.passes import at_first, average, decay_weights, descend

__all__ = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam"]


def _follow(run: Run, betas: tuple[float, float], flat: Flat) -> None:
    """Both moments at once, as two rows: moments = moments * beta + [g, g * g] * (1 - beta).

    Leaves ``(1 - beta1) * g`` as the gradient.
    """
    keep, take = flat.extra.get(betas) or _shares(run, betas, flat)
    both = run.first_two
    np.multiply(run.grad, run.grad, run.scratch)
    np.multiply(both, keep, both)
    np.multiply(run.pair, take, run.pair)
    np.add(both, run.pair, both)


def _shares(run: Run, betas: tuple[float, float], flat: Flat) -> tuple[Any, Any]:
    """The columns that the two moments are multiplied by, and their new parts."""
    keep = np.array([[beta] for beta in betas], dtype=run.data.dtype, like=run.data)
    take = np.array([[1 - beta] for beta in betas], dtype=run.data.dtype, like=run.data)
    flat.extra.clear()  # a schedule of betas must not collect them
    flat.extra[betas] = keep, take
    return keep, take


class Adam(FlatOptimizer):
    """Steps of about ``lr`` along the running mean of the gradients over the root of their running square (arXiv
    1412.6980).

    Each parameter counts its own steps: those at which it had a gradient. ``weight_decay`` is added to the gradient, or, with
    ``decoupled_weight_decay``, shrinks the weights by ``lr * weight_decay``; ``amsgrad`` keeps the largest running square (arXiv
    1904.09237); ``maximize`` ascends. Raises ValueError for options that are negative, or betas outside [0, 1).

    >>> import tensor as T
    >>> w = T.tensor([1.0], requires_grad=True)
    >>> optimizer = Adam([w], lr=0.1)
    >>> (w * w).backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.9000])
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    _: KW_ONLY
    decoupled_weight_decay: bool = False

    ages = True

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")

    def update(self, run: Run, group: dict[str, Any], step: Any, flat: Flat) -> None:
        t = run.scratch
        beta1, beta2 = group["betas"]
        decay_weights(run, group)
        _follow(run, (beta1, beta2), flat)
        second = run.rows[1]
        if group["amsgrad"]:
            second = run.rows[2]
            np.maximum(second, run.rows[1], out=second)
        # p -= lr / c1 * m / (sqrt(v) / sqrt(c2) + eps), with sqrt(c2) moved out of the fraction: one pass less.
        root = (1 - beta2**step) ** 0.5
        np.sqrt(second, t)
        np.add(t, group["eps"] * root, t)
        np.divide(run.rows[0], t, t)
        descend(run, t, group["lr"] * root / (1 - beta1**step))


class AdamW(Adam):
    """`Adam` with the weight decay apart from the gradient: weights shrink by ``lr * weight_decay`` (arXiv 1711.05101).

    >>> import tensor as T
    >>> w = T.tensor([1.0], requires_grad=True)
    >>> optimizer = AdamW([w], lr=0.1, weight_decay=0.5)
    >>> (w * 0).backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.9500])
    """

    weight_decay: float = 1e-2
    decoupled_weight_decay: bool = True


class NAdam(FlatOptimizer):
    """`Adam` with Nesterov's look ahead, whose momentum warms up by ``momentum_decay`` (Dozat, ICLR 2016 workshop).

    >>> import tensor as T
    >>> w = T.tensor([1.0], requires_grad=True)
    >>> optimizer = NAdam([w], lr=0.1)
    >>> (w * w).backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.8944])
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False

    ages = True
    scalar_names = ("mu_product",)

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return "exp_avg", "exp_avg_sq"

    def update(self, run: Run, group: dict[str, Any], step: Any, flat: Flat) -> None:
        g, t = run.grad, run.scratch
        beta1, beta2 = group["betas"]
        lr, decay = group["lr"], group["momentum_decay"]
        decay_weights(run, group)
        mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (k * decay)) for k in (step, step + 1))
        before = at_first(step, 1.0, flat.get_scalars(run)[0])
        flat.set_scalars(run, before * mu)
        _follow(run, (beta1, beta2), flat)
        # p -= lr * ((1 - mu) / (1 - product) * g + mu_next / (1 - product * mu_next) * m) / (sqrt(v / c2) + eps)
        np.multiply(g, lr * (1 - mu) / (1 - before * mu) / (1 - beta1), g)
        np.multiply(run.rows[0], lr * mu_next / (1 - before * mu * mu_next), t)
        np.add(g, t, g)
        np.multiply(run.rows[1], 1 / (1 - beta2**step), t)
        np.sqrt(t, t)
        np.add(t, group["eps"], t)
        np.divide(g, t, t)
        np.subtract(run.data, t, run.data)


class RAdam(FlatOptimizer):
    """`Adam` whose early steps, where the running square is still uncertain, are rectified (arXiv 1908.03265).

    >>> import tensor as T
    >>> w = T.tensor([1.0], requires_grad=True)
    >>> optimizer = RAdam([w], lr=0.1)
    >>> (w * w).backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.8000])
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False

    ages = True

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return "exp_avg", "exp_avg_sq"

    def update(self, run: Run, group: dict[str, Any], step: Any, flat: Flat) -> None:
        t = run.scratch
        beta1, beta2 = group["betas"]
        decay_weights(run, group)
        _follow(run, (beta1, beta2), flat)
        rate = group["lr"] / (1 - beta1**step)
        # The length of the simple average that the running square is worth: now, and after many steps.
        correction = 1 - beta2**step
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * step * beta2**step / correction
        early = length <= 5  # the variance of the square is not known yet: plain momentum
        if early is True:
            descend(run, run.rows[0], rate)
            return
        rectified = np.maximum((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length), 0) ** 0.5
        np.sqrt(run.rows[1], t)
        np.add(t, group["eps"], t)
        np.divide(run.rows[0], t, t)
        factor = rate * correction**0.5 * rectified
        if early is not False:  # of late elements, some
            np.copyto(t, run.rows[0], where=early)
            factor = np.where(early, rate, factor)
        descend(run, t, factor)


class Adamax(FlatOptimizer):
    """`Adam` with the largest gradient, slowly forgotten, in place of the root mean square (arXiv 1412.6980, section 7.1).

    >>> import tensor as T
    >>> w = T.tensor([1.0], requires_grad=True)
    >>> optimizer = Adamax([w], lr=0.1)
    >>> (w * w).backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.9000])
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    ages = True

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return "exp_avg", "exp_inf"

    def update(self, run: Run, group: dict[str, Any], step: Any, flat: Flat) -> None:
        g, t = run.grad, run.scratch
        mean, largest = run.rows
        beta1, beta2 = group["betas"]
        decay_weights(run, group)
        average(mean, g, beta1, t)
        np.abs(g, g)
        np.add(g, group["eps"], g)
        np.multiply(largest, beta2, largest)
        np.maximum(largest, g, out=largest)
        np.divide(mean, largest, t)
        descend(run, t, group["lr"] / (1 - beta1**step))
