"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from tensor.optim.flat import Flat, Run
from tensor.optim.optimizer import Optimizer, Params
from tensor.optim.options import fraction, not_negative

__all__ = ["Adam", "AdamW"]


class _Adam(Optimizer):
    """What Adam and AdamW share: all but their default and the place of the weight decay."""

    decoupled: ClassVar[bool]

    def __init__(
        self,
        params: Params,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        amsgrad: bool,
        maximize: bool,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
            },
        )

    def check(self, options: Mapping[str, Any]) -> None:
        name = type(self).__name__
        not_negative(name, options, "lr", "eps", "weight_decay")
        for i, beta in enumerate(options["betas"]):
            fraction(name, f"betas[{i}]", beta)

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")

    def update(self, run: Run, group: dict[str, Any], step: int, flat: Flat) -> None:
        p, g, t = run.data, run.grad, run.scratch
        beta1, beta2 = group["betas"]
        lr, weight_decay = group["lr"], group["weight_decay"]
        if group["maximize"]:
            np.negative(g, g)
        if weight_decay:
            if self.decoupled:
                np.multiply(p, 1 - lr * weight_decay, p)
            else:
                np.multiply(p, weight_decay, t)
                np.add(g, t, g)
        # Both moments at once, as two rows: moments = moments * beta + [g, g * g] * (1 - beta).
        keep, take = flat.extra.get((beta1, beta2)) or _shares(flat, beta1, beta2)
        both = run.first_two
        np.multiply(g, g, t)
        np.multiply(both, keep, both)
        np.multiply(run.pair, take, run.pair)
        np.add(both, run.pair, both)
        second = run.rows[1]
        if group["amsgrad"]:
            second = run.rows[2]
            np.maximum(second, run.rows[1], out=second)
        # p -= lr / c1 * m / (sqrt(v) / sqrt(c2) + eps), with sqrt(c2) moved out of the fraction: one pass less.
        root = sqrt(1 - beta2**step)
        np.sqrt(second, t)
        np.add(t, group["eps"] * root, t)
        np.divide(run.rows[0], t, t)
        np.multiply(t, lr * root / (1 - beta1**step), t)
        np.subtract(p, t, p)


def _shares(flat: Flat, beta1: float, beta2: float) -> tuple[Any, Any]:
    """The columns that the two moments are multiplied by, and their new parts."""
    keep = np.array([[beta1], [beta2]], dtype=flat.dtype, like=flat.data)
    take = np.array([[1 - beta1], [1 - beta2]], dtype=flat.dtype, like=flat.data)
    flat.extra.clear()  # a schedule of betas must not collect them
    flat.extra[beta1, beta2] = keep, take
    return keep, take


class Adam(_Adam):
    """Steps of about ``lr`` along the running mean of the gradients over the root of their running square (arXiv
    1412.6980).

    Each parameter counts its own steps: those at which it had a gradient. ``weight_decay`` is added to the gradient,
    ``amsgrad`` keeps the largest running square (arXiv 1904.09237), ``maximize`` ascends. Raises ValueError for options
    that are negative, or betas outside [0, 1).

    >>> import tensor as T
    >>> w = T.tensor([1.0], requires_grad=True)
    >>> optimizer = Adam([w], lr=0.1)
    >>> (w * w).backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.9000])
    """

    decoupled = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize)


class AdamW(_Adam):
    """`Adam` with the weight decay apart from the gradient: weights shrink by ``lr * weight_decay`` (arXiv 1711.05101).

    >>> import tensor as T
    >>> w = T.tensor([1.0], requires_grad=True)
    >>> optimizer = AdamW([w], lr=0.1, weight_decay=0.5)
    >>> (w * 0).backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.9500])
    """

    decoupled = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize)
