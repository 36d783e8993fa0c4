"""The raw array of `vmap`: an array whose first axis is the batch, and which looks like one sample of it.

A `Batched` takes the seat of a NumPy array inside a Tensor. Its ``shape`` and ``ndim`` are those of a sample, so operators and
the tape never see the batch; NumPy's protocols (NEP 13 and NEP 18) bring every function here, and `tensor.autograd.batch_rules`
says how it acts on all samples at once. A function without a rule is run sample by sample. What cannot be known for all samples
at once, such as ``if x > 0``, raises `NotBatchable`, and `vmap` then runs the caller's function once a sample.

Levels nest: the ``value`` of an inner level's array may be an outer level's array.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from tensor.autograd.node import next_number

__all__ = [
    "Batched",
    "Level",
    "NotBatchable",
    "PerSample",
    "active",
    "align",
    "deepest",
    "everywhere",
    "loop",
    "sample",
    "stack_samples",
]


class NotBatchable(TypeError, AttributeError):
    """This cannot be done for all samples at once; it can be done one by one."""


class Level:
    """One `vmap` under way: the size of its batch, its depth, and the number of the first node that can be inside it."""

    __slots__ = ("depth", "randomness", "since", "size")

    def __init__(self, size: int, depth: int, randomness: str) -> None:
        self.size, self.depth, self.randomness = size, depth, randomness
        self.since = next_number()


class _Active(threading.local):
    """The levels under way in this thread, the innermost last."""

    def __init__(self) -> None:
        self.levels: list[Level] = []


active = _Active()
#: The levels under way in any thread.
everywhere: list[Level] = []


class PerSample(tuple[int, ...]):
    """The shape of a sample. It equals only shapes of the same levels, which is how the engine notices a gradient from inside."""

    levels: tuple[Level, ...]

    def __eq__(self, other: object) -> bool:
        return type(other) is PerSample and self.levels == other.levels and tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__


#: Methods of arrays that are the NumPy function of that name.
_METHODS = frozenset({
    "all", "any", "argmax", "argmin", "argsort", "clip", "cumprod", "cumsum", "diagonal", "dot", "max", "mean", "min", "prod",
    "ravel", "repeat", "round", "squeeze", "std", "sum", "swapaxes", "take", "trace", "var", "copy",
})  # fmt: skip


class Batched(NDArrayOperatorsMixin):
    """``value[i]`` is sample i."""

    __slots__ = ("__weakref__", "level", "value")

    def __init__(self, value: Any, level: Level) -> None:
        self.value, self.level = value, level

    # --- what a sample looks like ------------------------------------------------------------------------------------

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels this array has a batch axis of, the innermost first."""
        inner = self.value
        return (self.level, *inner.levels) if inner.__class__ is Batched else (self.level,)

    @property
    def shape(self) -> PerSample:
        shape = PerSample(self.value.shape[1:])
        shape.levels = self.levels
        return shape

    @property
    def ndim(self) -> int:
        return int(self.value.ndim) - 1

    @property
    def size(self) -> int:
        return int(np.prod(self.value.shape[1:], dtype=np.int64))

    @property
    def dtype(self) -> Any:
        return self.value.dtype

    @property
    def itemsize(self) -> int:
        return int(self.value.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(self.value.strides[1:])

    @property
    def flags(self) -> Any:
        return self.value.flags

    @property
    def base(self) -> Any:
        """The array that owns the memory, whatever lies between."""
        root = self.value.value if self.value.__class__ is Batched else self.value
        while getattr(root, "base", None) is not None:
            root = root.base
        return root

    @property
    def T(self) -> Any:
        return self.transpose()

    @property
    def real(self) -> Any:
        return Batched(self.value.real, self.level)

    @property
    def imag(self) -> Any:
        return Batched(self.value.imag, self.level)

    # --- methods of arrays -------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name in _METHODS:
            function = getattr(np, name)
            return lambda *args, **kwargs: function(self, *args, **kwargs)
        msg = f"vmap: an array of samples has no {name!r}"
        raise NotBatchable(msg)

    def reshape(self, *shape: Any, **options: Any) -> Any:
        return np.reshape(self, shape[0] if len(shape) == 1 else shape, **options)

    def transpose(self, *axes: Any) -> Any:
        return np.transpose(self, (axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes) or None)

    def astype(self, dtype: Any, order: Any = "K", casting: Any = "unsafe", subok: bool = True, copy: bool = True) -> Any:
        value: Any = self.value.astype(dtype, copy=copy)
        return self if value is self.value else Batched(value, self.level)

    def flatten(self) -> Any:
        return np.ravel(self).copy()

    def conj(self) -> Any:
        return Batched(self.value.conj(), self.level)

    conjugate = conj

    def fill(self, value: Any) -> None:
        self[...] = value

    def view(self, dtype: Any = None) -> Any:
        if dtype is None or np.dtype(dtype).itemsize == self.itemsize or self.ndim:
            return Batched(self.value.view() if dtype is None else self.value.view(dtype), self.level)
        msg = "vmap: a 0-d sample cannot be viewed as a dtype of another size"
        raise NotBatchable(msg)

    def __len__(self) -> int:
        return int(self.value.shape[1])

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def _unknown(self, *args: Any, **kwargs: Any) -> Any:
        msg = "vmap: the value is another one for each sample"
        raise NotBatchable(msg)

    __bool__ = __int__ = __float__ = __complex__ = __index__ = __array__ = __contains__ = item = tolist = nonzero = _unknown

    def __repr__(self) -> str:
        return f"Batched({self.value!r})"

    # --- indexing ----------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        from tensor.autograd import batch_index

        return batch_index.read(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        from tensor.autograd import batch_index

        batch_index.write(self, index, value)

    # --- NumPy's protocols -------------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from tensor.autograd import batch_rules

        return batch_rules.run_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from tensor.autograd import batch_rules

        if deepest(args, kwargs) is None:  # this array was only the `like=` of one to be made
            return function(*args, **kwargs, like=self.value)
        return batch_rules.run_function(function, args, kwargs)


# --- helpers of the rules -----------------------------------------------------------------------------------------------


def deepest(*trees: Any) -> Level | None:
    """The innermost level of the batched arrays in nested tuples, lists and dicts."""
    found: Level | None = None
    for x in trees:
        level = x.level if x.__class__ is Batched else None
        if isinstance(x, (list, tuple)):
            level = deepest(*x)
        elif isinstance(x, dict):
            level = deepest(*x.values())
        if level is not None and (found is None or level.depth > found.depth):
            found = level
    return found


def align(x: Any, ndim: int, level: Level) -> Any:
    """An operand of a broadcasting function: the batch axis, then as many axes as all operands' samples have."""
    if x.__class__ is not Batched or x.level is not level:
        return x
    gap = ndim - x.ndim
    return x.value[(slice(None),) + (None,) * gap] if gap > 0 else x.value


def sample(x: Any, i: int, level: Level) -> Any:
    """Sample i of whatever is batched at this level, in nested tuples, lists and dicts."""
    if x.__class__ is Batched:
        return x.value[i, ...] if x.level is level else x
    if type(x) is tuple or type(x) is list:
        return type(x)(sample(v, i, level) for v in x)
    return {k: sample(v, i, level) for k, v in x.items()} if type(x) is dict else x


def stack_samples(results: list[Any], level: Level) -> Any:
    """The results of all samples as one; tuples of results become tuples."""
    first = results[0]
    if first is None:
        return None
    if isinstance(first, (tuple, list)):
        parts = [stack_samples(list(r), level) for r in zip(*results, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    if len({np.shape(r) for r in results}) > 1:
        msg = f"vmap: the samples give results of different shapes, {np.shape(first)} and others"
        raise NotBatchable(msg)
    return Batched(np.stack([r if r.__class__ is Batched else np.asarray(r) for r in results]), level)


def loop(function: Callable[..., Any], args: Any, kwargs: Any, level: Level) -> Any:
    """What has no rule: run the function sample by sample. A sample is a view, so writes into it are kept."""
    results = [function(*sample(args, i, level), **sample(kwargs, i, level)) for i in range(level.size)]
    return stack_samples(results, level)
