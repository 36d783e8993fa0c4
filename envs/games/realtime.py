"""The car as a world of its own: it publishes sensors and takes actions, by its own clock, and waits for nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from envs.games.race import DT, RATES, Controls, Race
from envs.games.track import make_track
from envs.streams import Curve, Publisher, Stream, open_stream, publish

__all__ = ["ACTION", "HOLD", "RESET", "SAFE", "CarProcess", "run_car"]

#: Topics of the controller's side.
ACTION, RESET = "action", "reset"
#: Seconds for which the last action is held; then `SAFE` is applied.
HOLD = 0.5
SAFE = Controls(brake=0.4)

#: How many steps of the physics lie between two samples of a sensor.
_EVERY = {topic: round(1 / (DT * rate)) for topic, rate in RATES.items()}
_TICK = round(DT * 1e9)
#: Nanoseconds behind time after which the clock is set anew, rather than run after.
_LATEST = 250_000_000


class CarProcess:
    """A race that runs by this machine's clock.

    Args:
        race: the car and its track.
        publisher: gets the sensors, each at its rate (`envs.games.RATES`), and ``controls``.
        actions: gives ``action`` (see `Controls.of`) and ``reset`` (any value: back to the start).
        camera: whether to publish pictures.

    A car that leaves the road is published as ``crashed``, and put back on the middle of the road, at rest.
    """

    def __init__(self, race: Race, publisher: Publisher, actions: Stream, *, camera: bool = True) -> None:
        self.race, self.publisher, self.actions = race, publisher, actions
        self.controls, self.acted = Controls(), -1  # nanoseconds of `time.monotonic_ns`; -1: never
        self.crashes = self.reanchored = self.rejected = 0
        self._sensors: dict[str, Callable[[], Any]] = {
            "imu": race.imu,
            "wheel_speed": race.wheel_speed,
            "lidar": race.lidar,
            "race": self._judge,
            "controls": lambda: np.array(self.controls, np.float32),
        }
        if camera:
            self._sensors["camera"] = race.camera
        self._tick = 0

    def run(self, seconds: float | None = None, on_tick: Callable[[], bool] | None = None) -> None:
        """Go on for so many seconds (None: without end), or until ``on_tick``, called after each step, says False."""
        due = time.monotonic_ns()
        wall = time.time_ns() - due  # a step of the system's clock must not bend the sensors' times
        last = None if seconds is None else self._tick + round(seconds / DT)
        while last is None or self._tick < last:
            due += _TICK
            wait = due - time.monotonic_ns()
            if wait > 0:
                time.sleep(wait / 1e9)
            elif wait < -_LATEST:  # the machine slept, or somebody stopped us
                due = time.monotonic_ns()
                self.reanchored += 1
            self.step(due + wall)
            if on_tick is not None and not on_tick():
                return

    def step(self, now: int) -> None:
        """One step of the physics, and whatever sensors are due; ``now`` (ns) is when they capture."""
        self._listen()
        if self.acted < 0 or time.monotonic_ns() - self.acted > HOLD * 1e9:
            self.controls = SAFE
        race = self.race
        race.step(self.controls)
        self._tick += 1
        crashed = race.off_road
        self.crashes += crashed
        for topic, read in self._sensors.items():
            if self._tick % _EVERY[topic] == 0 or (crashed and topic == "race"):
                self.publisher.send(topic, read(), now)
        if crashed:
            race.put_back()

    @property
    def seconds(self) -> float:
        """How long it has run, by its own clock."""
        return self._tick * DT

    def drive(self, controls: Controls) -> None:
        """Take an action, as if it had come from the stream."""
        self.controls, self.acted = controls, time.monotonic_ns()

    def _listen(self) -> None:
        while (sample := self.actions.poll(0)) is not None:
            if sample.topic == RESET:
                self.race.start(0)
            elif sample.topic == ACTION:
                try:
                    self.drive(Controls.of(sample.value))
                except (ValueError, TypeError):
                    self.rejected += 1  # not a reason for a car to stop

    def _judge(self) -> dict[str, Any]:
        return {**self.race.race(), "crashed": self.race.off_road, "crashes": self.crashes}


def run_car(
    publish_to: str,
    actions_from: str,
    *,
    track: int = 0,
    camera: bool = True,
    seconds: float | None = None,
    curve: Curve | None = None,
    insecure: bool = False,
    on_start: Callable[[str], None] | None = None,
) -> CarProcess:
    """Run a car in this process until ``seconds`` are over; what `run-agent world car` does.

    Args:
        publish_to: where the sensors are published: ``zmq+tcp://127.0.0.1:5600``, port 0 for a free one.
        actions_from: where whoever drives publishes its actions; it may come, go and come back.
        track: seed of the road.
        camera: whether to publish pictures.
        seconds: how long.
        curve: keys, with ``allowed`` for those who listen and ``server``, the key of whoever publishes the actions.
        insecure: allow addresses that other machines reach, without keys.
        on_start: called with the address of the sensors, once they can be heard.

    Raises:
        StreamAddressError: an address that cannot be opened, or not safely.
    """
    given = {"curve": curve, "insecure": insecure}
    options: dict[str, Any] = {name: value for name, value in given.items() if value}  # memory:// has no such words
    with (
        publish(publish_to, **options) as publisher,
        open_stream(actions_from, topics=[ACTION, RESET], **options) as actions,
    ):
        if on_start is not None:
            on_start(publisher.uri)
        car = CarProcess(Race(make_track(track)), publisher, actions, camera=camera)
        car.run(seconds)
        return car
