"""The command line on the real `envs`, with the third party's agent."""

from __future__ import annotations

import json

import pytest

from rlcore import checkpoint

RUN = ("--agent", "fake", "--num-envs", "2", "--checkpoint-every", "100", "--quiet", "--normalize-observation")


@pytest.mark.parametrize("env", ["CartPole-v1", "Grid-v0"])
def test_train_resume_and_evaluate(run_agent, tmp_path, env):
    for name, parts in (("whole", [600]), ("parts", [250, 600])):
        assert run_agent("train", "--env", env, *RUN, "--steps", parts[0], "--dir", name).returncode == 0
        for steps in parts[1:]:
            done = run_agent("train", "--resume", name, "--steps", steps, "--quiet", "--json")
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout.splitlines()[-1])["steps"] >= 600
    evaluated = [run_agent("eval", name, "--episodes", "5", "--json") for name in ("whole", "parts")]
    assert all(done.returncode == 0 for done in evaluated), evaluated[0].stderr
    if env == "CartPole-v1":  # its state can be saved, so the stop leaves no trace
        weights = [checkpoint.load(tmp_path / name)[0]["agent"]["weights"].tobytes() for name in ("whole", "parts")]
        assert weights[0] == weights[1]
        assert evaluated[0].stdout == evaluated[1].stdout


def test_an_unknown_environment_gives_the_nearest(run_agent):
    done = run_agent("train", "--env", "CartPol-v1", "--agent", "fake", "--quiet")
    assert done.returncode == 2
    assert done.stderr.startswith("run-agent: error: unknown environment 'CartPol-v1'; did you mean 'CartPole-v1'")
    assert done.stderr.count("\n") == 1


def test_environments_are_listed(run_agent):
    assert {"CartPole-v1", "Walk-v0"} <= set(run_agent("list", "envs").stdout.split())
