"""How long one thread may keep the interpreter from another one that wants it: several parts of a program may have a say."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["short_turns"]

_lock = threading.Lock()
_wanted: list[float] = []
_before = 0.0


@contextmanager
def short_turns(seconds: float) -> Iterator[None]:
    """Let threads take turns at least as often as this, while the block runs.

    `sys.setswitchinterval` is one setting for the whole process: of blocks that overlap, in whatever threads, the shortest turn
    counts, and the last one to end puts back what was set before the first.

    >>> import sys
    >>> before = sys.getswitchinterval()
    >>> with short_turns(1e-4):
    ...     print(sys.getswitchinterval() <= 1e-4)
    True
    >>> sys.getswitchinterval() == before
    True
    """
    global _before
    with _lock:
        if not _wanted:
            _before = sys.getswitchinterval()
        _wanted.append(seconds)
        _set()
    try:
        yield
    finally:
        with _lock:
            _wanted.remove(seconds)
            _set()


def _set() -> None:
    sys.setswitchinterval(min(_before, *_wanted) if _wanted else _before)
