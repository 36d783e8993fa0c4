"""A car as a bicycle with tyres that slip: the dynamic single-track model.

Forces of the tyres follow the Magic Formula, ``D sin(C arctan(B slip))``, within a circle of friction that braking and driving
use up too (Pacejka, *Tire and Vehicle Dynamics*, 3rd ed., 2012; Rajamani, *Vehicle Dynamics and Control*, 2nd ed., 2012, ch. 2).
Below walking pace, where slip angles lose their meaning, the car follows the kinematic bicycle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Body", "Vehicle"]

GRAVITY = 9.81
#: m/s: kinematic below the first, dynamic above the second, mixed between.
KINEMATIC, DYNAMIC = 1.0, 4.0
#: Share of its grip that a tyre gives to pedals at most, as anti-lock brakes see to: the rest still steers.
ALONG = 0.85

_STATE = (
    "x", "y", "heading", "forward", "sideways", "yaw_rate", "wheel_angle", "ahead_acceleration", "left_acceleration", "slip",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Body:
    """What a car is made of. Metres, kilograms, newtons, watts, radians."""

    mass: float = 1200.0
    inertia: float = 1600.0
    front: float = 1.2
    """From the centre of mass to the front axle; also `rear`."""
    rear: float = 1.3
    half_track: float = 0.8
    """From the middle to a wheel."""
    front_friction: float = 1.0
    rear_friction: float = 1.2
    """More behind than before: at the limit the car runs wide rather than spins."""
    stiffness: float = 10.0
    """B of the tyres."""
    shape: float = 1.5
    """C of the tyres."""
    drive: float = 6500.0
    """Largest force at the driven rear wheels."""
    power: float = 110_000.0
    brake: float = 13_000.0
    brake_front: float = 0.62
    """Share of the braking at the front."""
    drag: float = 0.9
    rolling: float = 180.0
    steering: float = 0.5
    """Largest angle of the front wheels."""
    steering_rate: float = 2.5


class Vehicle:
    """State of one car, in plain numbers: integrated in Python, a step takes microseconds.

    >>> car = Vehicle()
    >>> for _ in range(400):  # two seconds
    ...     car.step(0.0, 1.0, 0.0, 0.005)
    >>> 9 < car.x < 12, 9 < car.forward < 12
    (True, True)
    """

    __slots__ = ("_base", "_front_grip", "_rear_grip", "body", *_STATE)

    def __init__(self, body: Body | None = None) -> None:
        self.body = body = body or Body()
        self._base = body.front + body.rear
        weight = body.mass * GRAVITY
        self._front_grip = body.front_friction * weight * body.rear / self._base
        self._rear_grip = body.rear_friction * weight * body.front / self._base
        self.place(0.0, 0.0, 0.0)

    def place(self, x: float, y: float, heading: float, speed: float = 0.0) -> None:
        """Put it there, straight ahead."""
        self.x, self.y, self.heading, self.forward = x, y, heading, speed
        self.sideways = self.yaw_rate = self.wheel_angle = 0.0
        self.ahead_acceleration = self.left_acceleration = self.slip = 0.0

    @property
    def state(self) -> list[float]:
        """All that the next step and the sensors depend on, plain numbers."""
        return [getattr(self, name) for name in _STATE]

    @state.setter
    def state(self, state: list[float]) -> None:
        for name, value in zip(_STATE, state, strict=True):
            setattr(self, name, value)

    def step(self, steering: float, throttle: float, brake: float, dt: float) -> None:
        """Go on for ``dt`` seconds (at most 0.01); steering from -1 (right) to 1 (left), pedals from 0 to 1."""
        body = self.body
        forward, sideways, yaw_rate = self.forward, self.sideways, self.yaw_rate
        most = body.steering_rate * dt
        angle = self.wheel_angle
        angle += min(max(steering * body.steering - angle, -most), most)
        self.wheel_angle = angle

        base, front_grip, rear_grip = self._base, self._front_grip, self._rear_grip
        braking = min(brake * body.brake, body.mass * forward / dt)  # brakes stop a car, they never push it back
        drive = throttle * min(body.drive, body.power / max(forward, 1.0))
        front_along = max(-braking * body.brake_front, -ALONG * front_grip)
        rear_along = min(max(drive - braking * (1 - body.brake_front), -ALONG * rear_grip), ALONG * rear_grip)

        speed = max(forward, KINEMATIC)
        front_slip = angle - math.atan2(sideways + body.front * yaw_rate, speed)
        rear_slip = -math.atan2(sideways - body.rear * yaw_rate, speed)
        front_side = math.sqrt(front_grip**2 - front_along**2) * math.sin(body.shape * math.atan(body.stiffness * front_slip))
        rear_side = math.sqrt(rear_grip**2 - rear_along**2) * math.sin(body.shape * math.atan(body.stiffness * rear_slip))
        cosine, sine = math.cos(angle), math.sin(angle)
        resistance = body.drag * forward * forward + (body.rolling if forward > 0 else 0.0)
        ahead = (rear_along + front_along * cosine - front_side * sine - resistance) / body.mass
        left = (rear_side + front_side * cosine + front_along * sine) / body.mass
        turning = (body.front * (front_side * cosine + front_along * sine) - body.rear * rear_side) / body.inertia

        mixed = min(max((forward - KINEMATIC) / (DYNAMIC - KINEMATIC), 0.0), 1.0)
        new_forward = max(forward + (ahead + mixed * sideways * yaw_rate) * dt, 0.0)
        new_sideways = sideways + (left - forward * yaw_rate) * dt
        new_yaw_rate = yaw_rate + turning * dt
        if mixed < 1.0:
            rolled_yaw_rate = new_forward * math.tan(angle) / base
            new_sideways = mixed * new_sideways + (1 - mixed) * rolled_yaw_rate * body.rear
            new_yaw_rate = mixed * new_yaw_rate + (1 - mixed) * rolled_yaw_rate
        self.ahead_acceleration = (new_forward - forward) / dt - new_sideways * new_yaw_rate
        self.left_acceleration = (new_sideways - sideways) / dt + new_forward * new_yaw_rate
        self.forward, self.sideways, self.yaw_rate = new_forward, new_sideways, new_yaw_rate
        self.slip = max(abs(front_slip), abs(rear_slip)) if forward > DYNAMIC else 0.0

        self.heading = heading = self.heading + new_yaw_rate * dt
        cosine, sine = math.cos(heading), math.sin(heading)
        self.x += (new_forward * cosine - new_sideways * sine) * dt
        self.y += (new_forward * sine + new_sideways * cosine) * dt

    def wheel_speeds(self) -> list[float]:
        """m/s of the four wheels along their planes: front left, front right, rear left, rear right."""
        body, rate = self.body, self.yaw_rate
        cosine, sine = math.cos(self.wheel_angle), math.sin(self.wheel_angle)
        front_left = self.forward - rate * body.half_track
        front_right = self.forward + rate * body.half_track
        across = (self.sideways + body.front * rate) * sine
        return [front_left * cosine + across, front_right * cosine + across, front_left, front_right]
