"""Networks for learning from one sample at a time: sparsely initialised, every hidden layer normalised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import tensor as T
from tensor import nn

__all__ = ["sparse_init_", "sparse_mlp"]


def sparse_init_(linear: nn.Linear, sparsity: float) -> None:
    """Weights uniform in ±fan_in^-1/2, but zero for the part ``sparsity`` of each unit's inputs, drawn for each; no biases.

    Few units then share the inputs of a sample, so that what is learnt from one sample disturbs the others less
    (arXiv 2410.14606, section 3). Of few inputs none may be left: such a layer begins at zero, and learns all the same.

    >>> linear = nn.Linear(20, 3)
    >>> sparse_init_(linear, 0.9)
    >>> (linear.weight == 0).sum(1)
    tensor([18, 18, 18])
    """
    inputs = linear.weight.shape[1]
    zeros = math.ceil(sparsity * inputs)
    with T.no_grad():
        linear.weight.uniform_(-(inputs**-0.5), inputs**-0.5)
        for row in linear.weight:
            row[T.randperm(inputs)[:zeros]] = 0
        if linear.bias is not None:
            linear.bias.zero_()


def sparse_mlp(inputs: int, hidden: Sequence[int], outputs: int, *, sparsity: float = 0.9) -> nn.Sequential:
    """Linear layers, each hidden one normalised (without an affine map) and then leaky: ``[n, inputs]`` to ``[n, outputs]``.

    >>> sparse_mlp(4, [8], 2)
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): LayerNorm((8,), eps=1e-05, elementwise_affine=False, bias=False)
      (2): LeakyReLU(negative_slope=0.01)
      (3): Linear(in_features=8, out_features=2, bias=True)
    )
    """
    layers: list[nn.Module] = []
    for a, b in pairwise([inputs, *hidden]):
        layers += [nn.Linear(a, b), nn.LayerNorm(b, elementwise_affine=False), nn.LeakyReLU()]
    layers.append(nn.Linear(hidden[-1] if hidden else inputs, outputs))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            sparse_init_(layer, sparsity)
    return nn.Sequential(*layers)
