"""Weights averaged over training: stochastic weight averaging (arXiv 1803.05407) and exponential moving averages."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tensor.autograd.inplace import bump
from tensor.autograd.modes import no_grad
from tensor.autograd.tensor import Tensor
from tensor.nn.module import Module
from tensor.nn.normalization import _BatchNorm
from tensor.optim.lr_scheduler.base import LRScheduler, for_each_group
from tensor.optim.lr_scheduler.cyclic import ANNEAL, check_strategy
from tensor.optim.optimizer import Optimizer

__all__ = [
    "SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn", "update_bn",
]  # fmt: skip

AverageOne = Callable[[Tensor, Tensor, int], Tensor]
AverageMany = Callable[[list[Tensor], list[Tensor], int], None]


def get_ema_avg_fn(decay: float = 0.999) -> AverageOne:
    """An ``avg_fn``: ``decay * average + (1 - decay) * new``. Raises ValueError for a decay outside [0, 1].

    >>> import tensor as T
    >>> get_ema_avg_fn(0.75)(T.ones(1), T.zeros(1), 1)
    tensor([0.7500])
    """
    _check_decay("get_ema_avg_fn", decay)
    return lambda average, new, n: average * decay + new * (1 - decay)


def get_swa_avg_fn() -> AverageOne:
    """An ``avg_fn``: the plain average of all so far; ``n`` are in it already.

    >>> import tensor as T
    >>> get_swa_avg_fn()(T.ones(1), T.zeros(1), 3)
    tensor([0.7500])
    """
    return lambda average, new, n: average + (new - average) / (n + 1)


def get_ema_multi_avg_fn(decay: float = 0.999) -> AverageMany:
    """A ``multi_avg_fn``, which changes the averages in place: as `get_ema_avg_fn`."""
    _check_decay("get_ema_multi_avg_fn", decay)
    return lambda averages, new, n: _move(averages, new, 1 - decay)


def get_swa_multi_avg_fn() -> AverageMany:
    """A ``multi_avg_fn``, which changes the averages in place: as `get_swa_avg_fn`."""
    return lambda averages, new, n: _move(averages, new, 1 / (n + 1))


def _check_decay(who: str, decay: float) -> None:
    if not 0 <= decay <= 1:
        msg = f"{who}: expected 0 <= decay <= 1, got {decay}"
        raise ValueError(msg)


def _copy(targets: list[Tensor], values: list[Tensor]) -> None:
    for target, value in zip(targets, values, strict=True):
        target.copy_(value.detach().to(target.device))


def _move(averages: list[Tensor], new: list[Tensor], share: float) -> None:
    """average += share * (new - average); what is no floating-point number is copied."""
    for average, value in zip(averages, new, strict=True):
        if average.is_floating_point() or average.is_complex():
            difference = value._array - average._array
            average._array[...] += np.multiply(difference, share, out=difference)
        else:
            average._array[...] = value._array
        bump(average)


class AveragedModel(Module):
    """A copy of a model whose parameters are an average of the model's over time; call it as the model.

    `update_parameters` takes the model's parameters in: the first time they are copied, then averaged, by default as the plain
    average of all. Buffers follow the model's, or with ``use_buffers`` are averaged, too. ``avg_fn(average, new, n)`` returns
    the new average of one tensor, ``multi_avg_fn(averages, new, n)`` changes all in place, where ``n`` is how many were taken
    in before; see `get_ema_multi_avg_fn`. Raises ValueError where both are given.

    >>> import tensor as T
    >>> model = T.nn.Linear(1, 1)
    >>> average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.75))
    >>> for value in (4.0, 8.0):
    ...     _ = T.nn.init.constant_(model.weight, value)
    ...     average.update_parameters(model)
    >>> average.module.weight.item()
    5.0
    """

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: AverageOne | None = None,
        multi_avg_fn: AverageMany | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            msg = "AveragedModel: expected avg_fn or multi_avg_fn, got both"
            raise ValueError(msg)
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        count = Tensor(np.zeros((), np.int64))
        self.register_buffer("n_averaged", count if device is None else count.to(device))
        self.avg_fn, self.multi_avg_fn = avg_fn, multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take in the parameters of a model of the same structure. Raises ValueError where their shapes differ."""
        ours, theirs = self._averaged(self.module), self._averaged(model)
        shapes = [[list(t.shape) for t in tensors] for tensors in (ours, theirs)]
        if shapes[0] != shapes[1]:
            msg = f"AveragedModel.update_parameters: expected tensors of shapes {shapes[0]}, got {shapes[1]}"
            raise ValueError(msg)
        n = int(self.n_averaged.item())
        with no_grad():
            new = [value.detach().to(own.device) for own, value in zip(ours, theirs, strict=True)]
            if n == 0:
                _copy(ours, new)
            elif self.avg_fn is not None:
                for own, value in zip(ours, new, strict=True):
                    own.copy_(self.avg_fn(own.detach(), value, n))
            else:
                (self.multi_avg_fn or get_swa_multi_avg_fn())([own.detach() for own in ours], new, n)
            if not self.use_buffers:
                _copy(list(self.module.buffers()), list(model.buffers()))
            self.n_averaged += 1

    def _averaged(self, model: Module) -> list[Tensor]:
        return [*model.parameters(), *(model.buffers() if self.use_buffers else ())]


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Let the batch norms of a model take their running statistics from the data anew, as the average over all batches.

    An averaged model has none of its own. ``loader`` gives batches, or lists or tuples that begin with one; they are moved to
    ``device``. Without batch norms, nothing is done.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    training = model.training
    for norm in norms:
        norm.running_mean.zero_()
        norm.running_var.fill_(1)
        norm.num_batches_tracked.zero_()
        norm.momentum = None  # the plain average of all batches
    model.train()
    try:
        with no_grad():
            for batch in loader:
                x = batch[0] if isinstance(batch, (list, tuple)) else batch
                model(x if device is None else x.to(device))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(training)


class SWALR(LRScheduler):
    """From the present rate to ``swa_lr`` over ``anneal_epochs`` steps, then constant; "cos" or "linear".

    Raises ValueError for another strategy, or negative ``anneal_epochs``.

    >>> import tensor as T
    >>> optimizer = T.optim.SGD([T.ones(1, requires_grad=True)], lr=0.8)
    >>> scheduler = SWALR(optimizer, swa_lr=0.2, anneal_epochs=2, anneal_strategy="linear")
    >>> rates = []
    >>> for _ in range(4):
    ...     rates += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> [round(rate, 9) for rate in rates]
    [0.8, 0.5, 0.2, 0.2]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        check_strategy("SWALR", anneal_strategy)
        if anneal_epochs < 0:
            msg = f"SWALR: expected anneal_epochs >= 0, got {anneal_epochs}"
            raise ValueError(msg)
        for group, target in zip(optimizer.param_groups, for_each_group("SWALR", "swa_lr", swa_lr, optimizer), strict=True):
            group["swa_lr"] = target
        self.anneal_epochs, self.anneal_strategy = anneal_epochs, anneal_strategy
        super().__init__(optimizer, last_epoch)

    def _done(self, step: int) -> float:
        """The share of the way to the last rate after some steps."""
        share = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return ANNEAL[self.anneal_strategy](0.0, 1.0, share)

    def get_lr(self) -> list[float]:
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._done(step - 1), self._done(step)
        rates = []
        for group in self.optimizer.param_groups:
            target, lr = group["swa_lr"], group["lr"]
            first = target if before == 1 else (lr - before * target) / (1 - before)
            rates.append(target * now + first * (1 - now))
        return rates
