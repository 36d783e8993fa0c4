"""Adafactor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import sqrt
from typing import Any

import numpy as np

from tensor.autograd.inplace import bump
from tensor.autograd.tensor import Tensor
from tensor.optim.optimizer import Optimizer, Params, evaluate
from tensor.optim.options import check_options

__all__ = ["Adafactor"]


def _state_shapes(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of what is kept for a parameter: of its last two dimensions, a mean over each; below two, everything."""
    if len(shape) < 2:
        return {"variance": shape}
    return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1])}


class Adafactor(Optimizer):
    """Adaptive steps in the memory of a row and a column for each matrix, in proportion to the parameters' size (arXiv
    1804.04235).

    The running squares forget as ``step ** beta2_decay``; updates are clipped to a root mean square of ``d``; the rate is at most
    ``lr``, and ``1 / sqrt(step)``, times the parameters' root mean square or ``eps[1]``. ``eps[0]`` keeps squares from zero; None
    is the dtype's epsilon.

    >>> import tensor as T
    >>> w = T.tensor([1.0], requires_grad=True)
    >>> optimizer = Adafactor([w], lr=0.1)
    >>> (w * w).backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.9000])
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, options)

    def check(self, options: Mapping[str, Any]) -> None:
        check_options("Adafactor", {name: options[name] for name in ("lr", "weight_decay")})
        eps1, eps2 = options["eps"]
        if (eps1 is not None and not eps1 >= 0) or not eps2 >= 0:
            msg = f"Adafactor: expected eps of (None or a number >= 0, a number >= 0), got {options['eps']}"
            raise ValueError(msg)
        if not options["d"] >= 1:
            msg = f"Adafactor: expected d >= 1, got {options['d']}"
            raise ValueError(msg)
        if not options["beta2_decay"] <= 0:
            msg = f"Adafactor: expected beta2_decay <= 0, got {options['beta2_decay']}"
            raise ValueError(msg)

    def _check_param(self, p: Any, i: int) -> None:
        super()._check_param(p, i)
        if p.is_complex():
            msg = f"Adafactor: parameter {i} has dtype {p.dtype}; only real parameters are supported"
            raise TypeError(msg)

    def check_state(self, saved: Mapping[str, Any], p: Tensor, number: int, group: Mapping[str, Any]) -> None:
        expected = _state_shapes(tuple(p.shape))
        given = {name: tuple(value.shape) for name, value in saved.items() if name != "step"}
        if given != expected:
            where = f"Adafactor.load_state_dict: parameter {number} of shape {list(p.shape)}"
            msg = f"{where}: expected {expected}, got {given}"
            raise ValueError(msg)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; returns what ``closure``, if given called first, returned."""
        loss = evaluate(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, -p.grad._array if group["maximize"] else p.grad._array, group)
        return loss

    def _update(self, p: Tensor, g: Any, group: Mapping[str, Any]) -> None:
        state, data = self.state[p], p._array
        if not state:
            shapes = _state_shapes(data.shape)
            state.update({name: Tensor(np.zeros_like(data, shape=shape)) for name, shape in shapes.items()})
        step = int(state.get("step", 0)) + 1
        state["step"] = Tensor(np.asarray(step, np.float32))
        eps1, eps2 = group["eps"]
        eps1 = float(np.finfo(data.dtype).eps) if eps1 is None else eps1
        rate = max(eps2, _root_mean_square(data)) * min(group["lr"], 1 / sqrt(step))
        data *= 1 - group["lr"] * group["weight_decay"]

        new = step ** group["beta2_decay"]
        if data.ndim < 2:
            square = _follow(state["variance"]._array, g * g, new)
        else:
            rows = _follow(state["row_var"]._array, np.mean(g * g, axis=-1, keepdims=True), new)
            columns = _follow(state["col_var"]._array, np.mean(g * g, axis=-2, keepdims=True), new)
            # The outer product that has these rows and columns as its means.
            square = rows * columns / np.maximum(np.mean(rows, axis=-2, keepdims=True), eps1)
        update = g / np.sqrt(np.maximum(square, eps1 * eps1))
        data -= update * (rate / max(1.0, _root_mean_square(update) / group["d"]))
        bump(p)


def _follow(mean: Any, value: Any, share: float) -> Any:
    """mean += share * (value - mean), in place."""
    mean += share * (value - mean)
    return mean


def _root_mean_square(array: Any) -> float:
    return sqrt(float(np.mean(array * array))) if array.size else 0.0
