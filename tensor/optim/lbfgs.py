"""L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from tensor.autograd.inplace import bump
from tensor.autograd.tensor import Tensor
from tensor.optim.flat import real_parts
from tensor.optim.line_search import Point, slope, strong_wolfe
from tensor.optim.optimizer import Optimizer, Params, evaluate
from tensor.optim.options import check_options

__all__ = ["LBFGS"]

#: Changes of the gradient that say less about the curvature than this are not remembered.
LEAST_CURVATURE = 1e-10


class LBFGS(Optimizer):
    """Quasi-Newton steps from the last ``history_size`` changes of the gradient (Liu and Nocedal, Math. Program. 45, 1989).

    `step` takes a closure that clears the gradients, computes the loss, calls ``backward`` and returns the loss; it is called up
    to ``max_eval`` times in up to ``max_iter`` iterations. ``line_search_fn="strong_wolfe"`` chooses the length of each
    iteration's step by a line search, else it is ``lr``. An iteration ends the step when no element of the gradient exceeds
    ``tolerance_grad``, or neither parameters nor loss changed by more than ``tolerance_change``. One group of parameters only.

    >>> import tensor as T
    >>> w = T.tensor([3.0, -1.0], requires_grad=True)
    >>> optimizer = LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = ((w - T.tensor([1.0, 2.0])) ** 2).sum()
    ...     loss.backward()
    ...     return loss
    >>> optimizer.step(closure)
    tensor(13., grad_fn=<SumBackward>)
    >>> w.detach().round(decimals=3)
    tensor([1., 2.])
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        options = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, options)

    def check(self, options: Mapping[str, Any]) -> None:
        check_options("LBFGS", options)
        if options["line_search_fn"] not in (None, "strong_wolfe"):
            msg = f"LBFGS: expected line_search_fn to be None or 'strong_wolfe', got {options['line_search_fn']!r}"
            raise ValueError(msg)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """The one group; a second raises ValueError, since one curvature is estimated for all parameters together."""
        if self.param_groups:
            msg = "LBFGS: expected one group of parameters, got a second"
            raise ValueError(msg)
        super().add_param_group(param_group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Iterate until a limit or a tolerance is met; returns the loss before. Raises TypeError without a closure."""
        if closure is None:
            msg = "LBFGS.step: expected a closure that computes the loss and its gradients, got None"
            raise TypeError(msg)
        group = self.param_groups[0]
        params: list[Tensor] = group["params"]
        state = self.state[params[0]]
        line = _Line(params, closure)
        first_loss = evaluate(closure)
        loss, gradient = float(first_loss), line.gradient()
        state.setdefault("n_iter", 0)
        state["func_evals"] = state.get("func_evals", 0) + 1
        if _largest(gradient) <= group["tolerance_grad"]:
            return first_loss

        memory = _Memory(state, group["history_size"])
        evaluations, last_loss = 1, loss
        for iteration in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            first = state["n_iter"] == 1
            direction = memory.direction(gradient)
            memory.previous, last_loss = gradient, loss
            rate = min(1.0, 1.0 / float(np.sum(np.abs(gradient)))) * group["lr"] if first else group["lr"]
            descent = slope(gradient, direction)
            memory.d, memory.t = direction, rate
            if descent > -group["tolerance_change"]:
                break
            if group["line_search_fn"] is not None:
                start = Point(0.0, loss, gradient, descent)
                left = group["max_eval"] - evaluations
                found, tried = strong_wolfe(line.along(direction), start, rate, _largest(direction), most=left)
                memory.t, loss, gradient = found.step, found.value, found.gradient
                line.move(direction, memory.t)
            else:
                line.move(direction, rate)
                tried = 0
                if iteration != group["max_iter"]:  # the last loss would not be used
                    loss, gradient = float(evaluate(closure)), line.gradient()
                    tried = 1
            evaluations += tried
            state["func_evals"] += tried
            if (
                evaluations >= group["max_eval"]
                or _largest(gradient) <= group["tolerance_grad"]
                or _largest(direction) * memory.t <= group["tolerance_change"]
                or abs(loss - last_loss) < group["tolerance_change"]
            ):
                break
        memory.save(state, last_loss)
        return first_loss


class _Line:
    """The parameters as one vector that moves."""

    def __init__(self, params: list[Tensor], closure: Callable[[], Any]) -> None:
        self.params, self.closure = params, closure

    def gradient(self) -> Any:
        """All gradients as one new vector; zeros for parameters without one."""
        arrays = [np.zeros_like(p._array) if p.grad is None else p.grad._array for p in self.params]
        return np.concatenate([real_parts(a.reshape(-1)) for a in arrays])

    def move(self, direction: Any, length: float) -> None:
        """Add a multiple of a direction to the parameters."""
        start = 0
        for p in self.params:
            parts = 2 if p.is_complex() else 1
            stop = start + p._array.size * parts
            change = (direction[start:stop] * length).astype(p._array.real.dtype, copy=False)
            p._array += change.view(p._array.dtype).reshape(p._array.shape)
            bump(p)
            start = stop

    def along(self, direction: Any) -> Callable[[float], Point]:
        """A function that evaluates the loss at steps along a direction; the parameters are left where they were."""
        return partial(self._evaluate, direction, [p._array.copy() for p in self.params])

    def _evaluate(self, direction: Any, origin: list[Any], step: float) -> Point:
        self.move(direction, step)
        loss, gradient = float(evaluate(self.closure)), self.gradient()
        for p, array in zip(self.params, origin, strict=True):
            p._array[...] = array
            bump(p)
        return Point(step, loss, gradient, slope(gradient, direction))


class _Memory:
    """What is known of the curvature: past changes of the gradient (``old_dirs``) and of the parameters (``old_stps``).

    The names in the saved state are PyTorch's.
    """

    def __init__(self, state: Mapping[str, Any], size: int) -> None:
        self.size = size
        self.gradients = [kept._array for kept in state.get("old_dirs", ())]
        self.steps = [kept._array for kept in state.get("old_stps", ())]
        self.inverse = [float(kept) for kept in state.get("ro", ())]
        self.scale = float(state.get("H_diag", 1.0))
        self.d = state["d"]._array if "d" in state else None
        self.t = float(state.get("t", 0.0))
        self.previous = state["prev_flat_grad"]._array if "d" in state else None

    def save(self, state: dict[str, Any], loss: float) -> None:
        """Put everything into the state of the first parameter."""
        state.update(
            d=Tensor(self.d),
            t=self.t,
            old_dirs=[Tensor(a) for a in self.gradients],
            old_stps=[Tensor(a) for a in self.steps],
            ro=list(self.inverse),
            H_diag=self.scale,
            prev_flat_grad=Tensor(self.previous),
            prev_loss=loss,
        )

    def direction(self, gradient: Any) -> Any:
        """Take in the change since the last iteration, and give the next direction: minus H times the gradient."""
        if self.d is not None:
            self._remember(gradient - self.previous, self.d * self.t)
        # The two-loop recursion (Nocedal and Wright, algorithm 7.4).
        q = -gradient
        shares = []
        for change, step, inverse in zip(self.gradients[::-1], self.steps[::-1], self.inverse[::-1], strict=True):
            shares.append(slope(step, q) * inverse)
            q -= shares[-1] * change
        q *= self.scale
        for change, step, inverse, share in zip(self.gradients, self.steps, self.inverse, shares[::-1], strict=True):
            q += step * (share - slope(change, q) * inverse)
        return q

    def _remember(self, change: Any, step: Any) -> None:
        curvature = slope(change, step)
        if curvature <= LEAST_CURVATURE:
            return
        for kept, new in ((self.gradients, change), (self.steps, step), (self.inverse, 1 / curvature)):
            kept.append(new)
            del kept[: -self.size]
        self.scale = curvature / slope(change, change)


def _largest(array: Any) -> float:
    return float(np.max(np.abs(array))) if array.size else 0.0
