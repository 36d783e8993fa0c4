"""Multilayer perceptrons, initialised as reinforcement learning wants them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from rlcore.errors import UnknownNameError
from tensor import nn

__all__ = ["ACTIVATIONS", "mlp"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    *,
    activation: str = "tanh",
    output_gain: float | None = None,
) -> nn.Sequential:
    """Linear layers with an activation between them: ``[n, inputs]`` to ``[n, outputs]``.

    With ``output_gain`` all weights are orthogonal (gain sqrt 2, and ``output_gain`` for the last layer) and biases zero, as
    policy-gradient methods want it; without, layers keep their usual initialisation.

    >>> mlp(4, [8], 2)
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): Tanh()
      (2): Linear(in_features=8, out_features=2, bias=True)
    )
    """
    if activation not in ACTIVATIONS:
        raise UnknownNameError("activation", activation, ACTIVATIONS)  # noqa: EM101
    sizes = [inputs, *hidden, outputs]
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        linear = nn.Linear(a, b)
        if output_gain is not None:
            nn.init.orthogonal_(linear.weight, output_gain if last else math.sqrt(2))
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)
