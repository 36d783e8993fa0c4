"""Modules without first values."""

from __future__ import annotations

from typing import Any, TypeVar

from tensor.nn.init import skipped
from tensor.nn.module import Module

__all__ = ["skip_init"]

M = TypeVar("M", bound=Module)


def skip_init(module_cls: type[M], *args: Any, **kwargs: Any) -> M:
    """Make a module whose parameters hold whatever the memory held: for weights that are loaded right after.

    >>> import tensor as T
    >>> skip_init(T.nn.Linear, 3, 2).load_state_dict({"weight": T.zeros(2, 3), "bias": T.zeros(2)})
    LoadResult(missing_keys=[], unexpected_keys=[])
    """
    with skipped():
        return module_cls(*args, **kwargs)
