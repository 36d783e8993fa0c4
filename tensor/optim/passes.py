"""Passes over flat arrays that several optimizers make: all in place, with the run's scratch memory for what comes between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tensor.optim.flat import Run

__all__ = ["at_first", "average", "average_square", "decay_weights", "descend", "start"]


def decay_weights(run: Run, group: Mapping[str, Any]) -> None:
    """Weight decay: added to the gradient, or, "decoupled_weight_decay", a direct shrinking of the parameters."""
    weight_decay = group["weight_decay"]
    if not weight_decay:
        return
    if group.get("decoupled_weight_decay"):
        np.multiply(run.data, 1 - group["lr"] * weight_decay, run.data)
    else:
        np.multiply(run.data, weight_decay, run.scratch)
        np.add(run.grad, run.scratch, run.grad)


def average(mean: Any, new: Any, keep: float, scratch: Any) -> None:
    """mean = keep * mean + (1 - keep) * new; ``scratch`` may be ``new`` itself."""
    np.multiply(mean, keep, mean)
    np.multiply(new, 1 - keep, scratch)
    np.add(mean, scratch, mean)


def average_square(mean: Any, new: Any, keep: float, scratch: Any) -> None:
    """mean = keep * mean + (1 - keep) * new**2."""
    np.multiply(new, new, scratch)
    average(mean, scratch, keep, scratch)


def descend(run: Run, direction: Any, rate: float) -> None:
    """data -= rate * direction; changes the scratch memory."""
    np.multiply(direction, rate, run.scratch)
    np.subtract(run.data, run.scratch, run.data)


def at_first(step: Any, first: Any, later: Any) -> Any:
    """``first`` where the step is the first, else ``later``; ``step`` may be an array, of late elements."""
    if isinstance(step, np.ndarray):
        return np.where(step == 1, first, later)
    return first if step == 1 else later


def start(row: Any, value: Any, step: Any) -> None:
    """row = value where the step is the first."""
    if isinstance(step, np.ndarray):
        np.copyto(row, value, where=step == 1)
    elif step == 1:
        row[...] = value
