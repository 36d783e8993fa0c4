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

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RUNS = {
    "ppo-cartpole": ["--env", "CartPole-v1", "--agent", "ppo", "--steps", "12000"],
    "ppo-pendulum": ["--env", "Pendulum-v1", "--agent", "ppo", "--steps", "9000", "--rollout-length", "128"],
    "dqn-cartpole": ["--env", "CartPole-v1", "--agent", "dqn", "--steps", "4000", "--n-step", "3", "--hidden-sizes", "32"],
    "ppo-edited": ["--env", "CartPole-v1", "--agent", "ppo", "--steps", "6000", "--hidden-sizes", "4", "--structure", "ppo"],
    "dqn-edited": [
        "--env",
        "CartPole-v1",
        "--agent",
        "dqn",
        "--steps",
        "4000",
        "--hidden-sizes",
        "8",
        "--train-interval",
        "16",
        "--gradient-steps",
        "8",
        "--structure",
        "dqn",
    ],
    "ppo-trials": ["--env", "CartPole-v1", "--agent", "ppo", "--steps", "4000", "--hidden-sizes", "8", "--structure", "trials"],
    "stream-ac-edited": [
        *["--env", "Pendulum-v1", "--agent", "stream-ac", "--steps", "1600", "--hidden-sizes", "16"],
        *["--num-envs", "2", "--sparsity", "0.5", "--structure", "stream-ac"],
    ],
}


# In each, a layer of the user's own takes a place in the network, and grows.
STRUCTURES = {
    "ppo": """
        [[rule]]
        layer = ["actor.0", "critic.0"]
        interval = 500
        policy = { name = "plateau", patience = 1, threshold = 0.2 }
        edit = { name = "grow", units = 2, init = "net2wider" }
        [[rule]]
        layer = "actor.1"
        interval = 1500
        policy = { name = "every" }
        edit = { name = "replace", make = "own_layers:scaled" }
        budget = { edits = 1 }
        [[rule]]
        layer = "critic.0"
        interval = 2100
        policy = { name = "drift", delta = 0.5 }
        edit = { name = "deepen" }
        budget = { edits = 2 }
        [[rule]]
        layer = "critic.0"
        interval = 3000
        watch = "loss/value"
        policy = { name = "every" }
        edit = { name = "reset_units", units = 1 }
    """,
    "dqn": """
        budget = { parameters = 400 }
        [[rule]]
        layer = "network.1"
        interval = 1100
        policy = { name = "every" }
        edit = { name = "replace", make = "own_layers:scaled" }
        budget = { edits = 1 }
        [[rule]]
        layer = "network.0"
        interval = 450
        policy = { name = "every" }
        edit = { name = "grow", units = 3 }
    """,
    "trials": """
        [[rule]]
        layer = ["actor.0", "critic.0"]
        interval = 250
        policy = { name = "continual_backprop", rate = 0.1, maturity = 2, decay = 0.9 }
        [[rule]]
        layer = ["actor.0", "critic.0"]
        interval = 250
        policy = { name = "every" }
        edit = { name = "grow", units = 2, init = "random" }
        trial = { episodes = 4, tolerance = 0.0, confidence = 0.5, rest = 1 }
    """,
    "stream-ac": """
        [[rule]]
        layer = ["actor.0", "critic.0"]
        interval = 250
        policy = { name = "every" }
        edit = { name = "grow", units = 4, init = "net2wider" }
        [[rule]]
        layer = "actor.2"
        interval = 400
        policy = { name = "every" }
        edit = { name = "replace", make = "own_layers:scaled" }
        budget = { edits = 1 }
        [[rule]]
        layer = "critic.0"
        interval = 550
        policy = { name = "every" }
        edit = { name = "deepen" }
        budget = { edits = 1 }
        [[rule]]
        layer = "actor.0"
        interval = 350
        watch = "td_error"
        policy = { name = "dormant", share = 0.05 }
        edit = { name = "reset_units", units = 2 }
        [[rule]]
        layer = "critic.0"
        interval = 300
        policy = { name = "every", n = 2 }
        edit = { name = "prune", units = 1 }
    """,
}


def start(*arguments):
    command = [sys.executable, "-m", "rlcore.cli", "train", *map(str, arguments), "--quiet", "--checkpoint-every", "700"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE)))}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@pytest.mark.parametrize("name", RUNS)
def test_killed_and_resumed_is_the_same_run(tmp_path, name):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    arguments = list(RUNS[name])
    if "--structure" in arguments:
        file = tmp_path / "structure.toml"
        file.write_text(STRUCTURES[arguments[-1]])
        arguments[-1] = str(file)
    finish(start(*arguments, "--dir", whole))
    rng = np.random.default_rng(len(name))
    process = start(*arguments, "--dir", broken)
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
    assert same(a["life"], b["life"])
    if "--structure" in arguments:
        edits = {entry["edit"] for entry in a["life"]["edits"]}
        assert edits >= ({"grow", "reset_units", "rollback"} if "trials" in name else {"grow", "replace"})
        assert len(a["life"]["edits"]) >= 6
