"""`run-agent world`, `play` and `serve-env`: what they print, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from envs.streams import create_keys
from rlcore.cli import main


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["world"], "world needs a name: car; for example: run-agent world car"),
        (["world", "cat"], "unknown world 'cat'; did you mean 'car'?"),
        (["world", "car", "--allow", "keys"], "--allow and --server need --key; run-agent keys makes one"),
        (["play", "chess"], "unknown game 'chess'; expected 'car'"),
        (["play", "--out", "drive.csv"], "--out: expected a file that ends in .mcap, got drive.csv"),
        (["play", "--no-window"], "--no-window leaves no keyboard; expected --driver centre-line with it"),
        (["serve-env"], "serve-env needs an environment, for example: run-agent serve-env CartPole-v1"),
        (["serve-env", "CartPol-v1"], "unknown environment 'CartPol-v1'; did you mean 'CartPole-v1'"),
        (["serve-env", "CartPole-v1", "--at", "tcp//here"], "expected remote+tcp://host:port or remote+ipc:///path"),
        (["train", "--env", "remote+tcp://127.0.0.1", "--quiet"], "expected remote+tcp://host:port or remote+ipc:///path"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert len([line for line in error.splitlines() if line.startswith("run-agent: error")]) == 1


def test_what_they_print(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["world", "car", "--publish", "memory://printed", "--actions", "memory://acted", "--seconds", "0.05"]) == 0
    assert capsys.readouterr().out == "car: sensors at memory://printed, actions from memory://acted\n"
    assert main(["serve-env", "CartPole-v1", "--at", "zmq+tcp://127.0.0.1:0", "--seconds", "0"]) == 0
    assert capsys.readouterr().out.startswith("CartPole-v1 at remote+tcp://127.0.0.1:")
    out = tmp_path / "drive.mcap"
    assert main(["play", "--no-window", "--driver", "centre-line", "--seconds", "0.2", "--out", str(out)]) == 0
    assert "0 times off the road; recorded 74 samples to" in capsys.readouterr().out
    assert out.is_file()


def test_what_other_machines_reach_needs_keys_and_the_flags_are_named(tmp_path: Path):
    """Each command as a process of its own: it says its own flags, not the arguments of the library."""
    create_keys(tmp_path, "car")
    (tmp_path / "drive.mcap").touch()
    key, listed, other = "--key FILE --allow DIR", "--key FILE --server FILE", ", or --insecure to go without"
    ours = ["--key", "car.key_secret"]
    cases = [
        (["record", "zmq+tcp://10.0.0.1:1", "--out", "a.mcap"], f"10.0.0.1 is not this machine alone; give {listed}{other}"),
        (["record", "zmq+tcp://10.0.0.1:1", "--out", "a.mcap", *ours], f"our key comes without the publisher's; give {listed}"),
        (["replay", "drive.mcap", "--to", "zmq+tcp://0.0.0.0:0"], f"0.0.0.0 is not this machine alone; give {key}{other}"),
        (
            ["replay", "drive.mcap", "--to", "zmq+tcp://0.0.0.0:0", *ours],
            f"our key comes without those of who is admitted; give {key}",
        ),
        (["serve-env", "CartPole-v1", "--at", "remote+tcp://0.0.0.0:0"], f"0.0.0.0 is not this machine alone; give {key}{other}"),
        (["serve-env", "CartPole-v1", *ours], f"our key comes without those of who is admitted; give {key}"),
        (["world", "car", "--publish", "zmq+tcp://0.0.0.0:0"], f"0.0.0.0 is not this machine alone; give {key}{other}"),
        (["world", "car", "--publish", "memory://a", "--actions", "zmq+tcp://10.0.0.1:1"], f"alone; give {listed}{other}"),
    ]
    running = [
        (
            subprocess.Popen([sys.executable, "-m", "rlcore.cli", *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True),
            text,
        )
        for arguments, text in cases
    ]
    for process, text in running:
        _, error = process.communicate(timeout=60)
        assert process.returncode == 2, error
        assert error.startswith("run-agent: error: ")
        assert error.endswith(f"{text}\n")
        assert error.count("\n") == 1
