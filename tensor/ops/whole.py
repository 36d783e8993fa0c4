"""Functions that hand arrays to code which knows only NumPy's own kind, seen as one call by arrays of other kinds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from tensor.autograd.batched import Batched

__all__ = ["whole"]

F = TypeVar("F", bound=Callable[..., Any])


def whole(function: F) -> F:
    """The function, offered to arrays with a protocol of their own as NumPy's functions are (NEP 18).

    An array that records or defers what is done with it need not follow what the function does inside. The samples of a `vmap` are
    the function's own business.
    """

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        for x in _flat(args):
            kind = type(x)
            if kind is not np.ndarray and kind is not Batched and hasattr(kind, "__array_function__"):
                result = x.__array_function__(call, (kind,), args, {})
                if result is not NotImplemented:
                    return result
        return function(*args)

    return call  # type: ignore[return-value]


def _flat(args: Any) -> Iterator[Any]:
    for x in args:
        if type(x) in (list, tuple):
            yield from x
        else:
            yield x
