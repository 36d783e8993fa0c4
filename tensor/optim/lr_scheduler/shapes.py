"""Schedules that are a curve: the rate after some steps is the first rate times the curve's value.

They can be chained: a step multiplies the present rate by what the curve changed since the step before, so that several curves
on one optimizer multiply. Where the curve comes from zero, there is nothing to multiply, and its value is added instead.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from typing import ClassVar

from tensor.optim.lr_scheduler.base import LRScheduler
from tensor.optim.optimizer import Optimizer

__all__ = ["ConstantLR", "CosineAnnealingLR", "ExponentialLR", "LinearLR", "MultiStepLR", "PolynomialLR", "StepLR"]


class _Shape(LRScheduler):
    """The rate is ``eta_min + (first rate - eta_min) * shape(steps)``."""

    eta_min = 0.0

    #: Whether the first step of a resumed run moves on, too, or the present rates are already right; as in PyTorch.
    moves_when_resumed: ClassVar[bool] = False

    def shape(self, epoch: int) -> float:
        """The value of the curve after some steps."""
        raise NotImplementedError

    def get_lr(self) -> list[float]:
        now = self.shape(self.last_epoch)
        before = self.shape(self.last_epoch - 1) if self.last_epoch > 0 else 1.0
        if now == before:
            return self.present()
        if before == 0:
            return [lr + (base - self.eta_min) * now for lr, base in zip(self.present(), self.base_lrs, strict=True)]
        return [self.eta_min + (lr - self.eta_min) * (now / before) for lr in self.present()]

    def get_first_lr(self) -> list[float]:
        return self.get_lr() if self.last_epoch == 0 or self.moves_when_resumed else self.present()

    def get_lr_at(self) -> list[float]:
        now = self.shape(self.last_epoch)
        return [self.eta_min + (base - self.eta_min) * now for base in self.base_lrs]


class StepLR(_Shape):
    """The rate multiplied by ``gamma`` every ``step_size`` steps. Raises ValueError for a ``step_size`` below 1.

    >>> import tensor as T
    >>> scheduler = StepLR(T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8), step_size=2, gamma=0.5)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> rates
    [0.8, 0.8, 0.4, 0.4]
    """

    moves_when_resumed = True

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        if step_size < 1:
            msg = f"StepLR: expected step_size >= 1, got {step_size}"
            raise ValueError(msg)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def shape(self, epoch: int) -> float:
        return float(self.gamma ** (epoch // self.step_size))


class MultiStepLR(_Shape):
    """The rate multiplied by ``gamma`` at each of the ``milestones``; one that is named twice counts twice.

    >>> import tensor as T
    >>> scheduler = MultiStepLR(T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8), milestones=[1, 3], gamma=0.5)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> rates
    [0.8, 0.4, 0.4, 0.2]
    """

    moves_when_resumed = True

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def shape(self, epoch: int) -> float:
        return float(self.gamma ** bisect_right(self.milestones, epoch))


class ConstantLR(_Shape):
    """``factor`` times the first rate for ``total_iters`` steps, then the first rate itself.

    Raises ValueError for a factor outside [0, 1].

    >>> import tensor as T
    >>> scheduler = ConstantLR(T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8), factor=0.5, total_iters=2)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> rates
    [0.4, 0.4, 0.8, 0.8]
    """

    moves_when_resumed = True

    def __init__(self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        if not 0 <= factor <= 1:
            msg = f"ConstantLR: expected a factor in [0, 1], got {factor}"
            raise ValueError(msg)
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def shape(self, epoch: int) -> float:
        return self.factor if epoch < self.total_iters else 1.0


class LinearLR(_Shape):
    """From ``start_factor`` to ``end_factor`` times the first rate over ``total_iters`` steps, then constant.

    Raises ValueError for factors outside [0, 1] or a start of 0.

    >>> import tensor as T
    >>> scheduler = LinearLR(T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8), start_factor=0.5, total_iters=2)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> [round(rate, 9) for rate in rates]
    [0.4, 0.6, 0.8, 0.8]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            msg = f"LinearLR: expected factors in [0, 1] and a start above 0, got {start_factor} and {end_factor}"
            raise ValueError(msg)
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def shape(self, epoch: int) -> float:
        done = min(epoch, self.total_iters) / self.total_iters if self.total_iters else 1.0
        return self.start_factor + (self.end_factor - self.start_factor) * done


class ExponentialLR(_Shape):
    """The rate multiplied by ``gamma`` at every step.

    >>> import tensor as T
    >>> scheduler = ExponentialLR(T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8), gamma=0.5)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> rates
    [0.8, 0.4, 0.2, 0.1]
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def shape(self, epoch: int) -> float:
        return float(self.gamma**epoch)


class PolynomialLR(_Shape):
    """Down to zero over ``total_iters`` steps, as ``(1 - steps / total_iters) ** power``.

    >>> import tensor as T
    >>> scheduler = PolynomialLR(T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8), total_iters=2)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> rates
    [0.8, 0.4, 0.0, 0.0]
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def shape(self, epoch: int) -> float:
        return float((1 - min(epoch, self.total_iters) / self.total_iters) ** self.power)


class CosineAnnealingLR(_Shape):
    """Half a cosine wave from the first rate down to ``eta_min`` over ``T_max`` steps, then up again (arXiv
    1608.03983).

    Raises ValueError for a ``T_max`` below 1.

    >>> import tensor as T
    >>> scheduler = CosineAnnealingLR(T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8), T_max=3)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> [round(rate, 9) for rate in rates]
    [0.8, 0.6, 0.2, 0.0, 0.2]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        if T_max < 1:
            msg = f"CosineAnnealingLR: expected T_max >= 1, got {T_max}"
            raise ValueError(msg)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def shape(self, epoch: int) -> float:
        return (1 + math.cos(math.pi * epoch / self.T_max)) / 2
