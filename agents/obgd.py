"""Overshooting-bounded gradient descent with eligibility traces (arXiv 2410.14606, section 3), as a function of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import tensor as T
from tensor import Tensor

__all__ = ["obgd"]


def obgd(
    parameters: Sequence[Tensor],
    traces: Sequence[Tensor],
    gradients: Sequence[Tensor],
    delta: Tensor,
    decay: Tensor,
    *,
    step_size: float,
    kappa: float,
) -> None:
    """Add the gradients to the decayed traces, and move the parameters along them: ``e <- decay e + g``, ``w <- w + a delta e``.

    The step ``a`` is ``step_size``, or less where the error could change by more than itself:
    ``a = step_size / max(1, kappa * step_size * max(|delta|, 1) * |e|_1)``. No sample can then overshoot its target, whatever its
    size, and there is no rate to be tuned.

    Args:
        parameters: what is learnt, changed in place.
        traces: one for each parameter, of its shape, changed in place.
        gradients: of what is estimated (a value, a log probability), one for each parameter.
        delta: the error, a scalar.
        decay: discount times lambda; 0 where the traces begin anew, a scalar.
        step_size: the largest step.
        kappa: how much smaller than the bound the step stays, above 1.

    >>> w, e = T.tensor([0.0]), T.tensor([0.0])
    >>> obgd([w], [e], [T.tensor([4.0])], T.tensor(0.5), T.tensor(0.0), step_size=1.0, kappa=2.0)
    >>> w, e  # 0.5 * 4 / (2 * 1 * 4)
    (tensor([0.2500]), tensor([4.]))
    """
    norms = []
    for e, g in zip(traces, gradients, strict=True):
        e.mul_(decay).add_(g)
        norms.append(e.abs().sum())
    bound = sum(norms[1:], norms[0]) * delta.abs().clamp(min=1.0) * (kappa * step_size)
    change = delta * (step_size / bound.clamp(min=1.0))
    with T.no_grad():
        for p, e in zip(parameters, traces, strict=True):
            p.add_(change * e)
