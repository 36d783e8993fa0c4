"""Whether operations are recorded: one flag a thread."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["enable_grad", "grad_mode", "is_grad_enabled", "no_grad", "set_grad_enabled"]

F = TypeVar("F", bound=Callable[..., Any])


class _GradMode(threading.local):
    enabled = True


#: Read ``grad_mode.enabled`` in hot paths; it belongs to the current thread.
grad_mode = _GradMode()


class set_grad_enabled:  # noqa: N801 - PyTorch's public name
    """Turn recording on or off: at once, for a ``with`` block, or for a decorated function.

    >>> with set_grad_enabled(False):
    ...     is_grad_enabled()
    False
    """

    __slots__ = ("_before", "_value")

    def __init__(self, mode: bool) -> None:
        self._before = grad_mode.enabled
        self._value = grad_mode.enabled = mode

    def __enter__(self) -> None:
        grad_mode.enabled = self._value

    def __exit__(self, *exc: object) -> None:
        grad_mode.enabled = self._before

    def __call__(self, fn: F) -> F:
        grad_mode.enabled = self._before  # as a decorator it acts only while the function runs
        return _decorate(fn, self._value)


class _Fixed:
    """A block with a fixed mode; may be entered again inside itself."""

    __slots__ = ("_before",)
    value: bool

    def __enter__(self) -> None:
        self._before = grad_mode.enabled
        grad_mode.enabled = self.value

    def __exit__(self, *exc: object) -> None:
        grad_mode.enabled = self._before

    def __new__(cls, fn: Any = None) -> Any:
        # `@no_grad` without parentheses decorates too.
        return object.__new__(cls) if fn is None else _decorate(fn, cls.value)

    def __call__(self, fn: F) -> F:
        return _decorate(fn, self.value)


class no_grad(_Fixed):  # noqa: N801 - PyTorch's public name
    """Record nothing: for acting, evaluation and updates. A context manager and a decorator.

    >>> import tensor as T
    >>> w = T.ones(2, requires_grad=True)
    >>> with T.no_grad():
    ...     (w * 2).requires_grad
    False
    """

    __slots__ = ()
    value = False


class enable_grad(_Fixed):  # noqa: N801 - PyTorch's public name
    """Record again, inside a `no_grad` block."""

    __slots__ = ()
    value = True


def _decorate(fn: F, value: bool) -> F:
    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before, grad_mode.enabled = grad_mode.enabled, value
        try:
            return fn(*args, **kwargs)
        finally:
            grad_mode.enabled = before

    return wrapped  # type: ignore[return-value]


def is_grad_enabled() -> bool:
    """Whether operations on tensors that require a gradient are recorded now, in this thread."""
    return grad_mode.enabled
