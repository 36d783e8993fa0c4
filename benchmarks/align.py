"""Eight hours of six sensors at 100 Hz through `align`: memory and time of one core. ``python benchmarks/align.py [--hours 8]``.

Simulated: frames are made and read as fast as it goes, and the time of one core is given relative to the simulated time; making
the frames is part of it. Then live, for ``--seconds``: six sensors of another process over loopback TCP on the wall clock, where
only this process, its socket threads included, is counted. Exits with 1 where a floor is missed.

``python benchmarks/align.py --json benchmarks/results/align.json`` records; about six minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from envs.streams import Stream, encode, open_stream, publish
from envs.streams.sources import SECOND, Arrival

SENSORS = {
    "imu": np.zeros(6), "wheels": np.zeros(4), "gps": np.zeros(3), "lidar": np.zeros(360, np.float32),
    "steering": np.zeros(()), "cam": np.zeros((32, 32, 3), np.uint8),
}  # fmt: skip
RATE = 100
CPU_FLOOR, GROWTH_FLOOR = 0.15, 5.0


class Simulated:
    """The frames of all sensors, with jitter, a lost one and a late one now and then."""

    live = False
    topics = tuple(SENSORS)
    disconnects = 0

    def __init__(self, hours: float) -> None:
        self._frames = self._all(round(hours * 3600 * RATE))

    def _all(self, ticks: int) -> Iterator[Arrival]:
        jitter = np.random.default_rng(0).integers(0, SECOND // RATE // 2, 1009).tolist()
        late: list[Arrival] = []
        for tick in range(ticks):
            for number, (topic, value) in enumerate(SENSORS.items()):
                index = tick * len(SENSORS) + number
                at = tick * (SECOND // RATE) + jitter[index % 1009]
                arrival = Arrival(encode(topic, value, epoch=1, sequence=tick, capture_time=at, publish_time=at), at)
                if index % 1000 == 7:
                    continue
                if index % 1000 == 500:
                    late.append(arrival)
                    continue
                yield arrival
            if tick % 5 == 0:
                yield from late
                late.clear()

    def receive(self, timeout: float | None) -> Arrival:
        arrival = next(self._frames, None)
        if arrival is None:
            raise EOFError
        return arrival

    def close(self) -> None: ...


def memory() -> float:
    """Resident megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def simulated(hours: float) -> dict[str, float]:
    ticks = hours * 3600 * RATE
    aligned = Stream(Simulated(hours)).align(RATE, max_age=0.1, on_stale="mask", rates=dict.fromkeys(SENSORS, RATE), slack=0.1)
    sizes, lost, count = [], 0, 0
    begun = time.process_time()
    for moment in aligned:
        count += 1
        lost += sum(moment.lost.values())
        if count % (ticks // 50) == 0:
            sizes.append(memory())
    seconds = time.process_time() - begun
    return {
        "simulated hours": hours, "moments": count, "lost, told": lost, "late, told": aligned.late,
        "share of one core": seconds / (hours * 3600),
        "MB at the start": sizes[2], "MB at the end": sizes[-1], "MB most": max(sizes),
    }  # fmt: skip


def sensors(pipe: Any, seconds: float) -> None:
    with publish("zmq+tcp://127.0.0.1:0") as publisher:
        pipe.send(publisher.uri)
        publisher.wait_for_subscriber(30)
        begun = time.perf_counter()
        for tick in range(round(seconds * RATE)):
            time.sleep(max(begun + tick / RATE - time.perf_counter(), 0))
            for topic, value in SENSORS.items():
                publisher.send(topic, value)
        pipe.recv()


def live(seconds: float) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=sensors, args=(theirs, seconds + 2))
    process.start()
    with open_stream(ours.recv(), topics=list(SENSORS), timeout=1) as stream:
        moments = iter(stream.align(RATE, clock="wall", rates=dict.fromkeys(SENSORS, RATE)))
        first = next(moments)
        begun, cpu, count = time.perf_counter(), time.process_time(), 1
        while time.perf_counter() - begun < seconds:
            moment = next(moments)
            count += 1
        cpu, passed = time.process_time() - cpu, time.perf_counter() - begun
        lost = sum(tracker.lost for tracker in stream.trackers.values())
    ours.send(None)
    process.join()
    return {
        "live seconds": passed, "live moments": count, "live Hz": (count - 1) / (moment.t - first.t) * SECOND, "live lost": lost,
        "live share of one core": cpu / passed,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    found = {**simulated(options.hours), **live(options.seconds)}
    found["MB grown"] = found["MB most"] - found["MB at the start"]
    for name, figure in found.items():
        print(f"{name:24} {figure:14,.3f}")
    if options.json is not None:
        options.json.write_text(json.dumps({name: round(figure, 4) for name, figure in found.items()}, indent=1) + "\n")
    kept = max(found["share of one core"], found["live share of one core"]) <= CPU_FLOOR and found["MB grown"] <= GROWTH_FLOOR
    print("floors: at most 0.15 of one core, 5 MB of growth:", "kept" if kept else "MISSED")
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
