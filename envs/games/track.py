"""Closed roads, made from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

__all__ = ["Place", "Track", "make_track"]

Points = NDArray[np.float64]

#: Metres between the points of a centre line, about.
SPACING = 1.0
#: The tightest bend's radius in half-widths of the road, and how far apart two stretches are, centre to centre.
TIGHTEST, CLEARANCE = 2.0, 3.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is on a road: ``index`` of the nearest point, metres ``along`` and ``offset`` to the left of the middle."""

    index: int
    along: float
    offset: float
    heading: float
    """Of the road, radians."""


@dataclass(frozen=True, eq=False)
class Track:
    """A closed road of constant width: ``centre`` ``[n, 2]`` in metres, ``length`` in metres around."""

    seed: int
    centre: Points
    half_width: float

    @property
    def length(self) -> float:
        """Metres around."""
        return self.spacing * len(self.centre)

    @cached_property
    def spacing(self) -> float:
        """Metres from point to point."""
        return float(np.linalg.norm(np.roll(self.centre, -1, 0) - self.centre, axis=1).mean())

    @cached_property
    def tangent(self) -> Points:
        """Unit vectors along the road, ``[n, 2]``."""
        step = np.roll(self.centre, -1, 0) - np.roll(self.centre, 1, 0)
        return np.asarray(step / np.linalg.norm(step, axis=1, keepdims=True))

    @cached_property
    def left(self) -> Points:
        """Unit vectors to the left of it, ``[n, 2]``."""
        return np.stack([-self.tangent[:, 1], self.tangent[:, 0]], 1)

    @cached_property
    def curvature(self) -> Points:
        """1 / radius at each point, positive where the road bends left, ``[n]``."""
        heading = np.unwrap(np.arctan2(self.tangent[:, 1], self.tangent[:, 0]))
        turn = np.angle(np.exp(1j * (np.roll(heading, -1) - np.roll(heading, 1))))
        return np.asarray(turn / (2 * self.spacing))

    def edge(self, offset: float) -> Points:
        """The line ``offset`` metres to the left of the centre, ``[n, 2]``."""
        return self.centre + offset * self.left

    @cached_property
    def walls(self) -> Points:
        """Both edges of the road, left and right, ``[2, n, 2]``."""
        return np.stack([self.edge(self.half_width), self.edge(-self.half_width)])

    @cached_property
    def _table(self) -> list[tuple[float, float, float, float, float]]:
        """Plain numbers: for one point, Python is faster than NumPy."""
        heading = np.arctan2(self.tangent[:, 1], self.tangent[:, 0])
        return [tuple(row) for row in np.column_stack([self.centre, self.tangent, heading]).tolist()]

    def locate(self, x: float, y: float, near: int | None = None) -> Place:
        """The place of a point; ``near`` is the index where it was a moment ago (None: look everywhere)."""
        table = self._table
        count = len(table)
        if near is None:
            near = int(np.argmin(((self.centre - (x, y)) ** 2).sum(1)))
        at_x, at_y, along_x, along_y, heading = table[near]
        ahead = (x - at_x) * along_x + (y - at_y) * along_y
        for _ in range(count):  # walk along the road to the point whose normal passes closest
            if -0.5 * self.spacing <= ahead <= 0.5 * self.spacing:
                break
            following = (near + (1 if ahead > 0 else -1)) % count
            at_x, at_y, along_x, along_y, heading = table[following]
            before, ahead = ahead, (x - at_x) * along_x + (y - at_y) * along_y
            if before * ahead < 0 and abs(before) < abs(ahead):  # between two points: the one before was nearer
                at_x, at_y, along_x, along_y, heading = table[near]
                ahead = before
                break
            near = following
        offset = (y - at_y) * along_x - (x - at_x) * along_y
        return Place(near, near * self.spacing + ahead, offset, heading)


@lru_cache(maxsize=64)
def make_track(seed: int, *, half_width: float = 5.0) -> Track:
    """The road of that seed: a closed cubic spline through a ring of points, 300 to 900 m around.

    >>> track = make_track(3)
    >>> track.centre.shape[1], 300 < track.length < 900, make_track(3) is track
    (2, True, True)
    """
    random = np.random.default_rng([seed, 0xCA4])
    roughness = 0.45
    while True:
        centre = _ring(random, roughness)
        track = Track(seed, centre, half_width)
        if _can_be_driven(track):
            return track
        roughness *= 0.97  # rounder, until it is a road


def _ring(random: np.random.Generator, roughness: float) -> Points:
    count = int(random.integers(9, 15))
    angle = (np.arange(count) + random.uniform(-0.3, 0.3, count)) * (2 * np.pi / count)
    radius = random.uniform(75, 105) * (1 + roughness * random.uniform(-1, 1, count))
    stretch = random.uniform(0.8, 1.3)
    knots = np.column_stack([radius * np.cos(angle) * stretch, radius * np.sin(angle) / stretch])
    spline: Any = CubicSpline(np.append(angle, angle[0] + 2 * np.pi), np.vstack([knots, knots[:1]]), bc_type="periodic")
    dense = spline(np.linspace(angle[0], angle[0] + 2 * np.pi, 8001))
    along = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(dense, axis=0), axis=1)))
    even = np.linspace(0, along[-1], round(along[-1] / SPACING) + 1)[:-1]
    centre = np.column_stack([np.interp(even, along, dense[:, axis]) for axis in (0, 1)])
    return np.asarray(centre if random.random() < 0.5 else centre[::-1].copy())


def _can_be_driven(track: Track) -> bool:
    if not np.abs(track.curvature).max() * TIGHTEST * track.half_width < 1:
        return False
    coarse = track.centre[::4]
    count = len(coarse)
    apart = np.abs(np.arange(count)[:, None] - np.arange(count))
    apart = np.minimum(apart, count - apart) * 4 * track.spacing
    distance = np.linalg.norm(coarse[:, None] - coarse, axis=2)
    return bool(distance[apart > np.pi * TIGHTEST * track.half_width].min() > CLEARANCE * track.half_width)
