"""Environments elsewhere: the same as at home, whatever happens to the connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import zmq
from gymnasium.utils.env_checker import check_env

import envs
from envs.remote import EnvServer, RemoteEnv, RemoteVectorEnv
from envs.remote.messages import VERSION, Reply, Request, decode_reply, encode
from envs.streams import Curve, create_keys
from rlcore.errors import UsageError, WorldError

HERE = "remote+tcp://127.0.0.1:0"
Serve = Callable[..., EnvServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers in threads of this process."""
    running = []

    def start(env: Any, **options: Any) -> EnvServer:
        server = EnvServer(env, options.pop("at", HERE), **options)
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.stop()
        thread.join()
        server.close()


@pytest.mark.parametrize("name", ["rlcore/Car-v0", "rlcore/CarSensors-v0"])
def test_gymnasium_checks_it(serve: Serve, name: str):
    env = gymnasium.make("rlcore/Remote-v0", address=serve(name).uri)
    check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Blackjack-v1", "rlcore/CarSensors-v0"])
def test_is_the_local_environment(serve: Serve, name: str):
    server = serve(name)
    remote, local = RemoteEnv(server.uri), envs.make.make_env(name)
    assert remote.observation_space == local.observation_space
    assert remote.action_space == local.action_space
    local.action_space.seed(0)
    for seed in (0, 1):
        assert_same(remote.reset(seed=seed), local.reset(seed=seed))
        for _ in range(60):
            action = local.action_space.sample()
            step = local.step(action)
            assert_same(remote.step(action), step)
            if step[2] or step[3]:
                assert_same(remote.reset(), local.reset())
    remote.close()


def assert_same(one: Any, other: Any) -> None:
    assert isinstance(one, dict | tuple | bool) == isinstance(other, dict | tuple | bool)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, tuple):
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        np.testing.assert_array_equal(one, other)
        assert not isinstance(other, np.ndarray) or one.dtype == other.dtype


@pytest.mark.parametrize("name", ["CartPole-v1", "Blackjack-v1"])
def test_several_are_gymnasiums_vector(serve: Serve, name: str):
    same_step = gymnasium.vector.AutoresetMode.SAME_STEP
    local = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make(name)] * 3, autoreset_mode=same_step)
    remote = RemoteVectorEnv(serve(name).uri, 3)
    assert remote.action_space == local.action_space
    local.action_space.seed(0)
    assert_same(remote.reset(seed=5), local.reset(seed=5))
    ended = 0
    for _ in range(60):
        actions = local.action_space.sample()
        (*ours, our_infos), (*theirs, infos) = remote.step(actions), local.step(actions)
        assert_same(tuple(ours), tuple(theirs))
        assert our_infos.keys() >= {"final_obs", "_final_obs"} & infos.keys()
        if "final_obs" in infos:
            ended += 1
            np.testing.assert_array_equal(our_infos["_final_obs"], infos["_final_obs"])
            for one, other in zip(our_infos["final_obs"], infos["final_obs"], strict=True):
                assert_same(one, other)
    assert ended > 2
    remote.close()


def test_it_is_a_world_by_its_address(serve: Serve):
    uri = serve("CartPole-v1").uri
    for count in (1, 3):
        world, local = envs.make_world(uri, num_envs=count), envs.make_world("CartPole-v1", num_envs=count, vectorization="sync")
        np.testing.assert_array_equal(world.reset(seed=0), local.reset(seed=0))
        for i in range(50):
            ours, theirs = world.step(np.full(count, i % 2)), local.step(np.full(count, i % 2))
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(one, other)
        world.close()


class Counter(gymnasium.Env[Any, Any]):
    """Observes how often it was stepped; an action of 1 takes a while, 2 raises."""

    observation_space = gymnasium.spaces.Box(0, 1e9, (1,), np.float64)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, slow: float = 0.0) -> None:
        self.count, self.slow = 0, slow

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0 if options is None else options["count"]
        return np.array([self.count], np.float64), {"options": options}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        time.sleep(self.slow * (action == 1))
        if action == 2:
            message = "no such\n action"
            raise ZeroDivisionError(message)
        return np.array([self.count], np.float64), float(self.count), False, False, {"call": len, "pair": (1, np.float32(2))}


def test_info_options_and_errors_travel(serve: Serve):
    env = RemoteEnv(serve(lambda render_mode: Counter()).uri)
    observation, info = env.reset(options={"count": 7})
    assert observation[0] == 7
    assert info == {"options": {"count": 7}}
    assert env.step(0)[4] == {"pair": (1, np.float32(2)), "~left out": ["call"]}
    with pytest.raises(WorldError, match=r"127.0.0.1:\d+: step raised ZeroDivisionError: no such action$"):
        env.step(2)
    assert env.step(0)[0][0] == 10
    env.close()
    several = RemoteVectorEnv(serve(lambda render_mode: Counter()).uri, 2)
    several.reset()
    with pytest.raises(WorldError, match="environment 1: step raised ZeroDivisionError"):
        several.step(np.array([0, 2]))
    several.close()


class Gate(threading.Thread):
    """A network between client and server that can lose what passes."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        self.target = uri.removeprefix("remote+")
        self.requests = self.answers = self.lose_answers = self.lose_requests = 0
        self.stopped, self.ready = False, threading.Event()

    def run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as front:
            self.uri = f"remote+tcp://127.0.0.1:{front.bind_to_random_port('tcp://127.0.0.1')}"
            self.ready.set()
            backs: dict[bytes, zmq.Socket[bytes]] = {}
            while not self.stopped:
                if front.poll(2):
                    identity, message = front.recv_multipart()
                    if identity not in backs:
                        backs[identity] = context.socket(zmq.DEALER)
                        backs[identity].linger = 0
                        backs[identity].setsockopt(zmq.IDENTITY, identity)
                        backs[identity].connect(self.target)
                    self.requests += 1
                    if self.lose_requests:
                        self.lose_requests -= 1
                    else:
                        backs[identity].send(message)
                for identity, back in backs.items():
                    while back.poll(0):
                        message = back.recv()
                        self.answers += 1
                        if self.lose_answers:
                            self.lose_answers -= 1
                        else:
                            front.send_multipart([identity, message])
            for back in backs.values():
                back.close()


@pytest.fixture
def gate(serve: Serve) -> Iterator[Gate]:
    gate = Gate(serve(lambda render_mode: Counter(slow=0.6)).uri)
    gate.start()
    gate.ready.wait()
    yield gate
    gate.stopped = True
    gate.join()


def test_lost_requests_and_answers_lose_no_step_and_double_none(gate: Gate):
    env = RemoteEnv(gate.uri)
    env.reset()
    for step in range(1, 7):
        gate.lose_answers, gate.lose_requests = step % 2, step // 2 % 2
        assert env.step(0)[0][0] == step
    assert gate.requests > gate.answers > 8
    env.close()


def test_a_slow_step_is_asked_for_again_and_done_once(gate: Gate):
    env = RemoteEnv(gate.uri)
    env.reset()
    assert env.step(1)[0][0] == 1
    assert env.step(0)[0][0] == 2
    assert gate.requests > 4
    env.close()


def test_says_whether_nobody_is_there_or_somebody_is_busy(serve: Serve):
    server = EnvServer("CartPole-v1", HERE)
    server.close()
    with pytest.raises(WorldError, match=r"nobody answered 'open' within 0.4 s: is `run-agent serve-env` running there\?"):
        RemoteEnv(server.uri, timeout=0.4)
    env = RemoteEnv(serve(lambda render_mode: Counter(slow=1.0)).uri, timeout=0.3)
    env.reset()
    with pytest.raises(WorldError, match=r"is connected, but did not answer 'step' within 0.3 s"):
        env.step(1)
    time.sleep(1)
    assert env.reset()[0][0] == 0
    assert env.step(0)[0][0] == 1
    env.close()
    env.close()


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, tuple[Path, Path]]:
    """Public and secret key files, by name."""
    return {name: create_keys(tmp_path / name, name) for name in ("server", "friend", "stranger")}


def test_only_listed_keys_are_admitted(serve: Serve, keys: dict[str, tuple[Path, Path]]):
    server_key, secret = keys["server"]
    uri = serve("CartPole-v1", curve=Curve.load(secret, allowed=keys["friend"][0].parent)).uri
    world = envs.make_world(f"{uri}?key={keys['friend'][1]}&server={server_key}")
    assert world.reset(seed=0).shape == (1, 4)
    world.close()
    with pytest.raises(WorldError, match=r"the server refused the connection: it does not admit our key"):
        RemoteEnv(f"{uri}?key={keys['stranger'][1]}&server={server_key}", timeout=5)
    for wrong in (f"?key={keys['friend'][1]}&server={keys['stranger'][0]}", ""):
        with pytest.raises(WorldError, match=r"the server refused the connection: .*one end has"):
            RemoteEnv(uri + wrong, timeout=5)
    with pytest.raises(UsageError, match=r"expected \?key=FILE&server=FILE, .* got \['key'\]"):
        RemoteEnv(f"{uri}?key={keys['friend'][1]}")


def test_addresses():
    public, secret = zmq.curve_keypair()
    with pytest.raises(
        UsageError, match=r"0.0.0.0 is not this machine alone; give curve=Curve\(...\) with allowed=, or insecure=True"
    ):
        EnvServer("CartPole-v1", "zmq+tcp://0.0.0.0:0")
    with pytest.raises(UsageError, match=r"give \?key=FILE&server=FILE in the address, or insecure=True"):
        RemoteEnv("remote+tcp://example.org:5700")
    for address in ("remote+tcp://127.0.0.1", "remote+udp://127.0.0.1:1", "remote+tcp://127.0.0.1:port", "remote+ipc://"):
        with pytest.raises(UsageError, match=r"expected remote\+tcp://host:port or remote\+ipc:///path"):
            envs.make_world(address)
    with pytest.raises(UsageError, match=r"without those of who is admitted; give curve=Curve\(...\) with allowed=$"):
        EnvServer("CartPole-v1", HERE, curve=Curve(public, secret))
    with pytest.raises(UsageError, match=r"without the server's; give curve=Curve\(...\) with server=$"):
        RemoteEnv("remote+tcp://127.0.0.1:1", curve=Curve(public, secret))
    with EnvServer("CartPole-v1", HERE) as server, pytest.raises(UsageError, match="Address already in use"):
        EnvServer("CartPole-v1", server.uri)


def test_nonsense_is_refused_and_harms_nobody(serve: Serve):
    server = serve("CartPole-v1")
    env = RemoteEnv(server.uri)
    env.reset()
    random = np.random.default_rng(0)
    good = encode(Request(VERSION, 1, "step", None, bytes(8)))
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(server.uri.removeprefix("remote+"))

        def ask(*parts: bytes) -> Reply:
            socket.send_multipart(parts)
            assert socket.poll(5000)
            return decode_reply(socket.recv())

        assert ask(good).outcome == "unknown"
        assert "expected a message of one part, got 2" in ask(good, b"").body
        assert "expected a message of version 1, got 9" in ask(encode(Request(9, 1, "step"))).body
        assert "open: expected num_envs from 1 to 1024" in ask(encode(Request(VERSION, 0, "open", {"num_envs": 10**9}))).body
        assert ask(encode(Request(VERSION, 0, "open", {"num_envs": 1, "render_mode": None}))).outcome == "ok"
        assert "expected request 0 again, or 1, got 5" in ask(encode(Request(VERSION, 5, "step"))).body
        assert "expected open, reset, step, render or close, got 'fly'" in ask(encode(Request(VERSION, 1, "fly"))).body
        assert "expected another body" in ask(encode(Request(VERSION, 1, "reset", [3]))).body
        assert "8 bytes, got 3" in ask(encode(Request(VERSION, 1, "step", None, b"abc"))).body
        for _ in range(2000):
            bent = bytearray(good)
            bent[random.integers(len(bent))] = random.integers(256)
            assert ask(bytes(bent[: random.integers(1, len(bent) + 1)])).outcome in ("refused", "failed", "ok", "unknown")
            assert ask(random.bytes(random.integers(1, 40))).outcome == "refused"
    assert env.step(1)[1] == 1.0
    assert server.rejected > 2000
    env.close()


def test_sessions_end_with_their_clients(serve: Serve):
    server = serve(lambda render_mode: Counter(), keep=0.3)
    RemoteEnv(server.uri).close()
    env = RemoteEnv(server.uri)
    env.reset()
    assert server.sessions == 1
    time.sleep(0.7)
    assert server.sessions == 0
    assert env.step(0)[4] == {"server_restarted": True}
    env.close()


def test_pictures(serve: Serve):
    env = gymnasium.make("rlcore/Remote-v0", address=serve("rlcore/Car-v0").uri, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (600, 800, 3)
    env.close()
    with pytest.raises(UsageError, match="expected render_mode None or 'rgb_array', got 'human'"):
        RemoteEnv("remote+tcp://127.0.0.1:1", render_mode="human")
