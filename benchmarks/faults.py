"""What breaks between a learner and its sensors or a remote environment, each tried many times: what is lost must be reported.

``python benchmarks/faults.py [--tries 100] [--only NAME] [--json FILE]``. Real sockets, real processes, SIGKILL; the network is
cut in network namespaces of its own (root, and ``ip`` of iproute2). Exits with 1 where anything was lost in silence.

``python benchmarks/faults.py --json benchmarks/results/faults.json`` records; about half an
hour on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import remote_faults
import zmq
from breaking import (
    APART,
    HERE,
    THERE,
    Counts,
    check,
    enter,
    free_port,
    kill,
    lay_cable,
    network,
    remove_cable,
    start,
    until,
)

from envs.streams import Curve, PeerRefusedError, Stream, encode, open_stream, publish
from envs.streams.sources import SECOND, Arrival

LAST = "last"


def frame(topic: str, sequence: int, at: float = 0.0, value: Any = 0.0, epoch: int = 1) -> list[bytes]:
    return [bytes(part) for part in encode(topic, value, epoch=epoch, sequence=sequence, capture_time=round(at * SECOND))]


def serve(uri: str, sent: Any, stop: Any, namespace: str | None = None, pause: float = 0.0005) -> None:
    """A publisher's process: samples of ``a`` until ``stop``, then one more, until it has been seen."""
    enter(namespace)
    with publish(uri, insecure=namespace is not None) as publisher:
        publisher.wait_for_subscriber(30)
        while not stop.value:
            sent.value += 1
            publisher.send("a", 0.0)
            time.sleep(pause)
        while stop.value == 1:
            sent.value += 1
            publisher.send("a", 0.0)
            time.sleep(0.02)


def listen(uri: str, pipe: Connection, namespace: str | None = None) -> None:
    """A subscriber's process: tells how many came, what was lost and the last number, when it is asked."""
    enter(namespace)
    with open_stream(uri, insecure=namespace is not None) as stream:
        received = first = high = 0
        while True:
            sample = stream.poll(0.02)
            if sample is not None:
                first = sample.sequence if not received else first
                received, high = received + 1, sample.sequence
            if pipe.poll():
                pipe.recv()
                lost = stream.trackers["a"].lost if stream.trackers else 0
                pipe.send({"received": received, "lost": lost, "first": first, "high": high, "cut": stream.disconnects})


def publisher_killed(draw: random.Random) -> Counts:
    """SIGKILL in the middle, and a new one at the same address."""
    uri = f"zmq+tcp://127.0.0.1:{free_port()}"
    sent, again = APART.Value("q", 0), APART.Value("q", 0)
    stop, received, tail = APART.Value("i", 0), 0, 0
    with open_stream(uri, timeout=20) as stream:
        first = start(serve, uri, sent, stop)
        epoch = next(stream).epoch
        end = time.monotonic() + draw.uniform(0.02, 0.3)
        received = 1
        while time.monotonic() < end:
            received += stream.poll(0.01) is not None
        kill(first)
        while (sample := stream.poll(0.1)) is not None:
            received += 1
        tracker = stream.trackers["a"]
        lost = tracker.lost
        high = received + lost
        tail = sent.value - high  # what had not left the process: nobody can count it
        second = start(serve, uri, again, stop)
        sample = next(stream)
        check(sample.epoch > epoch, "a restart has a larger epoch")
        check(tracker.restarts == 1 and stream.disconnects >= 1, "a restart is told")
        check(sample.lost == sample.sequence, "what the new one sent before we heard it is lost, and told")
        kill(second)
    return {"sent": sent.value, "received": received, "lost": lost, "cut off with the process, told as a restart": max(tail, 0)}


def heard_to_the_end(stream: Stream, send: Callable[[], None], first: int, received: int, last: int) -> Counts:
    """Samples are sent until one after ``last`` has come: what was lost before it is known then."""
    high = -1
    while high < last:
        sample = stream.poll(0.02)
        if sample is None:
            send()
        else:
            received, high = received + 1, sample.sequence
    lost = stream.trackers["a"].lost
    check(received + lost == high + 1 - first, f"{received} + {lost} of {high + 1 - first}")
    return {"sent": high + 1 - first, "received": received, "lost": lost}


def subscriber_killed(draw: random.Random) -> Counts:
    """SIGKILL of one of two subscribers, waited for or not: the publisher and the other one go on."""
    with publish("zmq+tcp://127.0.0.1:0", block=draw.random() < 0.5, high_water=100) as publisher:
        ours, theirs = APART.Pipe()
        victim = start(listen, publisher.uri, theirs)
        check(publisher.wait_for_subscriber(20), "it listens")
        with open_stream(publisher.uri, timeout=20) as stream:
            while (sample := stream.poll(0.01)) is None:
                publisher.send("a", 0.0)
            first, count, at, received = sample.sequence, 2000, draw.randrange(100, 1500), 1
            for i in range(count):
                publisher.send("a", float(i))
                if i == at:
                    os.kill(victim.pid, signal.SIGKILL)
                received += stream.poll(0) is not None
            found = heard_to_the_end(stream, lambda: publisher.send("a", 0.0), first, received, first + count)
        victim.join()
        ours.close()
    return found


def network_cut(draw: random.Random) -> Counts:
    """The cable is pulled for up to 6 seconds: shorter and longer than TCP needs to notice."""
    uri, sent, stop = f"zmq+tcp://10.77.0.1:{20_000 + draw.randrange(20_000)}", APART.Value("q", 0), APART.Value("i", 0)
    ours, theirs = APART.Pipe()
    publisher = start(serve, uri, sent, stop, HERE)
    listener = start(listen, uri, theirs, THERE)

    def report() -> Counts:
        ours.send(None)
        return dict(ours.recv())

    until(lambda: sent.value > 100)
    network(on=False)
    time.sleep(draw.choice([draw.uniform(0.1, 1.0), draw.uniform(4.5, 6.0)]))
    network(on=True)
    at = sent.value
    until(lambda: report()["high"] > at, 30)
    stop.value = 1
    end = sent.value
    until(lambda: report()["high"] >= end, 30)
    got = report()
    stop.value = 2
    publisher.join()
    kill(listener)
    whole = got["high"] + 1 - got["first"]
    check(got["received"] + got["lost"] == whole, f"{got} of {whole}")
    return {"sent": whole, "received": got["received"], "lost": got["lost"], "told as cut off": got["cut"]}


def slow_subscriber(draw: random.Random) -> Counts:
    """It sleeps while the queues of ten messages overflow."""
    with publish("zmq+tcp://127.0.0.1:0", high_water=10) as publisher, open_stream(publisher.uri, high_water=10) as stream:
        check(publisher.wait_for_subscriber(), "it listens")
        received = 0
        for _ in range(1500):
            publisher.send("a", np.zeros(2000))
            received += draw.random() < 0.05 and stream.poll(0) is not None
        return heard_to_the_end(stream, lambda: publisher.send("a", 0.0), 0, received, 1500)


@contextlib.contextmanager
def pushing(messages: list[list[bytes]], timeout: float = 5) -> Iterator[Stream]:
    """A stream to which these messages come over a real socket, in this order."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket_:
        socket_.set_hwm(0)
        port = socket_.bind_to_random_port("tcp://127.0.0.1")
        with open_stream(f"zmq+tcp://127.0.0.1:{port}?pattern=push", timeout=timeout, high_water=0) as stream:
            for parts in [*messages, frame(LAST, 0, 1e9)]:
                socket_.send_multipart(parts)
            yield stream
        socket_.close(0)


def pushed(messages: list[list[bytes]]) -> tuple[Stream, list[Any]]:
    """The stream of these messages, and all its samples."""
    with pushing(messages) as stream:
        return stream, list(itertools.takewhile(lambda sample: sample.topic != LAST, stream))


def reordered_and_duplicated(draw: random.Random) -> Counts:
    kept = [i for i in range(1000) if i in (0, 999) or draw.random() < 0.95]
    order = sorted(kept, key=lambda i: i + draw.uniform(0, 30) * (0 < i < 999))
    repeats = draw.sample(order, 50)
    for i in repeats:
        order.insert(draw.randrange(order.index(i) + 1, len(order) + 1), i)
    stream, samples = pushed([frame("a", i) for i in order])
    tracker = stream.trackers["a"]
    check(sorted(sample.sequence for sample in samples) == kept, "each once")
    check((tracker.lost, tracker.duplicates) == (1000 - len(kept), 50), (tracker.lost, tracker.duplicates))
    return {"sent": 1000, "received": len(samples), "lost": tracker.lost, "repeated": 50, "reordered": tracker.reordered}


def clock_jumps(draw: random.Random) -> Counts:
    """The publisher's clock is set forward and back, by milliseconds and by days."""
    at, frames, count = 1e6, [], 600
    jumps = set(draw.sample(range(50, count - 50), 3))
    for i in range(count):
        at += 0.01 + (draw.choice([-1, 1]) * 10 ** draw.uniform(-2, 5) if i in jumps else 0)
        frames.append(frame("a", i, at, float(i)))
    with pushing(frames, timeout=0.2) as stream:
        aligned = stream.align(rate=50, topics=["a"])
        moments = list(itertools.takewhile(lambda moment: LAST not in moment.values, aligned))
    times = np.array([m.t for m in moments])
    check(stream.trackers["a"].lost == stream.rejected == 0, "all came")
    check(int((np.diff(times) <= 0).sum()) <= aligned.reanchored, "time goes back only where it is told")
    untaken = aligned.sensors["a"].tracker.lost
    check(untaken <= aligned.late, f"{untaken} were not taken, {aligned.late} told as late")
    check(len(moments) > 100, "moments go on")
    return {"sent": count, "received": count - aligned.late, "told as late": aligned.late, "ticks begun anew": aligned.reanchored}


def damaged(draw: random.Random, damage: Callable[[list[bytes]], list[bytes]]) -> Counts:
    bad = set(draw.sample(range(1, 299), 100))
    good = [frame("a", i, value=np.arange(4.0) + i) for i in range(300)]
    stream, samples = pushed([damage(parts) if i in bad else parts for i, parts in enumerate(good)])
    check([sample.sequence for sample in samples] == [i for i in range(300) if i not in bad], "the whole ones came")
    lost = stream.trackers["a"].lost
    check((stream.rejected, lost) == (100, 100), (stream.rejected, lost))
    return {"sent": 300, "received": len(samples), "lost": lost, "rejected": stream.rejected}


def truncated(draw: random.Random) -> Counts:
    def damage(parts: list[bytes]) -> list[bytes]:
        which = draw.randrange(4)
        if which == 3:
            return parts[: draw.randrange(1, 3)]
        return [part[: draw.randrange(len(part))] if i == which else part for i, part in enumerate(parts)]

    return damaged(draw, damage)


def wrong_schema(draw: random.Random) -> Counts:
    others = [b"<i8", b"<f4", b">f8", b"<c8", b"|O8", b"<U2"]
    return damaged(draw, lambda parts: [parts[0], parts[1].replace(b"<f8", draw.choice(others)), parts[2]])


def garbage_at_the_port(draw: random.Random) -> Counts:
    """Strangers that write random bytes to the publisher's port, while another listens."""
    with publish("zmq+tcp://127.0.0.1:0") as publisher, open_stream(publisher.uri, timeout=5) as stream:
        check(publisher.wait_for_subscriber(), "it listens")
        port = int(publisher.uri.rpartition(":")[2])
        for i in range(200):
            if i % 20 == 0:
                with socket.create_connection(("127.0.0.1", port)) as stranger:
                    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48) if draw.random() < 0.5 else b""
                    stranger.sendall(greeting + draw.randbytes(draw.randrange(500)))
            publisher.send("a", float(i))
        got = [next(stream).sequence for _ in range(200)]
    check(got == list(range(200)), "all came")
    return {"sent": 200, "received": 200, "lost": stream.trackers["a"].lost, "strangers": 10}


def wrong_key(draw: random.Random) -> Counts:
    """An unlisted key, another server's key, none: refused, and told to both ends; the listed one loses nothing."""
    server, friend, stranger = (zmq.curve_keypair() for _ in range(3))
    with publish("zmq+tcp://127.0.0.1:0", curve=Curve(*server, allowed=frozenset([friend[0]]))) as publisher:
        with open_stream(publisher.uri, timeout=5, curve=Curve(*friend, server=server[0])) as stream:
            check(publisher.wait_for_subscriber(), "the listed one is admitted")
            keys = draw.choice([Curve(*stranger, server=server[0]), Curve(*friend, server=stranger[0]), None])
            refused = 0
            try:
                with open_stream(publisher.uri, timeout=10, curve=keys) as theirs:
                    next(theirs, None)
            except PeerRefusedError:
                refused = 1
            for i in range(100):
                publisher.send("a", float(i))
            got = [next(stream).sequence for _ in range(100)]
        check(got == list(range(100)), "the listed one lost nothing")
        check(refused == 1 and publisher.refused >= 1, f"told: {refused}, {publisher.refused}")
    return {"sent": 100, "received": 100, "lost": 0, "refused": refused}


def fuzz(count: int, seed: int = 0) -> Counts:
    """Damaged and random frames: no error but `FrameError`, which is counted, and no growth."""
    draw = random.Random(seed)
    kinds: list[Any] = [1.0, np.arange(4.0), {"a": np.zeros((2, 3), np.uint8), "b": 1}, np.zeros((0, 5)), np.zeros(3, bool)]
    good = [frame(topic, 3, 1.0, value) for topic in ("a", "imu") for value in kinds]
    stream = open_stream("memory://fuzz")

    def one() -> list[bytes]:
        parts = list(draw.choice(good))
        for _ in range(draw.randrange(1, 4)):
            which, how = draw.randrange(len(parts)), draw.randrange(6)
            part = bytearray(parts[which])
            if how == 0 or not part:
                part = bytearray(draw.randbytes(draw.randrange(80)))
            elif how == 1:
                del part[draw.randrange(len(part)) :]
            elif how == 2:
                part[draw.randrange(len(part))] = draw.randrange(256)
            elif how == 3:
                part += draw.randbytes(draw.randrange(1, 20))
            elif how == 4:
                parts.insert(which, bytes(part))
            else:
                part[draw.randrange(len(part))] ^= 1 << draw.randrange(8)
            parts[which] = bytes(part)
        return parts

    sizes, taken = [], 0
    for i in range(count):
        taken += stream.read(Arrival(one(), i)) is not None
        if i >= count // 10 and i % (count // 10) == 0:
            sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
    repeated = sum(tracker.duplicates for tracker in stream.trackers.values())
    grown = sizes[-1] - sizes[0]
    check(taken + stream.rejected + repeated == count, (taken, stream.rejected, repeated))
    check(grown < 5_000_000, f"grown by {grown} bytes")
    return {"sent": count, "rejected": stream.rejected, "well-formed": taken, "repeated": repeated, "grown bytes": grown}


FAULTS: dict[str, Callable[[random.Random], Counts]] = {
    function.__name__: function
    for function in (
        publisher_killed, subscriber_killed, network_cut, slow_subscriber, reordered_and_duplicated, clock_jumps, truncated,
        wrong_schema, garbage_at_the_port, wrong_key, *remote_faults.FAULTS,
    )
}  # fmt: skip
#: Those that need two machines.
CABLED = (network_cut, *remote_faults.CABLED)


def run(name: str, tries: int) -> dict[str, Any]:
    """One fault, ``tries`` times: sums of the counts, and the tries in which something was lost in silence."""
    total: Counts = {}
    failures: list[str] = []
    if FAULTS[name] in CABLED:
        remove_cable()
        lay_cable()
    for i in range(tries):
        try:
            counts = FAULTS[name](random.Random(f"{name} {i}"))
        except AssertionError as error:
            failures.append(f"try {i}: {error}")
            continue
        for key, value in counts.items():
            total[key] = total.get(key, 0) + value
    if FAULTS[name] in CABLED:
        remove_cable()
    return {"tries": tries, "failed": len(failures), **total, **({"failures": failures[:5]} if failures else {})}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--frames", type=int, default=1_000_000, help="fuzzed frames")
    parser.add_argument("--only", choices=[*FAULTS, "fuzz"], default=None)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    found: dict[str, Any] = {} if options.json is None or not options.json.exists() else json.loads(options.json.read_text())
    failed = 0
    for name in [*FAULTS, "fuzz"] if options.only is None else [options.only]:
        begun = time.monotonic()
        found[name] = {"failed": 0, **fuzz(options.frames)} if name == "fuzz" else run(name, options.tries)
        failed += found[name]["failed"]
        print(f"{name:26} {time.monotonic() - begun:6.1f} s  {found[name]}", flush=True)
        if options.json is not None:
            options.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
