"""Functions made of source text; of the same text Python's compiler sees only the first, whatever its names stand for."""

from __future__ import annotations

import builtins
import functools
from types import CodeType, FunctionType
from typing import Any

__all__ = ["function"]


def function(text: str, scope: dict[str, Any]) -> Any:
    """The function that ``text`` defines, or the lambda that it is, over the variables in ``scope``."""
    scope["__builtins__"] = builtins
    # A copy of the code, since CPython keeps in it what it has learnt of the variables of one function.
    return FunctionType(_code(text).replace(), scope)


@functools.lru_cache(512)
def _code(text: str) -> CodeType:
    module = compile(text, "<string>", "exec")
    return next(x for x in module.co_consts if type(x) is CodeType)
