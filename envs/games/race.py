"""A car on a track: physics at 200 Hz, sensors each at its rate, and who judges the drive.

One clock drives both the environment (`envs.games.car`) and the process in real time (`envs.games.realtime`).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.games.sensors import Camera, Lidar
from envs.games.track import Place, Track
from envs.games.vehicle import Vehicle

__all__ = ["DT", "RATES", "Controls", "Race"]

#: Seconds of a step of the physics.
DT = 1 / 200
#: Samples a second of each sensor.
RATES = {"imu": 200, "wheel_speed": 100, "lidar": 20, "race": 20, "controls": 20, "camera": 10}


class Controls(NamedTuple):
    """What a driver does: ``steering`` from -1 (right) to 1 (left), ``throttle`` and ``brake`` from 0 to 1."""

    steering: float = 0.0
    throttle: float = 0.0
    brake: float = 0.0

    @classmethod
    def of(cls, action: Any) -> Controls:
        """Of ``[steering, throttle, brake]``, or ``[steering, pedal]`` whose pedal brakes below 0; clipped to their ranges.

        Raises:
            ValueError: another number of values, or one that is not finite.

        >>> Controls.of([0.5, -2.0])
        Controls(steering=0.5, throttle=0.0, brake=1.0)
        """
        values = np.asarray(action, np.float64).ravel().tolist()
        if len(values) not in (2, 3) or not all(map(math.isfinite, values)):
            message = f"car: expected [steering, throttle, brake] or [steering, pedal], finite, got {values}"
            raise ValueError(message)
        steering, throttle, *rest = values
        brake = rest[0] if rest else -throttle
        return cls(min(max(steering, -1.0), 1.0), min(max(throttle, 0.0), 1.0), min(max(brake, 0.0), 1.0))


class Race:
    """One car on one track.

    >>> from envs.games.track import make_track
    >>> race = Race(make_track(0))
    >>> for _ in range(200):  # one second
    ...     race.step(Controls(throttle=1.0))
    >>> 2 < race.progress < 4, race.off_road
    (True, False)
    """

    def __init__(self, track: Track) -> None:
        self.track, self.vehicle = track, Vehicle()
        self._lidar, self._camera = Lidar(track), Camera(track)
        self.start(0)

    def start(self, index: int, speed: float = 0.0, offset: float = 0.0, yaw: float = 0.0) -> None:
        """Begin anew at a point of the centre line, ``offset`` metres to the left and turned by ``yaw`` radians."""
        self._put(index, speed, offset, yaw)
        self.progress = self.time = 0.0
        self._since = 0

    def put_back(self) -> None:
        """On the middle of the road, at rest, where it left; the progress stays."""
        self._put(self.place.index, 0.0, 0.0, 0.0)

    def _put(self, index: int, speed: float, offset: float, yaw: float) -> None:
        track = self.track
        x, y = (track.centre[index] + offset * track.left[index]).tolist()
        along = track.tangent[index]
        self.vehicle.place(x, y, math.atan2(along[1], along[0]) + yaw, speed)
        self.place = track.locate(x, y, index)

    def step(self, controls: Controls) -> None:
        """One step of the physics, `DT` seconds. The place on the road is found anew 20 times a second."""
        self.vehicle.step(*controls, DT)
        self.time += DT
        self._since += 1
        if self._since == 10:
            self._since = 0
            self.locate()

    def locate(self) -> None:
        """Find the place on the road; `progress` follows it, in metres along the road since the start."""
        before = self.place.along
        self.place = self.track.locate(self.vehicle.x, self.vehicle.y, self.place.index)
        moved = self.place.along - before
        length = self.track.length
        self.progress += (moved + length / 2) % length - length / 2

    @property
    def off_road(self) -> bool:
        """Whether the car's middle is beyond an edge."""
        return abs(self.place.offset) > self.track.half_width

    def imu(self) -> NDArray[np.float32]:
        """``[3]``: acceleration ahead and to the left (m/s2), yaw rate (rad/s, positive to the left)."""
        car = self.vehicle
        return np.array([car.ahead_acceleration, car.left_acceleration, car.yaw_rate], np.float32)

    def wheel_speed(self) -> NDArray[np.float32]:
        """``[4]`` m/s: front left, front right, rear left, rear right."""
        return np.array(self.vehicle.wheel_speeds(), np.float32)

    def lidar(self) -> NDArray[np.float32]:
        """``[19]`` metres to the edge of the road, from 90 degrees left to 90 degrees right."""
        car = self.vehicle
        return self._lidar.scan(car.x, car.y, car.heading, self.place.index)

    def camera(self) -> NDArray[np.uint8]:
        """``[48, 64, 3]`` of what is ahead."""
        car = self.vehicle
        return self._camera.picture(car.x, car.y, car.heading)

    def race(self) -> dict[str, Any]:
        """What a judge sees; `docs/worlds.md` lists it."""
        return {
            "progress": self.progress,
            "lap": int(self.progress // self.track.length),
            "offset": self.place.offset,
            "speed": self.vehicle.forward,
        }

    def get_state(self) -> dict[str, Any]:
        """All that the next steps depend on, as plain data."""
        place = self.place
        return {
            "track": self.track.seed,
            "vehicle": self.vehicle.state,
            "place": [place.index, place.along, place.offset, place.heading],
            "progress": self.progress,
            "time": self.time,
            "since": self._since,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from there, on the same track."""
        self.vehicle.state = state["vehicle"]
        self.place = Place(*state["place"])
        self.progress, self.time, self._since = state["progress"], state["time"], state["since"]
