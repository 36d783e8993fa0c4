"""Tensors going into a `vmap` and coming out of it, and gradients that cross its border."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tensor import cuda
from tensor.autograd.batched import Batched, Level, NotBatchable, active, deepest, loop
from tensor.autograd.modes import is_grad_enabled
from tensor.autograd.node import Node
from tensor.autograd.tensor import Tensor

__all__ = ["draws", "enter", "leave", "recover"]


class EnterBatch(Node):
    """A tensor taken apart into samples."""

    __slots__ = ("level",)

    def __init__(self, level: Level, node: Node, array: Any) -> None:
        self.setup((node,), array.shape, array.dtype)
        self.level = level

    def backward(self, g: Any) -> tuple[Any, ...]:
        return (leave(g, self.level),)


class LeaveBatch(EnterBatch):
    """Samples put together into a tensor."""

    __slots__ = ()

    def backward(self, g: Any) -> tuple[Any, ...]:
        return (enter(g, self.level),)


def enter(t: Tensor, level: Level) -> Tensor:
    """The tensor whose first dimension is the batch, as one sample of it."""
    array = Batched(t._array, level)
    inside = Tensor(array)
    inside._version = t._version
    if t._node is not None and is_grad_enabled():
        inside._node = EnterBatch(level, t._node, array)
    return inside


def leave(t: Tensor, level: Level) -> Tensor:
    """All samples of a tensor, the batch as its first dimension; one that is the same for all samples is expanded."""
    array = t._array
    if array.__class__ is not Batched or array.level is not level:
        return t.expand(level.size, *t.shape)
    outside = Tensor(array.value)
    if t._node is not None and is_grad_enabled():
        outside._node = LeaveBatch(level, t._node, array.value)
    return outside


def recover(error: Exception, cause: Exception, forward: Callable[..., Any], args: Any, view: bool = False) -> Any:
    """What a forward that failed on samples gives when it is run on each of them; the error, if no samples are involved.

    First all its arrays are given a batch axis, which is enough where samples are written into, or read from, one array. A
    ``view`` cannot be put together from those of the samples: then all of the caller's function is run sample by sample.
    """
    raws = raw_arrays(tuple(args))
    level = deepest(raws)
    if level is None:
        if isinstance(cause, (TypeError, NotImplementedError)) and cuda.any_on_device(raws):
            return cuda.on_host(forward, raws)
        raise error from cause
    try:
        return forward(*with_batch_axis(raws, level))
    except (ValueError, IndexError, TypeError, RuntimeError) as e:
        if view and isinstance(e, NotBatchable):
            raise
        return loop(forward, raws, {}, level)


def raw_arrays(x: Any) -> Any:
    """The tensors among an operator's plain arguments (an index) as their arrays."""
    if isinstance(x, Tensor):
        return x._array
    return type(x)(map(raw_arrays, x)) if type(x) is tuple or type(x) is list else x


def sample_of_tensors(x: Any, i: int, level: Level) -> Any:
    """Sample i of the tensors that are batched at this level, in nested tuples and lists; recorded, like any reading."""
    if isinstance(x, Tensor):
        return leave(x, level).select(0, i) if x._array.__class__ is Batched and x._array.level is level else x
    return type(x)(sample_of_tensors(v, i, level) for v in x) if type(x) is tuple or type(x) is list else x


def with_batch_axis(x: Any, level: Level) -> Any:
    """Arrays of this level for arrays of none."""
    if isinstance(x, np.ndarray):
        return Batched(np.repeat(x[None], level.size, axis=0), level)
    return type(x)(with_batch_axis(v, level) for v in x) if type(x) is tuple or type(x) is list else x


class _Draws:
    """A source of random numbers inside of a `vmap` with randomness="different": every draw is made for each sample."""

    def __init__(self, source: Any, level: Level) -> None:
        self._source, self._level = source, level

    def __getattr__(self, name: str) -> Callable[..., Any]:
        draw = getattr(self._source, name)
        return lambda *args, **kwargs: loop(draw, args, kwargs, self._level)


def draws(source: Any) -> Any:
    """What to draw random numbers from: the source itself, or for each sample of the `vmap` under way."""
    for level in active.levels:
        if level.randomness == "error":
            msg = "vmap: a random operation is called for all samples at once; pass randomness='different' or 'same' to vmap"
            raise RuntimeError(msg)
        if level.randomness == "different":
            source = _Draws(source, level)
    return source
