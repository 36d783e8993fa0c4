"""Sensor streams: frames, sockets, alignment, recordings, and what happens when one of them breaks."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as arrays_of
import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.streams import (
    Curve,
    FrameError,
    PeerRefusedError,
    StaleError,
    StreamAddressError,
    decode,
    encode,
    open_stream,
    publish,
    record,
    replay,
)
from envs.streams.sources import SECOND, unpack
from envs.streams.tracking import Tracker
from tensor.data import DataLoader

DTYPES = st.sampled_from(["<f4", "<f8", "<i8", "|u1", "|b1", "<c8", ">f4"])
ARRAYS = DTYPES.flatmap(lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0)))
DRIVE = {"imu": np.arange(100.0), "cam": np.arange(20 * 6, dtype=np.uint8).reshape(20, 2, 3)}
RATES = {"imu": 100.0, "cam": 20.0}


def frame(topic: str, sequence: int, at: float, value: Any = 0.0, epoch: int = 1) -> list[bytes]:
    return [bytes(part) for part in encode(topic, value, epoch=epoch, sequence=sequence, capture_time=round(at * SECOND))]


def heard(frames: list[Any], name: str, **options: Any) -> Any:
    """A live stream of these frames, in this order."""
    stream = open_stream(f"memory://{name}", timeout=0.02, high_water=0, **options)
    with publish(f"memory://{name}") as publisher:
        for parts in frames:
            publisher.send_parts(parts)
    return stream


def plain(moments: Any) -> list[Any]:
    return [(m.t, {k: v.tobytes() for k, v in m.values.items()}, *m[2:]) for m in moments]


@given(
    topic=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=40),
    value=ARRAYS | st.dictionaries(st.text(max_size=5), ARRAYS, min_size=1),
)
@settings(max_examples=100, deadline=None)
def test_frames_keep_every_bit(topic: str, value: Any) -> None:
    got = decode([bytes(part) for part in encode(topic, value, epoch=3, sequence=5, capture_time=7, publish_time=9)])
    theirs = got.value if isinstance(got.value, dict) else {"": got.value}
    ours = value if isinstance(value, dict) else {"": value}
    assert (got.topic, *msgspec.structs.astuple(got.header)[2:6]) == (topic, 3, 5, 7, 9)
    assert {k: (a.dtype.str, a.shape, a.tobytes()) for k, a in theirs.items()} == {
        k: (a.dtype.str, a.shape, a.tobytes()) for k, a in ours.items()
    }


def test_garbage_is_a_frame_error_and_nothing_else() -> None:
    draw = random.Random(0)
    good = frame("imu", 0, 0.0, np.arange(4.0))
    refused = 0
    for case in range(20_000):
        parts = [draw.randbytes(draw.randrange(40)) for _ in range(draw.randrange(6))] if case % 2 else list(good)
        if not case % 2:
            which = draw.randrange(3)
            damaged = bytearray(parts[which])
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
            parts[which] = bytes(damaged[: draw.randrange(len(damaged) + 1)])
        try:
            decode(parts)
        except FrameError:
            refused += 1
    assert refused > 15_000


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda parts: parts[:2], "expected 3 to 66 parts, got 2"),
        (lambda parts: [parts[0], parts[1], parts[2][:-1]], r"got \[31\] bytes"),
        (lambda parts: [b"\xff", *parts[1:]], "expected a topic"),
        (lambda parts: [parts[0], b"\x80", parts[2]], "expected a msgpack header"),
        (lambda parts: [parts[0], parts[1].replace(b"\x97\x01", b"\x97\x02", 1), parts[2]], "expected version 1, got 2"),
        (lambda parts: [parts[0], parts[1].replace(b"<f8", b"<i8"), parts[2]], "expected the schema"),
        (lambda parts: [*parts, parts[2]], r"expected buffers of \[32\]"),
    ],
)
def test_a_bad_frame_says_what_is_wrong(change: Any, text: str) -> None:
    with pytest.raises(FrameError, match=text):
        decode(change(frame("imu", 0, 0.0, np.arange(4.0))))


def test_oversized_and_objects_are_refused() -> None:
    with pytest.raises(FrameError, match="16 together"):
        decode(frame("imu", 0, 0.0, np.arange(4.0)), max_bytes=16)
    with pytest.raises(FrameError, match="got dtype object"):
        encode("imu", np.array([object()]))


@given(st.permutations(range(30)), st.sets(st.integers(1, 28), max_size=10), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_lost_counts_do_not_depend_on_order(order: list[int], gone: set[int], repeats: int) -> None:
    tracker = Tracker()
    tracker.admit(1, 100)
    sent = [101 + i for i in order if i not in gone]
    admitted = sum(tracker.admit(1, number) is not None for number in sent + sent[:repeats])
    assert admitted == len(sent)
    assert tracker.duplicates == len(sent[:repeats])
    assert tracker.lost == len([i for i in gone if i < max(sent) - 101])


def test_a_restart_is_noticed_and_its_first_samples_missed_are_lost() -> None:
    stream = heard([frame("a", 0, 0), frame("a", 1, 1), frame("a", 3, 2, epoch=2), [b"x\0", b"garbage", b""]], "restart")
    assert [sample.lost for sample in stream] == [0, 0, 3]
    assert (stream.trackers["a"].restarts, stream.trackers["a"].lost, stream.rejected) == (1, 3, 1)


@pytest.mark.parametrize("uri", ["zmq+tcp://127.0.0.1:0", "zmq+tcp://127.0.0.1:0?pattern=push", "zmq+ipc://{path}/s"])
def test_sockets_carry_values(uri: str, tmp_path: Path) -> None:
    with publish(uri.format(path=tmp_path), block=True) as publisher, open_stream(publisher.uri, timeout=1) as stream:
        assert publisher.wait_for_subscriber()
        sent = [{"a": np.arange(3.0) + i, "big": np.full(100_000, i)} for i in range(20)]
        for i, value in enumerate(sent):
            publisher.send("car", value, capture_time=i)
        got = [next(stream) for _ in sent]
    for i, (sample, value) in enumerate(zip(got, sent, strict=True)):
        assert (sample.topic, sample.sequence, sample.capture_time) == ("car", i, i)
        assert all(np.array_equal(sample.value[name], value[name]) for name in value)
    publisher.close()
    stream.close()


def test_a_slow_subscriber_counts_what_it_lost() -> None:
    with publish("zmq+tcp://127.0.0.1:0", high_water=10) as publisher:
        with open_stream(publisher.uri, timeout=0.3, high_water=10) as stream:
            assert publisher.wait_for_subscriber()
            publisher.send("a", 0)
            assert next(stream).sequence == 0
            for _ in range(3000):
                publisher.send("a", np.zeros(1000))
            time.sleep(0.1)
            got = sum(1 for _ in iter(lambda: stream.poll(0.1), None))
            publisher.send("a", 1)
            got += next(stream).sequence == 3001
        assert got + stream.trackers["a"].lost == 3001
        assert stream.trackers["a"].lost > 0


@pytest.mark.parametrize("opener", [open_stream, publish])
def test_a_network_without_keys_is_refused(opener: Any) -> None:
    with pytest.raises(StreamAddressError, match="insecure=True"):
        opener("zmq+tcp://0.0.0.0:0")
    with pytest.raises(StreamAddressError, match="expected zmq"):
        opener("http://x")


def test_only_listed_keys_are_admitted_and_the_others_are_told() -> None:
    server, friend, stranger = (zmq.curve_keypair() for _ in range(3))
    cases = {
        "does not list our key": Curve(*stranger, server=server[0]),
        "server= is not its key": Curve(*friend, server=stranger[0]),
        "or it wants keys|only one of the two": None,
    }
    with publish("zmq+tcp://127.0.0.1:0", curve=Curve(*server, allowed=frozenset([friend[0]]))) as publisher:
        for reason, keys in cases.items():
            with open_stream(publisher.uri, timeout=5, curve=keys) as stream:
                with pytest.raises(PeerRefusedError, match=f"the publisher is there and refuses us: .*({reason})"):
                    next(stream)
                assert not publisher.wait_for_subscriber(0)
        with open_stream(publisher.uri, timeout=5, curve=Curve(*friend, server=server[0])) as stream:
            assert publisher.wait_for_subscriber(5)
            publisher.send("a", 1.0)
            assert next(stream).value == 1
        assert publisher.refused >= len(cases)


def test_a_topic_is_not_the_beginning_of_another() -> None:
    with publish("zmq+tcp://127.0.0.1:0") as publisher, open_stream(publisher.uri, topics=["cam"], timeout=0.2) as stream:
        assert publisher.wait_for_subscriber()
        for topic in ("camera", "cam", "ca", "cam/left"):
            publisher.send(topic, 1.0)
        assert [sample.topic for sample in stream] == ["cam"]
        assert stream.rejected == 0


@given(st.lists(st.floats(0, 0.09), min_size=40, max_size=40), st.sets(st.integers(1, 37), max_size=8), st.randoms())
@settings(max_examples=15, deadline=None)
def test_alignment_does_not_depend_on_arrival(jitter: list[float], gone: set[int], draw: random.Random) -> None:
    """Jitter and reordering within the slack, and repeats, change nothing."""
    sent = [(i * 0.025, frame("a", i, i * 0.025, float(i))) for i in range(40) if i not in gone]
    sent += [(i * 0.05, frame("b", i, i * 0.05, float(-i))) for i in range(20)]
    shuffled = sorted([(at + delay, parts) for (at, parts), delay in zip(sent, jitter * 2, strict=False)] + sent[:5], key=str)
    shuffled.sort(key=lambda pair: pair[0])
    in_order = sorted(sent, key=lambda pair: pair[0])
    streams = [heard([parts for _, parts in order], "order", topics=["a", "b"]) for order in (in_order, shuffled)]
    first, second = (plain(stream.align(rate=20, max_age={"a": 0.03}, on_stale="mask")) for stream in streams)
    assert first == second
    assert sum(m[4]["a"] for m in first) == len(gone)


def test_ages_staleness_and_liveness() -> None:
    times = {"slow": [0.0, 0.5], "fast": np.arange(0, 2.01, 0.05)}
    make = lambda: open_stream({"slow": np.array([5.0, 6.0]), "fast": np.arange(41.0)}, times=times)  # noqa: E731
    moments = [*make().align(rate=10, max_age={"slow": 0.2}, on_stale="mask", rates={"slow": 10, "fast": 20})]
    np.testing.assert_allclose([m.age["slow"] for m in moments], [0.1 * (i if i < 5 else i - 5) for i in range(21)], atol=1e-9)
    assert [float(m["slow"]) for m in moments[:9]] == [5, 5, 5, 0, 0, 6, 6, 6, 0]
    assert [m.alive["slow"] for m in moments] == [i < 15 for i in range(21)]
    assert [m.fresh["slow"] for m in moments] == [i in (0, 5) for i in range(21)]
    assert all(m.frequency_ok["fast"] and m.valid["fast"] for m in moments)
    assert not moments[-1].frequency_ok["slow"]
    with pytest.raises(StaleError, match=r"'slow' is 0.300 s old, expected at most 0.2 s"):
        [*make().align(rate=10, max_age={"slow": 0.2}, on_stale="raise")]
    halves = [*make().align(rate=40, interpolate=["fast"])]
    np.testing.assert_allclose([m["fast"] for m in halves[:5]], [0, 0.5, 1, 1.5, 2])


@pytest.mark.parametrize("back", [1.0, 4990.0, 4999.5], ids=["far", "by ten seconds", "by half a second"])
def test_clock_jumps_begin_anew(back: float) -> None:
    ats = [0.0, 0.1, 5000.0, 5000.1, back, back + 0.1]
    aligned = heard([frame("a", i, at, float(i)) for i, at in enumerate(ats)], "jump", topics=["a"]).align(rate=10)
    assert [float(m["a"]) for m in aligned] == [0, 1, 2, 3, 4, 5]
    assert (aligned.reanchored, aligned.late) == (2, 0)


def test_the_wall_clock_holds_its_rate_and_takes_off_the_offset() -> None:
    import threading

    def drive() -> None:
        for i in range(40):
            publisher.send("a", float(i), capture_time=time.time_ns() - 3600 * SECOND)  # a clock an hour behind
            time.sleep(0.01)

    stream = open_stream("memory://wall", topics=["a"], timeout=0.2)
    publisher = publish("memory://wall")
    thread = threading.Thread(target=drive)
    thread.start()
    moments = [*stream.align(rate=20, clock="wall")]
    thread.join()
    assert all(m.age["a"] < 0.2 for m in moments[:5])
    assert (np.diff([m.t for m in moments]) % (SECOND // 20) == 0).all()


def batches(stream: Any) -> list[Any]:
    loader = DataLoader(stream.align(rate=20, topics=["imu", "cam"]), batch_size=4)
    return [(batch.t.tolist(), batch["imu"].tolist(), batch["cam"].tolist(), batch.age["imu"].tolist()) for batch in loader]


def test_array_recording_and_socket_are_one(tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    assert record(open_stream(DRIVE, rates=RATES), path) == 120
    with publish("zmq+tcp://127.0.0.1:0", block=True) as publisher, open_stream(publisher.uri, timeout=0.3) as live:
        assert publisher.wait_for_subscriber()
        assert replay(path, publisher, speed=float("inf")) == 120
        got = batches(live)
    assert got == batches(open_stream(path)) == batches(open_stream(DRIVE, rates=RATES))
    assert plain(open_stream(path).align(rate=33.3)) == plain(open_stream(path).align(rate=33.3))
    assert len(got) == 5


def test_replay_sends_the_same_bytes(tmp_path: Path) -> None:
    first, again = tmp_path / "a.mcap", tmp_path / "b.mcap"
    record(open_stream(DRIVE, rates=RATES), first)
    listener = open_stream("memory://again", timeout=0.05, high_water=0)
    replay(first, publish("memory://again"), speed=1000)
    record(listener, again)
    one, two = ([[bytes(part) for part in arrival.parts] for arrival in open_stream(path).arrivals()] for path in (first, again))
    assert one == two


def script(text: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", text, *arguments], stdout=subprocess.PIPE, text=True, env=environment)


def test_a_killed_publisher_comes_back() -> None:
    text = (
        "import sys, time\nfrom envs.streams import publish\np = publish(sys.argv[1])\nprint(p.uri, flush=True)\n"
        "p.wait_for_subscriber(20)\nwhile True:\n    p.send('a', 1.0)\n    time.sleep(0.002)"
    )
    with script(text, "zmq+tcp://127.0.0.1:0") as first:
        assert first.stdout is not None
        uri = first.stdout.readline().strip()
        stream = open_stream(uri, timeout=10)
        epoch = next(stream).epoch
        os.kill(first.pid, signal.SIGKILL)
    with script(text, uri) as second:
        later = next(sample for sample in stream if sample.epoch != epoch)
        os.kill(second.pid, signal.SIGKILL)
    stream.close()
    assert later.epoch > epoch
    assert stream.trackers["a"].restarts == 1


def test_memory_stays_flat() -> None:
    """As much after 10,000 samples as before them."""
    row = np.zeros(6_000)
    aligned = open_stream({"a": row, "b": row}, rates={"a": 100.0, "b": 101.0}).align(rate=5, rates={"a": 100.0})
    moments = iter(aligned)
    for _ in range(60):
        next(moments)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    count = sum(1 for _ in moments)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert count > 200
    assert grown < 200_000


def test_a_packed_frame_that_is_none_is_refused() -> None:
    for data in (b"", b"\xff" * 64, b"\2" + b"\0" * 7 + b"\1" * 16):
        with pytest.raises(FrameError, match="recording: expected"):
            unpack("a", data)
