"""Samples a second over loopback TCP, beside bare pyzmq in the same run: ``python benchmarks/streams.py``."""

from __future__ import annotations

import threading
import time

import numpy as np
import zmq

from envs.streams import open_stream, publish


def through_streams(value: np.ndarray, count: int) -> float:
    with publish("zmq+tcp://127.0.0.1:0", block=True) as publisher, open_stream(publisher.uri, timeout=2) as stream:
        publisher.wait_for_subscriber()
        sender = threading.Thread(target=lambda: [publisher.send("a", value) for _ in range(count)])
        start = time.perf_counter()
        sender.start()
        for _ in range(count):
            next(stream)
        seconds = time.perf_counter() - start
        sender.join()
    return count / seconds


def through_pyzmq(value: np.ndarray, count: int) -> float:
    context = zmq.Context()
    with context.socket(zmq.PUSH) as push, context.socket(zmq.PULL) as pull:
        pull.connect(f"tcp://127.0.0.1:{push.bind_to_random_port('tcp://127.0.0.1')}")
        parts = [b"a", bytes(60), value.data]
        sender = threading.Thread(target=lambda: [push.send_multipart(parts) for _ in range(count)])
        start = time.perf_counter()
        sender.start()
        for _ in range(count):
            pull.recv_multipart(copy=value.nbytes < 65536)
        seconds = time.perf_counter() - start
        sender.join()
    context.term()
    return count / seconds


def latencies(count: int) -> np.ndarray:
    """Microseconds from `send` to the sample, at 1 kHz."""
    with publish("zmq+tcp://127.0.0.1:0") as publisher, open_stream(publisher.uri, timeout=2) as stream:
        publisher.wait_for_subscriber()

        def send() -> None:
            for _ in range(count):
                publisher.send("a", 1.0)
                time.sleep(0.001)

        sender = threading.Thread(target=send)
        sender.start()
        taken = np.array([sample.receive_time - sample.capture_time for _, sample in zip(range(count), stream, strict=False)])
        sender.join()
    return taken / 1000


for name, value, count in (("8 B", np.zeros(1), 50_000), ("1 MB", np.zeros(125_000), 1_000)):
    ours, bare = through_streams(value, count), through_pyzmq(value, count)
    print(
        f"{name}: {ours:,.0f} samples/s ({ours * value.nbytes / 1e9:.2f} GB/s); bare pyzmq {bare:,.0f}; {ours / bare:.2f} of it"
    )
taken = latencies(2000)
print(f"latency at 1 kHz: p50 {np.percentile(taken, 50):.0f} us, p99 {np.percentile(taken, 99):.0f} us")
