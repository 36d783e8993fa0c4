"""What people get wrong with streams is answered in one line, at once."""

import signal
import time

import numpy as np
import pytest
from gymnasium.spaces import Box

from envs.sensor_env import SensorEnv
from envs.streams import FrameError, StreamAddressError, open_stream, publish, record
from rlcore.cli import main
from rlcore.errors import UsageError, WorldError

DRIVE = {"imu": np.arange(4.0), "distance": np.arange(2.0)}


@pytest.fixture
def recording(tmp_path):
    with open_stream(DRIVE, rates=10) as stream:
        record(stream, tmp_path / "drive.mcap")
    return tmp_path / "drive.mcap"


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda file: open_stream("tcp://127.0.0.1:1"), r"got 'tcp://127.0.0.1:1'; did you mean 'zmq\+tcp://127.0.0.1:1'\?$"),
        (lambda file: publish("ipc:///tmp/a"), r"got 'ipc:///tmp/a'; did you mean 'zmq\+ipc:///tmp/a'\?$"),
        (lambda file: open_stream(file, topics=["imuu"]), r"drive.mcap: no topic 'imuu'; did you mean 'imu'\?$"),
        (lambda file: open_stream(DRIVE, topics="x"), "arrays: no topic 'x'; expected one of 'distance', 'imu'$"),
        (lambda file: open_stream(DRIVE, rates={"imo": 3}), "no array for the topic 'imo' of rates or times; did you mean 'imu'"),
        (lambda file: open_stream({"imu": 3.0}), "expected an address, a file, or arrays of one sample a row, got 3.0 for 'imu'"),
        (lambda file: open_stream(file).align(20, max_age={"imo": 1}), "align: max_age: no sensor 'imo'; did you mean 'imu'"),
        (lambda file: open_stream(file).align(20, interpolate=["x"]), "align: interpolate: no sensor 'x'; expected one of"),
    ],
)
def test_names_that_are_not_there(recording, call, text):
    with pytest.raises(StreamAddressError, match=text):
        call(recording)


def test_one_topic_may_be_given_as_a_text(recording):
    assert [sample.topic for sample in open_stream(recording, topics="imu")] == ["imu"] * 4


def test_what_a_moment_lacks_is_named(recording):
    moment = next(iter(open_stream(recording).align(10)))
    with pytest.raises(KeyError, match=r"no sensor 'distanc'; did you mean 'distance'\?"):
        moment["distanc"]


@pytest.mark.parametrize(
    "arguments, text",
    [
        ((np.zeros(3), "imu"), r"expected a topic and a value, such as send\('imu', array\), got ndarray for the topic"),
        (("imu", 1.0, time.time()), r"expected capture_time in whole nanoseconds, as time.time_ns\(\) gives, got \d+\.\d+"),
        (("imu", [[1, 2], [3]]), "expected an array of numbers or booleans, got rows of different lengths"),
    ],
)
def test_what_cannot_be_sent(arguments, text):
    with publish("memory://mistakes") as publisher, pytest.raises(FrameError, match=text):
        publisher.send(*arguments)


def test_what_is_recorded_is_a_stream(tmp_path):
    with pytest.raises(TypeError, match=r"record: expected a stream, as open_stream\(...\) gives, got str"):
        record("drive.mcap", tmp_path / "a.mcap")


@pytest.mark.parametrize("out", ["a.csv", "nowhere/a.mcap"])
def test_where_a_recording_cannot_go(tmp_path, out, capsys):
    assert main(["record", "memory://nobody", "--out", str(tmp_path / out)]) == 2
    assert "--out: expected a file that ends with .mcap, in a directory that is there, got " in capsys.readouterr().err


def test_a_recorder_that_hears_nothing_asks_whether_somebody_publishes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("rlcore.cli.streams._SILENCE", 0.1)
    out, handler = str(tmp_path / "a.mcap"), signal.getsignal(signal.SIGTERM)
    try:
        assert main(["record", "memory://nobody", "--out", out, "--topics", "imu", "--timeout", "0.6"]) == 0
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert "nothing with the topics 'imu' has come in 0.1 s: does somebody publish there?" in capsys.readouterr().err


SPACES = {"imu": Box(-9, 9, ()), "distance": Box(0, 9, ())}


@pytest.mark.parametrize(
    "given, error, text",
    [
        ({"reward": None}, UsageError, r"expected reward to be a function of \(before, action, after\), got None"),
        ({"terminated": True}, UsageError, r"expected terminated to be a function of \(before, action, after\), got True"),
        ({"spaces": [Box(0, 1, ())]}, UsageError, r"expected spaces by topic, such as .*, got list"),
        ({"reward": lambda before, action, after: None}, WorldError, "expected one number of reward.*, got None"),
        ({"reward": lambda before, action, after: np.zeros(3)}, WorldError, r"got an array of shape \(3,\)"),
        ({"spaces": {"imuu": Box(0, 1, ())}}, WorldError, r"^sensors of dict: no topic 'imuu'; did you mean 'imu'\?"),
        ({"needs": "imuu"}, WorldError, r"^sensors of dict: no topic 'imuu'; did you mean 'imu'\?"),
    ],
)
def test_what_a_sensor_environment_is_given(given, error, text):
    options = {"spaces": SPACES, "reward": lambda before, action, after: 0.0, "rate": 10, "stream": {"rates": 10}, **given}
    with pytest.raises(error, match=text):  # noqa: PT012  # where it can be known is where it is said
        env = SensorEnv(DRIVE, options.pop("spaces"), Box(-1, 1, ()), **options)
        env.reset(seed=0)
        env.step(0.0)
