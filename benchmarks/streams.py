"""Samples a second and latency over loopback TCP, publisher and subscriber in processes of their own, beside bare pyzmq.

``python benchmarks/streams.py [--json FILE]``. Ours and pyzmq take turns; the best of ``--rounds`` is shown. Bare
pyzmq sends and receives the same bytes as parts of one message, and looks at nothing. Exits with 1 where a floor is missed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from envs.streams import encode, open_stream, publish

CASES = {"8 B": (np.zeros(1), 200_000), "1 MB": (np.zeros(125_000), 4_000)}
FLOORS = {"8 B samples/s": 50_000, "1 MB GB/s": 1.0, "latency p50 us": 150, "latency p99 us": 1000}
Ends = Any


def publish_streams(ready: Ends, value: np.ndarray, count: int) -> None:
    with publish("zmq+tcp://127.0.0.1:0", block=True) as publisher:
        ready.send(publisher.uri)
        publisher.wait_for_subscriber(30)
        for _ in range(count):
            publisher.send("a", value)
        ready.recv()


def publish_bare(ready: Ends, value: np.ndarray, count: int) -> None:
    context = zmq.Context()
    with context.socket(zmq.XPUB) as socket:
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        ready.send(f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}")
        socket.recv()
        parts = [bytes(part) for part in encode("a", value)]
        for _ in range(count):
            socket.send_multipart(parts)
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
        self._ours, theirs = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=target, args=(theirs, *arguments))
        self._process.start()

    def __enter__(self) -> str:
        return str(self._ours.recv())

    def __exit__(self, *error: object) -> None:
        self._ours.send(None)
        self._process.join()


def bare_subscriber(address: str) -> zmq.Socket[bytes]:
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.subscribe(b"")
    socket.connect(address)
    return socket


def through_streams(value: np.ndarray, count: int) -> float:
    with Apart(publish_streams, value, count) as uri, open_stream(uri, timeout=30) as stream:
        next(stream)
        start = time.perf_counter()
        for _ in range(count - 1):
            next(stream)
        return (count - 1) / (time.perf_counter() - start)


def through_pyzmq(value: np.ndarray, count: int) -> float:
    with Apart(publish_bare, value, count) as address, bare_subscriber(address) as socket:
        copy = value.nbytes < 65536
        socket.recv_multipart()
        start = time.perf_counter()
        for _ in range(count - 1):
            socket.recv_multipart(copy=copy)
        return (count - 1) / (time.perf_counter() - start)


def latencies(count: int) -> np.ndarray:
    """Microseconds from `send` to the sample, at 1 kHz."""
    with Apart(publish_at, 1000, count) as uri, open_stream(uri, timeout=30) as stream:
        taken = [time.time_ns() - sample.capture_time for _, sample in zip(range(count), stream, strict=False)]
    return np.array(taken[100:]) / 1000


def bare_latencies(count: int) -> np.ndarray:
    with Apart(send_bare_at, 1000, count) as address, bare_subscriber(address) as socket:
        taken = [-int.from_bytes(socket.recv_multipart()[1], "little") + time.time_ns() for _ in range(count)]
    return np.array(taken[100:]) / 1000


def measure(rounds: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, (value, count) in CASES.items():
        pairs = [(through_streams(value, count), through_pyzmq(value, count)) for _ in range(rounds)]
        ours, bare = (max(column) for column in zip(*pairs, strict=True))
        found[f"{name} samples/s"], found[f"{name} GB/s"] = ours, ours * value.nbytes / 1e9
        found[f"{name} pyzmq samples/s"] = bare
        found[f"{name} of pyzmq"] = float(np.median([a / b for a, b in pairs]))
    pairs = [(latencies(5000), bare_latencies(5000)) for _ in range(rounds)]
    for rank in (50, 99):
        ours, bare = (min(float(np.percentile(taken, rank)) for taken in column) for column in zip(*pairs, strict=True))
        found[f"latency p{rank} us"], found[f"pyzmq latency p{rank} us"] = ours, bare
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found = measure(options.rounds)
    missed = False
    for name, figure in found.items():
        floor = FLOORS.get(name)
        failed = floor is not None and (figure > floor if "latency" in name else figure < floor)
        missed |= failed
        print(f"{name:24} {figure:12,.2f}" + ("" if floor is None else f"   floor {floor:,g}{' MISSED' if failed else ''}"))
    load = os.getloadavg()[0]
    print(f"load of the machine at the end: {load:.1f} on {os.cpu_count()} cores")
    if options.json is not None:
        options.json.write_text(json.dumps({"cores": os.cpu_count(), "load": load, **found}, indent=1) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
