"""A fixed rate: when the next tick is due, and how many were missed."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock"]


class Clock:
    """Ticks at a fixed rate, by a clock that is never set back.

    Args:
        hz: ticks a second.
        now: seconds; by default `time.perf_counter`.
        sleep: waits so many seconds.

    >>> seconds = [0.0]
    >>> def sleep(wait): seconds[0] += wait
    >>> clock = Clock(20.0, now=lambda: seconds[0], sleep=sleep)
    >>> clock.start(); clock.wait(); clock.due, seconds
    (0.05, [0.05])
    >>> seconds[0] = 0.21  # the process stood still
    >>> clock.advance(), clock.due
    (2, 0.2)
    """

    def __init__(
        self, hz: float, *, now: Callable[[], float] = time.perf_counter, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.period = 1.0 / hz
        self.now, self._sleep = now, sleep
        self.due = 0.0  #: when the tick at hand is, or was, due

    def start(self) -> None:
        """Let the first tick be due one period from now."""
        self.due = self.now() + self.period

    def wait(self, before: float = 0.0) -> None:
        """Sleep until ``before`` seconds before the tick is due; at once where that is past."""
        left = self.due - before - self.now()
        if left > 0:
            self._sleep(left)

    def advance(self) -> int:
        """Go on to the next tick that is not over yet; returns how many were passed over."""
        self.due += self.period
        late = int((self.now() - self.due) / self.period) if self.now() > self.due else 0
        self.due += late * self.period
        return late
