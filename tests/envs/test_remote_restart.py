"""Servers of environments that die and come back: what a client sees of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

import envs
from envs.remote import EnvServer, RemoteEnv, RemoteVectorEnv
from rlcore.errors import WorldError

RESTARTED = {"server_restarted": True}


def start_server(port: int = 0) -> tuple[subprocess.Popen[str], str]:
    at = f"remote+tcp://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "rlcore.cli", "serve-env", "CartPole-v1", "--at", at], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().split(" at ")[1].strip()


def kill(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


@contextlib.contextmanager
def serving(env: Any, at: str = "remote+tcp://127.0.0.1:0") -> Iterator[str]:
    """A server in a thread of this process; it forgets its clients when it ends, as a dead one does."""
    with EnvServer(env, at) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        yield server.uri
        server.stop()
        thread.join()


def test_a_killed_server_truncates_and_a_stopped_one_goes_on():
    process, uri = start_server()
    env, several = RemoteEnv(uri), RemoteVectorEnv(uri, 2)
    try:
        first = env.reset(seed=0)
        several.reset(seed=0)
        process.send_signal(signal.SIGSTOP)
        timer = threading.Timer(0.5, lambda: os.kill(process.pid, signal.SIGCONT))
        timer.start()
        observation, _, _, truncated, _ = env.step(1)
        local = gymnasium.make("CartPole-v1")
        local.reset(seed=0)
        np.testing.assert_array_equal(observation, local.step(1)[0])
        assert not truncated
        timer.join()
        kill(process)
        process, again = start_server(int(uri.rpartition(":")[2]))
        assert again == uri
        last, reward, terminated, truncated, info = env.step(1)
        np.testing.assert_array_equal(last, observation)
        assert (reward, terminated, truncated, info) == (0.0, False, True, RESTARTED)
        with pytest.raises(WorldError, match=r"call reset\(\) before step\(\)"):
            env.step(1)
        np.testing.assert_array_equal(env.reset(seed=0)[0], first[0])
        *_, terminations, truncations, infos = several.step(np.array([0, 1]))
        assert truncations.all()
        assert not terminations.any()
        assert infos["server_restarted"].all()
        assert infos["final_obs"][0].shape == (4,)
        assert not several.step(np.array([0, 1]))[3].any()
    finally:
        env.close()
        several.close()
        kill(process)


def test_it_is_killed_with_requests_under_way():
    """A step and a reset wait for a server that is frozen, then killed, then another: neither is lost, and neither is made up."""
    process, uri = start_server()
    stepping, resetting = RemoteEnv(uri), RemoteEnv(uri)
    answers: dict[str, Any] = {}

    def ask(name: str, call: Callable[[], Any]) -> threading.Thread:
        thread = threading.Thread(target=lambda: answers.update({name: call()}))
        thread.start()
        return thread

    try:
        first, _ = stepping.reset(seed=0)
        other, _ = resetting.reset(seed=1)
        process.send_signal(signal.SIGSTOP)
        threads = [ask("step", lambda: stepping.step(1)), ask("reset", lambda: resetting.reset(seed=1))]
        time.sleep(0.1)
        assert not answers
        kill(process)
        process, _ = start_server(int(uri.rpartition(":")[2]))
        for thread in threads:
            thread.join()
        last, *rest = answers["step"]
        np.testing.assert_array_equal(last, first)
        assert rest == [0.0, False, True, RESTARTED]
        np.testing.assert_array_equal(answers["reset"][0], other)
        assert resetting.step(0)[4] == {}
    finally:
        stepping.close()
        resetting.close()
        kill(process)


def test_one_that_does_not_come_back_is_told_once_and_one_that_does_late_is_taken():
    with serving("CartPole-v1") as uri:
        env = RemoteEnv(uri, timeout=0.6)
        last, _ = env.reset(seed=0)
    with pytest.raises(WorldError) as raised:
        env.step(1)
    text = "the connection broke, and nobody was there again to answer 'step' within 0.6 s: was the server stopped?"
    assert str(raised.value) == f"{uri}: {text}"
    with serving("CartPole-v1", uri):
        again, _, _, truncated, info = env.step(1)
        np.testing.assert_array_equal(again, last)
        assert (truncated, info) == (True, RESTARTED)
        assert env.reset(seed=0)[0].shape == (4,)
        assert env.step(1)[1] == 1.0
        env.close()


def test_another_environment_in_its_place_is_refused():
    with serving("CartPole-v1") as uri:
        env = RemoteEnv(uri)
        env.reset()
    with serving("Acrobot-v1", uri):
        for call in (lambda: env.step(0), env.reset):
            with pytest.raises(WorldError, match=r"expected the observation space of before, Box\(.*\(4,\).*, got Box\(.*\(6,\)"):
                call()
        env.close()


def test_the_last_picture_stays_until_the_next_episode():
    with serving("rlcore/Car-v0") as uri:
        env = RemoteEnv(uri, render_mode="rgb_array")
        env.reset(seed=0)
        picture = env.render()
    with serving("rlcore/Car-v0", uri):
        np.testing.assert_array_equal(env.render(), picture)
        assert env.step(env.action_space.sample())[4] == RESTARTED
        np.testing.assert_array_equal(env.render(), picture)
        env.reset(seed=1)
        assert not np.array_equal(env.render(), picture)
        env.close()


@pytest.mark.parametrize("count", [1, 3])
def test_a_world_goes_on_with_new_episodes(count: int):
    """As the runner sees it: each episode cut short, with the last observation as its final one, and nothing else."""
    with serving("CartPole-v1") as uri:
        world = envs.make_world(uri, num_envs=count)
        world.reset(seed=0)
        last = world.step(np.zeros(count, int)).observation
    with serving("CartPole-v1", uri):
        step = world.step(np.zeros(count, int))
        assert step.truncated.all()
        assert not step.terminated.any()
        np.testing.assert_array_equal(step.next_observation, last)
        np.testing.assert_array_equal(step.reward, np.zeros(count))
        assert not world.step(np.zeros(count, int)).truncated.any()
        world.close()
