"""Functions made of source text, and what such text calls.

Of the same text Python's compiler sees only the first, whatever its names stand for.
"""

from __future__ import annotations

import builtins
import functools
from types import CodeType, FunctionType
from typing import Any

from tensor.autograd.node import version_of
from tensor.autograd.tensor import Tensor
from tensor.jit.places import same

__all__ = ["MISS", "bump", "function", "same_value", "undo"]

#: What a run gives when it took another way than the recording: nothing has happened yet, and the function has to be run.
MISS = object()


def function(text: str, scope: dict[str, Any]) -> Any:
    """The function that ``text`` defines, or the lambda that it is, over the variables in ``scope``."""
    scope["__builtins__"] = builtins
    # A copy of the code, since CPython keeps in it what it has learnt of the variables of one function.
    return FunctionType(_code(text).replace(), scope)


@functools.lru_cache(512)
def _code(text: str) -> CodeType:
    module = compile(text, "<string>", "exec")
    return next(x for x in module.co_consts if type(x) is CodeType)


def bump(t: Tensor, by: int) -> None:
    """Tell what saved this memory that it has changed."""
    version_of(t).value += by


def same_value(a: Any, b: Any) -> bool:
    """Whether a value read is the one recorded; NaN is NaN."""
    if type(a) is list and type(b) is list:
        return len(a) == len(b) and all(map(same_value, a, b))
    return same(a, b) or (type(a) is type(b) and a != a and b != b)


def undo(*calls: tuple[Any, ...]) -> object:
    """Take changes back."""
    for call, *args in calls:
        call(*args)
    return MISS
