"""What a live run says of itself, in memory that does not grow with it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

__all__ = ["Account", "Figures", "Latencies"]

_LEAST, _STEP = 1e-6, math.log(1.02)
_BINS = int(math.log(100.0 / _LEAST) / _STEP) + 2


class Latencies:
    """Quantiles of durations from a histogram whose bins are 2 % wide: never too low, at most 2 % too high.

    >>> latencies = Latencies()
    >>> for k in range(1, 101): latencies.add(k * 1e-3)
    >>> 0.05 <= latencies.quantile(0.5) <= 0.051, 0.099 <= latencies.quantile(0.99) <= 0.101
    (True, True)
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)
        self.count = 0
        self.highest = 0.0  #: seconds

    def add(self, seconds: float) -> None:
        """Take in a duration."""
        place = math.ceil(math.log(seconds / _LEAST) / _STEP) if seconds > _LEAST else 0
        self._counts[min(place, _BINS - 1)] += 1
        self.count += 1
        self.highest = max(self.highest, seconds)

    def merge(self, other: Latencies) -> None:
        """Take in all durations of another."""
        self._counts += other._counts
        self.count += other.count
        self.highest = max(self.highest, other.highest)

    def quantile(self, q: float) -> float:
        """Seconds that the part ``q`` of all durations does not exceed; NaN where there are none."""
        if not self.count:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self._counts), math.ceil(q * self.count)))
        return min(_LEAST * math.exp(place * _STEP), self.highest)


@dataclass
class Figures:
    """A live run, or a part of it, in numbers."""

    ticks: int = 0  #: actions given to the world
    missed: int = 0  #: ticks whose action came after the deadline, or not at all
    held: int = 0  #: of these, ticks that passed with the action before
    safe: int = 0  #: ticks with the safe action, since the sensors were stale or the action came too late
    taken_over: int = 0  #: ticks with a person's action
    latency_p50_ms: float = math.nan  #: from the tick (or the arrival of the observation) to the action
    latency_p99_ms: float = math.nan
    latency_max_ms: float = math.nan
    staleness_ms: float = math.nan  #: mean age of the policy that acted: since what it had learnt last
    learnt: int = 0  #: steps learnt from
    lost: int = 0  #: steps that the learner never saw, since it could not keep up
    backlog: int = 0  #: steps that wait for the learner
    reward: float = 0.0  #: sum of rewards, in the environment's own units
    reward_per_minute: float = math.nan
    drifts: int = 0  #: alarms: the mean reward has changed
    watchdog: int = 0  #: alarms: no action for longer than the watchdog allows

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not known is left out."""
        return {k: v for k, v in asdict(self).items() if not (isinstance(v, float) and math.isnan(v))}

    def __str__(self) -> str:
        share = 100 * self.missed / max(self.ticks, 1)
        return (
            f"reward {self.reward_per_minute:.1f}/min  latency {self.latency_p50_ms:.2f} ms, p99 {self.latency_p99_ms:.2f} ms  "
            f"missed {self.missed} ({share:.2g} %)  policy {self.staleness_ms:.0f} ms old  lost {self.lost}"
        )


class Progress(Protocol):
    """What is asked of a learner."""

    learnt: int
    lost: int

    @property
    def backlog(self) -> int:
        """Steps that wait."""
        ...


class Account:
    """Figures while they grow.

    Args:
        since: seconds of the run at which they begin.
        before: steps learnt from, steps lost and alarms until then.
    """

    def __init__(self, since: float = 0.0, before: tuple[int, int, int] = (0, 0, 0)) -> None:
        self.figures, self.latencies = Figures(), Latencies()
        self.since, self._before, self._ages = since, before, 0.0

    def tick(self, kind: str, latency: float, late: bool, age: float) -> None:
        """Count an action, by whose it was, how late it came and how old the policy was (seconds)."""
        figures = self.figures
        figures.ticks += 1
        figures.missed += late
        figures.safe += kind == "safe"
        figures.taken_over += kind == "person"
        self.latencies.add(latency)
        self._ages += age

    def held(self, ticks: int) -> None:
        """Count ticks that passed with the action before."""
        self.figures.ticks += ticks
        self.figures.missed += ticks
        self.figures.held += ticks

    def close(self, learner: Progress, seconds: float, alarms: int) -> Figures:
        """The figures as they stand, of so many seconds."""
        learnt, lost, earlier = self._before
        latencies = self.latencies
        return replace(
            self.figures,
            latency_p50_ms=latencies.quantile(0.5) * 1e3,
            latency_p99_ms=latencies.quantile(0.99) * 1e3,
            latency_max_ms=latencies.highest * 1e3,
            staleness_ms=self._ages / max(latencies.count, 1) * 1e3,
            learnt=learner.learnt - learnt,
            lost=learner.lost - lost,
            backlog=learner.backlog,
            reward_per_minute=self.figures.reward / max(seconds, 1e-9) * 60,
            watchdog=alarms - earlier,
        )
