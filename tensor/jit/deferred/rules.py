"""What a call will give, without running it: one rule a family of NumPy's functions.

A rule sees the arguments with real arrays, whose shapes, dtypes and strides are right but whose values may not be there yet, and
answers with an `Outcome`, or with None: run it at once. That is also the answer to a mistake, so that NumPy says what is wrong.
Dtypes are NumPy's own answer for arrays of one element, remembered by what was asked. A call that only looks at shapes (a view)
is made right away.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tensor.jit.deferred.graph import owner_of
from tensor.jit.deferred.indexing import added_at, copy_to, gathered, item, set_item, taken, writer
from tensor.jit.deferred.outcomes import (
    Args,
    Options,
    Outcome,
    arrays_in,
    blank,
    called,
    common_shape,
    copied,
    filled,
    has_arrays,
    hashable,
    new_like,
    small_result,
    ufunc_dtypes,
    untouched,
)
from tensor.jit.functions import INPLACE
from tensor.jit.traced import VIEWS

__all__ = ["outcome"]

ndarray = np.ndarray
_to_array, _to_rows = np.array, np.ascontiguousarray  # while a block is on, other functions have these names
Rule = Callable[[Any, Args, Options], Outcome | None]


def outcome(function: Any, args: Args, kwargs: Options) -> Outcome | None:
    """What a call will give; None where that depends on values, is not known, or is an error."""
    if type(function) is np.ufunc:
        return _ufunc(function, args, kwargs)
    rule = RULES.get(function)
    if rule is None:
        owner = getattr(function, "__self__", None)
        rule = _METHODS.get(function.__name__) if type(owner) is np.ufunc else None
        if rule is None:
            return None
    try:
        return rule(function, args, kwargs)
    except (ValueError, IndexError, TypeError, AttributeError, OverflowError):
        return None


# --- families -----------------------------------------------------------------------------------------------------------


def _ufunc(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    arrays = [a for a in args if type(a) is ndarray]
    try:
        if f.signature is not None:
            return _product(f, args, kwargs) if f is np.matmul else None
        if not kwargs:
            dtypes = ufunc_dtypes(f, tuple([blank(a) for a in args]), ())
            shape = common_shape(arrays)
            if len(args) != f.nin:
                return None
            outs = tuple([new_like(shape, d, arrays) for d in dtypes])
            return Outcome(outs, filled, not shape, pack=tuple if len(outs) > 1 else None)
        rest = {k: v for k, v in kwargs.items() if k not in ("out", "where")}
        dtypes = ufunc_dtypes(f, tuple([blank(a) for a in args[: f.nin]]), hashable(rest))
        out = kwargs.get("out", args[f.nin] if len(args) > f.nin else None)
        if out is None or f.nout > 1:
            if "where" in kwargs or f.nout > 1 or len(args) > f.nin:
                return None
            shape = common_shape(arrays)
            kwargs.pop("out", None)
            return Outcome((new_like(shape, dtypes[0], arrays),), filled, not shape)
        (target,) = out if type(out) is tuple else (out,)
        where = [w for w in (kwargs.get("where", True),) if w is not True]
        if type(target) is not ndarray or np.broadcast(*args[: f.nin], *where, target).shape != target.shape:
            return None
        fits = np.can_cast(dtypes[0], target.dtype, rest.get("casting", "same_kind"))
        return Outcome((), called, writes=(target,)) if fits else None
    except (ValueError, TypeError, OverflowError, AttributeError, IndexError):
        return None


def _python_operator(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    found = _ufunc(UFUNCS[f], args, kwargs)
    if found is not None:
        found.function = UFUNCS[f]
    return found


def _power(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    base, exponent = args
    kinds = [x.dtype.kind if hasattr(x, "dtype") else "i" if isinstance(x, int) else "f" for x in args]
    if kinds[0] in "biu" and kinds[1] in "iu" and not (type(exponent) is int and exponent >= 0):
        return None  # negative ones are an error
    found = _ufunc(np.power, args, kwargs)
    if found is not None:
        if type(base) is ndarray and base.dtype.kind == "b":
            return None
        found.into = copied
    return found


def _in_place(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    target = args[0]
    if type(target) is not ndarray or f is operator.imatmul:
        return None
    dtype = ufunc_dtypes(UFUNCS[f], tuple([blank(a) for a in args]), ())[0]
    shape = common_shape([target, *arrays_in(args[1])])
    if shape != target.shape or not np.can_cast(dtype, target.dtype, "same_kind"):
        return None
    if f is operator.ipow and target.dtype.kind in "biu":
        return None
    return Outcome((), called, writes=(target,))


def _viewed(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    """A view, or a copy where NumPy cannot help it."""
    if len(list(arrays_in((args, kwargs)))) > 1:
        return None
    source = args[0]
    result = f(*args, **kwargs)
    if type(result) is not ndarray:
        return None
    if owner_of(result) is owner_of(source):
        return Outcome(view=result)
    return Outcome((result,), copied)


def _as_array(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    """NumPy's functions that ask for no protocol, called by the library."""
    a, *rest = args
    if f is as_strided:
        return Outcome(view=f(*args, **kwargs))
    dtype = np.dtype(kwargs.get("dtype") or (rest[0] if rest else None) or a.dtype)
    if set(kwargs) - {"dtype", "copy"} or len(rest) > 1 or (a.dtype.kind == "c") > (dtype.kind == "c"):
        return None
    copies = dtype != a.dtype or (f is _to_array and kwargs.get("copy", True))
    if f is _to_rows:
        if not copies and a.flags.c_contiguous and a.ndim:
            return Outcome(view=a)
        return Outcome((np.empty(a.shape or (1,), dtype),), copied)
    return Outcome((np.empty_like(a, dtype=dtype, subok=False),), copied) if copies else Outcome(view=a)


def _views(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    """Several views of one array."""
    result = f(*args, **kwargs)
    if len(list(arrays_in((args, kwargs)))) > 1 or not isinstance(result, list | tuple):
        return None
    return Outcome(view=result) if all(owner_of(r) is owner_of(args[0]) for r in result) else None


def _like(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    if set(kwargs) - {"dtype", "order", "shape", "subok"} or has_arrays((args[1:], kwargs)):
        return None
    dtype, rest = kwargs.get("dtype"), args[1:]
    if f is np.full_like:
        rest = rest[1:]
    if len(rest) > 1 or (rest and dtype is not None):
        return None
    options = {k: v for k, v in kwargs.items() if k != "dtype"}
    out = np.empty_like(args[0], dtype=rest[0] if rest else dtype, **options)
    return Outcome((out,), untouched if f is np.empty_like else copied)


def _duplicated(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    """Copies, also into another dtype; an array that need not be copied is given back itself."""
    a = args[0]
    given = dict(kwargs)
    if f is np.ndarray.astype:
        names = ("dtype", "order", "casting", "subok", "copy")
        given = {**dict(zip(names, args[1:], strict=False)), **kwargs}
        dtype = np.dtype(given["dtype"])
        if not np.can_cast(a.dtype, dtype, given.get("casting", "unsafe")) or (a.dtype.kind == "c") > (dtype.kind == "c"):
            return None
        order: Any = given.get("order", "K")
        if not given.get("copy", True) and dtype == a.dtype and order in "KA":
            return Outcome(view=a)
        return Outcome((np.empty_like(a, dtype=dtype, order=order, subok=False),), copied)
    order = kwargs.get("order", args[1] if len(args) > 1 else "K" if f is np.copy else "C")
    out = np.empty_like(a, order=order, subok=False)
    return Outcome((out.reshape(-1) if f is np.ndarray.flatten else out,), copied) if order in "KC" else None


def _reduced(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    a, *rest = args
    if type(a) is not ndarray or not a.size or has_arrays((rest, kwargs)) or kwargs.get("out") is not None:
        return None
    rest = [tuple(r) if type(r) is list else r for r in rest]
    small = small_result(f, (((1,) * a.ndim, a.dtype),), tuple(rest), hashable(kwargs))
    if not isinstance(small, ndarray | np.generic):
        return None
    default = 0 if isinstance(getattr(f, "__self__", None), np.ufunc) else None
    axis = kwargs.get("axis", rest[0] if rest else default)
    axes = {x % a.ndim for x in (axis if isinstance(axis, tuple) else (axis,))} if axis is not None else set(range(a.ndim))
    keeps = small.ndim == a.ndim
    part = a[tuple([(slice(0, 1) if keeps else 0) if i in axes else slice(None) for i in range(a.ndim)])]
    plain = a.flags.c_contiguous or "arg" in f.__name__
    out = np.empty_like(part, dtype=small.dtype, subok=False, order="C" if plain else "K")
    return Outcome((out,), copied, scalar=isinstance(small, np.generic))


def _along(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    """Functions that keep the shape."""
    a, *rest = args
    if type(a) is not ndarray or has_arrays((rest, kwargs)) or kwargs.get("out") is not None:
        return None
    small = small_result(f, (((1,) * a.ndim, a.dtype),), tuple(rest), hashable(kwargs))
    if small.ndim != a.ndim:
        return Outcome((np.empty(a.size, small.dtype),), copied)
    order: Any = "C" if f in (np.argsort, np.ndarray.argsort) else "K"
    scalar = isinstance(small, np.generic)
    return Outcome((np.empty_like(a, dtype=small.dtype, subok=False, order=order),), copied, scalar)


def _clipped(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    names = ("a_min", "a_max", "out") if f is np.clip else ("min", "max", "out")
    given = {**dict(zip(names, args[1:], strict=False)), **kwargs}
    if given.get("out") is not None or set(given) - {*names, "min", "max"}:
        return None
    bounds = [given[k] for k in ("a_min", "min", "a_max", "max") if given.get(k) is not None]
    whole = [args[0], *bounds]
    dtypes = ufunc_dtypes(np.maximum, tuple([blank(x) for x in whole[:2]]), ())
    if any(ufunc_dtypes(np.maximum, tuple([blank(x) for x in (whole[0], b)]), ()) != dtypes for b in bounds):
        return None
    arrays = list(arrays_in(whole))
    shape = common_shape(arrays)
    return Outcome((new_like(shape, dtypes[0], arrays),), copied, scalar=not shape)


def _product(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    a, b = args
    if "out" in kwargs:
        (target,) = kwargs["out"] if type(kwargs["out"]) is tuple else (kwargs["out"],)
        found = _product(f, args, {k: v for k, v in kwargs.items() if k != "out"})
        if found is None or type(target) is not ndarray:
            return None
        fits = (found.outs[0].shape, found.outs[0].dtype) == (target.shape, target.dtype)
        return Outcome((), called, writes=(target,)) if fits else None
    if type(a) is not ndarray or type(b) is not ndarray or kwargs or not a.ndim or not b.ndim:
        return None
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        return None
    (dtype,) = {small_result(np.matmul, (((1, 1), a.dtype), ((1, 1), b.dtype)), (), ()).dtype}
    tail = b.shape[-1:] if b.ndim > 1 else ()
    head = a.shape[-2:-1] if a.ndim > 1 else ()
    if f in _DOTS and (a.ndim > 2 or b.ndim > 2):
        shape = (*a.shape[:-1], *b.shape[:-2], *tail)
        return Outcome((np.empty(shape, dtype),), copied)
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *head, *tail)
    direct = shape and (f not in _DOTS or a.dtype == b.dtype == dtype)
    return Outcome((np.empty(shape, dtype),), filled if direct else copied, scalar=not shape)


def _einsum(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    text, *operands = args
    if type(text) is not str or "..." in text or "->" not in text or set(kwargs) - {"optimize"}:
        return None
    given, _, result = text.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for letters, a in zip(given.split(","), operands, strict=True):
        if len(letters) != a.ndim:
            return None
        for letter, n in zip(letters, a.shape, strict=True):
            if sizes.setdefault(letter, n) != n:
                if 1 not in (n, sizes[letter]):
                    return None
                sizes[letter] = max(n, sizes[letter])
    if not result:
        return None
    return Outcome((np.empty([sizes[c] for c in result], np.result_type(*operands)),), copied)


def _tensordot(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    a, b, *rest = args
    axes: Any = kwargs.get("axes", rest[0] if rest else 2)
    if type(axes) is int:
        left, right = list(range(a.ndim - axes, a.ndim)), list(range(axes))
    else:
        left, right = ([x] if type(x) is int else list(x) for x in axes)
    left, right = [x % a.ndim for x in left], [x % b.ndim for x in right]
    if [a.shape[i] for i in left] != [b.shape[i] for i in right]:
        return None
    shape = [n for i, n in enumerate(a.shape) if i not in left] + [n for i, n in enumerate(b.shape) if i not in right]
    return Outcome((np.empty(shape, np.result_type(a, b)),), copied)


def _outer(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    a, b = args
    if kwargs or type(a) is not ndarray or type(b) is not ndarray:
        return None
    return Outcome((np.empty((a.size, b.size), np.multiply(a.dtype.type(1), b.dtype.type(1)).dtype),), copied)


def _joined(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    arrays, *rest = args
    axis = kwargs.get("axis", rest[0] if rest else 0)
    whole = all(type(a) is ndarray and a.flags.c_contiguous for a in arrays)
    if not whole or axis is None or set(kwargs) - {"axis"} or len(rest) > 1:
        return _moved(f, args, kwargs)
    shape = list(arrays[0].shape)
    if f is np.stack:
        if any(a.shape != arrays[0].shape for a in arrays):
            return None
        shape.insert(range(len(shape) + 1)[axis], len(arrays))
    else:
        axis = range(len(shape))[axis]
        for a in arrays[1:]:
            if a.ndim != len(shape) or any(n != m for i, (n, m) in enumerate(zip(a.shape, shape, strict=True)) if i != axis):
                return None
        shape[axis] = sum(a.shape[axis] for a in arrays)
    return Outcome((np.empty(shape, np.result_type(*{a.dtype for a in arrays})),), filled)


def _moved(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    """Functions that only move elements: done once with whatever is there, which tells shape and strides."""
    if has_arrays((args[1:], kwargs)) or kwargs.get("out") is not None:
        return None
    result = f(*args, **kwargs)
    if type(result) is not ndarray or any(owner_of(result) is owner_of(a) for a in arrays_in(args)):
        return None
    return Outcome((result,), copied)


def _where(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    if len(args) != 3 or kwargs:
        return None
    arrays = list(arrays_in(args))
    shape = common_shape(arrays)
    return Outcome((new_like(shape, np.result_type(*args[1:]), arrays),), copied)


def _square_matrices(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    """Results of one shape for all square matrices of a size: found once with the unit matrix."""
    a, *rest = args
    if a.ndim < 2 or a.shape[-1] != a.shape[-2] or has_arrays((rest, kwargs)) or not a.size:
        return None
    small = _of_unit(f, a.shape[-1], a.dtype, tuple(rest), hashable(kwargs))
    parts = small if isinstance(small, tuple) else (small,)
    outs = tuple([np.empty((*a.shape[:-2], *np.shape(r)), r.dtype) for r in parts])
    pack = (lambda parts: type(small)(*parts)) if isinstance(small, tuple) else None
    return Outcome(outs, copied, scalar=a.ndim == 2 and not np.shape(parts[0]), pack=pack)


@lru_cache(1024)
def _of_unit(f: Any, n: int, dtype: Any, args: tuple[Any, ...], options: tuple[Any, ...]) -> Any:
    return f(np.eye(n, dtype=dtype), *args, **dict(options))


def _transformed(f: Any, args: Args, kwargs: Options) -> Outcome | None:
    """Fourier transforms of one axis."""
    a, *rest = args
    given = {**dict(zip(("n", "axis", "norm"), rest, strict=False)), **kwargs}
    n, axis = given.get("n"), range(a.ndim)[given.get("axis", -1)]
    if given.get("out") is not None or set(given) - {"n", "axis", "norm"} or n == 0 or not a.size:
        return None
    inverse_real = f is np.fft.irfft
    n = (2 * (a.shape[axis] - 1) if inverse_real else a.shape[axis]) if n is None else n
    if n < 1:
        return None
    shape = (*a.shape[:axis], n // 2 + 1 if f is np.fft.rfft else n, *a.shape[axis + 1 :])
    return Outcome((np.empty(shape, small_result(f, (((2,), a.dtype),), (), ()).dtype),), copied)


UFUNCS = {
    getattr(operator, name): ufunc
    for name, ufunc in {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "floordiv": np.floor_divide,
        "mod": np.remainder, "and_": np.bitwise_and, "or_": np.bitwise_or, "xor": np.bitwise_xor, "lshift": np.left_shift,
        "rshift": np.right_shift, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
        "ne": np.not_equal, "neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert,
        "matmul": np.matmul, "iadd": np.add, "isub": np.subtract, "imul": np.multiply, "itruediv": np.true_divide,
        "ifloordiv": np.floor_divide, "imod": np.remainder, "ipow": np.power, "iand": np.bitwise_and, "ior": np.bitwise_or,
        "ixor": np.bitwise_xor, "ilshift": np.left_shift, "irshift": np.right_shift,
    }.items()
}  # fmt: skip

_array = np.ndarray
_DOTS = {np.dot, _array.dot}

_FAMILIES: list[tuple[Rule, Sequence[Any]]] = [
    (_python_operator, [f for f in UFUNCS if f not in INPLACE]),
    (_power, [operator.pow]),
    (_in_place, list(INPLACE)),
    (_viewed, [
        np.transpose, np.swapaxes, np.moveaxis, np.rollaxis, np.reshape, np.ravel, np.squeeze, np.expand_dims, np.broadcast_to,
        np.diagonal, np.flip, np.fliplr, np.flipud, np.rot90, np.atleast_1d, np.atleast_2d, np.atleast_3d, np.real, np.imag,
        np.matrix_transpose, np.linalg.diagonal, np.linalg.matrix_transpose,
        _array.transpose, _array.swapaxes, _array.reshape, _array.ravel, _array.squeeze, _array.diagonal, _array.view,
        *VIEWS.values(),
    ]),
    (_as_array, [np.asarray, _to_array, _to_rows, as_strided]),
    (_views, [np.split, np.array_split, np.hsplit, np.vsplit, np.dsplit, np.unstack]),
    (item, [operator.getitem]),
    (set_item, [operator.setitem]),
    (writer, [_array.fill, _array.sort, np.putmask]),
    (copy_to, [np.copyto]),
    (_like, [np.empty_like, np.zeros_like, np.ones_like, np.full_like]),
    (_duplicated, [np.copy, _array.copy, _array.astype, _array.flatten]),
    (_reduced, [
        np.sum, np.prod, np.max, np.min, np.amax, np.amin, np.any, np.all, np.mean, np.std, np.var, np.argmax, np.argmin,
        np.count_nonzero, np.nansum, np.median, np.ptp,
        _array.sum, _array.prod, _array.max, _array.min, _array.any, _array.all, _array.mean, _array.std, _array.var,
        _array.argmax, _array.argmin,
    ]),
    (_along, [
        np.cumsum, np.cumprod, np.sort, np.argsort, np.round, np.around, np.nan_to_num, _array.cumsum, _array.cumprod,
        _array.argsort, _array.round, _array.conj, _array.conjugate,
    ]),
    (_clipped, [np.clip, _array.clip]),
    (_product, [np.dot, _array.dot]),
    (_einsum, [np.einsum]),
    (_tensordot, [np.tensordot]),
    (_outer, [np.outer]),
    (_joined, [np.concatenate, np.stack]),
    (_moved, [
        np.hstack, np.vstack, np.dstack, np.column_stack, np.tile, np.repeat, np.roll, np.pad, np.tril, np.triu, np.diag,
        np.diagflat, _array.repeat,
    ]),
    (_where, [np.where]),
    (taken, [np.take_along_axis]),
    (gathered, [np.take, _array.take]),
    (_square_matrices, [np.linalg.det, np.linalg.slogdet]),  # others raise for some values: where they are called, as ever
    (_transformed, [np.fft.fft, np.fft.ifft, np.fft.rfft, np.fft.irfft]),
]  # fmt: skip

RULES: dict[Any, Rule] = {f: rule for rule, functions in _FAMILIES for f in functions}


#: Methods of ufuncs, which are new objects each time.
_METHODS: dict[str, Rule] = {"reduce": _reduced, "accumulate": _along, "at": added_at}
