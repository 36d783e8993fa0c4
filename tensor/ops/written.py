"""Functions whose source is put together from an operator's record, when they are first called: importing them all would take longer
than anything else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import CodeType, FunctionType
from typing import Any, NamedTuple

__all__ = ["Parameter", "parameters", "written"]


class Parameter(NamedTuple):
    """A parameter as `inspect.Parameter` has it, without the time that takes."""

    name: str
    kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
    default: Any = inspect.Parameter.empty
    annotation: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty


def parameters(function: Callable[..., Any]) -> list[Parameter]:
    """The parameters of a function; `inspect.signature` takes thirty times as long."""
    if type(function) is not FunctionType or hasattr(function, "__wrapped__"):
        return [Parameter(p.name, p.kind, p.default, p.annotation) for p in inspect.signature(function).parameters.values()]
    code, annotations = function.__code__, function.__annotations__
    count, named = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    names = code.co_varnames
    defaults = dict(zip(reversed(names[:count]), reversed(function.__defaults__ or ()), strict=False))
    defaults |= function.__kwdefaults__ or {}
    kinds = inspect.Parameter
    listed: list[tuple[str, Any]] = [(name, kinds.POSITIONAL_ONLY) for name in names[: code.co_posonlyargcount]]
    listed += [(name, kinds.POSITIONAL_OR_KEYWORD) for name in names[code.co_posonlyargcount : count]]
    if code.co_flags & inspect.CO_VARARGS:
        listed.append((names[named], kinds.VAR_POSITIONAL))
    listed += [(name, kinds.KEYWORD_ONLY) for name in names[count:named]]
    if code.co_flags & inspect.CO_VARKEYWORDS:
        listed.append((names[named + bool(code.co_flags & inspect.CO_VARARGS)], kinds.VAR_KEYWORD))
    empty = kinds.empty
    return [Parameter(name, kind, defaults.get(name, empty), annotations.get(name, empty)) for name, kind in listed]


def written(scope: dict[str, Any], source: Callable[[], Sequence[str]]) -> Any:
    """The function ``call`` of the lines that ``source()`` gives, in the namespace ``scope``, which has it under that name too.

    Until it is called it has the code of a stand-in, which then gives it its own.
    """

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found: dict[str, Any] = {}
        exec("\n".join(source()), scope, found)
        made = found["call"]
        # The code last: another thread may be calling it now.
        function.__defaults__, function.__kwdefaults__ = made.__defaults__, made.__kwdefaults__
        function.__code__ = made.__code__
        return function(*args, **kwargs)

    scope["_begin"] = begin
    function = scope["call"] = FunctionType(_STAND_IN, scope, "call")
    return function


def _stand_in(*args: Any, **kwargs: Any) -> Any:
    return _begin(args, kwargs)  # type: ignore[name-defined]  # noqa: F821  # in the namespace of the function


_STAND_IN: CodeType = _stand_in.__code__
