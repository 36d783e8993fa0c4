"""Steps that are told what to achieve, after the intentional updates of arXiv 2604.19033, as functions of tensors.

The paper's, as its abstract states it: first say what an update is to achieve, then solve for the step size that about achieves
it, as normalised least mean squares (NLMS) does for a linear function. For values it is that the temporal-difference error,
against the target of that moment, shrinks by a fixed part; for a policy, that it changes by a bounded amount, so that the local
divergence stays small.

Ours, since little more than that was read: the form with eligibility traces, both guards of the step size, what the change of a
policy is measured by, and the default values, which come from a few runs of CartPole-v1. The paper also scales each parameter
by a step size of its own; this does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensor as T
from agents.state import pack
from rlcore.types import State
from tensor import Tensor

__all__ = ["PolicyIntent", "intentional"]

#: What of a running mean is kept at each step.
_KEPT = 0.999


def intentional(
    parameters: Sequence[Tensor],
    traces: Sequence[Tensor],
    gradients: Sequence[Tensor],
    change: Tensor,
    decay: Tensor,
    usual: Tensor | None = None,
) -> None:
    """Add the gradients to the decayed traces, and move the parameters along them until the output has changed by ``change``.

    To first order that is ``e <- decay e + g``, ``w <- w + change / (g . e) e``: for a linear function exactly. Where the
    traces point away from the gradient (``|g . e|`` below ``g . g``), the step is the one that would do along the gradient
    itself, and the output changes by less. It never changes by more, whatever the size of the sample.

    Args:
        parameters: what is learnt, changed in place.
        traces: one for each parameter, of its shape, changed in place.
        gradients: of the output (a value, a log probability), one for each parameter.
        change: by how much the output is to change, a scalar.
        decay: discount times lambda; 0 where the traces begin anew, a scalar.
        usual: the running mean of ``g . g``, a scalar that is brought up to date in place; the step divides by no less. A policy
            needs it: where an action is almost certain its gradient vanishes, and unbounded steps would make it certain for ever.

    >>> w, e, g = T.tensor([0.0, 0.0]), T.tensor([0.0, 0.0]), T.tensor([3.0, 4.0])
    >>> intentional([w], [e], [g], T.tensor(0.5), T.tensor(0.0))
    >>> (w * g).sum()
    tensor(0.5000)
    """
    influences, squares = [], []
    for e, g in zip(traces, gradients, strict=True):
        e.mul_(decay).add_(g)
        influences.append((g * e).sum())
        squares.append((g * g).sum())
    square = sum(squares[1:], squares[0])
    divisor = T.maximum(sum(influences[1:], influences[0]).abs(), square)
    with T.no_grad():
        if usual is not None:
            usual.mul_(_KEPT).add_(square * (1 - _KEPT))
            divisor = T.maximum(divisor, usual)
        step = change / divisor.clamp(min=1e-8)
        for p, e in zip(parameters, traces, strict=True):
            p.add_(step * e)


class PolicyIntent:
    """By how much a policy is to change: in proportion to the error, in units of its usual size, up to a bound.

    >>> intent = PolicyIntent()
    >>> [round(intent.change(T.tensor(delta), 0.1).item(), 3) for delta in (-2.0, 0.02)]
    [-0.1, 0.032]
    """

    def __init__(self) -> None:
        self._square = T.zeros(())
        #: The running mean of the squared gradient, for `intentional`.
        self.usual = T.zeros(())

    @property
    def tensors(self) -> list[Tensor]:
        """All that a step writes."""
        return [self._square, self.usual]

    def change(self, delta: Tensor, most: float) -> Tensor:
        """The change of the log probability of the action taken: of the sign of the error ``delta``, and at most ``most``."""
        self._square.mul_(_KEPT).add_(delta * delta * (1 - _KEPT))
        return delta / T.maximum(delta.abs(), self._square.sqrt()).clamp(min=1e-8) * most

    def state_dict(self) -> State:
        """Everything, exactly."""
        return {"means": pack(self.tensors)}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave, in place."""
        for mine, kept in zip(self.tensors, state["means"], strict=True):
            mine.copy_(T.from_numpy(kept))
