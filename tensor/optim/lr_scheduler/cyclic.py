"""Schedules that go up and down, some with the momentum in the other direction."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tensor.optim.lr_scheduler.base import LRScheduler, check_optimizer, for_each_group
from tensor.optim.optimizer import Optimizer

__all__ = ["CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR", "cosine", "linear"]


def cosine(start: float, end: float, share: float) -> float:
    """Half a cosine wave from start to end."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def linear(start: float, end: float, share: float) -> float:
    """A straight line from start to end."""
    return start + (end - start) * share


ANNEAL: dict[str, Callable[[float, float, float], float]] = {"cos": cosine, "linear": linear}


def check_strategy(who: str, strategy: str) -> None:
    """Raise ValueError for a name that is not in `ANNEAL`."""
    if strategy not in ANNEAL:
        msg = f"{who}: expected anneal_strategy to be 'cos' or 'linear', got {strategy!r}"
        raise ValueError(msg)


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half a cosine wave from the first rate to ``eta_min`` over ``T_0`` steps, then again from the start (arXiv 1608.03983).

    Each period is ``T_mult`` times as long as the one before. `step` may be given a fraction of an epoch. Raises ValueError
    for a ``T_0`` or ``T_mult`` that is no integer of 1 or more.

    >>> import tensor as T
    >>> scheduler = CosineAnnealingWarmRestarts(T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8), T_0=2)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> [round(rate, 9) for rate in rates]
    [0.8, 0.4, 0.8, 0.4]
    >>> scheduler.step(1.5)
    >>> [round(rate, 9) for rate in scheduler.get_last_lr()]
    [0.117157288]
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        for name, value in (("T_0", T_0), ("T_mult", T_mult)):
            if not isinstance(value, int) or value < 1:
                msg = f"CosineAnnealingWarmRestarts: expected an integer {name} >= 1, got {value}"
                raise ValueError(msg)
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        super().__init__(optimizer, last_epoch)

    def start(self) -> None:
        self._step_count = 0
        self.step()

    def step(self, epoch: Any = None) -> None:
        """Go one step on, or to an epoch that may be a fraction."""
        self._step_count += 1
        epoch = self.last_epoch + 1 if epoch is None else epoch
        if epoch < 0:
            msg = f"CosineAnnealingWarmRestarts.step: expected epoch >= 0, got {epoch}"
            raise ValueError(msg)
        self.last_epoch = math.floor(epoch)
        self.T_cur, self.T_i = self._place(epoch)
        self._set(self.get_lr())

    def _place(self, epoch: Any) -> tuple[Any, int]:
        """How far into its period an epoch is, and how long the period."""
        if self.T_mult == 1:
            return epoch % self.T_0, self.T_0
        start, length = 0, self.T_0
        while epoch >= start + length:
            start, length = start + length, length * self.T_mult
        return epoch - start, length

    def get_lr(self) -> list[float]:
        return [cosine(base, self.eta_min, self.T_cur / self.T_i) for base in self.base_lrs]


def start_momentum(who: str, optimizer: Optimizer, base: Any, largest: Any, fresh: bool) -> None:
    """Let a schedule move the momentum: keep its bounds in the groups, and, in a new run, begin at the largest."""
    if not {"momentum", "betas"} & optimizer.defaults.keys():
        msg = f"{who}: cycle_momentum needs an optimizer with momentum or betas, got {type(optimizer).__name__}"
        raise ValueError(msg)
    bounds = for_each_group(who, "base_momentum", base, optimizer), for_each_group(who, "max_momentum", largest, optimizer)
    for group, low, high in zip(optimizer.param_groups, *bounds, strict=True):
        if fresh:
            put_momentum(group, high)
            group["max_momentum"], group["base_momentum"] = high, low


def put_momentum(group: dict[str, Any], value: float) -> None:
    """Set a group's momentum: SGD's "momentum", or the first of "betas"."""
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


#: By mode: the height of a cycle from the number of cycles, or of steps, and gamma.
SCALES: dict[str, tuple[str, Callable[[float, float], float]]] = {
    "triangular": ("cycle", lambda x, gamma: 1.0),
    "triangular2": ("cycle", lambda x, gamma: 0.5 ** (x - 1)),
    "exp_range": ("iterations", lambda x, gamma: gamma**x),
}


class CyclicLR(LRScheduler):
    """Up from ``base_lr`` to ``max_lr`` over ``step_size_up`` steps and down again over ``step_size_down`` (arXiv 1506.01186).

    ``mode``: "triangular", all cycles alike; "triangular2", each half as high as the one before; "exp_range", the height is
    multiplied by ``gamma`` at each step. ``scale_fn`` gives a height of your own, of the number of cycles (from 1) or steps, by
    ``scale_mode`` "cycle" or "iterations". With ``cycle_momentum``, the momentum goes from ``max_momentum`` to
    ``base_momentum`` and back. Raises ValueError for an unknown mode, and for optimizers without momentum to cycle.

    >>> import tensor as T
    >>> optimizer = T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.1, momentum=0.9)
    >>> scheduler = CyclicLR(optimizer, base_lr=0.1, max_lr=0.5, step_size_up=2)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> [round(rate, 9) for rate in rates]
    [0.1, 0.3, 0.5, 0.3, 0.1]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer("CyclicLR", optimizer)
        if mode not in SCALES and scale_fn is None:
            msg = f"CyclicLR: expected mode to be one of {', '.join(map(repr, SCALES))}, or a scale_fn, got {mode!r}"
            raise ValueError(msg)
        fresh = last_epoch == -1
        lowest = for_each_group("CyclicLR", "base_lr", base_lr, optimizer)
        if fresh:
            for group, lr in zip(optimizer.param_groups, lowest, strict=True):
                group["lr"] = lr
        self.max_lrs = for_each_group("CyclicLR", "max_lr", max_lr, optimizer)
        down = step_size_up if step_size_down is None else step_size_down
        self.total_size = float(step_size_up + down)
        self.step_ratio = step_size_up / self.total_size
        self.mode, self.gamma, self.scale_mode = mode, gamma, scale_mode if scale_fn else SCALES[mode][0]
        self._scale_fn = scale_fn
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            start_momentum("CyclicLR", optimizer, base_momentum, max_momentum, fresh)
        self._lowest = lowest
        super().__init__(optimizer, last_epoch)
        self.base_lrs = lowest

    def scale_fn(self, x: float) -> float:
        """The height of a cycle, by its number or that of the step."""
        return SCALES[self.mode][1](x, self.gamma) if self._scale_fn is None else self._scale_fn(x)

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        share = 1 + self.last_epoch / self.total_size - cycle
        height = share / self.step_ratio if share <= self.step_ratio else (share - 1) / (self.step_ratio - 1)
        height *= self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                put_momentum(group, linear(group["max_momentum"], group["base_momentum"], height))
        return [linear(low, high, height) for low, high in zip(self._lowest, self.max_lrs, strict=True)]


class OneCycleLR(LRScheduler):
    """Up from ``max_lr / div_factor`` to ``max_lr``, then down to ``final_div_factor`` times less than at first.

    From arXiv 1708.07120. ``pct_start`` of ``total_steps`` (or ``epochs * steps_per_epoch``) go up. ``three_phase`` comes down as
    it went up, and only then further. The momentum goes the other way, as in `CyclicLR`. Raises ValueError for options that
    make no sense, and by `step` beyond ``total_steps``.

    >>> import tensor as T
    >>> optimizer = T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.1, momentum=0.9)
    >>> scheduler = OneCycleLR(optimizer, max_lr=0.5, total_steps=5, pct_start=0.4, div_factor=5, final_div_factor=10)
    >>> rates = scheduler.get_last_lr()
    >>> for _ in range(4):
    ...     scheduler.step()
    ...     rates = rates + scheduler.get_last_lr()
    >>> [round(rate, 4) for rate in rates]
    [0.1, 0.5, 0.3775, 0.1325, 0.01]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer("OneCycleLR", optimizer)
        check_strategy("OneCycleLR", anneal_strategy)
        if total_steps is None and epochs is not None and steps_per_epoch is not None:
            total_steps = epochs * steps_per_epoch
        if not isinstance(total_steps, int) or total_steps < 1:
            msg = f"OneCycleLR: expected total_steps >= 1, or epochs and steps_per_epoch, got {total_steps}"
            raise ValueError(msg)
        if not 0 <= pct_start <= 1:
            msg = f"OneCycleLR: expected 0 <= pct_start <= 1, got {pct_start}"
            raise ValueError(msg)
        self.total_steps, self.pct_start, self.three_phase = total_steps, pct_start, three_phase
        self.anneal_strategy = anneal_strategy
        fresh = last_epoch == -1
        if fresh:
            for group, most in zip(
                optimizer.param_groups, for_each_group("OneCycleLR", "max_lr", max_lr, optimizer), strict=True
            ):
                first = most / div_factor
                group.update(initial_lr=first, max_lr=most, min_lr=first / final_div_factor)
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            start_momentum("OneCycleLR", optimizer, base_momentum, max_momentum, fresh)
        super().__init__(optimizer, last_epoch)

    def _phases(self) -> list[tuple[float, str, str, str, str]]:
        """The last step of each phase, between which rates, and between which momenta (their names in the group)."""
        peak, last = self.pct_start * self.total_steps - 1, self.total_steps - 1
        up = (peak, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        if not self.three_phase:
            return [up, (last, "max_lr", "min_lr", "base_momentum", "max_momentum")]
        down = (2 * peak, "max_lr", "initial_lr", "base_momentum", "max_momentum")
        return [up, down, (last, "initial_lr", "min_lr", "max_momentum", "max_momentum")]

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            msg = f"OneCycleLR.step: expected at most {self.total_steps} steps, got step {self.last_epoch}"
            raise ValueError(msg)
        phases = self._phases()
        number = next((i for i, phase in enumerate(phases) if self.last_epoch <= phase[0]), len(phases) - 1)
        end, *names = phases[number]
        begin = phases[number - 1][0] if number else 0
        share = (self.last_epoch - begin) / (end - begin)
        anneal = ANNEAL[self.anneal_strategy]
        rate, next_rate, momentum, next_momentum = names
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                put_momentum(group, anneal(group[momentum], group[next_momentum], share))
        return [anneal(group[rate], group[next_rate], share) for group in self.optimizer.param_groups]
