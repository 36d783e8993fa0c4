"""What modules remember of the functions that run around their forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Hook"]


class Hook:
    """One registered function; compared by identity, so that the same function may be registered twice."""

    __slots__ = ("before", "function", "with_kwargs")

    def __init__(self, function: Callable[..., Any], before: bool, with_kwargs: bool) -> None:
        self.function, self.before, self.with_kwargs = function, before, with_kwargs
