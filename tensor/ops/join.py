"""Joining tensors and splitting them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor.autograd.modes import is_grad_enabled
from tensor.autograd.node import Term
from tensor.autograd.tensor import Tensor
from tensor.ops.record import Array, attach, composite, operator
from tensor.ops.reduce import check_axis
from tensor.ops.shape import narrow, several

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "block_diag",
    "cat",
    "chunk",
    "column_stack",
    "concat",
    "concatenate",
    "dsplit",
    "dstack",
    "hsplit",
    "hstack",
    "row_stack",
    "split",
    "split_with_sizes",
    "stack",
    "tensor_split",
    "unbind",
    "vsplit",
    "vstack",
]


def _cat_rule(g: Tensor, tensors_shape: Sequence[tuple[int, ...]], dim: int) -> list[Tensor]:
    recorded, lead = is_grad_enabled(), (slice(None),) * (dim % max(g._array.ndim, 1))
    parts, start = [], 0
    for shape in tensors_shape:
        if shape == (0,) and g.ndim > 1:  # an empty vector joins anything
            parts.append(g.new_zeros(0))
            continue
        n = shape[dim]
        parts.append(g.narrow(dim, start, n) if recorded else Tensor(g._array[(*lead, slice(start, start + n))]))
        start += n
    return parts


def _raw_cat_rule(g: Array, tensors_shape: Sequence[tuple[int, ...]], dim: int) -> list[Any]:
    axis = dim % max(g.ndim, 1)
    lead = (slice(None),) * axis
    # BLAS may round otherwise where rows lie apart, and machine code has them side by side.
    apart = axis and g.shape[:axis].count(1) != axis
    parts, start = [], 0
    for shape in tensors_shape:
        if shape == (0,) and g.ndim > 1:
            return _cat_rule(Tensor(g), tensors_shape, dim)
        end = start + shape[dim]
        part = g[(*lead, slice(start, end))]
        parts.append(part.copy() if apart else part)
        start = end
    return parts


@operator(_cat_rule, dtype="promote", method=False, aliases=["concat", "concatenate"], onnx="Concat", raw=_raw_cat_rule)
def cat(tensors: Sequence[Array], dim: int = 0) -> Array:
    """Tensors one after another along an existing dimension."""
    if not len(tensors):
        msg = "cat: expected a non-empty sequence of tensors"
        raise RuntimeError(msg)
    try:
        return np.concatenate(tensors, dim)
    except ValueError:  # an empty vector joins anything
        return np.concatenate([x for x in tensors if x.shape != (0,)] or tensors, dim)


concat = concatenate = cat


def _taken_rule(g: Tensor, x_shape: tuple[int, ...], rows: Any) -> Tensor:
    return g.new_zeros(x_shape).index_add(0, Tensor(np.asarray(rows, np.intp)), g)


def _raw_taken_rule(g: Array, x_shape: tuple[int, ...], rows: Any) -> Term:
    return Term(_added, (x_shape, rows, g), 0)


@operator({"x": _taken_rule}, method=False, raw={"x": _raw_taken_rule})
def take_rows(x: Array, rows: Any) -> Array:
    """The rows of these numbers."""
    return x.take(rows, 0) if x.__class__ is np.ndarray else x[rows]


def _appended_rule(g: Tensor, x_shape: tuple[int, ...], rows_shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    n = x_shape[0]
    return g.narrow(0, 0, n), g.narrow(0, n, rows_shape[0])


def _raw_appended_rule(g: Array, x_shape: tuple[int, ...], rows_shape: tuple[int, ...]) -> tuple[Term, Array]:
    # What is taken from x as well is added to this part of g, which nobody else reads: one array serves a whole chain of appends.
    return Term(_added, (x_shape, None, g[: x_shape[0]]), 0), g[x_shape[0] :]


@operator(_appended_rule, method=False, raw=_raw_appended_rule)
def append_rows(x: Array, rows: Array, memory: Any = None) -> Array:
    """x and more rows below; x stays where it is if it is the beginning of ``memory``, of which the caller uses no more than that."""
    if memory is None:
        return np.concatenate([x, rows])
    n, end = len(x), len(x) + len(rows)
    memory[n:end] = rows
    return memory[:end]


def _added(parts: list[tuple[Any, Any, Array]]) -> Array:
    """The gradient of what rows were taken from, or rows appended to, from all takings."""
    total = next((g for _, rows, g in parts if rows is None), None)
    taken = [(rows, g) for _, rows, g in parts if rows is not None]
    if total is None:
        shape, _, g = parts[0]
        total = np.zeros(shape, g.dtype)
    if taken:
        rows, g = taken[0] if len(taken) == 1 else map(np.concatenate, zip(*taken, strict=True))
        met = np.zeros(len(total), bool)
        met[rows] = True
        if np.count_nonzero(met) != len(rows):
            np.add.at(total, rows, g)
        elif g.size:
            g = total.take(rows, 0) + g
            whole = _whole(g.nbytes // len(g))  # rows moved as one thing each take half the time of ``total[rows] = g``
            total.reshape(len(total), -1).view(whole).put(rows, g.reshape(len(g), -1).view(whole))
    return total


@functools.cache
def _whole(size: int) -> np.dtype[Any]:
    return np.dtype((np.void, size))


def _cat_with(self: Tensor, *rest: Any) -> Tensor:
    *others, dim = rest
    return cat([self, *others], dim)


attach(cat_with=_cat_with)


def _stack_rule(g: Tensor, tensors_shape: Sequence[tuple[int, ...]], dim: int) -> list[Tensor]:
    return [g.select(dim, i) for i in range(len(tensors_shape))]


def _raw_stack_rule(g: Array, tensors_shape: Sequence[tuple[int, ...]], dim: int) -> list[Array]:
    lead = (slice(None),) * (dim % g.ndim)
    return [g[(*lead, i, ...)] for i in range(len(tensors_shape))]


@operator(_stack_rule, dtype="promote", method=False, raw=_raw_stack_rule)
def stack(tensors: Sequence[Array], dim: int = 0) -> Array:
    """Tensors of one shape along a new dimension."""
    shapes = {tuple(x.shape) for x in tensors}
    if len(shapes) != 1:
        msg = f"stack: expected tensors of one shape, got {sorted(shapes)}"
        raise RuntimeError(msg)
    (shape,) = shapes
    d = check_axis(dim, len(shape) + 1)
    return np.concatenate([x.reshape((*shape[:d], 1, *shape[d:])) for x in tensors], d)


def _atleast(n: int, xs: tuple[Any, ...], grow: Any) -> Any:
    results = [x if x.ndim >= n else grow(x) for x in several(xs)]
    return results[0] if len(xs) == 1 and isinstance(xs[0], Tensor) else tuple(results)


@composite(method=False)
def atleast_1d(*tensors: Any) -> Any:
    """With at least one dimension."""
    return _atleast(1, tensors, lambda x: x.reshape(1))


@composite(method=False)
def atleast_2d(*tensors: Any) -> Any:
    """With at least two dimensions: a vector becomes a row."""
    return _atleast(2, tensors, lambda x: x.reshape(1, -1))


@composite(method=False)
def atleast_3d(*tensors: Any) -> Any:
    """With at least three dimensions."""
    return _atleast(3, tensors, lambda x: x.reshape(1, -1, 1) if x.ndim < 2 else x.unsqueeze(-1))


@composite(method=False)
def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along dimension 1 (0 for vectors)."""
    xs = atleast_1d(list(tensors))
    return cat(xs, 0 if xs[0].ndim == 1 else 1)


@composite(method=False, aliases=["row_stack"])
def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along dimension 0, vectors as rows."""
    return cat(atleast_2d(list(tensors)), 0)


row_stack = vstack


@composite(method=False)
def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along dimension 2."""
    return cat(atleast_3d(list(tensors)), 2)


@composite(method=False)
def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along dimension 1, vectors as columns."""
    return hstack([x.reshape(-1, 1) if x.ndim < 2 else x for x in tensors])


@composite(method=False)
def block_diag(*tensors: Any) -> Tensor:
    """The matrix with the given ones (of at most two dimensions) along its diagonal, zeros elsewhere.

    >>> import tensor as T
    >>> T.block_diag(T.tensor([[1, 2]]), T.tensor(3))
    tensor([[1, 2, 0],
            [0, 0, 3]])
    """
    blocks = [x.reshape(1, -1) if x.ndim < 2 else x for x in several(tensors)]
    if not blocks:
        msg = "block_diag: expected at least one tensor"
        raise RuntimeError(msg)
    for x in blocks:
        if x.ndim > 2:
            msg = f"block_diag: expected tensors of at most 2 dimensions, got shape {list(x.shape)}"
            raise RuntimeError(msg)
    width, start, rows = sum(x.shape[1] for x in blocks), 0, []
    for x in blocks:
        rows.append(x.pad_back((x.shape[0], width), 1, start))
        start += x.shape[1]
    return cat(rows, 0)


@composite()
def split_with_sizes(x: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of the given lengths along ``dim``."""
    if sum(split_sizes) != x.shape[dim]:
        msg = f"split: sizes {list(split_sizes)} add up to {sum(split_sizes)}, expected {x.shape[dim]} along dimension {dim}"
        raise RuntimeError(msg)
    starts = np.cumsum([0, *split_sizes])
    return tuple([narrow(x, dim, int(s), n) for s, n in zip(starts, split_sizes, strict=False)])


@composite()
def split(x: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of one length (the last may be shorter), or of the lengths given."""
    size = split_size_or_sections
    if not isinstance(size, int):
        return split_with_sizes(x, size, dim)
    total = x._array.shape[dim]
    return tuple([narrow(x, dim, s, min(size, total - s)) for s in range(0, max(total, 1), size)])


@composite()
def chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` views of equal length (the last may be shorter)."""
    if chunks < 1:
        msg = f"chunk: expected at least one chunk, got {chunks}"
        raise RuntimeError(msg)
    return split(x, max(-(-x._array.shape[dim] // chunks), 1), dim)


@composite()
def tensor_split(x: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views cut at the given indices, or as nearly equal parts."""
    where, n = indices_or_sections, x.shape[dim]
    if isinstance(where, Tensor):
        where = where.tolist()
    if isinstance(where, int):
        base, more = divmod(n, where)
        where = list(np.cumsum([base + 1] * more + [base] * (where - more)))[:-1]
    cuts = [0, *(min(max(int(i) + (n if i < 0 else 0), 0), n) for i in where), n]
    return tuple(narrow(x, dim, a, max(b - a, 0)) for a, b in itertools.pairwise(cuts))


@composite()
def hsplit(x: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """`tensor_split` along dimension 1 (0 for vectors)."""
    return tensor_split(x, indices_or_sections, 0 if x.ndim == 1 else 1)


@composite()
def vsplit(x: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """`tensor_split` along dimension 0."""
    return tensor_split(x, indices_or_sections, 0)


@composite()
def dsplit(x: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """`tensor_split` along dimension 2."""
    return tensor_split(x, indices_or_sections, 2)


@composite()
def unbind(x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """A view for each index along ``dim``."""
    n, d = x.shape[dim], check_axis(dim, x.ndim)
    return tuple([x[(*[slice(None)] * d, i)] for i in range(n)] if d else [x[i] for i in range(n)])
