"""Padding of the last dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.record import Array, composite, operator

__all__ = ["constant_pad_nd", "pad"]


@operator({"x": lambda g, pad: g.constant_pad_nd([-p for p in pad])}, name="constant_pad_nd", onnx="Pad")
def constant_pad_nd(x: Array, pad: Sequence[int], value: float = 0) -> Array:
    """The last dimensions padded with a constant: (before, after) pairs, the last dimension first; negative numbers cut.

    >>> import tensor as T
    >>> constant_pad_nd(T.ones(2, 2), (1, 0, 0, -1), 7.0)
    tensor([[7., 1., 1.]])
    """
    lead = x.ndim - len(pad) // 2
    widths = [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    whole = [n + before + after for n, (before, after) in zip(x.shape[lead:], widths, strict=True)]
    if min(whole, default=0) < 0:
        msg = f"expected padding that leaves at least 0 elements a dimension, got {list(pad)}"
        raise RuntimeError(msg)
    r: Array = np.full_like(x, value, shape=(*x.shape[:lead], *whole), order="C")
    into = tuple(slice(max(before, 0), n - max(after, 0)) for n, (before, after) in zip(whole, widths, strict=True))
    taken = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape[lead:], widths, strict=True))
    r[(..., *into)] = x[(..., *taken)]
    return r


def _reflect(before: int, after: int, n: int) -> Array:
    inside = np.abs(np.arange(-before, n + after))
    return np.where(inside >= n, 2 * (n - 1) - inside, inside)


def _circular(before: int, after: int, n: int) -> Array:
    """What is cut is no part of the circle."""
    start, stop = max(-before, 0), n - max(-after, 0)
    return start + np.arange(-max(before, 0), stop - start + max(after, 0)) % max(stop - start, 1)


#: Where each mode reads, for a padding before and after of n elements.
_READS: dict[str, Callable[[int, int, int], Array]] = {
    "reflect": _reflect,
    "replicate": lambda before, after, n: np.arange(-before, n + after).clip(0, n - 1),
    "circular": _circular,
}


def _most(mode: str, n: int) -> int:
    """The widest padding that a mode can make of ``n`` elements."""
    return {"reflect": n - 1, "circular": n}.get(mode, np.iinfo(np.int64).max if n else 0)


@composite(method=False, name="nn.functional.pad")
def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """The last dimensions padded, (before, after) pairs with the last dimension first: "constant", "reflect", "replicate", "circular".

    >>> import tensor as T
    >>> pad(T.arange(3.0).reshape(1, 3), (2, 1), mode="reflect")
    tensor([[2., 1., 0., 1., 2., 1.]])
    """
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        msg = f"pad: expected pairs for at most {input.ndim} dimensions, got {list(pad)}"
        raise RuntimeError(msg)
    if mode == "constant":
        return constant_pad_nd(input, list(pad), 0 if value is None else value)
    if mode not in _READS:
        msg = f"pad: expected mode 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}"
        raise NotImplementedError(msg)
    if value is not None:
        msg = f"pad: expected no value for mode {mode!r}, got {value}"
        raise ValueError(msg)
    if input.ndim not in (len(pad) // 2 + 1, len(pad) // 2 + 2):
        msg = (
            f"pad: expected mode {mode!r} to pad all but the first one or two dimensions of {list(input.shape)}, got {list(pad)}"
        )
        raise NotImplementedError(msg)
    x = input
    for k in range(len(pad) // 2):
        d, before, after = x.ndim - 1 - k, pad[2 * k], pad[2 * k + 1]
        n = x.shape[d]
        if max(before, after) > _most(mode, n) or n + before + after < 0:
            msg = f"pad: expected a padding of dimension {d} that {n} elements allow with mode {mode!r}, got {before} and {after}"
            raise RuntimeError(msg)
        if before or after:
            x = x.index_select(d, Tensor(np.asarray(_READS[mode](before, after, n), like=x._array)))
    return x
