"""Muon."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.optim.flat import Flat, Run
from tensor.optim.flat_optimizer import FlatOptimizer
from tensor.optim.passes import average

__all__ = ["Muon"]


def _original(rows: int, columns: int) -> float:
    return sqrt(max(1.0, rows / columns))


def _match_rms_adamw(rows: int, columns: int) -> float:
    return 0.2 * sqrt(max(rows, columns))


#: What "lr" is multiplied by for a matrix of a shape, by "adjust_lr_fn".
ADJUST = {None: _original, "original": _original, "match_rms_adamw": _match_rms_adamw}


def orthogonalize(matrix: Any, coefficients: tuple[float, float, float], steps: int, eps: float) -> Any:
    """A matrix with about the same singular vectors, and singular values near 1, by Newton-Schulz iterations.

    Each step maps the singular values by ``a * s + b * s**3 + c * s**5``, on the smaller side's Gram matrix.
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / max(float(np.sqrt(np.sum(x * x))), eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x


class Muon(FlatOptimizer):
    """Momentum made orthogonal, for the matrices of a network's hidden layers (Jordan et al., 2024; arXiv 2502.16982).

    Every parameter is a matrix; others (biases, embeddings, ...) belong to another optimizer, such as `AdamW`. The rate is
    ``lr * sqrt(max(1, rows / columns))``, or with ``adjust_lr_fn="match_rms_adamw"`` ``lr * 0.2 * sqrt(max(rows, columns))``, so
    that AdamW's rate and weight decay can be kept. Computes in the parameters' own dtype, where PyTorch rounds the matrices
    to bfloat16. Raises ValueError for parameters that are no matrices, 100 ``ns_steps`` or more, and unknown ``adjust_lr_fn``.

    >>> import tensor as T
    >>> w = T.eye(2).requires_grad_()
    >>> optimizer = Muon([w], lr=0.1, weight_decay=0.0)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> (w.detach() - w.detach().T).abs().max().item()
    0.0
    """

    lr: float = 1e-3
    weight_decay: float = 0.1
    momentum: float = 0.95
    nesterov: bool = True
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315)
    eps: float = 1e-7
    ns_steps: int = 5
    adjust_lr_fn: str | None = None

    counts = False

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        if options["adjust_lr_fn"] not in ADJUST:
            msg = f"Muon: expected adjust_lr_fn to be one of {', '.join(map(repr, ADJUST))}, got {options['adjust_lr_fn']!r}"
            raise ValueError(msg)
        if options["ns_steps"] >= 100:
            msg = f"Muon: expected ns_steps < 100, got {options['ns_steps']}"
            raise ValueError(msg)
        if len(options["ns_coefficients"]) != 3:
            msg = f"Muon: expected 3 ns_coefficients, got {len(options['ns_coefficients'])}"
            raise ValueError(msg)

    def _check_param(self, p: Any, i: int) -> None:
        super()._check_param(p, i)
        if isinstance(p, Tensor) and (p.ndim != 2 or p.is_complex()):
            msg = f"Muon: expected real matrices, got parameter {i} of shape {list(p.shape)} and dtype {p.dtype}"
            raise ValueError(msg)

    def moment_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",)

    def update(self, run: Run, group: dict[str, Any], step: Any, flat: Flat) -> None:
        g, t, (buffer,) = run.grad, run.scratch, run.rows
        lr, momentum = group["lr"], group["momentum"]
        average(buffer, g, momentum, t)
        if group["nesterov"]:
            np.multiply(g, 1 - momentum, g)
            np.multiply(buffer, momentum, t)
            np.add(g, t, g)
        else:
            g[...] = buffer
        adjust = ADJUST[group["adjust_lr_fn"]]
        for matrix in flat.pieces(run, g):
            direction = orthogonalize(matrix, group["ns_coefficients"], group["ns_steps"], group["eps"])
            np.multiply(direction, lr * adjust(*matrix.shape), matrix)
        np.multiply(run.data, 1 - lr * group["weight_decay"], run.data)
        np.subtract(run.data, g, run.data)
