"""Samples at one rate from sensors of many rates."""

from __future__ import annotations

import heapq
import time
from collections.abc import Collection, Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from envs.streams.errors import StaleError, StreamAddressError
from envs.streams.pipeline import Pipeline
from envs.streams.sensor import SECOND, ClockOffset, Sensor
from rlcore.errors import nearest

if TYPE_CHECKING:
    from envs.streams.stream import Sample, Stream

__all__ = ["Aligned", "Moment"]


class Moment(NamedTuple):
    """All sensors at time ``t`` (nanoseconds); ``moment["cam"]`` is ``moment.values["cam"]``."""

    t: int
    values: dict[str, Any]
    age: dict[str, float]
    fresh: dict[str, bool]
    lost: dict[str, int]
    alive: dict[str, bool]
    frequency_ok: dict[str, bool]
    valid: dict[str, bool]

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return tuple.__getitem__(self, key)
        if key not in self.values:
            msg = f"no sensor {key!r}; {nearest(key, self.values)}"
            raise KeyError(msg)
        return self.values[key]


def _one(table: Any, topic: str) -> float | None:
    value = table.get(topic) if isinstance(table, Mapping) else table
    return None if value is None else float(value)


class Aligned(Pipeline[Moment]):
    """A stream at one rate: an `IterableDataset` of `Moment`, to be gone through once.

    - ``max_age``: seconds, one or by topic. ``on_stale``: ``"hold"`` the last value, ``"mask"`` it with zeros, or ``"raise"``
      `StaleError`. ``moment.valid`` says which values are neither stale nor of a dead sensor.
    - ``rates``: the sensors' declared rates by topic, for ``alive`` and ``frequency_ok``.
    - ``interpolate``: topics whose value is interpolated linearly between the samples before and after the tick (not on the wall
      clock, which does not know the one after).
    - ``clock``: ``"fast"`` and ``"log"`` order samples by capture time, so the same samples give the same moments, bit for
      bit, in whatever order they arrive within ``slack`` seconds; ``"log"`` keeps the recorded pace. ``"wall"`` ticks on this
      machine's clock with what arrived, shifting each publisher's clock by its least transit; a file is read as by ``"log"``.
    - ``offsets``: seconds to add to a topic's capture times on the log and fast clocks, by topic, where its clock is wrong;
      ``"transit"`` takes each publisher's least transit time, as the wall clock always does.
    - ``topics``: the sensors to wait for before the first moment (by default all that the stream announces).
    - ``max_gap``: seconds without any sample, or of a jump of the clock, after which ticks begin anew.

    >>> import numpy as np
    >>> from envs.streams import open_stream
    >>> arrays = {"imu": np.arange(6.0), "cam": np.array([10.0, 20.0])}
    >>> for m in open_stream(arrays, rates={"imu": 20, "cam": 5}).align(rate=10):
    ...     print(m["imu"], m["cam"], m.age["cam"], m.fresh["cam"])
    0.0 10.0 0.0 True
    2.0 10.0 0.1 False
    4.0 20.0 0.0 True
    """

    def __init__(
        self,
        stream: Stream,
        rate: float,
        *,
        max_age: Any = None,
        on_stale: Literal["hold", "mask", "raise"] = "hold",
        interpolate: Collection[str] = (),
        clock: Literal["wall", "log", "fast"] = "fast",
        rates: Mapping[str, float] | None = None,
        topics: Collection[str] | None = None,
        offsets: Mapping[str, float] | Literal["transit"] | None = None,
        slack: float = 0.1,
        max_gap: float = 10.0,
        speed: float = 1.0,
    ) -> None:
        checks = {"on_stale": (on_stale, ("hold", "mask", "raise")), "clock": (clock, ("wall", "log", "fast"))}
        for name, (given, known) in checks.items():
            if given not in known:
                msg = f"align: expected {name} to be one of {known}, got {given!r}"
                raise StreamAddressError(msg)
        if not rate > 0 or not speed > 0 or slack < 0 or not max_gap > slack:
            msg = f"align: expected rate, speed > 0 and max_gap > slack >= 0, got {rate}, {speed}, {max_gap}, {slack}"
            raise StreamAddressError(msg)
        self._walled = clock == "wall" and stream.source.live
        if self._walled and interpolate:
            msg = "align: interpolate needs the sample after the tick, which clock='wall' does not know; expected 'log' or 'fast'"
            raise StreamAddressError(msg)
        for name, by_topic in {"max_age": max_age, "rates": rates, "offsets": offsets, "interpolate": interpolate}.items():
            for topic in by_topic if isinstance(by_topic, Collection) and not isinstance(by_topic, str) else ():
                if stream.topics and topic not in stream.topics:
                    msg = f"align: {name}: no sensor {topic!r}; {nearest(topic, stream.topics)}"
                    raise StreamAddressError(msg)
        self.stream, self.on_stale, self.interpolate = stream, on_stale, frozenset(interpolate)
        self._needed = frozenset(stream.topics if topics is None else topics)
        self.period = 1 / Fraction(rate).limit_denominator(1_000_000) * SECOND
        self._max_age, self._rates, self._paced, self._speed = max_age, rates, clock != "fast", speed
        self._offsets = _Transits() if offsets == "transit" else _Fixed(offsets or {})
        self._slack, self._max_gap = round(slack * SECOND), round(max_gap * SECOND)
        self.sensors: dict[str, Sensor] = {}
        #: Ticks that began anew (gaps, clock jumps), and ticks of the wall clock that were missed.
        #: ``late``: samples that came after the slack, and were left out.
        self.reanchored = self.missed = self.late = 0
        self._heap: list[tuple[int, str, int, int, Sample]] = []
        self._start: int | None = None
        self._count = 0

    def __iter__(self) -> Iterator[Moment]:
        return self._on_wall() if self._walled else self._in_time()

    def _take(self, sample: Sample, at: int) -> None:
        sensor = self.sensors.get(sample.topic)
        if sensor is None:
            sensor = Sensor(_one(self._rates, sample.topic), _one(self._max_age, sample.topic))
            self.sensors[sample.topic] = sensor
        sensor.take(sample, at)

    def _tick(self) -> int:
        assert self._start is not None
        return self._start + int(self._count * self.period)

    def _moment(self, t: int) -> Moment:
        names = sorted(self.sensors)
        stale = {name: self.sensors[name].is_stale(t) for name in names}
        if self.on_stale == "raise" and any(stale.values()):
            late = next(name for name in names if stale[name])
            msg = f"align: {late!r} is {self.sensors[late].age(t):.3f} s old, expected at most {self.sensors[late].max_age} s"
            raise StaleError(msg)
        mask = self.on_stale == "mask"
        alive = {name: self.sensors[name].is_alive(t) for name in names}
        return Moment(
            t,
            {name: self.sensors[name].masked() if mask and stale[name] else self._value(name, t) for name in names},
            {name: self.sensors[name].age(t) for name in names},
            {name: self.sensors[name].is_fresh() for name in names},
            {name: self.sensors[name].lost() for name in names},
            alive,
            {name: self.sensors[name].is_frequent() for name in names},
            {name: alive[name] and not stale[name] for name in names},
        )

    def _value(self, name: str, t: int) -> Any:
        sensor = self.sensors[name]
        if name not in self.interpolate or sensor.time >= t:
            return sensor.value
        after = min((entry for entry in self._heap if entry[1] == name and t < entry[0] <= t + self._slack), default=None)
        if after is None or isinstance(sensor.value, dict) or sensor.value.dtype.kind != "f":
            return sensor.value
        share = (t - sensor.time) / (after[0] - sensor.time)
        return np.asarray(sensor.value + (after[4].value - sensor.value) * share, sensor.value.dtype)

    def _in_time(self) -> Iterator[Moment]:
        """By capture times: what is older than the newest by ``slack`` is settled, and its order is certain."""
        high = settled = -1
        newest: dict[str, tuple[int, int, int]] = {}
        ahead = self._slack if self.interpolate else 0
        pace = _Pace(self._speed) if self._paced else None
        for sample in self.stream:
            at = sample.capture_time + self._offsets.of(sample, sample.receive_time)
            before = newest.get(sample.topic)
            is_new = before is None or sample.epoch != before[0] or sample.sequence > before[1]
            # A sample sent later and captured earlier: the publisher's clock was set back.
            was_set = before is not None and sample.epoch == before[0] and is_new and at < before[2] - self._slack
            if is_new:
                newest[sample.topic] = sample.epoch, sample.sequence, at
            if was_set or at < high - self._max_gap:
                yield from self._emit(high, ahead, pace)
                self._settle(high)
                self._begin_anew()
                high = settled = -1
            if at <= settled:
                self.late += 1
                continue
            heapq.heappush(self._heap, (at, sample.topic, sample.epoch, sample.sequence, sample))
            if at > high:
                high = at
                settled = high - self._slack - 1
                yield from self._emit(settled - ahead, ahead, pace)
        yield from self._emit(high, ahead, pace)

    def _begin_anew(self) -> None:
        self.reanchored += 1
        self._heap.clear()
        self._start, self._count = None, 0
        for sensor in self.sensors.values():
            sensor.time = -1

    def _settle(self, until: int) -> None:
        while self._heap and self._heap[0][0] <= until:
            at, *_, sample = heapq.heappop(self._heap)
            self._take(sample, at)

    def _emit(self, limit: int, ahead: int, pace: _Pace | None) -> Iterator[Moment]:
        """The moments up to ``limit``."""
        while self._start is None and self._heap and self._heap[0][0] <= limit:
            at = self._heap[0][0]
            self._settle(at)
            if all(name in self.sensors and self.sensors[name].time >= 0 for name in self._needed):
                self._start = at
        while self._start is not None and (t := self._tick()) <= limit:
            self._settle(t)
            self._count += 1
            if self._heap and self._heap[0][0] - t > self._max_gap:  # nobody spoke: no moments of old values alone
                self._start, self._count = self._heap[0][0], 0
                self.reanchored += 1
            if pace is not None:
                pace.wait(t)
            yield self._moment(t)

    def _on_wall(self) -> Iterator[Moment]:
        """By this machine's clock: what has arrived has arrived."""
        offsets = _Transits()
        wall = time.time_ns() - time.monotonic_ns()  # a step of the system's clock must not bend the ticks
        heard = time.monotonic_ns()
        deadline = None
        while True:
            left = 0.05 if deadline is None else max(deadline - time.monotonic_ns(), 0) / SECOND
            # Sockets wait in whole milliseconds: the last one is slept through.
            sample = self.stream.poll(left - 0.001 if left > 0.001 else 0.0)
            if sample is not None:
                heard = time.monotonic_ns()
                self._take(sample, sample.capture_time + offsets.of(sample, heard + wall) - wall)
            elif left <= 0.001:
                time.sleep(left)
            now = time.monotonic_ns()
            if self.stream.timeout is not None and now - heard > self.stream.timeout * SECOND:
                return
            if deadline is None:
                if self.sensors and self._needed <= self.sensors.keys():
                    self._start, deadline = now, now
                continue
            if now >= deadline:
                yield self._moment(deadline)._replace(t=deadline + wall)
                self._count += 1
                late = int((time.monotonic_ns() - self._tick()) / self.period)
                if late > 0:
                    self.missed += late
                    self._count += late
                deadline = self._tick()


class _Fixed:
    """What is to be added to each topic's times, known beforehand."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self._shifts = {topic: round(by * SECOND) for topic, by in seconds.items()}

    def of(self, sample: Sample, receive_time: int) -> int:
        return self._shifts.get(sample.topic, 0)


class _Transits:
    """What is to be added to each publisher's times, by its least transit time."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, ClockOffset]] = {}

    def of(self, sample: Sample, receive_time: int) -> int:
        epoch, offset = self._known.get(sample.topic, (-1, None))
        if offset is None or epoch != sample.epoch:
            offset = ClockOffset()
            self._known[sample.topic] = sample.epoch, offset
        return offset.update(sample.capture_time, receive_time)


class _Pace:
    """Sleeps to the recorded clock over ``speed``; anchors anew after a gap of more than a second."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._anchor: tuple[int, float] | None = None
        self._last = 0

    def wait(self, t: int) -> None:
        now = time.monotonic()
        if self._anchor is None or not 0 <= t - self._last <= SECOND:
            self._anchor = (t, now)
        self._last = t
        due = self._anchor[1] + (t - self._anchor[0]) / SECOND / self._speed
        if due > now:
            time.sleep(due - now)
