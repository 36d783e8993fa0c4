"""What agents do to gradients between the backward pass and the optimizer's step."""

from __future__ import annotations

from collections.abc import Sequence

from tensor import Tensor

__all__ = ["clip_norm"]


def clip_norm(parameters: Sequence[Tensor], limit: float) -> Tensor:
    """Scale all gradients down, in place, so that their norm together is at most ``limit``; returns the norm before.

    It does what `tensor.nn.utils.clip_grad_norm_` does, but looks at no value: a compiled step that branched on the norm
    would need a recording for each side.

    >>> import tensor as T
    >>> w = T.tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w / 2).sum().backward()
    >>> clip_norm([w], 1.0), w.grad
    (tensor(5.), tensor([0.6000, 0.8000]))
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    total = sum([(g * g).sum() for g in gradients[1:]], (gradients[0] * gradients[0]).sum())
    norm = total.sqrt()
    scale = (limit / (norm + 1e-6)).clamp(max=1.0)
    for g in gradients:
        g.mul_(scale)
    return norm
