"""`run-agent record`, `replay` and `keys`, as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.streams import Curve, create_keys, open_stream, publish, record
from rlcore.cli import main

DRIVE = {"imu": np.arange(100.0), "cam": np.arange(20 * 6, dtype=np.uint8).reshape(20, 2, 3)}


def run_agent(*arguments: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rlcore.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def raw(path: Path) -> list[list[bytes]]:
    return [[bytes(part) for part in arrival.parts] for arrival in open_stream(path).arrivals()]


def test_a_recording_is_replayed_to_another_recorder_with_keys(tmp_path: Path) -> None:
    """Keys from `keys`, a replay that waits for its listener, a recorder that ends by SIGINT: the same bytes in the end."""
    first, again, keys = tmp_path / "first.mcap", tmp_path / "again.mcap", tmp_path / "keys"
    record(open_stream(DRIVE, rates={"imu": 100, "cam": 20}), first)
    for name in ("car", "learner"):
        assert main(["keys", name, "--out", str(keys)]) == 0
    assert (keys / "car.key_secret").stat().st_mode & 0o777 == 0o600
    (keys / "listed").mkdir()
    (keys / "learner.key").rename(keys / "listed" / "learner.key")
    replay = run_agent(
        "replay", first, "--to", "zmq+tcp://127.0.0.1:0", "--speed", "20", "--wait", 30, "--key", keys / "car.key_secret",
        "--allow", keys / "listed",
    )  # fmt: skip
    assert replay.stderr is not None
    uri = replay.stderr.readline().split()[-1]
    ours = ["--key", keys / "learner.key_secret", "--server", keys / "car.key"]
    recorder = run_agent("record", uri, "--out", again, "--json", *ours)
    out, err = replay.communicate(timeout=60)
    assert (replay.returncode, out) == (0, "120 frames sent\n"), err
    end = time.monotonic() + 20
    while time.monotonic() < end and again.stat().st_size < first.stat().st_size * 0.8:
        time.sleep(0.05)
    recorder.send_signal(signal.SIGINT)
    out, err = recorder.communicate(timeout=20)
    done = json.loads(out)
    assert (done["frames"], done["topics"], done["lost"], done["rejected"]) == (120, ["cam", "imu"], 0, 0), err
    assert raw(again) == raw(first)


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["record"], "record needs a stream and a file"),
        (["record", "memory://x", "--out", "there.mcap"], "there.mcap: expected no such file, or --overwrite"),
        (["record", "memory://x", "--out", "a.mcap", "--limit", "0"], "--limit: expected at least 1, got 0"),
        (["record", "memory://x", "--out", "a.mcap", "--server", "keys/car.key"], "--allow and --server need --key"),
        (["record", "zmq+tcp://127.0.0.1:1", "--out", "a.mcap", "--key", "no"], "no: expected a CURVE key file"),
        (["replay", "there.mcap"], "replay needs a recording and an address"),
        (["replay", "there.mcap", "--to", "memory://x", "--speed", "0"], "--speed: expected more than 0"),
        (["replay", "none.mcap", "--to", "memory://x"], "no such file: none.mcap"),
        (["replay", "there.mcap", "--to", "memory://nobody", "--wait", "0"], "nobody listened within 0 s"),
        (["keys"], "keys needs a name"),
        (["keys", "car"], "there are such keys already; nothing was written"),
    ],
)
def test_mistakes_are_told(
    arguments: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.mcap").touch()
    create_keys("keys", "car")
    handler = signal.getsignal(signal.SIGTERM)
    assert main(arguments) == 2
    signal.signal(signal.SIGTERM, handler)
    error = capsys.readouterr().err.splitlines()[-1]
    assert text in error


def test_files_of_keys_that_do_not_fit(tmp_path: Path) -> None:
    public, secret = create_keys(tmp_path, "car")
    for arguments, text in (
        ({"secret": public}, "expected a secret key file"),
        ({"secret": secret, "allowed": tmp_path / "none"}, "got none"),
    ):
        with pytest.raises(Exception, match=text):
            Curve.load(**arguments)
    assert Curve.load(secret, allowed=tmp_path).allowed == {Curve.load(secret).public}


def test_a_recorder_that_is_killed_leaves_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "cut.mcap"
    with publish("zmq+tcp://127.0.0.1:0", block=True) as publisher:
        recorder = run_agent("record", publisher.uri, "--out", path)
        assert publisher.wait_for_subscriber(30)
        for i in range(300):
            publisher.send("a", float(i))
        end = time.monotonic() + 10
        while time.monotonic() < end and path.stat().st_size < 300 * 70:
            time.sleep(0.02)
        os.kill(recorder.pid, signal.SIGKILL)
        recorder.communicate()
    got = [float(sample.value) for sample in open_stream(path)]
    assert got == [float(i) for i in range(len(got))]
    assert len(got) > 200
    whole = path.read_bytes()
    for cut in (1, 7, 50, 131):
        path.write_bytes(whole[:-cut])
        assert len(got) - 3 <= len([*open_stream(path)]) <= len(got)
