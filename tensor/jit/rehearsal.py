"""What a process does once, when its first function is compiled, so that no step has to pay for it.

A first recording takes three times as long as later ones: Python has not run its code before, operators write out what they need,
and the collector of garbage has yet to look at all that was imported. Whoever compiles a step is about to repeat it, and often by
the clock; setting up is the time for that.
"""

from __future__ import annotations

import functools
import gc

import numpy as np

from tensor.autograd.modes import enable_grad
from tensor.autograd.tensor import Tensor
from tensor.jit.attempt import Attempt
from tensor.jit.plan import Plan
from tensor.jit.seams import current
from tensor.jit.watch import layout_is_known
from tensor.nn.functional import linear
from tensor.optim.adam import Adam

__all__ = ["rehearse"]


def rehearse() -> None:
    """Do all of that, if it has not been done and nothing is being recorded."""
    if not current:
        _once()


@functools.cache
def _once() -> None:
    layout_is_known()
    if gc.isenabled():
        gc.collect()
    with enable_grad():
        _recorded()


def _recorded() -> Plan | None:
    """A recording of a learning step, of a network that draws no random numbers."""
    weights = [Tensor(np.ones((1, 1), np.float32)).requires_grad_() for _ in range(2)]
    biases = [Tensor(np.zeros(1, np.float32)).requires_grad_() for _ in range(2)]
    optimizer = Adam([*weights, *biases])

    def step(x: Tensor, y: Tensor, weights: list[Tensor], biases: list[Tensor], optimizer: Adam) -> Tensor:
        optimizer.zero_grad()
        hidden = linear(x, weights[0], biases[0]).tanh()
        loss: Tensor = ((linear(hidden, weights[1], biases[1]) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    x, y = Tensor(np.ones((1, 1), np.float32)), Tensor(np.ones((1, 1), np.float32))
    attempt = Attempt(step, (x, y, weights, biases, optimizer), {})  # what code of the library is bound to is not looked at
    attempt.run()
    return attempt.plan
