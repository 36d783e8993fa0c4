"""What is known of one sensor at a tick: its last value, its age, whether it lives."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from envs.streams.tracking import Tracker

__all__ = ["ClockOffset", "Sensor"]

SECOND = 1_000_000_000


class ClockOffset:
    """Nanoseconds from a publisher's clock to ours: the least transit time of the last samples.

    The shortest way of a message cannot be told from an offset, so ages are too small by it. A drift is followed within
    1024 samples. Where for a second all transits are half a second longer than the least, the clock was set: a jam of
    the network is over sooner, as what had waited comes at once.

    >>> offset = ClockOffset()
    >>> [offset.update(capture, receive) for capture, receive in ((0, 105), (10, 112), (20, 130))]
    [105, 102, 102]
    """

    WINDOW = 512

    def __init__(self) -> None:
        self._before = self._now = 1 << 63
        self._count = 0
        self._slow_since: int | None = None

    def update(self, capture_time: int, receive_time: int) -> int:
        """Take one more sample's times; the offset then."""
        transit = receive_time - capture_time
        if self._count == self.WINDOW:
            self._before, self._now, self._count = self._now, 1 << 63, 0
        self._now = min(self._now, transit)
        self._count += 1
        least = min(self._before, self._now)
        if transit - least < SECOND // 2:
            self._slow_since = None
        elif self._slow_since is None:
            self._slow_since = receive_time
        elif receive_time - self._slow_since >= SECOND:
            self._before, self._now, self._count, self._slow_since = 1 << 63, transit, 1, None
            return transit
        return least


class Sensor:
    """One sensor. Alive and frequent as openpilot has it: heard within 10 expected periods; at least 90 % of its rate."""

    def __init__(self, rate: float | None, max_age: float | None) -> None:
        self.rate, self.max_age = rate, max_age
        self.value: Any = None
        self.time = -1
        self.news = 0
        self.tracker = Tracker()
        self._lost_before = 0
        self._times: deque[int] = deque(maxlen=64)

    def take(self, sample: Any, time: int) -> None:
        """A sample whose capture was at ``time`` of the aligned clock; one older than the last value only counts."""
        if self.tracker.admit(sample.epoch, sample.sequence) is None:
            return
        self._times.append(time)
        if time >= self.time:
            self.value, self.time = sample.value, time
            self.news += 1

    def age(self, tick: int) -> float:
        """Seconds since the capture; never below 0."""
        return max(tick - self.time, 0) / SECOND

    def is_fresh(self) -> bool:
        """Whether a newer value came since the last tick."""
        news, self.news = self.news, 0
        return news > 0

    def lost(self) -> int:
        """Samples lost since the last tick; below 0 where ones that were counted came late."""
        before, self._lost_before = self._lost_before, self.tracker.lost
        return self._lost_before - before

    def is_alive(self, tick: int) -> bool:
        """Heard within 10 expected periods."""
        return self.rate is None or tick - self.time < 10 * SECOND / self.rate

    def is_frequent(self) -> bool:
        """Whether the last 64 samples came at 90 % of the declared rate at least."""
        times = self._times
        span = max(times) - min(times) if len(times) > 1 else 0
        return self.rate is None or span == 0 or (len(times) - 1) * SECOND / span >= 0.9 * self.rate

    def is_stale(self, tick: int) -> bool:
        """Older than it may be."""
        return self.max_age is not None and self.age(tick) > self.max_age

    def masked(self) -> Any:
        """Zeros in the shape of the value."""
        if isinstance(self.value, dict):
            return {name: np.zeros_like(array) for name, array in self.value.items()}
        return np.zeros_like(self.value)
