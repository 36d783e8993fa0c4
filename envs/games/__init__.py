"""Worlds to learn in while they run: a car on closed tracks.

>>> from envs.games import Controls, Race, make_track
>>> race = Race(make_track(0))
>>> race.step(Controls(throttle=1.0))
>>> race.lidar().shape
(19,)
"""

from envs.games.car import CarEnv
from envs.games.driving import CentreLine
from envs.games.play import Drive, play_car
from envs.games.race import RATES, Controls, Race
from envs.games.realtime import CarProcess, run_car
from envs.games.track import Track, make_track

__all__ = [
    "RATES",
    "CarEnv",
    "CarProcess",
    "CentreLine",
    "Controls",
    "Drive",
    "Race",
    "Track",
    "make_track",
    "play_car",
    "run_car",
]
