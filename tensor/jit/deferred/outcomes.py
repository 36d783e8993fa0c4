"""What a deferred call will give, and what rules find it out with: shapes, strides, and dtypes as NumPy tells them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = [
    "Args", "Options", "Outcome", "arrays_in", "blank", "called", "common_shape", "copied", "filled", "has_arrays", "hashable",
    "new_like", "small_result", "ufunc_dtypes", "untouched",
]  # fmt: skip

ndarray = np.ndarray
#: Answers of NumPy that are remembered, for each kind of question.
_REMEMBERED = 4096
Args = tuple[Any, ...]
Options = dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """``view``: the result, which exists already. Else new arrays ``outs`` and ``into``, how the call fills them; or, without
    ``outs``, arrays ``writes`` that the call changes."""

    outs: tuple[Any, ...] = ()
    into: Callable[..., Callable[[], Any]] | None = None  #: (function, args, kwargs, outs) -> what runs it
    scalar: bool = False  #: NumPy gives a scalar
    view: Any = None
    writes: tuple[Any, ...] = ()
    pack: Any = None  #: makes what is returned of several results
    function: Any = None  #: what to call instead


# --- how results are filled ---------------------------------------------------------------------------------------------


def filled(function: Any, args: Args, kwargs: Options, outs: Args) -> Callable[[], Any]:
    """By a function with an argument ``out``."""
    given = {**kwargs, "out": outs[0] if len(outs) == 1 else outs}
    return lambda: function(*args, **given)


def copied(function: Any, args: Args, kwargs: Options, outs: Args) -> Callable[[], Any]:
    """By copying what a function gives."""

    def fill() -> None:
        result = function(*args, **kwargs)
        for out, r in zip(outs, (result,) if len(outs) == 1 else result, strict=True):
            np.copyto(out, r, "unsafe")

    return fill


def untouched(function: Any, args: Args, kwargs: Options, outs: Args) -> Callable[[], Any]:
    """Not at all: any contents will do."""
    return lambda: None


def called(function: Any, args: Args, kwargs: Options, outs: Args) -> Callable[[], Any]:
    """A call that writes into its arguments."""
    return lambda: function(*args, **kwargs)


# --- shapes, dtypes and strides -----------------------------------------------------------------------------------------


def arrays_in(x: Any) -> Iterator[Any]:
    """The arrays among nested arguments."""
    if isinstance(x, ndarray):
        yield x
    elif type(x) in (tuple, list):
        for v in x:
            yield from arrays_in(v)
    elif type(x) is dict:
        yield from arrays_in(list(x.values()))
    elif type(x) is slice:
        yield from arrays_in((x.start, x.stop, x.step))


def has_arrays(x: Any) -> bool:
    """Whether there is an array among nested arguments."""
    return next(arrays_in(x), None) is not None


def blank(x: Any) -> Any:
    """An argument as far as it decides dtypes: hashable, and made an argument again by `_sample`."""
    kind = type(x)
    if kind is ndarray:
        return x.dtype
    if kind is float or kind is complex:
        return kind
    if kind is int:
        return x if not 0 <= x < 128 else int  # larger ones may not fit
    return kind if issubclass(kind, np.generic) else (kind, x)


def _sample(x: Any) -> Any:
    if isinstance(x, np.dtype):
        return np.ones((), x)
    return x(1) if isinstance(x, type) else x if type(x) is int else x[1]


@lru_cache(_REMEMBERED)
def ufunc_dtypes(function: Any, blanks: tuple[Any, ...], options: tuple[Any, ...]) -> tuple[Any, ...]:
    with np.errstate(all="ignore"):
        result = function(*map(_sample, blanks), **dict(options))
    return tuple(r.dtype for r in result) if type(result) is tuple else (result.dtype,)


@lru_cache(_REMEMBERED)
def small_result(function: Any, shapes: tuple[Any, ...], args: tuple[Any, ...], options: tuple[Any, ...]) -> Any:
    """What a function gives for arrays of ones: ``shapes`` has (shape, dtype) of the first ones."""
    with np.errstate(all="ignore"):
        return function(*(np.ones(*s) for s in shapes), *args, **dict(options))


def hashable(kwargs: Options) -> tuple[Any, ...]:
    return tuple(kwargs.items())


def common_shape(arrays: Sequence[Any]) -> tuple[int, ...]:
    """The shape that they broadcast to."""
    shape: tuple[int, ...] = arrays[0].shape
    for a in arrays:
        if a.shape != shape:
            return np.broadcast(*arrays).shape if len(arrays) < 32 else np.broadcast_shapes(*(a.shape for a in arrays))
    return shape


def new_like(shape: tuple[int, ...], dtype: Any, arrays: Sequence[Any]) -> Any:
    """Memory for a result, element for element, in the order that NumPy would choose."""
    for a in arrays:
        if not a.flags.c_contiguous:
            break
    else:
        return np.empty(shape, dtype)
    if len(arrays) == 1:
        return np.empty_like(arrays[0], dtype=dtype, subok=False)
    flags: Any = [["readonly"]] * len(arrays) + [["writeonly", "allocate"]]
    types: Any = [None] * len(arrays) + [dtype]
    return np.nditer([*arrays, None], ["zerosize_ok"], flags, types).operands[-1]
