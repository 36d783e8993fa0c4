"""Where samples come from beside sockets: CAN buses and logs, Parquet, CSV; and windows, shuffles and clocks on the way."""

from __future__ import annotations

import itertools
import math
import pickle
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.streams import FrameError, StreamAddressError, encode, open_stream, publish, record
from envs.streams.sensor import SECOND, ClockOffset
from tensor.data import DataLoader

can = pytest.importorskip("can")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

DBC = """\
VERSION ""
BU_: ECU
BO_ 416 Motion: 4 ECU
 SG_ Speed : 0|16@1+ (0.01,0) [0|655.35] "m/s" ECU
 SG_ Steering : 16|16@1- (0.001,0) [-32|32] "rad" ECU
"""


def motion(speed: float, steering: float, at: float) -> Any:
    data = round(speed * 100).to_bytes(2, "little") + round(steering * 1000).to_bytes(2, "little", signed=True)
    return can.Message(timestamp=at, arbitration_id=416, data=data, is_extended_id=False)


def messages() -> list[Any]:
    found = [motion(i * 0.5, -i * 0.25, i * 0.05) for i in range(20)]
    found.insert(5, can.Message(timestamp=0.21, arbitration_id=7, data=b"\x01\x02", is_extended_id=False))
    found.insert(9, can.Message(timestamp=0.36, arbitration_id=416, data=b"\x01", is_extended_id=False))
    return found


@pytest.fixture
def dbc(tmp_path: Path) -> Path:
    path = tmp_path / "car.dbc"
    path.write_text(DBC)
    return path


@pytest.mark.parametrize("suffix", [".blf", ".asc"])
def test_a_can_log_gives_the_signals_of_its_database(suffix: str, tmp_path: Path, dbc: Path) -> None:
    path = tmp_path / f"drive{suffix}"
    with can.Logger(path) as log:
        for message in messages():
            log.on_message_received(message)
    stream = open_stream(path, dbc=dbc)
    samples = list(stream)
    moving = [sample for sample in samples if sample.topic == "Motion"]
    np.testing.assert_allclose([sample.value["Speed"] for sample in moving], np.arange(20) * 0.5)
    np.testing.assert_allclose([sample.value["Steering"] for sample in moving], np.arange(20) * -0.25)
    np.testing.assert_allclose(np.diff([sample.capture_time for sample in moving]) / SECOND, 0.05, atol=2e-5)
    assert [sample.value.tolist() for sample in samples if sample.topic == "0x7"] == [[1, 2]]
    assert stream.rejected == 1
    assert "expected 4 bytes of Motion, got 01" in str(stream.last_error)
    moments = [*open_stream(path, topics=["Motion"], dbc=dbc).align(rate=10)]
    assert [round(float(m["Motion"]["Speed"]), 3) for m in moments] == list(range(10))
    assert {sample.topic for sample in open_stream(path)} == {"0x1a0", "0x7"}


def test_a_can_bus_is_a_live_stream(tmp_path: Path, dbc: Path) -> None:
    listening = open_stream(f"can://virtual/{tmp_path}", dbc=dbc, timeout=0.2)
    with can.Bus(interface="virtual", channel=str(tmp_path)) as car, listening as stream:
        for i in range(5):
            car.send(motion(i, 0.0, time.time()))
        got = [float(sample.value["Speed"]) for sample in stream]
    assert got == [0, 1, 2, 3, 4]


def test_can_addresses_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StreamAddressError, match="expected can://interface/channel"):
        open_stream("can://no-such-interface/x")
    with pytest.raises(StreamAddressError, match=r"expected a CAN database such as a \.dbc file"):
        open_stream("can://virtual/x", dbc=tmp_path / "none.dbc")
    with pytest.raises(StreamAddressError, match="no such file"):
        open_stream("none.blf")
    with pytest.raises(StreamAddressError, match="takes no such option: 'colour'"):
        open_stream("memory://x", colour="red")


def table(tmp_path: Path, time_column: Any) -> Path:
    columns = {
        "time": time_column,
        "speed": pyarrow.array([1.0, None, 3.0]),
        "lidar": pyarrow.array([[1, 2], [3, 4], None], pyarrow.list_(pyarrow.uint8())),
    }
    path = tmp_path / "log.parquet"
    parquet.write_table(pyarrow.table({k: v for k, v in columns.items() if v is not None}), path, row_group_size=2)
    return path


STAMPS = pyarrow.array([0, 100_000, 200_000], pyarrow.timestamp("us"))


@pytest.mark.parametrize("times", [pyarrow.array([0.0, 0.1, 0.2]), STAMPS, None], ids=["seconds", "timestamps", "rate"])
def test_parquet(tmp_path: Path, times: Any) -> None:
    samples = list(open_stream(table(tmp_path, times), **({"rates": 10} if times is None else {})))
    got = [(sample.topic, sample.capture_time // 1_000_000, sample.sequence, sample.value.tolist()) for sample in samples]
    assert got == [("speed", 0, 0, 1.0), ("lidar", 0, 0, [1, 2]), ("lidar", 100, 1, [3, 4]), ("speed", 200, 1, 3.0)]
    assert {sample.value.dtype.str for sample in samples} == {"<f8", "|u1"}


def test_parquet_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    parquet.write_table(pyarrow.table({"name": ["a"]}), path)
    with pytest.raises(StreamAddressError, match="expected numbers or lists of numbers in column 'name', got string"):
        open_stream(path)
    path.write_bytes(b"nothing")
    with pytest.raises(StreamAddressError, match="expected a Parquet file"):
        open_stream(path)


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("time,speed,temp\n0.0,1,20\n0.1,2,\n0.2,3,21\n")
    moments = [*open_stream(path).align(rate=10)]
    assert [(float(m["speed"]), float(m["temp"])) for m in moments] == [(1, 20), (2, 20), (3, 21)]
    path.write_text("speed\n1\nfast\n")
    with pytest.raises(StreamAddressError, match="expected numbers in line 3, got could not convert string to float: 'fast'"):
        list(open_stream(path))


def test_windows_do_not_span_gaps_and_batches_hold_them() -> None:
    times = {"speed": [*np.arange(10) / 10, *(100 + np.arange(5) / 10)]}
    make = lambda: open_stream({"speed": np.arange(15.0)}, times=times).align(rate=10)  # noqa: E731
    windows = [window["speed"].tolist() for window in make().windows(3, stride=2)]
    assert windows == [[0, 1, 2], [2, 3, 4], [4, 5, 6], [6, 7, 8], [10, 11, 12], [12, 13, 14]]
    (batch,) = DataLoader(make().windows(3, stride=2), batch_size=6)
    assert batch["speed"].tolist() == windows
    assert batch.age["speed"].shape == (6, 3)


def test_a_bounded_shuffle_gives_each_sample_once() -> None:
    make = lambda seed: open_stream({"speed": np.arange(200.0)}, rates=10).shuffle(20, seed)  # noqa: E731
    order = [float(sample.value) for sample in make(0)]
    assert sorted(order) == list(range(200))
    assert order == [float(sample.value) for sample in make(0)] != [float(sample.value) for sample in make(1)]
    assert sum(a < b for a, b in itertools.pairwise(order)) < 150
    assert max(i - position for position, i in enumerate(order)) <= 20  # nothing is shown before it came


def test_a_live_stream_is_batched_as_it_is() -> None:
    stream = open_stream("memory://batched", timeout=0.05)
    with publish("memory://batched") as publisher:
        for i in range(4):
            publisher.send("speed", float(i))
    assert [batch.value.tolist() for batch in DataLoader(stream, batch_size=2)] == [[0, 1], [2, 3]]


def test_streams_belong_to_one_process() -> None:
    stream = open_stream({"speed": np.arange(4.0)})
    with pytest.raises(pickle.PicklingError, match="a stream belongs to one process"):
        list(DataLoader(stream, num_workers=1))
    for build, text in ((lambda: stream.windows(0), "length"), (lambda: stream.shuffle(0), "a buffer >= 1")):
        with pytest.raises(StreamAddressError, match=text):
            build()


def test_a_clock_that_is_set_is_followed_and_a_jam_is_none() -> None:
    offset = ClockOffset()
    for i in range(1000):
        assert offset.update(i * SECOND // 100, i * SECOND // 100 + 5 * SECOND) == 5 * SECOND
    for i in range(300):  # three seconds of samples that come at once
        assert offset.update(10 * SECOND + i * SECOND // 100, 18 * SECOND + i) == 5 * SECOND
    shifts = [
        offset.update(13 * SECOND + i * SECOND // 100 - 3600 * SECOND, (18 * SECOND + i * SECOND // 100)) for i in range(200)
    ]
    assert shifts[-1] == 3605 * SECOND  # set back by an hour
    shifts = [offset.update(15 * SECOND + i * SECOND // 100, 20 * SECOND + i * SECOND // 100) for i in range(2)]
    assert shifts[-1] == 5 * SECOND  # and forward again: at once


def arrivals_of_two_machines(path: Path, behind: float) -> None:
    """The second machine's clock is ``behind`` seconds; what is recorded keeps when it came."""
    draw = random.Random(0)
    frames = []
    for topic, rate, shift in (("a", 50, 0.0), ("b", 20, behind)):
        for i in range(rate * 4):
            at = 5000 + i / rate
            parts = encode(topic, float(i), epoch=1, sequence=i, capture_time=round((at - shift) * SECOND))
            frames.append((round((at + 0.002 + draw.random() * 0.01) * SECOND), [bytes(part) for part in parts]))
    from mcap.writer import Writer

    from envs.streams.sources import pack

    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        schema = writer.register_schema("rlcore.frame", "rlcore", b"")
        channels = {topic: writer.register_channel(topic, "rlcore", schema) for topic in ("a", "b")}
        for at, parts in sorted(frames):
            writer.add_message(channels[parts[0][:-1].decode()], at, pack(parts), at, 0)
        writer.finish()


@pytest.mark.parametrize("offsets", ["transit", {"b": 1234.5}])
def test_two_machines_clocks_are_brought_together(offsets: Any, tmp_path: Path) -> None:
    path = tmp_path / "two.mcap"
    arrivals_of_two_machines(path, 1234.5)
    aligned = open_stream(path).align(rate=10, offsets=offsets)
    moments = [*aligned]
    assert aligned.reanchored == 0
    assert len(moments) in (39, 40)
    assert all(m.age["b"] < 0.05 + 0.013 and m.age["a"] < 0.02 + 0.013 for m in moments)
    assert all(abs(float(m["a"]) / 50 - float(m["b"]) / 20) < 0.08 for m in moments)
    again = [*open_stream(path).align(rate=10, offsets=offsets)]
    assert [(m.t, m.age, float(m["a"])) for m in moments] == [(m.t, m.age, float(m["a"])) for m in again]


def test_a_topic_of_a_file_is_chosen(tmp_path: Path) -> None:
    drive = {"imu": np.arange(10.0), "cam": np.zeros((5, 2, 2))}
    record(open_stream(drive, rates={"imu": 10, "cam": 5}), tmp_path / "drive.mcap")
    for where, options in ((tmp_path / "drive.mcap", {}), (drive, {"rates": 10})):
        stream = open_stream(where, topics=["imu"], **options)
        assert [sample.topic for sample in stream] == ["imu"] * 10
        assert (stream.rejected, stream.topics) == (0, ("imu",))


@pytest.mark.parametrize("topic", ["", "a\0b", "x" * 257])
def test_topics_that_cannot_be(topic: str) -> None:
    with pytest.raises(FrameError, match="expected a topic of 1 to 256 bytes of UTF-8, none zero"):
        encode(topic, 1.0)


def test_dimensions_that_cannot_be() -> None:
    with pytest.raises(FrameError, match="of at most 16 dimensions"):
        encode("a", np.zeros((1,) * 17))
    assert math.prod((1,) * 16) == encode("a", np.zeros((1,) * 16))[2].__len__() // 8
