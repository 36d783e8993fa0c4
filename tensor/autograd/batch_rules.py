"""How NumPy's functions act on all samples of a batch at once: one rule a function, or one for a family alike.

A rule gets the level, then the function's own arguments. What it does not handle it refuses with `NotBatchable`, and the function
is run sample by sample. Values are worked on with NumPy's functions again, so that an outer level's array may be one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensor.autograd.batch_index import advanced_index, at, read, refuse, value_of
from tensor.autograd.batched import Batched, Level, NotBatchable, align, deepest, loop

__all__ = ["RULES", "run_function", "run_ufunc"]

RULES: dict[Any, Callable[..., Any]] = {}

#: Functions that write into their first argument.
WRITING = frozenset({np.copyto, np.put, np.place, np.putmask, np.put_along_axis, np.fill_diagonal})


def only_first(level: Level, x: Any, *others: Any) -> Any:
    """The value of the one argument that a rule expects to be batched."""
    if not at(x, level) or deepest(*others) is level:
        refuse("a batched argument where none is expected")
    return x.value


def shifted(axis: int, ndim: int) -> int:
    """An axis of a sample as an axis of the batch."""
    if not -max(ndim, 1) <= axis < max(ndim, 1):
        raise np.exceptions.AxisError(axis, ndim)
    return axis + 1 if axis >= 0 else axis


def shifted_all(axes: Any, ndim: int) -> Any:
    return tuple(shifted(a, ndim) for a in axes) if isinstance(axes, (tuple, list)) else shifted(axes, ndim)


def run_function(function: Any, args: Any, kwargs: Any) -> Any:
    """What `Batched.__array_function__` does: the rule, or the loop."""
    level = deepest(args, kwargs)
    assert level is not None
    if function in WRITING and not at(args[0], level):
        refuse("samples cannot be written into an array without a batch axis")
    rule = RULES.get(function)
    if rule is not None:
        try:
            return rule(level, *args, **kwargs)
        except NotBatchable:
            pass
    return loop(function, args, kwargs, level)


# --- ufuncs -------------------------------------------------------------------------------------------------------------


def run_ufunc(ufunc: Any, method: str, inputs: Any, kwargs: Any) -> Any:
    """What `Batched.__array_ufunc__` does."""
    level = deepest(inputs, kwargs)
    assert level is not None
    if method == "at" and not at(inputs[0], level):
        refuse("samples cannot be added into an array without a batch axis")
    try:
        if method == "__call__":
            return _matmul(level, *inputs) if ufunc is np.matmul and not kwargs else _elementwise(level, ufunc, inputs, kwargs)
        if method in _UFUNC_METHODS:
            return _UFUNC_METHODS[method](level, ufunc, *inputs, **kwargs)
        return loop(getattr(ufunc, method), inputs, kwargs, level)
    except NotBatchable:
        if any(o is not None and not at(o, level) for o in kwargs.get("out", ())):
            refuse("samples cannot be written into an array without a batch axis")
        return loop(ufunc if method == "__call__" else getattr(ufunc, method), inputs, kwargs, level)


def _elementwise(level: Level, ufunc: Any, inputs: Any, kwargs: Any) -> Any:
    if ufunc.signature is not None:
        refuse("a function of whole vectors")
    outs = kwargs.get("out")
    if outs is not None:
        if not all(at(o, level) for o in outs):
            refuse("samples cannot be written into an array without a batch axis")
        kwargs = kwargs | {"out": tuple(o.value for o in outs)}
    ndim = max(np.ndim(x) if x.__class__ is not Batched else x.ndim for x in (*inputs, *(outs or ())))
    if "where" in kwargs:
        kwargs = kwargs | {"where": align(kwargs["where"], ndim, level)}
    result = ufunc(*[align(x, ndim, level) for x in inputs], **kwargs)
    if outs is not None:
        return outs[0] if len(outs) == 1 else outs
    return tuple(Batched(r, level) for r in result) if ufunc.nout > 1 else Batched(result, level)


def _reduce(level: Level, ufunc: Any, x: Any, axis: Any = 0, dtype: Any = None, out: Any = None, **options: Any) -> Any:
    value = only_first(level, x, options)
    if out is not None and out[0] is not None:
        options["out"] = only_first(level, out[0])
    along = tuple(range(1, value.ndim)) if axis is None else shifted_all(axis, x.ndim) if x.ndim else ()
    return Batched(ufunc.reduce(value, axis=along, dtype=dtype, **options), level)


def _accumulate(level: Level, ufunc: Any, x: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
    value = only_first(level, x, out)
    return Batched(ufunc.accumulate(value, shifted(axis, x.ndim), dtype), level)


def _at(level: Level, ufunc: Any, x: Any, index: Any, *operand: Any) -> None:
    full, rank, before = advanced_index(index, x.ndim, level)
    if rank is None or before:
        refuse("an index in the middle")
    ndim = x.value[full].ndim - 1 if operand and at(operand[0], level) else 0
    ufunc.at(x.value, full, *(align(o, ndim, level) for o in operand))


_UFUNC_METHODS: dict[str, Callable[..., Any]] = {"reduce": _reduce, "accumulate": _accumulate, "at": _at}


def _matmul(level: Level, a: Any, b: Any) -> Any:
    if not at(b, level) and a.ndim == 1 and b.ndim == 2:
        return Batched(np.matmul(a.value, b), level)  # all samples in one product
    if not at(a, level) and b.ndim == 1 and a.ndim == 2:
        return Batched(np.matmul(b.value, np.swapaxes(a, 0, 1)), level)
    if not a.ndim or not b.ndim:
        refuse("matmul of numbers")
    row, column = a.ndim == 1, b.ndim == 1
    a, b = a[None, :] if row else a, b[:, None] if column else b
    ndim = max(a.ndim, b.ndim)
    r = np.matmul(align(a, ndim, level), align(b, ndim, level))
    return Batched(r[..., 0, 0] if row and column else r[..., 0, :] if row else r[..., 0] if column else r, level)


def rule(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare the rule of these functions."""

    def declare(found: Callable[..., Any]) -> Callable[..., Any]:
        for f in functions:
            RULES[f] = found
        return found

    return declare


# --- families ------------------------------------------------------------------------------------------------------------


def reducing(function: Any) -> Callable[..., Any]:
    """``f(x, axis=None)`` where no axis means all of them."""

    def run(level: Level, x: Any, axis: Any = None, *args: Any, **options: Any) -> Any:
        if options.get("out") is None:
            options.pop("out", None)
        value = only_first(level, x, args, options)
        along = tuple(range(1, value.ndim)) if axis is None else shifted_all(axis, x.ndim) if x.ndim else ()
        return Batched(function(value, along, *args, **options), level)

    return run


def along_axis(function: Any, default: int | None) -> Callable[..., Any]:
    """``f(x, axis)`` along one axis, where no axis means the elements in a row."""

    def run(level: Level, x: Any, axis: Any = default, *args: Any, **options: Any) -> Any:
        value = only_first(level, x, args, options)
        if axis is None or not x.ndim:
            value, axis = value.reshape(level.size, -1), 0
            if options.get("keepdims") or not x.ndim:
                refuse("a number has no axis")
        return Batched(function(value, shifted(axis, max(x.ndim, 1)), *args, **options), level)

    return run


def with_argument(function: Any, default: int | None) -> Callable[..., Any]:
    """``f(x, argument, axis)``."""

    def run(level: Level, x: Any, argument: Any, axis: Any = default, **options: Any) -> Any:
        value = only_first(level, x, argument, options)
        if axis is None:
            value, axis = value.reshape(level.size, -1), 0
        elif not x.ndim:
            refuse("a number has no axis")
        return Batched(function(value, argument, axis=shifted_all(axis, max(x.ndim, 1)), **options), level)

    return run


def elementwise(function: Any) -> Callable[..., Any]:
    """A function of broadcast operands that is no ufunc."""

    def run(level: Level, *operands: Any, **options: Any) -> Any:
        if deepest(options) is level:
            refuse("a batched option")
        ndim = max(x.ndim if x.__class__ is Batched else np.ndim(x) for x in operands)
        return Batched(function(*[align(x, ndim, level) for x in operands], **options), level)

    return run


def of_matrices(function: Any) -> Callable[..., Any]:
    """A function of the last two dimensions that takes any before them."""

    def run(level: Level, x: Any, *args: Any, **options: Any) -> Any:
        value = only_first(level, x, args, options)
        if x.ndim < 2:
            refuse("expected matrices")
        result = function(value, *args, **options)
        if isinstance(result, tuple):
            return type(result)(*(Batched(r, level) for r in result))
        return Batched(result, level)

    return run


_f: Any
for _f in (np.sum, np.prod, np.max, np.min, np.mean, np.std, np.var, np.any, np.all, np.nansum, np.nanprod, np.nanmean, np.nanmax,
           np.nanmin, np.count_nonzero, np.median, np.nanmedian, np.flip, np.ptp):  # fmt: skip
    RULES[_f] = reducing(_f)
for _f, _default in ((np.argmax, None), (np.argmin, None), (np.nanargmax, None), (np.cumsum, None), (np.cumprod, None),
                     (np.sort, -1), (np.argsort, -1)):  # fmt: skip
    RULES[_f] = along_axis(_f, _default)
for _f, _default in ((np.repeat, None), (np.partition, -1), (np.argpartition, -1)):
    RULES[_f] = with_argument(_f, _default)
for _f in (np.where, np.clip, np.real, np.imag, np.angle, np.nan_to_num, np.isclose, np.sinc, np.round, np.fix, np.i0, np.isreal):
    RULES[_f] = elementwise(_f)
for _f in (np.linalg.inv, np.linalg.det, np.linalg.slogdet, np.linalg.cholesky, np.linalg.eigh, np.linalg.eigvalsh, np.linalg.svd,
           np.linalg.qr, np.linalg.pinv, np.linalg.matrix_power, np.tril, np.triu):  # fmt: skip
    RULES[_f] = of_matrices(_f)


# --- facts about arrays -----------------------------------------------------------------------------------------------


@rule(np.shape)
def _shape(level: Level, x: Any) -> Any:
    return tuple(x.shape)


@rule(np.ndim)
def _ndim(level: Level, x: Any) -> Any:
    return x.ndim


@rule(np.size)
def _size(level: Level, x: Any, axis: Any = None) -> Any:
    return x.size if axis is None else x.shape[axis]


@rule(np.result_type)
def _result_type(level: Level, *operands: Any) -> Any:
    return np.result_type(*(x.dtype if x.__class__ is Batched else x for x in operands))


@rule(np.shares_memory, np.may_share_memory)
def _shares_memory(level: Level, a: Any, b: Any, *args: Any, **options: Any) -> Any:
    return np.may_share_memory(*(x.value if x.__class__ is Batched else x for x in (a, b)))


@rule(np.iscomplexobj)
def _iscomplexobj(level: Level, x: Any) -> bool:
    return bool(x.dtype.kind == "c")


# --- making and copying -------------------------------------------------------------------------------------------------


def like(function: Any) -> Callable[..., Any]:
    """``zeros_like`` and its kin; ``shape`` is a sample's."""

    def run(level: Level, x: Any, *args: Any, shape: Any = None, **options: Any) -> Any:
        value = only_first(level, x, args, options)
        if shape is not None:
            shape = (level.size, *((shape,) if isinstance(shape, int) else shape))
        return Batched(function(value, *args, shape=shape, **options), level)

    return run


for _f in (np.zeros_like, np.ones_like, np.empty_like, np.full_like):
    RULES[_f] = like(_f)


@rule(np.copy)
def _copy(level: Level, x: Any, order: Any = "K", subok: bool = False) -> Any:
    return Batched(np.copy(x.value), level)


@rule(np.copyto)
def _copyto(level: Level, target: Any, source: Any, casting: Any = "same_kind", where: Any = True) -> None:
    source, where = align(source, target.ndim, level), align(where, target.ndim, level)
    np.copyto(target.value, source, casting=casting, where=where)


# --- shapes -------------------------------------------------------------------------------------------------------------


@rule(np.reshape)
def _reshape(level: Level, x: Any, shape: Any, order: Any = "C", **options: Any) -> Any:
    if order != "C":
        refuse("another order of the elements")
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    if -1 in shape:
        known = int(np.prod([n for n in shape if n != -1], dtype=np.int64))
        shape = tuple(x.size // max(known, 1) if n == -1 else n for n in shape)
    return Batched(np.reshape(x.value, (level.size, *shape)), level)


@rule(np.ravel)
def _ravel(level: Level, x: Any, order: Any = "C") -> Any:
    return _reshape(level, x, (x.size,), order)


@rule(np.transpose)
def _transpose(level: Level, x: Any, axes: Any = None) -> Any:
    axes = range(x.ndim)[::-1] if axes is None else [a % x.ndim for a in axes]
    return Batched(np.transpose(x.value, (0, *(a + 1 for a in axes))), level)


@rule(np.swapaxes)
def _swapaxes(level: Level, x: Any, a: int, b: int) -> Any:
    return Batched(np.swapaxes(x.value, shifted(a, x.ndim), shifted(b, x.ndim)), level)


@rule(np.moveaxis)
def _moveaxis(level: Level, x: Any, source: Any, destination: Any) -> Any:
    return Batched(np.moveaxis(x.value, shifted_all(source, x.ndim), shifted_all(destination, x.ndim)), level)


@rule(np.expand_dims)
def _expand_dims(level: Level, x: Any, axis: Any) -> Any:
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    return Batched(np.expand_dims(x.value, shifted_all(tuple(axes), x.ndim + len(axes))), level)


@rule(np.squeeze)
def _squeeze(level: Level, x: Any, axis: Any = None) -> Any:
    axis = tuple(i for i, n in enumerate(x.shape) if n == 1) if axis is None else axis
    return Batched(np.squeeze(x.value, shifted_all(axis, x.ndim)), level)


@rule(np.broadcast_to)
def _broadcast_to(level: Level, x: Any, shape: Any, subok: bool = False) -> Any:
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    return Batched(np.broadcast_to(align(x, len(shape), level), (level.size, *shape)), level)


@rule(np.concatenate)
def _concatenate(level: Level, xs: Sequence[Any], axis: Any = 0, out: Any = None, **options: Any) -> Any:
    if out is not None:
        refuse("out=")
    values = [value_of(x, level) for x in xs]
    if axis is None:
        return Batched(np.concatenate([v.reshape(level.size, -1) for v in values], 1, **options), level)
    return Batched(np.concatenate(values, shifted(axis, values[0].ndim - 1), **options), level)


@rule(np.stack)
def _stack(level: Level, xs: Sequence[Any], axis: int = 0, out: Any = None, **options: Any) -> Any:
    values = [value_of(x, level) for x in xs]
    return Batched(np.stack(values, shifted(axis, values[0].ndim), **options), level)


@rule(np.pad)
def _pad(level: Level, x: Any, width: Any, mode: Any = "constant", **options: Any) -> Any:
    value = only_first(level, x, options)
    each = np.broadcast_to(width, (x.ndim, 2)).tolist()
    return Batched(np.pad(value, [(0, 0), *each], mode, **options), level)


@rule(np.roll)
def _roll(level: Level, x: Any, shift: Any, axis: Any = None) -> Any:
    value = only_first(level, x, shift)
    if axis is None:
        return Batched(np.roll(value.reshape(level.size, -1), shift, 1).reshape(value.shape), level)
    return Batched(np.roll(value, shift, shifted_all(axis, x.ndim)), level)


@rule(np.diagonal)
def _diagonal(level: Level, x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    r = np.diagonal(x.value, offset, shifted(axis1, x.ndim), shifted(axis2, x.ndim))
    if isinstance(r, np.ndarray) and x.flags.writeable:  # NumPy's is read-only, and may be written into by our operators
        r.flags.writeable = True
    return Batched(r, level)


@rule(np.trace)
def _trace(level: Level, x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, **options: Any) -> Any:
    return Batched(np.trace(x.value, offset, shifted(axis1, x.ndim), shifted(axis2, x.ndim), **options), level)


@rule(np.lib.stride_tricks.sliding_window_view)
def _windows(level: Level, x: Any, window_shape: Any, axis: Any = None, **options: Any) -> Any:
    axes = tuple(range(x.ndim)) if axis is None else axis
    return Batched(np.lib.stride_tricks.sliding_window_view(x.value, window_shape, shifted_all(axes, x.ndim), **options), level)


# --- reading by index ---------------------------------------------------------------------------------------------------


@rule(np.take)
def _take(level: Level, x: Any, index: Any, axis: int | None = None, **options: Any) -> Any:
    if axis is None or options:
        refuse("take of elements in a row")
    if not at(index, level):
        return Batched(np.take(x.value, index, shifted(axis, x.ndim)), level)
    if at(x, level):
        return read(x, (slice(None),) * (axis % x.ndim) + (index,))
    return Batched(np.moveaxis(np.take(x, index.value, axis), axis % x.ndim, 0), level)


@rule(np.take_along_axis)
def _take_along_axis(level: Level, x: Any, index: Any, axis: int | None = -1) -> Any:
    if axis is None:
        refuse("take of elements in a row")
    return Batched(np.take_along_axis(value_of(x, level), value_of(index, level), shifted(axis, x.ndim)), level)


# --- products -----------------------------------------------------------------------------------------------------------


@rule(np.einsum)
def _einsum(level: Level, equation: Any, *operands: Any, **options: Any) -> Any:
    free = next((c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if isinstance(equation, str) and c not in equation), None)
    if free is None:
        refuse("an equation without a free letter")
    left, arrow, right = equation.replace(" ", "").partition("->")
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        right = ("..." if "..." in left else "") + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    terms = [free + t if at(x, level) else t for t, x in zip(left.split(","), operands, strict=True)]
    return Batched(np.einsum(f"{','.join(terms)}->{free}{right}", *(align(x, 0, level) for x in operands), **options), level)


@rule(np.dot)
def _dot(level: Level, a: Any, b: Any) -> Any:
    if not np.ndim(a) or not np.ndim(b):
        return a * b
    if b.ndim > 2:
        refuse("dot of more dimensions")
    return np.matmul(a, b)


@rule(np.linalg.solve)
def _solve(level: Level, a: Any, b: Any) -> Any:
    vector = b.ndim == 1
    b = b[:, None] if vector else b
    ndim = max(a.ndim, b.ndim)
    r = np.linalg.solve(align(a, ndim, level), align(b, ndim, level))
    return Batched(r[..., 0] if vector else r, level)
