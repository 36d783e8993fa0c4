"""What people name as "module:Name", from a file in their directory that no package has registered."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from rlcore.config import resolve
from rlcore.errors import ConfigError
from rlcore.registry import AGENTS

MINE = """
from dataclasses import dataclass

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from agents.dqn import DQN


class Coin(gymnasium.Env):
    observation_space = Box(0, 1, (1,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), float(action), True, False, {}


def coin():
    return Coin()


class Mine(DQN):
    pass


class Without:
    pass


@dataclass
class Once:
    done: bool = False

    def __call__(self, look):
        reason = "" if self.done else "once"
        self.done = True
        return reason


class Plain:
    def __call__(self, look):
        return ""


@dataclass
class Needy:
    n: int


@dataclass
class Broken:
    def __call__(self, look):
        return look.nothing
"""
RULE = "[[rule]]\nlayer = 'network.0'\ninterval = 50\npolicy = { name = 'mine:%s' }\nedit = { name = 'grow', units = 2 }\n"
SHORT = ("--env", "mine:Coin", "--agent", "mine:Mine", "--steps", "200", "--hidden-sizes", "4", "--learning-starts", "50")


@pytest.fixture
def run_agent(tmp_path, environment):
    """The command as it is installed: Python does not look into the directory by itself."""
    (tmp_path / "mine.py").write_text(MINE)

    def run(*arguments):
        program = "import sys; from rlcore.cli import main; sys.exit(main())"
        command = [sys.executable, "-P", "-c", program, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return run


def test_an_environment_an_agent_and_a_policy_of_a_file_train_and_are_loaded_again(run_agent, tmp_path):
    (tmp_path / "growth.toml").write_text(RULE % "Once")
    done = run_agent("train", *SHORT, "--structure", "growth.toml", "--dir", "run", "--quiet", "--json", "--train-interval", "10")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["agent"] == "mine:Mine"
    assert "network.0 6 (was 4)" in run_agent("info", "run").stdout
    evaluated = run_agent("eval", "run", "--episodes", "1")
    assert "mine:Mine on mine:Coin after 200 steps" in evaluated.stdout
    assert "over 1 episode (" in evaluated.stdout


@pytest.mark.parametrize(
    "flag, value, text",
    [
        ("--agent", "mine:Min", "agent 'mine:Min': no 'Min' in mine; did you mean 'Mine'?"),
        ("--agent", "mien:Mine", "agent 'mien:Mine': no module 'mien' is installed or in this directory"),
        ("--agent", "mine:Without", "agent 'mine:Without': expected a class that has a dataclass Config"),
        ("--env", "mine:Con", "unknown environment 'mine:Con'; did you mean 'mine:Coin'"),
        ("--env", "mine:coin", "mine:coin: expected a gymnasium.Env class; a function is given an id by gymnasium.register"),
        ("--env", "mien:Coin", "mien:Coin: no module 'mien' is installed or in this directory"),
        ("--structure", "Plain", "rule 1: policy: expected a dataclass, whose fields are the options, got 'mine:Plain'"),
        ("--structure", "Needy", "rule 1: policy: expected a default for each field of 'mine:Needy'"),
        ("--structure", "Onec", "rule 1: policy: policy 'mine:Onec': no 'Onec' in mine; did you mean 'Once'?"),
    ],
)
def test_what_is_not_there_is_one_line(run_agent, tmp_path, flag, value, text):
    (tmp_path / "growth.toml").write_text(RULE % value)
    done = run_agent("train", *SHORT, "--quiet", flag, "growth.toml" if flag == "--structure" else value)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_users_code_raises_says_how_to_see_where(run_agent, tmp_path):
    (tmp_path / "growth.toml").write_text(RULE % "Broken")
    done = run_agent("train", *SHORT, "--quiet", "--structure", "growth.toml", "--train-interval", "10")
    assert done.returncode == 1
    assert "AttributeError: 'Look' object has no attribute 'nothing' (--debug shows where)" in done.stderr


def test_one_table_where_a_list_is_wanted(run_agent, tmp_path):
    (tmp_path / "growth.toml").write_text((RULE % "Once").replace("[[rule]]", "[rule]"))
    done = run_agent("train", *SHORT, "--quiet", "--structure", "growth.toml")
    assert "growth.toml: expected one or more tables [[rule]], got [rule], of which there is one only" in done.stderr


def test_live_takes_the_flags_of_train_and_says_the_order(run_agent):
    done = run_agent("live", "CartPole-v1", "stream-q")
    assert "live takes the agent first: run-agent live stream-q CartPole-v1" in done.stderr
    started = run_agent("live", "--env", "mine:Coin", "--hz", "100", "--agent=stream-q", "--minutes", "0.003", "--dir", "alive")
    assert started.returncode == 0, started.stderr
    assert "stream-q live on mine:Coin, 100 Hz" in started.stderr
    again = run_agent("live", "--resume", "alive", "--minutes", "0.003")
    assert "stream-q live on mine:Coin, 100 Hz" in again.stderr  # the rate it was learnt at


def test_a_run_that_is_not_there_names_those_beside_it(run_agent):
    done = run_agent("train", *SHORT, "--quiet", "--dir", "runs/coin")
    assert done.returncode == 0, done.stderr
    assert "no checkpoint runs/cion; did you mean 'runs/coin'?" in run_agent("eval", "runs/cion").stderr
    assert "no checkpoint in runs; did you mean 'runs/coin'?" in run_agent("info", "runs").stderr
    assert "all its 200 steps are made; --steps gives it more" in run_agent("train", "--resume", "runs/coin").stderr
    assert run_agent("--version").stdout.startswith("rlcore ")


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
def test_a_loaded_run_acts_in_loops_of_others_as_in_its_own(tmp_path, env_id):
    import gymnasium

    import rlcore
    from rlcore.logging import make_progress

    run = {"steps": 300, "num_envs": 2, "normalize_observation": env_id == "Pendulum-v1"}
    settings = resolve(env_id, "ppo").overlay({"run": run, "agent": {"compile": False}})
    rlcore.train(settings, tmp_path, progress=make_progress(quiet=True))
    loaded = rlcore.load(tmp_path)
    world, env = loaded.make_world(), gymnasium.make(env_id)
    row, (observation, _) = world.reset(seed=3), env.reset(seed=3)
    for _ in range(5):
        step = world.step(loaded.agent.act(row, deterministic=True))
        observation, reward, ended, _, _ = env.step(loaded.act(observation))
        assert reward == pytest.approx(float(step.reward[0]), rel=1e-6)
        row = step.observation
        if ended:
            break
    world.close()
    with pytest.raises(
        ValueError, match=rf"^act: {env_id}: .*; reset\(\) returns two things: observation, info = env.reset\(\)$"
    ):
        loaded.act(env.reset(seed=3))
    env.close()


def test_settings_are_checked_in_python_too():
    with pytest.raises(ConfigError, match=r"settings: unknown key 'steps' at the top; it belongs into the table \[run\]"):
        resolve("CartPole-v1", "ppo").overlay({"steps": 5})
    with pytest.raises(ConfigError, match="agent 'mine_not:X': no module 'mine_not'"):
        AGENTS.load("mine_not:X")
    import rlcore

    with pytest.raises(ConfigError, match=r"train: expected Settings, such as rlcore.config.resolve\(.*got 'CartPole-v1'"):
        rlcore.train("CartPole-v1", "ppo")
