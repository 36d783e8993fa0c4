"""Modules as functions of their parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tensor.autograd.tensor import Tensor
from tensor.nn.utils.stateless import functional_call
from tensor.ops.join import stack

__all__ = ["functional_call", "stack_module_state"]


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters and the buffers of several modules alike, each stacked along a new first dimension, for `vmap`.

    >>> import tensor as T
    >>> nets = [T.nn.Linear(2, 3) for _ in range(4)]
    >>> parameters, buffers = stack_module_state(nets)
    >>> parameters["weight"].shape
    tensor.Size([4, 3, 2])
    """
    if not models:
        msg = "stack_module_state: expected at least one module, got none"
        raise RuntimeError(msg)
    kinds = {type(m).__name__ for m in models}
    if len(kinds) > 1:
        msg = f"stack_module_state: expected modules of one class, got {', '.join(sorted(kinds))}"
        raise RuntimeError(msg)

    def stacked(named: Callable[[Any], Any]) -> dict[str, Tensor]:
        tables = [dict(named(m)) for m in models]
        return {k: stack([t[k] for t in tables], 0).detach() for k in tables[0]}

    parameters = {k: v.requires_grad_() for k, v in stacked(lambda m: m.named_parameters()).items()}
    return parameters, stacked(lambda m: m.named_buffers())
