"""Killed with SIGKILL at any moment and resumed, a run ends with the weights of one that was never killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from agents.checks import same
from rlcore import checkpoint

ROOT = Path(__file__).resolve().parents[2]
RUNS = {
    "ppo-cartpole": ["--env", "CartPole-v1", "--agent", "ppo", "--steps", "12000"],
    "ppo-pendulum": ["--env", "Pendulum-v1", "--agent", "ppo", "--steps", "9000", "--rollout-length", "128"],
    "dqn-cartpole": ["--env", "CartPole-v1", "--agent", "dqn", "--steps", "4000", "--n-step", "3", "--hidden-sizes", "32"],
}


def start(*arguments):
    command = [sys.executable, "-m", "rlcore.cli", "train", *map(str, arguments), "--quiet", "--checkpoint-every", "700"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@pytest.mark.parametrize("name", RUNS)
def test_killed_and_resumed_is_the_same_run(tmp_path, name):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(*RUNS[name], "--dir", whole))
    rng = np.random.default_rng(len(name))
    process = start(*RUNS[name], "--dir", broken)
    kills = 0
    while kills < 3:
        while not (broken / checkpoint.FILE_NAME).exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 1.0))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        process = start("--resume", broken)
    finish(process)
    (a, _), (b, _) = checkpoint.load(whole), checkpoint.load(broken)
    assert same(a["agent"], b["agent"])
    assert same(a["world"], b["world"])
