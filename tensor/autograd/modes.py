"""Whether operations are recorded: one flag a thread, kept as the set of threads that do not record.

The set is empty most of the time, so the hot paths read ``not disabled or get_ident() not in disabled`` without a call.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any, TypeVar

__all__ = [
    "disabled", "enable_grad", "inference_mode", "inferring", "is_grad_enabled", "is_inference_mode_enabled", "no_grad",
    "record_gradients", "set_grad_enabled",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])

#: The threads that record nothing now.
disabled: set[int] = set()


_watched = threading.local()
_watched_threads: set[int] = set()


class _End:
    """Takes a thread that ends out of the sets: its number may be given to another thread."""

    __slots__ = ("ident",)

    def __init__(self, ident: int) -> None:
        self.ident = ident

    def __del__(self) -> None:
        disabled.discard(self.ident)
        inferring.discard(self.ident)
        _watched_threads.discard(self.ident)


def _disable(me: int) -> None:
    if me not in _watched_threads:
        _watched_threads.add(me)
        _watched.end = _End(me)
    disabled.add(me)


def is_grad_enabled() -> bool:
    """Whether operations on tensors that require a gradient are recorded now, in this thread."""
    return not disabled or get_ident() not in disabled


def record_gradients(value: bool) -> bool:
    """Set the flag of this thread; returns what it was."""
    me = get_ident()
    before = me not in disabled
    if value:
        disabled.discard(me)
    elif before:
        _disable(me)
    return before


class set_grad_enabled:
    """Turn recording on or off: at once, for a ``with`` block, or for a decorated function.

    >>> with set_grad_enabled(False):
    ...     is_grad_enabled()
    False
    """

    __slots__ = ("_before", "_value")

    def __init__(self, mode: bool) -> None:
        self._before = record_gradients(mode)
        self._value = mode

    def __enter__(self) -> None:
        record_gradients(self._value)

    def __exit__(self, *exc: object) -> None:
        record_gradients(self._before)

    def __call__(self, fn: F) -> F:
        record_gradients(self._before)  # as a decorator it acts only while the function runs
        return _decorate(fn, self._value)


class _Fixed:
    """A block with a fixed mode, and a decorator."""

    __slots__ = ("_before",)
    value: bool

    def __enter__(self) -> None:
        self._before = record_gradients(self.value)

    def __exit__(self, *exc: object) -> None:
        record_gradients(self._before)

    def __new__(cls, fn: Any = None) -> Any:
        # `@no_grad` without parentheses decorates too.
        return object.__new__(cls) if fn is None else _decorate(fn, cls.value)

    def __call__(self, fn: F) -> F:
        return _decorate(fn, self.value)


class no_grad(_Fixed):
    """Record nothing: for acting, evaluation and updates. A context manager and a decorator.

    >>> import tensor as T
    >>> w = T.ones(2, requires_grad=True)
    >>> with T.no_grad():
    ...     (w * 2).requires_grad
    False
    """

    __slots__ = ()
    value = False

    def __enter__(self) -> None:  # written out: acting enters such a block at every step
        me = get_ident()
        self._before = me not in disabled
        if self._before:
            _disable(me)

    def __exit__(self, *exc: object) -> None:
        if self._before:
            disabled.discard(get_ident())


class enable_grad(_Fixed):
    """Record again, inside a `no_grad` block."""

    __slots__ = ()
    value = True


#: The threads in an `inference_mode` block.
inferring: set[int] = set()


def is_inference_mode_enabled() -> bool:
    """Whether this thread is in an `inference_mode` block."""
    return bool(inferring) and get_ident() in inferring


def _infer(value: bool) -> None:
    (inferring.add if value else inferring.discard)(get_ident())


class inference_mode:
    """Record nothing, like `no_grad`; `is_inference_mode_enabled` tells of it. A context manager and a decorator.

    In PyTorch tensors made in such a block lack a version counter and may not be used in autograd later. Here a counter is made
    only when it is needed, so there is nothing to save, and such tensors are tensors like any others.

    >>> with inference_mode():
    ...     is_inference_mode_enabled(), is_grad_enabled()
    (True, False)
    """

    __slots__ = ("_before", "_mode")

    def __new__(cls, mode: Any = True) -> Any:
        # `@inference_mode` without parentheses decorates too.
        return object.__new__(cls) if isinstance(mode, bool) else inference_mode(True)(mode)

    def __init__(self, mode: bool = True) -> None:
        self._mode = mode
        self._before: list[tuple[bool, bool]] = []

    def __enter__(self) -> None:
        self._before.append((is_inference_mode_enabled(), is_grad_enabled()))
        _infer(self._mode)
        record_gradients(not self._mode)

    def __exit__(self, *exc: object) -> None:
        inference, grad = self._before.pop()
        _infer(inference)
        record_gradients(grad)

    def __call__(self, fn: F) -> F:
        return _wrap(fn, lambda: inference_mode(self._mode))


def _decorate(fn: F, value: bool) -> F:
    """The function run with this mode; written out, since acting may be such a function."""
    if inspect.isgeneratorfunction(fn):
        return _wrap(fn, no_grad if not value else enable_grad)

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before = record_gradients(value)
        try:
            return fn(*args, **kwargs)
        finally:
            record_gradients(before)

    return wrapped  # type: ignore[return-value]


def _wrap(fn: F, block: Callable[[], Any]) -> F:
    """The function run inside of a block; a generator is in it only while it runs, not while its caller does."""

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with block():
            return fn(*args, **kwargs)

    @functools.wraps(fn)
    def generated(*args: Any, **kwargs: Any) -> Any:
        steps = fn(*args, **kwargs)
        resume, given = steps.send, None
        while True:
            try:
                with block():
                    value = resume(given)
            except StopIteration as e:
                return e.value
            try:
                given = yield value
                resume = steps.send
            except GeneratorExit:
                with block():
                    steps.close()
                raise
            except BaseException as e:
                resume, given = steps.throw, e

    return generated if inspect.isgeneratorfunction(fn) else wrapped  # type: ignore[return-value]
