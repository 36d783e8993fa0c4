"""Samples a second and latency over loopback TCP, publisher and subscriber in processes of their own, beside bare pyzmq.

``python benchmarks/streams.py [--json FILE]``. Ours and pyzmq take turns; the best of ``--rounds`` is shown. Bare
pyzmq sends and receives the same bytes as parts of one message, and looks at nothing. Exits with 1 where a floor is missed.

``python benchmarks/streams.py --json benchmarks/results/streams.json`` records; about three minutes on two cores.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from envs.streams import encode, open_stream, publish

CASES = {"8 B": (np.zeros(1), 60_000), "1 MB": (np.zeros(125_000), 1_500)}
FLOORS = {"8 B samples/s": 50_000, "1 MB GB/s": 1.0, "latency p50 us": 150, "latency p99 us": 1000}
Ends = Any


def publish_streams(ready: Ends, value: np.ndarray, count: int) -> None:
    with publish("zmq+tcp://127.0.0.1:0", block=True) as publisher:
        ready.send(publisher.uri)
        publisher.wait_for_subscriber(30)
        begun = time.thread_time()
        for _ in range(count):
            publisher.send("a", value)
        ready.send(time.thread_time() - begun)
        ready.recv()


def publish_bare(ready: Ends, value: np.ndarray, count: int) -> None:
    context = zmq.Context()
    with context.socket(zmq.XPUB) as socket:
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        ready.send(f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}")
        socket.recv()
        parts = [bytes(part) for part in encode("a", value)]
        begun = time.thread_time()
        for _ in range(count):
            socket.send_multipart(parts)
        ready.send(time.thread_time() - begun)
        ready.recv()


def publish_at(ready: Ends, rate: float, count: int) -> None:
    with publish("zmq+tcp://127.0.0.1:0") as publisher:
        ready.send(publisher.uri)
        publisher.wait_for_subscriber(30)
        start = time.perf_counter()
        for i in range(count):
            time.sleep(max(start + i / rate - time.perf_counter(), 0))
            publisher.send("a", 1.0)
        ready.recv()


def send_bare_at(ready: Ends, rate: float, count: int) -> None:
    context = zmq.Context()
    with context.socket(zmq.XPUB) as socket:
        ready.send(f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}")
        socket.recv()
        start = time.perf_counter()
        for i in range(count):
            time.sleep(max(start + i / rate - time.perf_counter(), 0))
            socket.send_multipart([b"a", time.time_ns().to_bytes(8, "little"), b"12345678"])
        ready.recv()


class Apart:
    """The publisher's process, and the address that it tells."""

    def __init__(self, target: Any, *arguments: Any) -> None:
        self.pipe, theirs = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=target, args=(theirs, *arguments))
        self._process.start()

    def __enter__(self) -> str:
        return str(self.pipe.recv())

    def __exit__(self, *error: object) -> None:
        self.pipe.send(None)
        self._process.join()


def bare_subscriber(address: str) -> zmq.Socket[bytes]:
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.subscribe(b"")
    socket.connect(address)
    return socket


def timed(take: Callable[[], Any], count: int, apart: Apart) -> np.ndarray:
    """Samples a second, and the microseconds of processor time that each takes here and there."""
    take()
    begun, cpu = time.perf_counter(), time.thread_time()
    for _ in range(count - 1):
        take()
    cpu, passed = time.thread_time() - cpu, time.perf_counter() - begun
    return np.array([(count - 1) / passed, cpu / count * 1e6, apart.pipe.recv() / count * 1e6])


def through_streams(value: np.ndarray, count: int) -> np.ndarray:
    apart = Apart(publish_streams, value, count)
    with apart as uri, open_stream(uri, timeout=30) as stream:
        return timed(lambda: next(stream), count, apart)


def through_pyzmq(value: np.ndarray, count: int) -> np.ndarray:
    apart = Apart(publish_bare, value, count)
    with apart as address, bare_subscriber(address) as socket:
        return timed(lambda: socket.recv_multipart(copy=value.nbytes < 65536), count, apart)


def latencies(count: int) -> np.ndarray:
    """Microseconds from `send` to the sample, at 1 kHz."""
    with Apart(publish_at, 1000, count) as uri, open_stream(uri, timeout=30) as stream:
        taken = [time.time_ns() - sample.capture_time for _, sample in zip(range(count), stream, strict=False)]
    return np.array(taken[100:]) / 1000


def bare_latencies(count: int) -> np.ndarray:
    with Apart(send_bare_at, 1000, count) as address, bare_subscriber(address) as socket:
        taken = [-int.from_bytes(socket.recv_multipart()[1], "little") + time.time_ns() for _ in range(count)]
    return np.array(taken[100:]) / 1000


def throughput(name: str, rounds: int) -> dict[str, float]:
    value, count = CASES[name]
    pairs = np.array([(through_streams(value, count), through_pyzmq(value, count)) for _ in range(rounds)])
    ours, bare = pairs[..., 0].max(0)
    _, receiving, sending = pairs[:, 0].min(0)
    _, bare_receiving, bare_sending = pairs[:, 1].min(0)
    return {
        f"{name} samples/s": ours, f"{name} GB/s": ours * value.nbytes / 1e9, f"{name} pyzmq samples/s": bare,
        f"{name} of pyzmq": float(np.median(pairs[:, 0, 0] / pairs[:, 1, 0])),
        f"{name} us of cpu receiving": receiving, f"{name} us of cpu sending": sending,
        f"{name} pyzmq us of cpu receiving": bare_receiving, f"{name} pyzmq us of cpu sending": bare_sending,
    }  # fmt: skip


def latency(rounds: int) -> dict[str, float]:
    found = {}
    pairs = [(latencies(3000), bare_latencies(3000)) for _ in range(rounds)]
    for rank in (50, 99):
        ours, bare = (min(float(np.percentile(taken, rank)) for taken in column) for column in zip(*pairs, strict=True))
        found[f"latency p{rank} us"], found[f"pyzmq latency p{rank} us"] = ours, bare
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    missed, found = False, dict[str, float]()
    for part in (*[functools.partial(throughput, name) for name in CASES], latency):
        for name, figure in part(options.rounds).items():
            found[name] = round(figure, 3)
            floor = FLOORS.get(name)
            failed = floor is not None and (figure > floor if "latency" in name else figure < floor)
            missed |= failed
            print(
                f"{name:32} {figure:12,.2f}" + ("" if floor is None else f"   floor {floor:,g}{' MISSED' if failed else ''}"),
                flush=True,
            )
    load = os.getloadavg()[0]
    print(f"load of the machine at the end: {load:.1f} on {os.cpu_count()} cores")
    if options.json is not None:
        options.json.write_text(json.dumps({"cores": os.cpu_count(), "load": load, **found}, indent=1) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
