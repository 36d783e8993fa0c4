"""Sensors as environments: recorded, live, and the car in its own process."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, Space
from gymnasium.utils.env_checker import check_env

from envs.sensor_env import SensorEnv
from envs.streams import Moment, open_stream, publish, record
from rlcore.config import resolve
from rlcore.errors import UsageError, WorldError
from rlcore.runs import train

ARRAYS = {"position": np.arange(40.0), "wheels": np.arange(160.0).reshape(80, 2)}
SPACES = {"position": Box(0, 30, ()), "wheels": Box(-1000, 1000, (2,), np.float64)}
names = itertools.count()


def gain(before: Moment, action: Any, after: Moment) -> float:
    return after["position"] - before["position"] + 0.5 * float(np.ravel(action)[0])


def recorded(sensors: Any = ARRAYS, **options: Any) -> SensorEnv:
    options = {"spaces": SPACES, "stream": {"rates": {"position": 10, "wheels": 20}}, "rate": 10, "reward": gain, **options}
    return SensorEnv(sensors, options.pop("spaces"), options.pop("action_space", Box(-1, 1, (1,))), **options)


def test_gymnasium_checks_a_recording(tmp_path: Path):
    file = tmp_path / "drive.mcap"
    record(open_stream(ARRAYS, rates={"position": 10, "wheels": 20}), file)
    check_env(recorded(), skip_render_check=True)
    check_env(recorded(file, stream={}), skip_render_check=True)


def test_array_and_file_give_the_same(tmp_path: Path):
    file = tmp_path / "drive.mcap"
    record(open_stream(ARRAYS, rates={"position": 10, "wheels": 20}), file)
    for one, other in zip(episode(recorded()), episode(recorded(file, stream={})), strict=True):
        assert str(one) == str(other)


def episode(env: SensorEnv) -> list[Any]:
    steps: list[Any] = [env.reset(seed=0)]
    while len(steps) == 1 or not (steps[-1][2] or steps[-1][3]):
        steps.append(env.step(np.zeros(1, np.float32)))
    env.close()
    return steps


def test_values_rewards_and_the_end_of_a_recording():
    steps = episode(recorded(terminated=lambda before, action, after: after["position"] >= 100))
    positions = [step[0]["position"] for step in steps]
    assert [float(position) for position in positions] == [min(float(i), 30.0) for i in range(40)] + [30.0]
    assert steps[5][0]["wheels"].tolist() == [20.0, 21.0]
    assert all(step[1] == 1.0 for step in steps[1:-1])
    _, reward, terminated, truncated, info = steps[-1]
    assert (reward, terminated, truncated, info["ended"]) == (0.0, False, True, True)
    assert len(steps) == 41


def test_terminates_and_goes_on_or_begins_anew():
    env = recorded(terminated=lambda before, action, after: after["position"] % 5 == 0)
    env.reset(seed=0)
    while not env.step(np.zeros(1, np.float32))[2]:
        pass
    assert env.reset()[0]["position"] == 6.0
    assert env.reset(seed=1)[0]["position"] == 0.0


def test_says_what_it_cannot_do():
    env = recorded()
    with pytest.raises(WorldError, match=r"^SensorEnv: call reset\(\) before step\(\)"):
        env.step(np.zeros(1))
    with pytest.raises(UsageError, match="expected observe and observation_space together"):
        recorded(observe=lambda moment: moment["position"])
    with pytest.raises(WorldError, match=r"'wheels': expected the shape \(3,\) of its space, got \(2,\)"):
        recorded(spaces={"wheels": Box(-1, 1, (3,))}).reset()
    with pytest.raises(WorldError, match="sensors of dict: no topic 'sonar'; expected one of 'position', 'wheels'"):
        recorded(needs=("position", "wheels", "sonar")).reset()
    env = recorded({"position": np.zeros(0)}, spaces={"position": Box(0, 1, ())}, stream={})
    with pytest.raises(WorldError, match="ended before the first moment"):
        env.reset()


@pytest.fixture
def live() -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a publisher of `position` at 100 Hz, and what stops it."""
    uri, stop = f"memory://live-{next(names)}", threading.Event()

    def run() -> None:
        with publish(uri) as publisher:
            for i in itertools.count():
                if stop.wait(0.01):
                    return
                publisher.send("position", float(i))

    thread = threading.Thread(target=run)
    thread.start()
    yield uri, stop.set
    stop.set()
    thread.join()


def test_live_actions_are_heard_and_silence_truncates(live: tuple[str, Callable[[], None]]):
    uri, stop = live
    heard = open_stream(f"{uri}-actions")
    env = recorded(
        uri, spaces={"position": Box(0, 1e9, ())}, stream={}, actions=f"{uri}-actions", on_reset="reset", rate=50, timeout=0.3
    )
    env.reset()
    assert heard.poll(1).topic == "reset"
    *_, info = env.step(np.array([0.25], np.float32))
    sample = heard.poll(1)
    assert (sample.topic, sample.value.tolist()) == ("action", [0.25])
    assert info["fresh"] == {"position": True}
    assert info["lost"] == {"position": 0}
    stop()
    for _ in range(100):
        *_, truncated, info = env.step(np.zeros(1, np.float32))
        if truncated:
            break
    assert truncated
    assert info["ended"]
    with pytest.raises(WorldError, match=rf"{uri}: expected \['position'\] within 0.3 s, heard nothing"):
        env.reset()
    env.close()
    env.close()


def test_whoever_is_late_is_told(live: tuple[str, Callable[[], None]]):
    env = recorded(live[0], spaces={"position": Box(0, 1e9, ())}, stream={}, rate=50)
    env.reset()
    time.sleep(0.2)
    env.step(np.zeros(1, np.float32))
    *_, info = env.step(np.zeros(1, np.float32))
    assert info["missed"] >= 5
    env.close()


def test_a_sensor_that_is_not_there_is_named(live: tuple[str, Callable[[], None]]):
    env = recorded(live[0], spaces={"position": Box(0, 1e9, ()), "sonar": MultiBinary(3)}, stream={}, timeout=0.3)
    with pytest.raises(WorldError, match=r"expected \['sonar'\] within 0.3 s, heard \['position'\]"):
        env.reset()
    env.close()


@pytest.mark.parametrize("agent, action_space", [("ppo", Box(-1, 1, (1,))), ("dqn", Discrete(3))])
def test_our_agents_train_on_it(tmp_path: Path, agent: str, action_space: Space[Any]):
    env_id = f"SensorEnvTest-{agent}-v0"
    gymnasium.register(env_id, entry_point=lambda: recorded(action_space=action_space))
    try:
        settings = resolve(env_id, agent)
        run = dataclasses.replace(settings.run, env=env_id, agent=agent, steps=1000)
        result = train(dataclasses.replace(settings, run=run), tmp_path / agent)
    finally:
        del gymnasium.registry[env_id]
    assert result.episodes >= 1000 // 41 - run.num_envs


@pytest.fixture(scope="module")
def car() -> Iterator[dict[str, str]]:
    """The addresses of a car in a process of its own."""
    with publish("zmq+tcp://127.0.0.1:0") as free:
        actions = free.uri  # free again once this is closed
    command = [sys.executable, "-m", "rlcore.cli", "world", "car", "--publish", "zmq+tcp://127.0.0.1:0", "--actions", actions]
    with subprocess.Popen([*command, "--no-camera"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        sensors = process.stdout.readline().split(" at ")[1].partition(",")[0]
        yield {"sensors": sensors, "actions": actions}
        process.terminate()


def test_the_car_in_real_time(car: dict[str, str]):
    env = gymnasium.make("rlcore/CarLive-v0", **car)
    check_env(env.unwrapped)
    env.close()
    env = gymnasium.make("rlcore/CarLive-v0", **car)
    env.reset()
    gained, speed = 0.0, 0.0
    for _ in range(40):
        observation, reward, terminated, _, info = env.step(np.array([0.0, 1.0], np.float32))
        gained, speed = gained + reward, max(speed, observation[19])
    assert speed > 0.1
    assert gained > 1.0 or terminated
    assert all(info["alive"].values())
    env.close()
