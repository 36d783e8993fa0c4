"""How trials are told: the log, TensorBoard, `run-agent info` and `draw`, and what is made again of a history with rollbacks."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import rlcore
from rlcore.cli import main
from rlcore.config import resolve
from rlcore.drawing.births import births, steps_of_widths
from rlcore.living.history import lines, standing
from rlcore.living.plan import SHIPPED, read_structure
from rlcore.logging.progress import SilentProgress
from rlcore.runs import read

LAYERS = ["actor.0", "critic.0"]
STRUCTURE = {
    "rule": [
        {
            "layer": LAYERS,
            "interval": 400,
            "policy": {"name": "every"},
            "edit": {"name": "grow", "units": 2},
            "trial": {"episodes": 10, "tolerance": 0.05, "rest": 0},
        },
        {"layer": ["actor.0"], "interval": 1, "policy": {"name": "continual_backprop", "rate": 0.1, "maturity": 2}},
    ]
}


class Falling(gym.Env):
    """Episodes of ten steps, which are worth ever less until nothing more is to be lost."""

    observation_space, action_space = Box(-1, 1, (3,), np.float32), Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode, self.steps = render_mode, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample() * 0, {}

    def step(self, action):
        self.steps += 1
        observation = np.full(3, np.sin(self.steps), np.float32)
        return observation, max(2.0 - self.steps / 100, 1.0), False, self.steps % 10 == 0, {}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "trial"
    rlcore.ENVS.register("Falling-v0", Falling)
    settings = resolve("Falling-v0", "ppo").overlay(
        {"run": {"steps": 2400, "num_envs": 8}, "agent": {"hidden_sizes": [4], "rollout_length": 16, "epochs": 2}}, where="test"
    )
    settings = type(settings)(settings.run, settings.agent, STRUCTURE)
    rlcore.train(settings, directory, progress=SilentProgress(), tensorboard=True)
    return directory


def test_the_history_has_the_verdicts(run):
    edits = rlcore.load(run).edits
    trials = [e for e in edits if "trial" in e]
    assert {e["trial"] for e in trials} == {"taken back", "kept"}
    assert [e["edit"] for e in edits].count("rollback") >= 1
    assert all(
        e["reward_after"] < 0.95 * e["reward_before"] for e in trials if e["trial"] == "taken back" and e["edit"] == "grow"
    )
    kept = sum(e["trial"] == "kept" for e in trials if e["layer"] == "actor.0" and e["edit"] == "grow")
    assert rlcore.load(run).agent.actor[0].out_features == 4 + 2 * kept


def test_the_log_has_the_rollbacks_and_the_outcomes(run):
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    edits = [edit for record in records for edit in record.get("edits", ())]
    back = next(edit for edit in edits if edit["edit"] == "rollback")
    assert back["layer"] == "actor.0, critic.0"
    assert back["reason"].endswith(" before")
    assert back["reason"].startswith("mean return ")
    assert edits[back["back_to"]]["edit"] == "grow"
    outcomes = [outcome for record in records for outcome in record.get("outcomes", ())]
    assert {outcome["trial"] for outcome in outcomes if "trial" in outcome} == {"taken back", "kept"}


def test_no_trial_is_open_at_the_end_of_a_run(run, tmp_path):
    _, settings, _ = read(run)
    early = dataclasses.replace(settings, run=dataclasses.replace(settings.run, steps=560))
    rlcore.train(early, tmp_path / "early", progress=SilentProgress())
    edits = rlcore.load(tmp_path / "early").edits
    (back,) = [e for e in edits if e["edit"] == "rollback"]
    assert back["step"] == 560
    assert back["reason"] == "no episode ended while it was on trial"
    assert {e["trial"] for e in edits if e["edit"] == "grow"} == {"taken back"}
    (record,) = [r for r in map(json.loads, (tmp_path / "early" / "metrics.jsonl").read_text().splitlines()) if "edits" in r]
    assert record["edits"][-1]["edit"] == "rollback"


def test_tensorboard_has_the_rollbacks(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    texts = [(e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors("structure/edits")]
    back = next(e for e in rlcore.load(run).edits if e["edit"] == "rollback")
    assert (back["step"], f"**rollback** actor.0, critic.0, 0 units: {back['reason']}") in texts


def test_info_says_what_became_of_each_trial(run, capsys):
    assert main(["info", str(run)]) == 0
    out = capsys.readouterr().out
    assert "grow, taken back" in out
    assert "grow, kept" in out
    assert "rollback" in out
    assert "layers: actor.0 " in out


def test_renewals_that_follow_each_other_are_one_line():
    one = {"edit": "reset_units", "layer": "a.0", "units": 1, "parameters": 9, "reason": "r", "reward_before": 1.0}
    edits = [{**one, "step": 10 * n, "number": n, "output_change": 0.1 * n, "reward_after": float(n)} for n in range(1, 4)]
    other = {**edits[0], "edit": "grow", "step": 50, "number": 4, "trial": "running"}
    table = [" ".join(line.split()) for line in lines([*edits, other])]
    assert table[1:] == ["10 to 30 reset_units, 3 times a.0 3 9 0.3 1 3 r", "50 grow, on trial a.0 1 9 0.1 1 1 r"]


def test_the_picture_shows_units_that_went_back(run):
    loaded = rlcore.load(run)
    born = births(loaded.start, loaded.edits)
    assert {name: len(units) for name, units in born.items()} == {
        name: n for name, n in loaded.edits[-1]["widths"].items() if name in born
    }
    gone = {n for n, e in enumerate(loaded.edits) if e.get("trial") == "taken back"}
    assert not gone & {number for units in born.values() for number in units}
    stairs = steps_of_widths(loaded.start, loaded.edits, loaded.steps)["critic.0"]
    heights = [n for _, n in stairs]
    assert any(b < a for a, b in pairwise(heights))
    assert main(["draw", str(run)]) == 0
    svg = (run / "structure.svg").read_text()
    assert ">back<" in svg
    assert ">+2<" in svg


def test_a_layer_that_went_back_has_its_name_again():
    start = {"n.0": 4, "n.2": 2}
    edits = [
        {"edit": "grow", "layer": "n.0", "units": 1, "step": 1, "widths": {"n.0": 5, "n.2": 2}},
        {"edit": "deepen", "layer": "n.0", "units": 0, "step": 2, "widths": {"n.0": 5, "n.2": 5, "n.4": 2}},
        {"edit": "rollback", "layer": "n.0", "units": 0, "step": 3, "widths": {"n.0": 5, "n.2": 2}, "back_to": 1},
    ]
    assert births(start, edits) == {"n.0": [-1] * 4 + [0], "n.2": [-1, -1]}
    assert steps_of_widths(start, edits, 9) == {
        "n.0": [(0, 4), (1, 5), (2, 5), (3, 5), (9, 5)],
        "n.2": [(0, 2), (1, 2), (2, 2), (3, 2), (9, 2)],
    }
    assert [e["step"] for e in standing(edits)] == [1]


def test_edits_that_were_taken_back_are_not_made_again(run, tmp_path):
    loaded = rlcore.load(run)
    settings = resolve("Falling-v0", "ppo").overlay({"run": {"steps": 128}, "agent": {"hidden_sizes": [4]}}, where="test")
    rlcore.train(settings, tmp_path / "early", progress=SilentProgress())
    early = rlcore.load(tmp_path / "early")
    early.replay(loaded.edits)
    for part in ("actor", "critic"):
        assert getattr(early.agent, part)[0].out_features == getattr(loaded.agent, part)[0].out_features


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_shipped_files_can_be_run(name, tmp_path):
    tables = read_structure(Path(name))
    assert tables["rule"]
    settings = resolve("CartPole-v1", "ppo").overlay({"run": {"steps": 1}, "agent": {"hidden_sizes": [8]}}, where="test")
    rlcore.train(type(settings)(settings.run, settings.agent, tables), tmp_path / "run", progress=SilentProgress())
