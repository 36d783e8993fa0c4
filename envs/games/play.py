"""Driving by hand, or by a driver of ours; the drive is recorded as a dataset."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from envs.games.driving import CentreLine
from envs.games.race import DT, Controls, Race
from envs.games.realtime import CarProcess
from envs.games.track import make_track
from envs.streams import open_stream, publish, record

__all__ = ["Drive", "play_car"]

#: Steps of the physics between two readings of the keys, and two pictures.
EVERY = 10

_drives = itertools.count()


class Drive(NamedTuple):
    """How a drive went."""

    seconds: float
    progress: float
    crashes: int
    samples: int
    out: Path | None

    def __str__(self) -> str:
        recorded = "" if self.out is None else f"; recorded {self.samples:,} samples to {self.out}"
        return f"{self.progress:.0f} m in {self.seconds:.1f} s, {self.crashes} times off the road{recorded}"


def play_car(
    *,
    track: int = 0,
    out: Path | None = None,
    driver: Literal["keyboard", "centre-line"] | Callable[[Race], Controls] = "keyboard",
    window: bool = True,
    seconds: float | None = None,
) -> Drive:
    """Drive a car in real time; what `run-agent play` does.

    Args:
        track: seed of the road.
        out: an MCAP file for all its sensors and ``controls``, which `open_stream` reads.
        driver: the arrow keys, `CentreLine`, or a function of the race, asked 20 times a second.
        window: show it; without, ``"keyboard"`` has no keys to read.
        seconds: how long (None: until the window is closed or Escape is pressed).
    """
    race = Race(make_track(track))
    name = f"memory://play-{next(_drives)}"
    with publish(name, block=True) as publisher, open_stream(f"{name}-actions") as actions, _recorder(name, out) as count:
        car = CarProcess(race, publisher, actions)
        with contextlib.ExitStack() as stack:
            car.run(seconds, _Player(car, driver, window, stack))
    return Drive(car.seconds, race.progress, car.crashes, count[0], out)


@contextlib.contextmanager
def _recorder(uri: str, out: Path | None) -> Iterator[list[int]]:
    """Writes beside the drive, and to the end of what was sent; its list holds how many samples it were."""
    count = [0]
    if out is None:
        yield count
        return
    stream = open_stream(uri, timeout=1.0)

    def write() -> None:
        count[0] = record(stream, out)

    out.parent.mkdir(parents=True, exist_ok=True)
    thread = threading.Thread(target=write, name="recorder")
    thread.start()
    try:
        yield count
    finally:
        thread.join()
        stream.close()


class _Player:
    """Called after each step of the physics: reads the driver and shows the picture, 20 times a second."""

    def __init__(self, car: CarProcess, driver: object, window: bool, stack: contextlib.ExitStack) -> None:
        self._car, self._ticks = car, 0
        self._window = self._keys = None
        if window:
            from envs.games.drawing import Keys, Window

            self._window = Window(visible=True, frames_per_second=0)  # the physics keep the time
            stack.callback(self._window.close)
            self._keys = Keys()
        if driver == "centre-line":
            driver = CentreLine(car.race.track)
        self._driver = driver if callable(driver) else None

    def __call__(self) -> bool:
        self._ticks += 1
        if self._ticks % EVERY:
            return True
        controls = Controls() if self._keys is None else self._keys.read(EVERY * DT)
        if self._driver is not None:
            controls = self._driver(self._car.race)
        self._car.drive(controls)
        if self._window is not None:
            self._window.draw(self._car.race, controls)
        return self._keys is None or not self._keys.quit
