"""Faults between a learner and an environment in another process, for `faults.py`.

The environment counts its steps, so each observation says what was done: none may be left out, done twice or made up, and an
episode that is gone with its server must be told, once.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np
from breaking import APART, HERE, THERE, Counts, check, enter, free_port, kill, network, start, until

from envs.remote import EnvServer, RemoteEnv, RemoteVectorEnv
from rlcore.errors import WorldError

__all__ = ["CABLED", "FAULTS"]

RESTARTED = {"server_restarted": True}
DELAY = 0.0005


class Steps(gymnasium.Env[Any, Any]):
    """Observes how often it was stepped in this episode; counts all steps of all episodes in ``done``."""

    observation_space = gymnasium.spaces.Box(0, 1e9, (1,), np.float64)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, done: Any) -> None:
        self.count, self.done = 0, done

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(DELAY)
        self.count += 1
        with self.done.get_lock():
            self.done.value += 1
        return np.full(1, float(self.count)), float(self.count), False, False, {}


def serve(uri: str, done: Any, namespace: str | None = None) -> None:
    enter(namespace)
    with EnvServer(lambda render_mode: Steps(done), uri, insecure=namespace is not None) as server:
        server.run(600)


class Learner:
    """Steps an environment, and checks each answer against the one before."""

    def __init__(self, env: RemoteEnv) -> None:
        self.env, self.at, self.steps, self.restarts = env, 0.0, 0, 0
        check(env.reset()[0][0] == 0, "an episode begins")

    def step(self) -> None:
        observation, reward, terminated, truncated, info = self.env.step(1)
        if info:
            check(info == RESTARTED and truncated and not terminated, f"the end of an episode is told: {info}")
            check((observation[0], reward) == (self.at, 0.0), f"nothing is made up: {observation}, {reward} after {self.at}")
            self.restarts, self.at = self.restarts + 1, 0.0
            check(self.env.reset()[0][0] == 0, "an episode begins")
        else:
            check(observation[0] == reward == self.at + 1 and not truncated, f"each step once: {observation} after {self.at}")
            self.at, self.steps = self.at + 1, self.steps + 1


class Learners:
    """The same for three environments of one request."""

    def __init__(self, env: RemoteVectorEnv) -> None:
        self.env, self.at, self.steps, self.restarts = env, 0.0, 0, 0
        check((env.reset()[0] == 0).all(), "episodes begin")

    def step(self) -> None:
        count = self.env.num_envs
        observations, rewards, terminated, truncated, infos = self.env.step(np.ones(count, int))
        if truncated.any():
            check(truncated.all() and not terminated.any() and infos["server_restarted"].all(), f"ends are told: {infos}")
            check(all(final[0] == self.at for final in infos["final_obs"]) and not rewards.any(), "nothing is made up")
            check((observations == 0).all(), "episodes begin")
            self.restarts, self.at = self.restarts + 1, 0.0
        else:
            check((observations[:, 0] == self.at + 1).all() and (rewards == self.at + 1).all(), "each step once")
            self.at, self.steps = self.at + 1, self.steps + count


def server_killed(draw: random.Random) -> Counts:
    """SIGKILL in the middle, and another at the same address soon: one client of one environment, one of three."""
    uri, done = f"remote+tcp://127.0.0.1:{free_port()}", APART.Value("q", 0)
    servers = [start(serve, uri, done)]

    def strike() -> None:
        time.sleep(draw.uniform(0.01, 0.2))
        kill(servers[0])
        time.sleep(draw.choice([0, draw.uniform(0, 0.5)]))
        servers.append(start(serve, uri, done))

    one, three = Learner(RemoteEnv(uri, timeout=20)), Learners(RemoteVectorEnv(uri, 3, timeout=20))
    killer = threading.Thread(target=strike)
    killer.start()
    clients = (one, three)
    while not all(client.restarts for client in clients):
        for client in clients:
            client.step()
    killer.join()
    for _ in range(20):
        for client in clients:
            client.step()
    check(one.restarts == three.restarts == 1, f"a restart is told once: {one.restarts}, {three.restarts}")
    received = one.steps + three.steps
    unheard = done.value - received  # done by the first server, whose answer died with it: one request of one client at most
    check(0 <= unheard <= three.env.num_envs, f"{done.value} steps done, {received} answered")
    one.env.close()
    three.env.close()
    kill(servers[1])
    return {"steps done": done.value, "steps answered": received, "restarts told": 2, "cut off with the server, told": unheard}


def server_gone(draw: random.Random) -> Counts:
    """SIGKILL, and nobody comes: one error within the timeout. Then somebody does."""
    uri, done = f"remote+tcp://127.0.0.1:{free_port()}", APART.Value("q", 0)
    server = start(serve, uri, done)
    learner = Learner(RemoteEnv(uri, timeout=20))
    for _ in range(draw.randrange(1, 30)):
        learner.step()
    kill(server)
    learner.env._session.timeout = draw.uniform(0.3, 0.6)
    before = time.monotonic()
    try:
        learner.step()
    except WorldError as error:
        check("the connection broke, and nobody was there again to answer 'step' within" in str(error), error)
    else:
        check(holds=False, told="it is an error")
    check(time.monotonic() - before < 2, "it comes with the timeout")
    learner.env._session.timeout = 20.0
    server = start(serve, uri, done)
    for _ in range(10):
        learner.step()
    check((learner.restarts, learner.at) == (1, 9), "the episode is told to be gone, and another goes on")
    learner.env.close()
    kill(server)
    return {"errors told": 1, "restarts told": 1, "steps answered": learner.steps}


def client_killed(draw: random.Random) -> Counts:
    """SIGKILL of one of two clients: the server and the other one go on."""
    uri, done, theirs = f"remote+tcp://127.0.0.1:{free_port()}", APART.Value("q", 0), APART.Value("q", 0)
    server = start(serve, uri, done)
    victim = start(step_for_ever, uri, theirs)
    learner = Learner(RemoteEnv(uri, timeout=20))
    until(lambda: theirs.value > 0)
    count, at = 300, draw.randrange(20, 250)
    for i in range(count):
        learner.step()
        if i == at:
            kill(victim)
    check(learner.restarts == 0, "the other one goes on")
    check(0 <= done.value - count - theirs.value <= 1, f"{done.value} done, {count} and {theirs.value} answered")
    learner.env.close()
    kill(server)
    return {"steps done": done.value, "steps answered": count + theirs.value}


def step_for_ever(uri: str, steps: Any) -> None:
    learner = Learner(RemoteEnv(uri, timeout=20))
    while True:
        learner.step()
        steps.value = learner.steps


def connection_broken(draw: random.Random) -> Counts:
    """A connection that breaks after some bytes, again and again, in the middle of messages."""
    uri, done = f"remote+tcp://127.0.0.1:{free_port()}", APART.Value("q", 0)
    server = start(serve, uri, done)
    RemoteEnv(uri, timeout=20).close()
    with socket.create_server(("127.0.0.1", 0)) as entrance:
        passing = Passage(entrance, int(uri.rpartition(":")[2]), draw)
        passing.start()
        learner = Learner(RemoteEnv(f"remote+tcp://127.0.0.1:{entrance.getsockname()[1]}", timeout=20))
        while passing.breaks < 10:
            learner.step()
        passing.is_whole = True
        for _ in range(20):
            learner.step()
        check(learner.restarts == 0 and done.value == learner.steps, f"{done.value} steps done, {learner.steps} answered")
        learner.env.close()
        passing.stopped = True
    passing.join()
    kill(server)
    return {"breaks": passing.breaks, "steps done": done.value, "steps answered": learner.steps}


class Passage(threading.Thread):
    """Takes connections and hands on what they carry, until it cuts them."""

    def __init__(self, entrance: socket.socket, port: int, draw: random.Random) -> None:
        super().__init__()
        self.entrance, self.port, self.draw = entrance, port, draw
        self.breaks, self.is_whole, self.stopped = 0, False, False

    def run(self) -> None:
        self.entrance.settimeout(0.05)
        while not self.stopped:
            with contextlib.suppress(TimeoutError):
                near, _ = self.entrance.accept()
                with near, socket.create_connection(("127.0.0.1", self.port)) as far:
                    self.carry(near, far)
                self.breaks += 1

    def carry(self, near: socket.socket, far: socket.socket) -> None:
        left = self.draw.randrange(100, 4000)
        near.settimeout(0.001)
        far.settimeout(0.001)
        while not self.stopped:
            for one, other in ((near, far), (far, near)):
                with contextlib.suppress(TimeoutError):
                    data = one.recv(4096)
                    if not data:
                        return
                    if not self.is_whole and len(data) >= left:
                        other.sendall(data[:left])
                        return
                    other.sendall(data)
                    left -= len(data)


def step_and_tell(uri: str, namespace: str, pipe: Connection) -> None:
    enter(namespace)
    learner = Learner(RemoteEnv(uri, timeout=30, insecure=True))
    failed = ""
    while True:
        try:
            if not failed:
                learner.step()
        except (AssertionError, WorldError) as error:
            failed = str(error)
        if pipe.poll():
            goes_on = pipe.recv()
            pipe.send((learner.steps, learner.restarts, failed))
            if not goes_on:
                return


def pull_cable(draw: random.Random, meanwhile: Callable[[str, Any, Any], Any]) -> tuple[int, int, int]:
    """The cable is pulled for up to 6 seconds, less and more than heartbeats take: steps done, answered, restarts told."""
    uri, done = f"remote+tcp://10.77.0.1:{20_000 + draw.randrange(20_000)}", APART.Value("q", 0)
    ours, theirs = APART.Pipe()
    server = start(serve, uri, done, HERE)
    client = start(step_and_tell, uri, THERE, theirs)

    def report(goes_on: bool = True) -> tuple[int, int]:
        ours.send(goes_on)
        steps, restarts, failed = ours.recv()
        check(not failed, failed)
        return steps, restarts

    try:
        until(lambda: report()[0] > 50)
        network(on=False)
        server = meanwhile(uri, done, server)
        time.sleep(draw.choice([draw.uniform(0.1, 1.0), draw.uniform(3.5, 6.0)]))
        network(on=True)
        at = done.value
        until(lambda: report()[0] > at + 50, 40)
        steps, restarts = report(goes_on=False)
        client.join()
    finally:
        network(on=True)
        for process in (client, server):
            kill(process)
    return done.value, steps, restarts


def cable_pulled(draw: random.Random) -> Counts:
    """The cable is pulled and put back: the episode goes on."""
    done, steps, restarts = pull_cable(draw, lambda uri, done, server: server)
    check(restarts == 0 and done == steps, f"{done} steps done, {steps} answered, {restarts} restarts told")
    return {"steps done": done, "steps answered": steps}


def server_killed_behind_a_cut(draw: random.Random) -> Counts:
    """The server dies and is started anew while the cable is pulled."""

    def restart(uri: str, done: Any, server: Any) -> Any:
        kill(server)
        return start(serve, uri, done, HERE)

    done, steps, restarts = pull_cable(draw, restart)
    check(restarts == 1, f"a restart is told once, not {restarts} times")
    check(0 <= done - steps <= 1, f"{done} steps done, {steps} answered")
    return {"steps done": done, "steps answered": steps, "restarts told": restarts, "cut off with the server, told": done - steps}


CABLED = (cable_pulled, server_killed_behind_a_cut)
FAULTS = (server_killed, server_gone, client_killed, connection_broken, *CABLED)
