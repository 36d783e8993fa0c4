"""What a step of a remote environment costs over loopback TCP, beside a bare pyzmq round trip and the local environment.

``python benchmarks/remote.py [--json FILE]``. Server and client are processes of their own; the three take turns, in blocks.
A figure is the median step of the quietest block.

``python benchmarks/remote.py --json benchmarks/results/remote.json`` records; about ten seconds on two cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import zmq

from envs.make import make_env
from envs.remote import EnvServer, RemoteEnv, RemoteVectorEnv

#: Microseconds that a step may cost beyond the local environment's.
LIMIT = 150
ENVS = ("CartPole-v1", "rlcore/Car-v0")
BLOCKS, STEPS = 9, 400


def echo(address: Any) -> None:
    """A bare server: what comes goes back."""
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        address.send(socket.bind_to_random_port("tcp://127.0.0.1"))
        while (message := socket.recv()) != b"stop":
            socket.send(message)


def serve(env_id: str, address: Any) -> None:
    with EnvServer(env_id, "remote+tcp://127.0.0.1:0") as server:
        address.send(server.uri)
        server.run(600)


def start(target: Any, *arguments: Any) -> tuple[Any, Any]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(*arguments, there), daemon=True)
    process.start()
    return process, here.recv()


def middle(times: list[float]) -> float:
    """Microseconds: the median step."""
    return float(np.median(times)) * 1e6


def time_env(env: gymnasium.Env[Any, Any], action: Any) -> float:
    """Microseconds a step; resets are not counted."""
    env.reset()
    times = []
    for _ in range(STEPS):
        before = time.perf_counter()
        _, _, terminated, truncated, _ = env.step(action)
        times.append(time.perf_counter() - before)
        if terminated or truncated:
            env.reset()
    return middle(times)


def time_vector(env: RemoteVectorEnv, actions: Any) -> float:
    env.reset()
    times = []
    for _ in range(STEPS // 4):
        before = time.perf_counter()
        env.step(actions)
        times.append(time.perf_counter() - before)
    return middle(times) / env.num_envs


def time_bare(socket: Any) -> float:
    times = []
    for _ in range(STEPS):
        before = time.perf_counter()
        socket.send(b"x" * 60)
        socket.recv()
        times.append(time.perf_counter() - before)
    return middle(times)


def measure(env_id: str, bare: Any) -> dict[str, Any]:
    process, uri = start(serve, env_id)
    local, remote, vector = make_env(env_id), RemoteEnv(uri), RemoteVectorEnv(uri, 8)
    action = local.action_space.sample()
    actions = np.stack([action] * 8)
    timed: dict[str, list[float]] = {"local": [], "bare": [], "remote": [], "vector": []}
    for _ in range(BLOCKS):
        timed["local"].append(time_env(local, action))
        timed["bare"].append(time_bare(bare))
        timed["remote"].append(time_env(remote, action))
        timed["vector"].append(time_vector(vector, actions))
    remote.close()
    vector.close()
    process.terminate()
    # Other work on the machine only adds: the quietest block of each.
    quiet = {name: min(values) for name, values in timed.items()}
    cost = quiet["remote"] - quiet["local"]
    return {
        "env": env_id,
        "local_us": round(quiet["local"], 1),
        "bare_pyzmq_us": round(quiet["bare"], 1),
        "remote_us": round(quiet["remote"], 1),
        "remote_8_us_per_env": round(quiet["vector"], 1),
        "cost_us": round(cost, 1),
        "cost_over_bare": round(cost / quiet["bare"], 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    process, port = start(echo)
    with zmq.Context() as context, context.socket(zmq.REQ) as bare:
        bare.connect(f"tcp://127.0.0.1:{port}")
        results = [measure(env_id, bare) for env_id in ENVS]
        bare.send(b"stop")
    process.join()
    for result in results:
        print(
            f"{result['env']}: local {result['local_us']} us, remote {result['remote_us']} us, "
            f"{result['remote_8_us_per_env']} us each of 8; cost {result['cost_us']} us (limit {LIMIT}), "
            f"{result['cost_over_bare']} of a bare pyzmq round trip ({result['bare_pyzmq_us']} us)"
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"limit_us": LIMIT, "results": results}, indent=1) + "\n")
    return 0 if all(result["cost_us"] <= LIMIT for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
