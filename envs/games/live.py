"""The car in its own process, seen through its sensors, as a Gymnasium environment in real time."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from envs.games.realtime import ACTION
from envs.games.sensors import BEAMS, RANGE
from envs.sensor_env import SensorEnv
from envs.streams import Moment

__all__ = ["car_live"]

#: What the sensors' usual values are divided by.
_SIZES = {
    "lidar": np.full(BEAMS, RANGE),
    "wheel_speed": np.full(4, 30.0),
    "imu": np.array([10.0, 10.0, 1.0]),
    "controls": np.ones(3),
}
_CRASH = -10.0


def car_live(
    sensors: str = "zmq+tcp://127.0.0.1:5600", actions: str = "zmq+tcp://127.0.0.1:5601", *, rate: float = 20.0, **options: Any
) -> SensorEnv:
    """Drives the car of ``run-agent world car``: observations and rewards as those of `envs.games.CarEnv`.

    The car never waits. ``options`` are those of `envs.sensor_env.SensorEnv`. Registered as ``rlcore/CarLive-v0``.
    """
    return SensorEnv(
        sensors,
        {},
        Box(-1.0, 1.0, (2,), np.float32),
        observe=_observe,
        observation_space=Box(-10.0, 10.0, (sum(map(len, _SIZES.values())),), np.float32),
        reward=_reward,
        terminated=lambda before, action, after: bool(_crashes(after) > _crashes(before)),
        needs=(*_SIZES, "race"),
        actions=actions,
        action_topic=ACTION,
        rate=rate,
        **options,
    )


def _observe(moment: Moment) -> NDArray[np.float32]:
    values = np.concatenate([moment.values[topic] / size for topic, size in _SIZES.items()])
    return np.asarray(np.clip(values, -10.0, 10.0), np.float32)


def _crashes(moment: Moment) -> int:
    return int(moment.values["race"]["crashes"])


def _reward(before: Moment, action: Any, after: Moment) -> float:
    gained = float(after.values["race"]["progress"] - before.values["race"]["progress"])
    return gained + _CRASH * (_crashes(after) > _crashes(before))
