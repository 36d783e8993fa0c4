"""Schedules given as functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from tensor.optim.lr_scheduler.base import LRScheduler
from tensor.optim.optimizer import Optimizer

__all__ = ["LambdaLR", "MultiplicativeLR"]

Rule = Callable[[int], float]


class _Functions(LRScheduler):
    """A function of the step for each group. Plain functions are not saved, other callable objects by their attributes."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Rule | Sequence[Rule], last_epoch: int = -1) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas: list[Rule] = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            msg = f"{type(self).__name__}: expected {groups} functions, one for each group, got {len(self.lr_lambdas)}"
            raise ValueError(msg)
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        kept = [None if isinstance(f, FunctionType) else dict(getattr(f, "__dict__", {})) for f in self.lr_lambdas]
        return {**super().state_dict(), "lr_lambdas": kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "lr_lambdas"})
        for function, kept in zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=True):
            if kept:
                vars(function).update(kept)


class LambdaLR(_Functions):
    """The first rate times a function of the step, or a function for each group.

    Raises ValueError unless there is one function, or as many as groups.

    >>> import tensor as T
    >>> optimizer = T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8)
    >>> scheduler = LambdaLR(optimizer, lambda step: 0.5**step)
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.4]
    """

    def get_lr(self) -> list[float]:
        return [base * rule(self.last_epoch) for rule, base in zip(self.lr_lambdas, self.base_lrs, strict=True)]


class MultiplicativeLR(_Functions):
    """The present rate times a function of the step, at every step but the first.

    Raises ValueError unless there is one function, or as many as groups.

    >>> import tensor as T
    >>> optimizer = T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8)
    >>> scheduler = MultiplicativeLR(optimizer, lambda step: 0.5)
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.4]
    """

    def get_first_lr(self) -> list[float]:
        return self.present()

    def get_lr(self) -> list[float]:
        return [lr * rule(self.last_epoch) for rule, lr in zip(self.lr_lambdas, self.present(), strict=True)]
