"""Gradients against finite differences, to second order. A complex number counts as its two parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensor.autograd.engine import grad
from tensor.autograd.modes import enable_grad, no_grad
from tensor.autograd.tensor import Tensor

__all__ = ["gradcheck", "gradgradcheck"]


def _outputs(fn: Callable[..., Any], inputs: Sequence[Any]) -> list[Tensor]:
    out = fn(*inputs)
    given = out if isinstance(out, (tuple, list)) else (out,)
    return [y for y in given if isinstance(y, Tensor) and (y.is_floating_point() or y.is_complex())]


def _parts(array: Any) -> np.ndarray[Any, Any]:
    """All real numbers in an array, a vector; a view of a contiguous one."""
    flat: np.ndarray[Any, Any] = array.reshape(-1)
    return flat.view(flat.real.dtype)


def _numerical(fn: Callable[..., Any], inputs: Sequence[Any], x: Tensor, eps: float) -> list[np.ndarray[Any, Any]]:
    """For each output the matrix of its derivatives: a row for each real number in x."""
    flat = _parts(x._array)
    if not np.shares_memory(flat, x._array) and x._array.size:
        msg = "gradcheck: inputs must be contiguous"
        raise ValueError(msg)
    rows: list[list[np.ndarray[Any, Any]]] = []
    with no_grad():
        for i in range(flat.size):
            before = flat[i]
            flat[i] = before + eps
            above = [_parts(y._array.copy()) for y in _outputs(fn, inputs)]
            flat[i] = before - eps
            below = [_parts(y._array.copy()) for y in _outputs(fn, inputs)]
            flat[i] = before
            rows.append([(a - b) / (2 * eps) for a, b in zip(above, below, strict=True)])
    count = len(_outputs(fn, inputs))
    return [np.array([r[k] for r in rows]) for k in range(count)]


def gradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Whether the gradients of ``fn(*inputs)`` agree with central differences.

    Inputs that require grad must be float64 or complex128. Raises RuntimeError that names the input, the output and both values,
    or returns False when ``raise_exception`` is False.

    >>> import tensor as T
    >>> x = T.tensor([0.3, -1.2], dtype=T.float64, requires_grad=True)
    >>> gradcheck(lambda x: (x * x).sin(), (x,))
    True
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [(i, x) for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    for i, x in wanted:
        if x._array.dtype not in (np.float64, np.complex128):
            msg = f"gradcheck: input {i} must be float64 or complex128, got {x.dtype}"
            raise ValueError(msg)
    outputs = _outputs(fn, inputs)
    for k, y in enumerate(outputs):
        for i, x in wanted:
            seed = np.zeros_like(y._array, order="C")
            chosen = _parts(seed)
            analytical = np.zeros((_parts(x._array).size, chosen.size))
            if y.requires_grad:
                for j in range(chosen.size):
                    chosen[:] = 0
                    chosen[j] = 1
                    (g,) = grad(y, x, Tensor(seed.copy()), retain_graph=True, allow_unused=True)
                    if g is not None:
                        analytical[:, j] = _parts(np.ascontiguousarray(g._array))
            numerical = _numerical(fn, inputs, x, eps)[k].reshape(analytical.shape)
            if not np.allclose(analytical, numerical, rtol, atol):
                if not raise_exception:
                    return False
                msg = f"gradcheck: output {k} by input {i}: analytical\n{analytical}\nnumerical\n{numerical}"
                raise RuntimeError(msg)
    return True


def gradgradcheck(fn: Callable[..., Any], inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3) -> bool:
    """Whether the gradients of the gradients of ``fn(*inputs)`` agree with central differences."""
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    rng = np.random.default_rng(0)
    seeds = []
    for y in _outputs(fn, inputs):
        seed = np.empty_like(y._array, order="C")
        _parts(seed)[:] = rng.normal(size=_parts(seed).size)
        seeds.append(Tensor(seed).requires_grad_())

    def first(*args: Any) -> Any:
        n = len(seeds)
        xs, gs = args[:-n], args[-n:]
        ys = _outputs(fn, xs)
        used = [(y, g) for y, g in zip(ys, gs, strict=True) if y.requires_grad]
        grads = grad([y for y, _ in used], [xs[i] for i in wanted], [g for _, g in used], create_graph=True, allow_unused=True)
        return tuple(g for g in grads if g is not None)

    def recorded(*args: Any) -> Any:
        with enable_grad():
            return first(*args)

    return gradcheck(recorded, (*inputs, *seeds), eps=eps, atol=atol, rtol=rtol)
