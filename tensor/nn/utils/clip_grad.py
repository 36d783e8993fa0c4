"""Keeping gradients small: clipping by norm and by value. ``foreach`` is taken for PyTorch's sake; it changes nothing here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tensor.autograd.inplace import bump
from tensor.autograd.tensor import Tensor

__all__ = ["clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    given = (parameters,) if isinstance(parameters, Tensor) else parameters
    return [g for p in given if (g := p.grad) is not None]


def _norm(arrays: list[Any], norm_type: float) -> Any:
    """The norm of all elements together, as a 0-d raw array; half precision is summed in single."""
    flat = np.concatenate(arrays, axis=None) if len(arrays) > 1 else arrays[0].reshape(-1)
    if flat.dtype == np.float16:
        flat = flat.astype(np.float32)
    if norm_type == 2:
        parts = flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat
        return np.sqrt(np.dot(parts, parts))
    if norm_type == -math.inf:
        return np.min(np.abs(flat)) if flat.size else math.inf
    if norm_type == math.inf:
        return np.max(np.abs(flat)) if flat.size else 0
    if norm_type == 0:
        return np.count_nonzero(flat)
    return np.sum(np.abs(flat) ** norm_type) ** (1 / norm_type)


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all elements of the tensors as one vector, a 0-d tensor; 0 without tensors.

    Raises RuntimeError for an infinite or NaN norm with ``error_if_nonfinite``.

    >>> import tensor as T
    >>> get_total_norm([T.tensor([3.0]), T.tensor([4.0])])
    tensor(5.)
    """
    given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not given:
        return Tensor(np.zeros((), np.float32))
    arrays = [t._array for t in given]
    norm = _norm(arrays, float(norm_type))
    if error_if_nonfinite and not np.isfinite(norm):
        msg = f"get_total_norm: the norm of order {norm_type} is {float(norm)}, not finite"
        raise RuntimeError(msg)
    return Tensor(np.asarray(norm, arrays[0].real.dtype) if isinstance(norm, (np.generic, int, float)) else norm)


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scale the gradients, in place, by ``max_norm / total_norm`` where that makes them smaller."""
    _scale(_gradients(parameters), max_norm, total_norm)


def _scale(grads: list[Tensor], max_norm: float, total: Tensor) -> None:
    norm, coefficient = total._array, None
    if type(norm) is np.ndarray:
        coefficient = float(max_norm) / (norm.item() + 1e-6)
        if coefficient >= 1:  # scaling by one would cost as much as scaling
            return
    else:  # a look at the number would decide which way a recording is for, or wait for a device
        norm = np.minimum(float(max_norm) / (norm.astype(np.float64) + 1e-6), 1.0)
    for g in grads:
        array = g._array
        array *= norm.astype(array.real.dtype) if coefficient is None else coefficient
        bump(g)


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients of all parameters, in place, so that their norm together is at most ``max_norm``.

    Returns the norm before, a 0-d tensor. A NaN norm makes all gradients NaN, as in PyTorch; with
    ``error_if_nonfinite`` it (or an infinite one) raises RuntimeError.

    >>> import tensor as T
    >>> w = T.tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w / 2).sum().backward()
    >>> clip_grad_norm_([w], 1.0)
    tensor(5.)
    >>> w.grad
    tensor([0.6000, 0.8000])
    """
    grads = _gradients(parameters)
    total = get_total_norm(grads, norm_type, error_if_nonfinite)
    _scale(grads, max_norm, total)
    return total


clip_grad_norm = clip_grad_norm_  # its name before 2018


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Keep every element of the gradients in [-clip_value, clip_value], in place."""
    for g in _gradients(parameters):
        np.clip(g._array, -float(clip_value), float(clip_value), out=g._array)
        bump(g)
