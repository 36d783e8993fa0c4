"""Schedules made of schedules."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from tensor.optim.lr_scheduler.base import LRScheduler
from tensor.optim.lr_scheduler.plateau import ReduceLROnPlateau
from tensor.optim.optimizer import Optimizer

__all__ = ["ChainedScheduler", "SequentialLR"]


class _Combined(LRScheduler):
    """What both share: several schedules of one optimizer, and their state."""

    _schedulers: list[LRScheduler]

    def _take(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None) -> None:
        who = type(self).__name__
        if not schedulers:
            msg = f"{who}: expected at least one schedule, got none"
            raise ValueError(msg)
        for i, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                msg = f"{who}: expected schedules, got {type(scheduler).__name__} as number {i}"
                raise TypeError(msg)
            if isinstance(scheduler, ReduceLROnPlateau):
                msg = f"{who}: schedule {i} is a ReduceLROnPlateau, whose steps need a metric"
                raise ValueError(msg)
            if scheduler.optimizer is not (optimizer or schedulers[0].optimizer):
                msg = f"{who}: expected schedules of one optimizer, got another one's as number {i}"
                raise ValueError(msg)
        self.optimizer = schedulers[0].optimizer
        self._schedulers = list(schedulers)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        saved = state_dict["_schedulers"]
        if len(saved) != len(self._schedulers):
            who = f"{type(self).__name__}.load_state_dict"
            msg = f"{who}: expected the state of {len(self._schedulers)} schedules, got {len(saved)}"
            raise ValueError(msg)
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "_schedulers"})
        for scheduler, kept in zip(self._schedulers, saved, strict=True):
            scheduler.load_state_dict(kept)


class SequentialLR(_Combined):
    """One schedule after the other: the next takes over at each of the ``milestones``, from its own start.

    Raises ValueError unless there is one milestone less than schedules, and for schedules of different optimizers.

    >>> import tensor as T
    >>> optimizer = T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8)
    >>> parts = [T.optim.lr_scheduler.ConstantLR(optimizer, 0.5, 2), T.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]
    >>> scheduler = SequentialLR(optimizer, parts, milestones=[2])
    >>> rates = []
    >>> for _ in range(4):
    ...     rates += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> rates
    [0.4, 0.4, 0.8, 0.4]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        self._take(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            msg = (
                f"SequentialLR: expected {len(schedulers) - 1} milestones for {len(schedulers)} schedules, got {len(milestones)}"
            )
            raise ValueError(msg)
        self._milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        # Every schedule has set its first rates when it was made: only those of the one that begins may stay.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        for scheduler in self._schedulers:
            _undo(scheduler)
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first.start()
        self._last_lr = first.get_last_lr()

    def start(self) -> None:
        """Begin again with the first schedule: as part of another SequentialLR."""
        self.last_epoch = 0
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first.start()
        self._last_lr = first.get_last_lr()

    def step(self, epoch: Any = None) -> None:
        """Go one step on, or to the start (``epoch=0``)."""
        self.last_epoch = 0 if _is_restart(self, epoch) else self.last_epoch + 1
        number = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[number]
        begins = number > 0 and self._milestones[number - 1] == self.last_epoch
        scheduler.step(0) if begins or self.last_epoch == 0 else scheduler.step()
        self._last_lr = scheduler.get_last_lr()


def _undo(scheduler: LRScheduler) -> None:
    if isinstance(scheduler, _Combined):
        for part in scheduler._schedulers:
            _undo(part)
    else:
        scheduler.last_epoch -= 1


class ChainedScheduler(_Combined):
    """Several schedules at once, each step one after the other; curves multiply.

    Raises ValueError without schedules, and for schedules of different optimizers.

    >>> import tensor as T
    >>> optimizer = T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8)
    >>> parts = [T.optim.lr_scheduler.ConstantLR(optimizer, 0.5, 2), T.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]
    >>> scheduler = ChainedScheduler(parts)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> rates
    [0.4, 0.2, 0.2, 0.1]
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._take(schedulers, optimizer)
        self._last_lr = self.present()

    def start(self) -> None:
        """Begin all schedules again: as part of a SequentialLR."""
        for scheduler in self._schedulers:
            scheduler.start()
        self._last_lr = self.present()

    def step(self, epoch: Any = None) -> None:
        """One step of each schedule, or back to the start (``epoch=0``)."""
        if _is_restart(self, epoch):
            for group in self.optimizer.param_groups:
                group["lr"] = group["initial_lr"]
            for scheduler in self._schedulers:
                scheduler.last_epoch = -1
            self.start()
        else:
            for scheduler in self._schedulers:
                scheduler.step()
            self._last_lr = self.present()


def _is_restart(scheduler: _Combined, epoch: Any) -> bool:
    if epoch not in (None, 0):
        msg = f"{type(scheduler).__name__}.step: expected no epoch, or 0 for the start, got {epoch}"
        raise ValueError(msg)
    return epoch is not None
