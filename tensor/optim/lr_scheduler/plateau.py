"""A rate that falls when learning stalls."""

from __future__ import annotations

import math
from typing import Any

from tensor.optim.lr_scheduler.base import LRScheduler, check_optimizer, for_each_group
from tensor.optim.optimizer import Optimizer

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the rate by ``factor`` when a metric has not become better for more than ``patience`` steps.

    ``mode`` is "min" where less is better, or "max". Better means by more than ``threshold``: a share of the best ("rel") or a
    difference ("abs"). After a cut, ``cooldown`` steps are not counted. No rate falls below ``min_lr``, or by less than ``eps``.
    Raises ValueError for a factor of 1 or more, and unknown modes.

    >>> import tensor as T
    >>> scheduler = ReduceLROnPlateau(T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8), factor=0.5, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr()
    [0.4]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        check_optimizer("ReduceLROnPlateau", optimizer)
        if factor >= 1:
            msg = f"ReduceLROnPlateau: expected factor < 1, got {factor}"
            raise ValueError(msg)
        for name, value, known in (("mode", mode, ("min", "max")), ("threshold_mode", threshold_mode, ("rel", "abs"))):
            if value not in known:
                msg = f"ReduceLROnPlateau: expected {name} to be {known[0]!r} or {known[1]!r}, got {value!r}"
                raise ValueError(msg)
        self.optimizer = optimizer
        self.mode, self.factor, self.patience, self.cooldown = mode, factor, patience, cooldown
        self.threshold, self.threshold_mode, self.eps = threshold, threshold_mode, eps
        self.min_lrs: list[float] = for_each_group("ReduceLROnPlateau", "min_lr", min_lr, optimizer)
        self.last_epoch = 0
        self._last_lr = self.present()
        self.reset()

    def reset(self) -> None:
        """Forget the best value and all counts."""
        self.best = math.inf if self.mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = 0

    @property
    def in_cooldown(self) -> bool:
        """Whether steps are not counted yet, after a cut."""
        return self.cooldown_counter > 0

    def is_better(self, value: float, best: float) -> bool:
        """Whether a value is better than the best one, by more than the threshold."""
        sign = 1 if self.mode == "max" else -1
        bound = best * (1 + sign * self.threshold) if self.threshold_mode == "rel" else best + sign * self.threshold
        return sign * value > sign * bound

    def step(self, metrics: Any, epoch: Any = None) -> None:  # type: ignore[override]
        """Take in the metric (a number or a tensor of one) and cut the rates if it is time to."""
        value = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self.is_better(value, self.best):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._cut()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self.present()

    def _cut(self) -> None:
        for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            reduced = max(group["lr"] * self.factor, least)
            if group["lr"] - reduced > self.eps:
                group["lr"] = reduced
