"""Learning rates that change over time. Each is a formula of the step: a resumed run gets the same numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tensor.optim.optimizer import Optimizer

__all__ = ["CosineAnnealingLR", "LRScheduler", "LambdaLR", "LinearLR", "StepLR"]


class LRScheduler:
    """Sets the "lr" of each group of an optimizer at every `step`; a subclass says to what (`rate`).

    Each group's first rate is kept as its "initial_lr". ``last_epoch`` is the number of steps taken before, -1 for a
    new start; otherwise the groups must have an "initial_lr", else KeyError.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group["initial_lr"] = group["lr"]
            elif "initial_lr" not in group:
                msg = f"{type(self).__name__}: group {i} has no 'initial_lr', which resuming at step {last_epoch} needs"
                raise KeyError(msg)
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def rate(self, base: float, group: int) -> float:
        """The learning rate after ``last_epoch`` steps, for a group whose first was ``base``."""
        raise NotImplementedError

    def step(self) -> None:
        """Go one step on and set the rates."""
        self.last_epoch += 1
        for i, (group, base) in enumerate(zip(self.optimizer.param_groups, self.base_lrs, strict=False)):
            group["lr"] = self.rate(base, i)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float]:
        """The rates that were set last, one for each group."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on: plain values, without the optimizer and without functions."""
        return {key: value for key, value in vars(self).items() if key not in ("optimizer", "lr_lambdas")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; the rates themselves are in the optimizer's state."""
        vars(self).update(state_dict)


class LambdaLR(LRScheduler):
    """The first rate times a function of the step, or a function for each group.

    Raises ValueError unless there is one function, or as many as groups.

    >>> import tensor as T
    >>> optimizer = T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8)
    >>> scheduler = LambdaLR(optimizer, lambda step: 0.5**step)
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.4]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            msg = f"LambdaLR: expected {groups} functions, one for each group, got {len(self.lr_lambdas)}"
            raise ValueError(msg)
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, group: int) -> float:
        return base * self.lr_lambdas[group](self.last_epoch)


class LinearLR(LRScheduler):
    """From ``start_factor`` to ``end_factor`` times the first rate over ``total_iters`` steps, then constant.

    Raises ValueError for factors outside [0, 1] or a start of 0.
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

    def rate(self, base: float, group: int) -> float:
        done = min(self.last_epoch, self.total_iters) / self.total_iters if self.total_iters else 1.0
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class StepLR(LRScheduler):
    """The rate multiplied by ``gamma`` every ``step_size`` steps. Raises ValueError for a ``step_size`` below 1."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        if step_size < 1:
            msg = f"StepLR: expected step_size >= 1, got {step_size}"
            raise ValueError(msg)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, group: int) -> float:
        return base * self.gamma ** (self.last_epoch // self.step_size)


class CosineAnnealingLR(LRScheduler):
    """Half a cosine wave from the first rate down to ``eta_min`` over ``T_max`` steps, then up again (arXiv
    1608.03983).

    Raises ValueError for a ``T_max`` below 1.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        if T_max < 1:
            msg = f"CosineAnnealingLR: expected T_max >= 1, got {T_max}"
            raise ValueError(msg)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, group: int) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
