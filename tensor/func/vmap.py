"""`vmap`: a function of one sample, run on a whole batch at once.

The tensors that go in hold `Batched` arrays; what comes out is unwrapped. Both steps are recorded, each the other's gradient, so
`vmap` may stand inside of a differentiated function and around a `grad`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tensor.autograd.batched import Level, NotBatchable, active, everywhere
from tensor.autograd.samples import enter, leave
from tensor.autograd.tensor import Tensor
from tensor.func.trees import leaves_of, prefix_leaves, rebuild
from tensor.ops.join import cat, stack
from tensor.ops.random import get_rng_state, set_rng_state

__all__ = ["vmap"]


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """The function that maps ``func`` over a dimension of its inputs, all samples at once.

    ``in_dims``: the dimension of each input that is the batch, None for an input that all samples share; an int for all, or a
    tree like the arguments. ``out_dims``: where the batch goes in the outputs. ``randomness``: "error", "different" or "same"
    numbers for the samples. ``chunk_size``: how many samples at once. The arguments, and the results, are tensors in nested
    tuples, lists and dicts. A function that looks at values (``if x > 0``) is run once a sample.

    >>> import tensor as T
    >>> xs = T.arange(6.0).reshape(3, 2)
    >>> vmap(T.dot)(xs, xs)
    tensor([ 1., 13., 41.])
    >>> per_sample = vmap(T.func.grad(lambda w, x: (w * x).sum() ** 2), in_dims=(None, 0))
    >>> per_sample(T.ones(2), xs)
    tensor([[ 0.,  2.],
            [20., 30.],
            [72., 90.]])

    Raises ValueError for inputs without, or with unlike, batch dimensions.
    """
    if randomness not in ("error", "different", "same"):
        msg = f"vmap: expected randomness 'error', 'different' or 'same', got {randomness!r}"
        raise ValueError(msg)
    if chunk_size is not None and chunk_size <= 0:
        msg = f"vmap: expected chunk_size to be None or positive, got {chunk_size}"
        raise ValueError(msg)

    @functools.wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        given = (args, kwargs)
        dims = _batch_dims(in_dims, args) + [0 if isinstance(x, Tensor) else None for x in leaves_of(kwargs)]
        leaves = leaves_of(given)
        size = _batch_size(leaves, dims)
        fronts = [x if d is None or d == 0 else x.movedim(d, 0) for x, d in zip(leaves, dims, strict=True)]
        step = chunk_size or max(size, 1)
        parts = []
        for start in range(0, max(size, 1), step):
            stop = min(start + step, size)
            whole = start == 0 and stop == size
            chunk = [x if d is None or whole else x[start:stop] for x, d in zip(fronts, dims, strict=True)]
            parts.append(_run(func, rebuild(given, iter(_boxes(chunk, dims))), stop - start, randomness))
        return _put_batch_dims(parts, out_dims)

    return mapped


class _Box:
    """An argument with a batch as its first dimension; the others are passed as they are."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _boxes(leaves: list[Any], dims: list[Any]) -> list[Any]:
    return [x if d is None else _Box(x) for x, d in zip(leaves, dims, strict=True)]


def _batch_dims(in_dims: Any, args: tuple[Any, ...]) -> list[Any]:
    if isinstance(in_dims, int):
        return [in_dims if isinstance(x, Tensor) else None for x in leaves_of(args)]
    return prefix_leaves(tuple(in_dims) if isinstance(in_dims, list) else in_dims, args, "vmap: in_dims")


def _batch_size(leaves: list[Any], dims: list[Any]) -> int:
    sizes = set()
    for x, d in zip(leaves, dims, strict=True):
        if d is None:
            continue
        if not isinstance(x, Tensor):
            msg = f"vmap: in_dims gives dimension {d} for an input that is no tensor but {type(x).__name__}"
            raise ValueError(msg)
        if not -x.ndim <= d < x.ndim:
            msg = f"vmap: in_dims gives dimension {d} for a tensor of shape {tuple(x.shape)}"
            raise ValueError(msg)
        sizes.add(x.shape[d])
    if len(sizes) != 1:
        found = f"sizes {sorted(sizes)}" if sizes else "no input to map over"
        msg = f"vmap: expected inputs with one batch size, got {found}"
        raise ValueError(msg)
    return int(sizes.pop())


def _run(func: Callable[..., Any], given: Any, size: int, randomness: str) -> Any:
    """The results for one chunk, the batch first."""
    state = get_rng_state()
    level = Level(size, len(active.levels), randomness)
    active.levels.append(level)
    everywhere.append(level)
    try:
        args, kwargs = _fill(given, lambda t: enter(t, level))
        out = func(*args, **kwargs)
        _check_results(out)
        return rebuild(out, iter([leave(y, level) for y in leaves_of(out)]))
    except NotBatchable:
        if not size:
            raise
    finally:
        active.levels.remove(level)
        everywhere.remove(level)
    return _run_each(func, given, size, randomness, state)


def _run_each(func: Callable[..., Any], given: Any, size: int, randomness: str, state: Any) -> Any:
    """The last resort, which always gives the right answer: one sample after the other."""
    set_rng_state(state)
    results = []
    for i in range(size):
        args, kwargs = _fill(given, lambda t, i=i: t.select(0, i))  # type: ignore[misc]
        if randomness == "same":
            set_rng_state(state)
        results.append(func(*args, **kwargs))
        _check_results(results[-1])
    columns = zip(*map(leaves_of, results), strict=True)
    return rebuild(results[0], iter([stack(list(ys), 0) for ys in columns]))


def _fill(given: Any, how: Callable[[Tensor], Tensor]) -> Any:
    return rebuild(given, iter([how(x.tensor) if isinstance(x, _Box) else x for x in leaves_of(given)]))


def _check_results(out: Any) -> None:
    for y in leaves_of(out):
        if not isinstance(y, Tensor):
            msg = f"vmap: expected the function to return tensors, got {type(y).__name__}"
            raise ValueError(msg)


def _put_batch_dims(parts: list[Any], out_dims: Any) -> Any:
    if isinstance(out_dims, list):
        out_dims = tuple(out_dims)
    dims = prefix_leaves(out_dims, parts[0], "vmap: out_dims")
    whole = parts[0]
    if len(parts) > 1:
        whole = rebuild(parts[0], iter([cat(ys, 0) for ys in zip(*map(leaves_of, parts), strict=True)]))
    placed = [y[0] if d is None else y.movedim(0, d) if d else y for y, d in zip(leaves_of(whole), dims, strict=True)]
    return rebuild(whole, iter(placed))
