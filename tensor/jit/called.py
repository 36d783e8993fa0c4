"""Which code one thread runs during a block, at as little cost as each CPython offers: the means behind `tensor.jit.calls`."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable
from functools import partial
from threading import get_ident
from typing import Any, Protocol

__all__ = ["Watcher", "watcher"]

Told = Callable[[Iterable[types.CodeType]], None]


class Watcher(Protocol):
    """Tells of code that runs in the thread that made it, at the latest when it stops; of each at least once."""

    pauses: bool  #: whether it pays to look away for a while

    def look(self) -> object:
        """From now on."""

    def look_away(self) -> object:
        """Not until the next `look`."""

    def stop(self) -> None:
        """No more; everything has been told."""


class Profiled:
    """By the profiler written in C, which keeps a list of its own thread's calls: Python runs a third as fast meanwhile.

    Raises ValueError while somebody else profiles, ImportError on another Python than CPython.
    """

    pauses = True

    def __init__(self, told: Told) -> None:
        from _lsprof import Profiler

        self._told, self._profiler = told, Profiler(subcalls=False, builtins=False)
        self.look_away = self._profiler.disable  # no functions of Python's around: these would be listed
        self.look = partial(self._profiler.enable, False, False)
        self.look()

    def stop(self) -> None:
        self._profiler.disable()
        self._told([each.code for each in self._profiler.getstats()])  # type: ignore[misc]  # of C functions none are listed


class Monitored:
    """By `sys.monitoring` (PEP 669), which sees all threads: Python tells of code when it is first run, and not again.

    Raises ValueError where all of its tools are taken.
    """

    pauses = False  # Python would look through all code that runs

    def __init__(self, told: Told) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
        events, disable, me = monitoring.events, monitoring.DISABLE, get_ident()

        def started(code: types.CodeType, offset: int) -> Any:
            if get_ident() != me:
                return None  # it may yet be run by this thread
            told((code,))
            return disable

        self._monitoring, self._tool = monitoring, _free_tool(monitoring)
        for event in (events.PY_START, events.PY_RESUME):
            monitoring.register_callback(self._tool, event, started)
        self._events = events.PY_START | events.PY_RESUME
        self.look()

    def look(self) -> None:
        self._monitoring.set_events(self._tool, self._events)
        self._monitoring.restart_events()  # also those of code that was run in an earlier watch

    def look_away(self) -> None:
        self._monitoring.set_events(self._tool, 0)

    def stop(self) -> None:
        self._monitoring.set_events(self._tool, 0)
        self._monitoring.restart_events()  # whoever gets this tool next is told of everything
        self._monitoring.free_tool_id(self._tool)


def _free_tool(monitoring: Any) -> int:
    """A number that no debugger, coverage, profiler or optimizer has by custom, and nobody else now."""
    for tool in (4, 3):
        try:
            monitoring.use_tool_id(tool, "tensor.jit")
        except ValueError:
            continue
        return tool
    msg = "all tools of sys.monitoring are in use"
    raise ValueError(msg)


def watcher(told: Told) -> Watcher | None:
    """Tells of the code that runs from now on; None where there is no way that is cheap."""
    try:
        return Monitored(told) if sys.version_info >= (3, 12) else Profiled(told)
    except (ValueError, ImportError):
        return None
