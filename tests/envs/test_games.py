"""The car: its physics, its sensors, its tracks, the drawing, the process in real time, and driving by hand."""

from __future__ import annotations

import collections
import itertools
import math
import threading
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.games import CarEnv, CarProcess, CentreLine, Controls, Race, make_track, play_car, run_car
from envs.games.race import DT, RATES
from envs.games.realtime import HOLD, SAFE
from envs.games.sensors import BEAMS, RANGE
from envs.games.vehicle import Vehicle
from envs.streams import open_stream, publish
from rlcore.errors import UnknownNameError, UsageError
from tensor.data import DataLoader

names = itertools.count()


def drive(vehicle: Vehicle, seconds: float, steering: float = 0.0, throttle: float = 0.0, brake: float = 0.0) -> Vehicle:
    for _ in range(round(seconds / DT)):
        vehicle.step(steering, throttle, brake, DT)
    return vehicle


@pytest.mark.parametrize("seed", range(20))
def test_tracks_are_closed_smooth_and_never_meet(seed: int):
    track = make_track(seed)
    steps = np.linalg.norm(np.roll(track.centre, -1, 0) - track.centre, axis=1)
    np.testing.assert_allclose(steps, track.spacing, rtol=0.05)
    assert np.abs(track.curvature).max() < 1 / (2 * track.half_width)
    assert abs(np.sum(track.curvature) * track.spacing) == pytest.approx(2 * np.pi, rel=0.01)
    # No wall lies on the road: the middle is nowhere nearer than half the road's width.
    walls = track.walls.reshape(-1, 2)
    nearest = min(np.linalg.norm(walls - point, axis=1).min() for point in track.centre[::5])
    assert nearest > 0.98 * track.half_width


def test_tracks_are_their_seeds():
    assert make_track(5) is make_track(5)
    make_track.cache_clear()
    again = make_track(5)
    np.testing.assert_array_equal(again.centre, make_track(5).centre)
    assert not np.array_equal(again.centre[:100], make_track(6).centre[:100])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 19), st.integers(0, 5000), st.floats(-4, 4), st.integers(-20, 20))
def test_a_place_is_found_from_nearby(seed: int, index: int, offset: float, off_by: int):
    track = make_track(seed)
    index %= len(track.centre)
    x, y = (track.centre[index] + offset * track.left[index]).tolist()
    for near in (None, (index + off_by) % len(track.centre)):
        place = track.locate(x, y, near)
        assert min(abs(place.index - index), len(track.centre) - abs(place.index - index)) <= 1
        assert place.offset == pytest.approx(offset, abs=0.1)


def test_pedals_and_brakes():
    car = drive(Vehicle(), 3, throttle=1.0)
    assert 12 < car.forward < 20
    assert car.y == car.sideways == 0
    car = drive(car, 3, brake=1.0)
    at = car.x
    assert car.forward == 0
    drive(car, 1, brake=1.0)
    assert car.x == at


def test_steering_is_the_bicycle_at_walking_pace_and_mirrored():
    car, other = Vehicle(), Vehicle()
    for vehicle, steering in ((car, 1.0), (other, -1.0)):
        vehicle.place(0, 0, 0, speed=0.9)
        drive(vehicle, 1, steering)
    wheelbase = car.body.front + car.body.rear
    assert car.yaw_rate == pytest.approx(car.forward * math.tan(car.body.steering) / wheelbase, rel=0.01)
    assert (other.x, other.y, other.heading) == (car.x, -car.y, -car.heading)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20), st.floats(0, 40))
def test_grip_bounds_every_acceleration(actions: list[tuple[float, float, float]], speed: float):
    """Tyres give no more than friction times weight, whatever is done; nothing overflows, nothing rolls backwards."""
    car = Vehicle()
    car.place(0, 0, 0, speed)
    for steering, throttle, brake in actions:
        for _ in range(20):
            before = car.forward
            car.step(steering, throttle, brake, DT)
            assert 0 <= car.forward < 60
            if min(before, car.forward) > 4:  # the dynamic model alone
                assert math.hypot(car.ahead_acceleration, car.left_acceleration) < 1.2 * 9.81 + 3
    assert all(map(math.isfinite, car.state))


def test_too_fast_for_a_bend_runs_wide():
    slow, fast = Vehicle(), Vehicle()
    radius = []
    for vehicle, speed in ((slow, 5.0), (fast, 25.0)):
        vehicle.place(0, 0, 0, speed)
        drive(vehicle, 0.8, steering=0.8)
        radius.append(vehicle.forward / vehicle.yaw_rate)
    assert radius[1] > 3 * radius[0]
    assert fast.slip > 0.15 > slow.slip


def test_lidar_on_a_road_and_beside_its_middle():
    race = Race(make_track(9))
    scan = race.lidar()
    assert scan.shape == (BEAMS,)
    assert scan[[0, -1]] == pytest.approx([5, 5], abs=0.15)
    assert scan.max() <= RANGE
    race.start(0, offset=2.0)
    assert race.lidar()[[0, -1]] == pytest.approx([3, 7], abs=0.2)
    race.start(0, yaw=math.pi / 2)  # nose to the left edge
    assert race.lidar()[BEAMS // 2] == pytest.approx(5, abs=0.15)


@pytest.mark.parametrize("seed", [0, 3, 7])
def test_lidar_is_what_marching_along_the_rays_finds(seed: int):
    track = make_track(seed)
    race, random = Race(track), np.random.default_rng(seed)
    for _ in range(2):
        race.start(int(random.integers(len(track.centre))), offset=random.uniform(-4, 4), yaw=random.uniform(-3, 3))
        car, scan = race.vehicle, race.lidar()
        for beam in range(0, BEAMS, 3):
            angle = car.heading + math.pi / 2 - beam * math.pi / (BEAMS - 1)
            far = np.arange(0.0, RANGE, 0.1)
            points = np.array([car.x, car.y]) + far[:, None] * [math.cos(angle), math.sin(angle)]
            offsets = np.array([np.linalg.norm(track.centre - point, axis=1).min() for point in points])
            outside = np.flatnonzero(offsets > track.half_width)
            expected = far[outside[0]] if outside.size else RANGE
            assert scan[beam] == pytest.approx(expected, abs=0.3 + 0.02 * expected)


def test_the_camera_sees_the_road_ahead_and_grass_beside_it():
    race = Race(make_track(9))
    picture = race.camera()
    assert (picture.shape, picture.dtype) == ((48, 64, 3), np.uint8)
    assert np.ptp(picture[40, 32].astype(int)) < 10  # tarmac, grey
    race.start(0, yaw=math.pi / 2, offset=4.0)
    green = race.camera()[30, 32].astype(int)
    assert green[1] > green[0]
    assert green[1] > green[2]


@pytest.mark.parametrize("seed", range(6))
def test_the_centre_line_driver_makes_a_lap(seed: int):
    race = Race(make_track(seed))
    driver = CentreLine(race.track)
    while race.progress < race.track.length and race.time < 90:
        controls = driver(race)
        for _ in range(10):
            race.step(controls)
        assert abs(race.place.offset) < 2
    assert race.progress >= race.track.length
    assert race.race()["lap"] == 1


def test_the_same_seed_is_the_same_drive():
    def episode() -> list[Any]:
        env = gymnasium.make("rlcore/Car-v0", track=None)
        env.reset(seed=5)
        env.action_space.seed(5)
        steps = [env.step(env.action_space.sample()) for _ in range(40)]
        return [(*step[0].tolist(), *step[1:]) for step in steps]

    assert episode() == episode()


def test_leaving_the_road_ends_the_episode():
    env = CarEnv(random_start=False)
    env.reset(seed=0)
    total = 0.0
    for _ in range(300):
        _, reward, terminated, truncated, info = env.step(np.array([1.0, 0.5], np.float32))
        total += reward
        if terminated:
            break
    assert terminated
    assert not truncated
    assert abs(info["offset"]) > 5
    assert total == pytest.approx(info["progress"] - 10)


def test_says_what_it_does_not_know():
    with pytest.raises(UnknownNameError, match="unknown controls 'pedalo'; did you mean 'pedal'"):
        CarEnv(controls="pedalo")
    with pytest.raises(ValueError, match=r"expected \[steering, throttle, brake\] or \[steering, pedal\], finite, got \[1.0\]"):
        Controls.of([1.0])
    with pytest.raises(ValueError, match="finite"):
        Controls.of([float("nan"), 0.0])


def test_pictures():
    env = CarEnv(render_mode="rgb_array", random_start=False)
    env.reset(seed=0)
    first = env.render()
    assert (first.shape, first.dtype) == ((600, 800, 3), np.uint8)
    assert len(np.unique(first[::10, ::10].reshape(-1, 3), axis=0)) > 20
    for _ in range(20):
        env.step(np.array([0.0, 1.0], np.float32))
    assert np.mean(env.render() != first) > 0.1
    env.close()
    env.close()


def test_a_process_publishes_at_its_rates_takes_actions_and_brakes_without_them():
    name = f"memory://race-{next(names)}"
    race = Race(make_track(0))
    with (
        publish(name, block=True) as publisher,
        open_stream(name, timeout=0) as sensors,
        publish(f"{name}-actions") as driver,
        open_stream(f"{name}-actions") as actions,
    ):
        car = CarProcess(race, publisher, actions)
        for tick in range(200):
            if tick == 20:
                driver.send("action", [0.25, 1.0, 0.0])
            if tick == 40:
                driver.send("action", [1.0])  # not an action
            car.step(tick)
            assert car.controls == (SAFE if tick < 20 else Controls(0.25, 1.0))
        samples = list(sensors)
        assert collections.Counter(sample.topic for sample in samples) == {**RATES}
        assert car.rejected == 1
        assert [sample.capture_time for sample in samples if sample.topic == "imu"] == list(range(200))
        assert race.progress > 0.5
        driver.send("reset", 0)
        car.step(200)
        assert race.progress < 0.1
        car.acted -= round(HOLD * 1e9)
        car.step(201)
        assert car.controls == SAFE


def test_a_crash_is_told_and_the_car_put_back():
    name = f"memory://race-{next(names)}"
    race = Race(make_track(0))
    with (
        publish(name, block=True) as publisher,
        open_stream(name, topics=["race"], timeout=0) as sensors,
        open_stream(f"{name}-actions") as actions,
    ):
        car = CarProcess(race, publisher, actions, camera=False)
        for tick in range(2000):
            car.drive(Controls(1.0, 0.6))
            car.step(tick)
            if car.crashes:
                break
        told = [sample.value for sample in sensors]
    assert [bool(value["crashed"]) for value in told] == [False] * (len(told) - 1) + [True]
    assert int(told[-1]["crashes"]) == 1
    assert abs(race.place.offset) < 0.5
    assert race.vehicle.forward == 0


def test_run_car_in_a_thread():
    sensors = open_stream("memory://games-sensors", timeout=1.0)
    thread = threading.Thread(
        target=run_car, args=("memory://games-sensors", "memory://games-actions"), kwargs={"seconds": 0.3, "camera": False}
    )
    thread.start()
    assert {sample.topic for sample in sensors} == RATES.keys() - {"camera"}
    thread.join()
    with pytest.raises(UsageError, match=r"is not this machine alone"):
        run_car("zmq+tcp://0.0.0.0:0", "memory://games-actions")


@pytest.mark.parametrize("window", [False, True])
def test_a_drive_is_a_dataset(tmp_path: Path, window: bool):
    out = tmp_path / "drives" / "one.mcap"
    result = play_car(driver="centre-line", out=out, seconds=1.0, window=window)
    assert result.samples == sum(RATES.values())
    assert str(result).startswith(f"{result.progress:.0f} m in 1.0 s, 0 times off the road; recorded 370 samples to ")
    moments = list(open_stream(out).align(rate=20))
    assert len(moments) >= 18
    batch = next(iter(DataLoader(open_stream(out).align(rate=20), batch_size=8)))
    assert tuple(batch["lidar"].shape) == (8, BEAMS)
    assert tuple(batch["camera"].shape) == (8, 48, 64, 3)
    assert tuple(batch["controls"].shape) == (8, 3)
    assert float(moments[-1]["controls"][1]) == 1.0


def test_the_arrow_keys(monkeypatch: pytest.MonkeyPatch):
    import pygame

    from envs.games.drawing import Keys, Window

    window = Window(visible=True, frames_per_second=0)
    keys = Keys()
    pressed = collections.defaultdict(bool, {pygame.K_LEFT: True, pygame.K_UP: True})
    monkeypatch.setattr(pygame.key, "get_pressed", lambda: pressed)
    assert keys.read(0.07) == Controls(pytest.approx(0.2), 1.0, 0.0)
    assert keys.read(1.0) == Controls(1.0, 1.0, 0.0)
    pressed.clear()
    pressed[pygame.K_DOWN] = True
    assert keys.read(0.175) == Controls(pytest.approx(0.5), 0.0, 1.0)
    assert not keys.quit
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE))
    keys.read(0.05)
    assert keys.quit
    window.close()
