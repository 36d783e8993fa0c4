"""The base of schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tensor.optim.optimizer import Optimizer

__all__ = ["LRScheduler", "check_optimizer", "for_each_group"]


class LRScheduler:
    """Sets the "lr" of each group of an optimizer at every `step`; a subclass says to what (`get_lr`).

    Each group's first rate is kept as its "initial_lr". ``last_epoch`` is the number of steps taken before, -1 for a
    new start; otherwise the groups must have an "initial_lr", else KeyError.

    >>> import tensor as T
    >>> class Halving(LRScheduler):
    ...     def get_lr(self):
    ...         return [base * 0.5**self.last_epoch for base in self.base_lrs]
    >>> scheduler = Halving(T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8))
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.4]
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_optimizer(type(self).__name__, optimizer)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                msg = f"{type(self).__name__}: group {i} has no 'initial_lr', which resuming at step {last_epoch} needs"
                raise KeyError(msg)
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.start()

    # --- what a subclass writes ---------------------------------------------------------------------------------

    def get_lr(self) -> list[float]:
        """The rates after ``last_epoch`` steps, one for each group; may start from the groups' present ones."""
        raise NotImplementedError

    def get_first_lr(self) -> list[float]:
        """The rates that the constructor sets; the groups' present ones are those of a resumed run, or of another schedule."""
        return self.get_lr()

    def get_lr_at(self) -> list[float]:
        """The rates after ``last_epoch`` steps whatever the present ones are: what `step` with an epoch sets."""
        return self.get_lr()

    # --- steps --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The step that belongs to the start; the constructor's last act."""
        self._step_count = 1
        self.last_epoch += 1
        self._set(self.get_first_lr())

    def step(self, epoch: Any = None) -> None:
        """Go one step on, or to step ``epoch``, and set the rates."""
        self._step_count += 1
        if epoch is None:
            self.last_epoch += 1
            self._set(self.get_lr())
        else:
            self.last_epoch = epoch
            self._set(self.get_lr_at())

    def _set(self, rates: Sequence[float]) -> None:
        groups = len(self.optimizer.param_groups)
        if groups != len(rates):
            who = f"{type(self).__name__}.step"
            msg = f"{who}: expected {len(rates)} groups, as when the schedule was made, got {groups}"
            raise ValueError(msg)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = self.present()

    def present(self) -> list[float]:
        """The groups' rates as they are."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float]:
        """The rates that were set last, one for each group."""
        return self._last_lr

    # --- state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on: plain values, without the optimizer and without functions."""
        return {key: value for key, value in vars(self).items() if key != "optimizer" and not callable(value)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; the rates themselves are in the optimizer's state."""
        vars(self).update(state_dict)


def check_optimizer(who: str, optimizer: Any) -> None:
    """Raise TypeError for what is no optimizer."""
    if not isinstance(optimizer, Optimizer):
        msg = f"{who}: expected an Optimizer, got {type(optimizer).__name__}"
        raise TypeError(msg)


def for_each_group(who: str, name: str, value: Any, optimizer: Optimizer) -> list[Any]:
    """One value for each group: a sequence as it is, anything else repeated. Raises ValueError for another length."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * groups
    if len(value) != groups:
        msg = f"{who}: expected {groups} values of {name}, one for each group, got {len(value)}"
        raise ValueError(msg)
    return list(value)
