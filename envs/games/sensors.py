"""What a car perceives: rays to the edges of the road, and a small camera."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from envs.games.track import Track

__all__ = ["BEAMS", "CAMERA", "RANGE", "Camera", "Lidar"]

#: Rays of the lidar, from left (+90 degrees) to right (-90), and how far they see (m).
BEAMS, RANGE = 19, 60.0
#: Height, width, channels of the camera's picture.
CAMERA = (48, 64, 3)


class Lidar:
    """Distances from a point on a road to its edges."""

    def __init__(self, track: Track) -> None:
        walls = track.walls[:, ::2]  # chords of two metres: within centimetres of the edge
        self._twice = np.ascontiguousarray(np.concatenate([walls, walls], 1).transpose(2, 0, 1))  # so that a stretch is one slice
        self._count = walls.shape[1]
        # A ray sees no further along the road than this: the inner edge of a bend is the shortest way.
        self._reach = min(math.ceil(RANGE / (2 * track.spacing) * 1.6), self._count // 2)
        self._rays = np.exp(1j * np.linspace(np.pi / 2, -np.pi / 2, BEAMS))

    def scan(self, x: float, y: float, heading: float, index: int) -> NDArray[np.float32]:
        """Metres along each ray, ``[BEAMS]``, at most `RANGE`; ``index`` is the nearest point of the centre line."""
        first = (index // 2 - self._reach) % self._count
        count = 2 * self._reach + 1
        points = (self._twice[:, :, first : first + count] - np.array((x, y)).reshape(2, 1, 1)).reshape(2, 2 * count)
        turned = self._rays * complex(math.cos(heading), math.sin(heading))
        rays = turned.view(np.float64).reshape(BEAMS, 2)
        # How far each point lies to the left of each ray: an edge crosses where the sign changes.
        across = (turned * 1j).view(np.float64).reshape(BEAMS, 2) @ points
        is_left = across > 0
        crossing = is_left[:, 1:] != is_left[:, :-1]
        crossing[:, count - 1] = False  # from the end of one edge to the beginning of the other there is no wall
        beam, at = divmod(np.flatnonzero(crossing), 2 * count - 1)
        before, after = across[beam, at], across[beam, at + 1]
        start = points[:, at]
        hit = start + before / (before - after) * (points[:, at + 1] - start)
        ahead = (hit * rays.T[:, beam]).sum(0)
        distance = np.full(BEAMS, RANGE)
        np.minimum.at(distance, beam, np.where(ahead > 0, ahead, RANGE))
        return distance.astype(np.float32)


class Camera:
    """Looks ahead over the road: sky, grass, tarmac with its lines, and kerbs where it bends."""

    HEIGHT, PITCH, FOCAL = 1.4, 0.12, 0.8  # metres above ground, radians down, focal length in picture widths
    CELL = 0.25  # metres
    SKY, GRASS = (135, 190, 235), (70, 130, 60)

    def __init__(self, track: Track) -> None:
        self._track = track
        rows, columns, _ = CAMERA
        right = (np.arange(columns) - (columns - 1) / 2) / (self.FOCAL * columns)
        down = (np.arange(rows) - (rows - 1) / 2) / (self.FOCAL * columns)
        right, down = np.meshgrid(right, down)
        drop = down * math.cos(self.PITCH) + math.sin(self.PITCH)
        self._ground = drop > 0.02
        scale = self.HEIGHT / drop[self._ground]
        self._forward = (math.cos(self.PITCH) - down[self._ground] * math.sin(self.PITCH)) * scale
        self._right = right[self._ground] * scale
        self._blank = np.empty(CAMERA, np.uint8)
        self._blank[:] = self.SKY

    @cached_property
    def _map(self) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The world from above, a colour a cell, and its corner."""
        track = self._track
        low = track.centre.min(0) - 30
        shape = np.ceil((track.centre.max(0) + 30 - low) / self.CELL).astype(int)
        ground = np.empty((*shape, 3), np.uint8)
        ground[:] = self.GRASS
        stripes = (np.indices(shape).sum(0) // 32 % 2).astype(bool)
        ground[stripes] = np.array(self.GRASS) + 8
        along = np.arange(0, len(track.centre), 0.15)
        floor = along.astype(int)
        share = (along - floor)[:, None]
        following = (floor + 1) % len(track.centre)
        centre = track.centre[floor] * (1 - share) + track.centre[following] * share
        bend = np.abs(track.curvature[floor]) > 1 / 40
        for offset in np.arange(-track.half_width - 1, track.half_width + 1.01, 0.15):
            cells = ((centre + offset * track.left[floor] - low) / self.CELL).astype(int)
            ground[cells[:, 0], cells[:, 1]] = self._paint(abs(offset), along * track.spacing, bend)
        return ground, low

    def _paint(self, offset: float, along: NDArray[np.float64], bend: NDArray[np.bool_]) -> NDArray[np.uint8]:
        tarmac, white, red = np.array([[90, 90, 95], [235, 235, 235], [200, 40, 40]], np.uint8)
        if offset > self._track.half_width:
            kerb = np.where((along // 3 % 2 < 1)[:, None], red, white)
            return np.asarray(np.where(bend[:, None], kerb, np.array(self.GRASS, np.uint8)))
        if offset > self._track.half_width - 0.5:
            return np.tile(white, (len(along), 1))
        dash = (along // 4 % 2 < 1) & (offset < 0.18)
        return np.asarray(np.where(dash[:, None], white, tarmac))

    def picture(self, x: float, y: float, heading: float) -> NDArray[np.uint8]:
        """What is seen from there, ``[48, 64, 3]``."""
        ground, low = self._map
        cosine, sine = math.cos(heading), math.sin(heading)
        east = x + self._forward * cosine + self._right * sine - low[0]
        north = y + self._forward * sine - self._right * cosine - low[1]
        column = np.clip((east / self.CELL).astype(int), 0, ground.shape[0] - 1)
        row = np.clip((north / self.CELL).astype(int), 0, ground.shape[1] - 1)
        picture = self._blank.copy()
        picture[self._ground] = ground[column, row]
        return picture
