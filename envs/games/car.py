"""The car as a Gymnasium environment."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space
from numpy.typing import NDArray

from envs.games.race import Controls, Race
from envs.games.sensors import BEAMS, CAMERA, RANGE
from envs.games.track import make_track
from rlcore.errors import UnknownNameError

__all__ = ["CarEnv"]

#: Steps of the physics in one of the environment: 20 Hz.
SUBSTEPS = 10
#: Reward for leaving the road, in metres.
CRASH = -10.0
#: Roads that ``track=None`` draws from.
TRACKS = 100

#: Sensor: its bounds, its shape, and the size of its usual values, by which the flat observation divides.
_SENSORS: dict[str, tuple[float, float, tuple[int, ...], list[float]]] = {
    "lidar": (0.0, RANGE, (BEAMS,), [RANGE] * BEAMS),
    "wheel_speed": (-100.0, 100.0, (4,), [30.0] * 4),
    "imu": (-500.0, 500.0, (3,), [10.0, 10.0, 1.0]),
    "controls": (-1.0, 1.0, (3,), [1.0] * 3),
}
_ACTIONS: dict[str, Space[Any]] = {
    "pedal": Box(-1.0, 1.0, (2,), np.float32),
    "pedals": Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32), dtype=np.float32),
    "discrete": Discrete(9),
}
#: Discrete actions: steering right, straight, left with the brake, no pedal, the throttle.
_DISCRETE = [Controls.of([steering, pedal]) for pedal in (-0.5, 0.0, 0.7) for steering in (-0.6, 0.0, 0.6)]


class CarEnv(gymnasium.Env[Any, Any]):
    """Drive a car around a closed road, as far as possible.

    An action holds for 0.05 seconds. The reward is the metres gained along the road, and -10 for leaving it, which ends the
    episode. ``info`` has ``progress`` (m), ``lap``, ``offset`` (m) and ``speed`` (m/s). Registered as ``rlcore/Car-v0``,
    ``rlcore/CarDiscrete-v0`` and ``rlcore/CarSensors-v0`` (a dictionary with the camera), 2,000 steps an episode.

    Args:
        track: seed of the road; None draws one of 100 for each episode.
        observation: ``"flat"``, a Box of 29 numbers of the order of one: lidar (19), wheel speeds (4), IMU (3), last controls
            (3); or ``"dict"``, the sensors by name in their units, as `envs.games.Race` gives them.
        controls: ``"pedal"``, a Box ``[steering, pedal]`` whose pedal brakes below 0; ``"pedals"``, a Box
            ``[steering, throttle, brake]``; ``"discrete"``, nine combinations.
        camera: whether the dictionary has ``camera``, uint8 ``[48, 64, 3]``.
        random_start: begin anywhere on the road, nearly straight, instead of at the start.
        render_mode: ``"rgb_array"`` or ``"human"``, which need pygame-ce.

    Raises:
        UnknownNameError: ``observation`` or ``controls`` is none of these.

    >>> env = CarEnv()
    >>> observation, info = env.reset(seed=0)
    >>> observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    >>> observation.shape, terminated
    ((29,), False)
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["human", "rgb_array"], "render_fps": 20}  # type: ignore[misc]

    def __init__(
        self,
        *,
        track: int | None = 0,
        observation: Literal["flat", "dict"] = "flat",
        controls: Literal["pedal", "pedals", "discrete"] = "pedal",
        camera: bool = False,
        random_start: bool = True,
        render_mode: str | None = None,
    ) -> None:
        given = {"observation": (observation, ("flat", "dict")), "controls": (controls, tuple(_ACTIONS))}
        for kind, (name, known) in given.items():
            if name not in known:
                raise UnknownNameError(kind, name, known)
        self.render_mode = render_mode
        self.action_space = _ACTIONS[controls]
        sizes = [size for *_, sizes in _SENSORS.values() for size in sizes]
        self._scale = 1 / np.array(sizes, np.float32)
        spaces: dict[str, Space[Any]] = {
            name: Box(low, high, shape, np.float32) for name, (low, high, shape, _) in _SENSORS.items()
        }
        if camera:
            spaces["camera"] = Box(0, 255, CAMERA, np.uint8)
        self._flat, self._camera = observation == "flat", camera
        self.observation_space = Box(-10.0, 10.0, (len(sizes),), np.float32) if self._flat else Dict(spaces)
        self._track, self._random_start, self._discrete = track, random_start, controls == "discrete"
        self.race = Race(make_track(track or 0))
        self._controls = Controls()
        self._window: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Put the car on the road, at rest."""
        super().reset(seed=seed)
        if self._track is None:
            self.race = Race(make_track(int(self.np_random.integers(TRACKS))))
        index, offset, yaw = 0, 0.0, 0.0
        if self._random_start:
            index = int(self.np_random.integers(len(self.race.track.centre)))
            offset, yaw = self.np_random.uniform(-1, 1, 2) * (0.4 * self.race.track.half_width, 0.2)
        self.race.start(index, offset=float(offset), yaw=float(yaw))
        self._controls = Controls()
        if self.render_mode == "human":
            self.render()
        return self._observe(), self.race.race()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Drive for 0.05 seconds."""
        race = self.race
        self._controls = controls = _DISCRETE[int(action)] if self._discrete else Controls.of(action)
        before = race.progress
        for _ in range(SUBSTEPS):
            race.step(controls)
        crashed = race.off_road
        reward = race.progress - before + (CRASH if crashed else 0.0)
        if self.render_mode == "human":
            self.render()
        return self._observe(), reward, crashed, False, race.race()

    def _observe(self) -> Any:
        race = self.race
        sensors: dict[str, NDArray[Any]] = {
            "lidar": race.lidar(),
            "wheel_speed": race.wheel_speed(),
            "imu": race.imu(),
            "controls": np.array(self._controls, np.float32),
        }
        if self._flat:
            return np.minimum(np.maximum(np.concatenate(list(sensors.values())) * self._scale, -10.0), 10.0)
        if self._camera:
            sensors["camera"] = race.camera()
        return sensors

    def render(self) -> Any:
        """The road from above: ``[600, 800, 3]`` uint8 for ``"rgb_array"``; None for ``"human"``, which shows a window."""
        if self.render_mode is None:
            return None
        from envs.games.drawing import Window  # pygame is wanted by those who look

        if self._window is None:
            self._window = Window(visible=self.render_mode == "human", frames_per_second=self.metadata["render_fps"])
        return self._window.draw(self.race, self._controls)

    def close(self) -> None:
        """Close the window."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def get_state(self) -> dict[str, Any]:
        """All that the next steps depend on (`envs.state`)."""
        return {"race": self.race.get_state(), "controls": list(self._controls)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if state["race"]["track"] != self.race.track.seed:
            self.race = Race(make_track(state["race"]["track"]))
        self.race.set_state(state["race"])
        self._controls = Controls(*state["controls"])
