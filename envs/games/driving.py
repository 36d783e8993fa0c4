"""A driver that knows the road: what a learner is measured against."""

from __future__ import annotations

import math

import numpy as np

from envs.games.race import Controls, Race
from envs.games.track import Track

__all__ = ["CentreLine"]


class CentreLine:
    """Follows the middle of the road by pure pursuit, as fast as its bends allow.

    Coulter, *Implementation of the Pure Pursuit Path Tracking Algorithm*, CMU-RI-TR-92-01, 1992. The speed at each
    point is what the bends ahead leave: ``grip`` m/s2 to the side, ``braking`` m/s2 before them, ``most`` m/s at all.

    >>> from envs.games import Race, make_track
    >>> race = Race(make_track(0))
    >>> driver = CentreLine(race.track)
    >>> for _ in range(2000):  # ten seconds
    ...     race.step(driver(race))
    >>> race.progress > 100, abs(race.place.offset) < 2
    (True, True)
    """

    def __init__(self, track: Track, *, grip: float = 6.0, braking: float = 4.0, most: float = 30.0) -> None:
        self._points = track.centre.tolist()
        self._spacing = track.spacing
        speed = np.minimum(np.sqrt(grip / np.maximum(np.abs(track.curvature), 1e-9)), most)
        for _ in range(2):  # twice around, backwards: the last point knows of the first
            for i in range(len(speed) - 1, -1, -1):
                speed[i] = min(speed[i], math.sqrt(speed[(i + 1) % len(speed)] ** 2 + 2 * braking * self._spacing))
        self._speed = speed.tolist()

    def __call__(self, race: Race) -> Controls:
        """What to do now."""
        car, index = race.vehicle, race.place.index
        reach = 4.0 + 0.3 * car.forward
        x, y = self._points[(index + round(reach / self._spacing)) % len(self._points)]
        angle = math.atan2(y - car.y, x - car.x) - car.heading
        wheel = math.atan2(2 * (car.body.front + car.body.rear) * math.sin(angle), reach)
        wanted = self._speed[(index + round(0.1 * car.forward / self._spacing)) % len(self._speed)]
        pedal = 0.35 * (wanted - car.forward)
        return Controls.of([wheel / car.body.steering, pedal])
