"""Structure files, what they make of a run, and how that is told."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import rlcore
from rlcore import checkpoint
from rlcore.cli import main
from rlcore.config import resolve
from rlcore.errors import ConfigError
from rlcore.living import Look, read_plan
from rlcore.living.policies import Drift, Plateau, load_memory, memory
from rlcore.logging.progress import SilentProgress

GROW = {
    "rule": [
        {
            "layer": ["actor.0", "critic.0"],
            "interval": 600,
            "policy": {"name": "every"},
            "edit": {"name": "grow", "units": 2},
            "budget": {"units": 9},
        }
    ]
}


class Saying(SilentProgress):
    def __init__(self):
        self.said = []

    def message(self, text):
        self.said.append(text)


def train(directory, structure, steps=4000, agent="ppo", env="CartPole-v1", progress=None, **values):
    settings = resolve(env, agent).overlay({"run": {"steps": steps}, "agent": {"hidden_sizes": [4], **values}}, where="test")
    settings = type(settings)(settings.run, settings.agent, structure)
    return settings, rlcore.train(settings, directory, progress=progress or SilentProgress(), tensorboard=True)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "grown"
    progress = Saying()
    settings, _ = train(directory, GROW, progress=progress)
    return directory, progress.said, settings


def test_layers_grow_within_the_budget_which_is_said_once(grown):
    directory, said, _ = grown
    run = rlcore.load(directory)
    assert [edit["layer"] for edit in run.edits] == ["actor.0", "critic.0"] * 2
    assert run.agent.actor[0].out_features == run.agent.critic[0].out_features == 8
    assert sum("budget reached" in line for line in said) == 1
    assert any(line.startswith("step ") and "grow actor.0 by 2 (look 1)" in line for line in said)


def test_every_edit_is_an_event_in_the_log_with_the_reward_before_and_after(grown):
    lines = [json.loads(line) for line in (grown[0] / "metrics.jsonl").read_text().splitlines()]
    edits = [edit for line in lines for edit in line.get("edits", ())]
    assert [edit["edit"] for edit in edits] == ["grow"] * 4 + ["budget reached"]
    first = edits[0]
    assert first["units"] == 2
    assert first["output_change"] < 1e-6
    assert first["plan"] == ["0.weight: [4, 4] -> [6, 4]", "0.bias: [4] -> [6]", "2.weight: [2, 4] -> [2, 6]"]
    assert first["reward_before"] > 8
    outcomes = [outcome for line in lines for outcome in line.get("outcomes", ())]
    assert [outcome["number"] for outcome in outcomes] == [0, 1, 2, 3]
    assert all(outcome["reward_after"] > 8 for outcome in outcomes)
    assert all(line["step"] >= edit["step"] for line in lines for edit in line.get("edits", ()))


def test_every_edit_is_in_tensorboard_at_its_own_step(grown):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(grown[0] / "tensorboard"))
    events.Reload()
    edits = rlcore.load(grown[0]).edits
    steps = [event.step for event in events.Tensors("structure/edits")]
    assert steps[:4] == [edit["step"] for edit in edits]
    text = events.Tensors("structure/edits")[0].tensor_proto.string_val[0].decode()
    assert text == "**grow** actor.0, 2 units: look 1"
    assert [event.step for event in events.Scalars("structure/reward_after")] == [edit["step"] for edit in edits]


def test_info_prints_the_history(grown, capsys):
    assert main(["info", str(grown[0])]) == 0
    out = capsys.readouterr().out
    assert "layers: actor.0 8 (was 4), actor.2 2, critic.0 8 (was 4), critic.2 1" in out
    assert "look 1" in out
    assert main(["info", str(grown[0]), "--json"]) == 0
    structure = json.loads(capsys.readouterr().out)["structure"]
    assert structure["start"]["actor.0"] == 4
    assert len(structure["edits"]) == 4


def test_draw_writes_both_pictures(grown, capsys):
    pygame = pytest.importorskip("pygame")
    assert main(["draw", str(grown[0])]) == 0
    svg = (grown[0] / "structure.svg").read_text()
    for text in ("ppo on CartPole-v1", "4 edits", "critic.0", "environment steps"):
        assert f">{text}<" in svg or text in svg
    picture = pygame.image.load(grown[0] / "structure.png")
    assert picture.get_width() > 1000
    colours = {tuple(picture.get_at((x, y)))[:3] for x in range(0, picture.get_width(), 7) for y in range(0, 900, 7)}
    assert len(colours) > 20
    assert main(["draw", str(grown[0]), "--out", "picture.jpg"]) == 2
    assert "--out: expected a file that ends with .svg or .png" in capsys.readouterr().err


@pytest.mark.parametrize("returns", [[25.6], [0.0], [-3.0, -3.0]])
def test_draw_takes_a_log_of_one_return(grown, tmp_path, returns):
    run = tmp_path / "short"
    shutil.copytree(grown[0], run)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    entries = [{**json.loads(line), "mean_return": r, "returns": [r]} for line, r in zip(lines, returns, strict=False)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert main(["draw", str(run), "--out", str(tmp_path / "picture.svg")]) == 0
    assert f">{returns[-1]:.4g}<" in (tmp_path / "picture.svg").read_text()


def test_earlier_weights_take_the_edits_on_request(grown, tmp_path):
    train(tmp_path / "early", None, steps=500)
    run, later = rlcore.load(tmp_path / "early"), rlcore.load(grown[0])
    x = np.random.default_rng(0).uniform(-1, 1, (20, 4)).astype(np.float32)
    before = run.agent.actor(_tensor(x)).detach().numpy()
    run.replay(later.edits)
    assert run.agent.actor[0].out_features == 8
    np.testing.assert_allclose(run.agent.actor(_tensor(x)).detach().numpy(), before, rtol=1e-5, atol=1e-6)
    # With the same draws: new units' incoming weights are those that the other run began with.
    again = rlcore.load(tmp_path / "early")
    again.replay(later.edits)
    assert np.array_equal(again.agent.actor[0].weight.detach().numpy(), run.agent.actor[0].weight.detach().numpy())


def _tensor(x):
    import tensor as T

    return T.from_numpy(x)


def test_a_run_without_rules_may_take_some_on_when_it_goes_on(tmp_path):
    settings, _ = train(tmp_path / "run", None, steps=1000)
    longer = type(settings)(resolve("CartPole-v1", "ppo").overlay({"run": {"steps": 3000}}, "t").run, settings.agent, GROW)
    rlcore.train(longer, tmp_path / "run", resume=True, progress=SilentProgress())
    assert rlcore.load(tmp_path / "run").agent.actor[0].out_features > 4
    _, metadata = checkpoint.load(tmp_path / "run")
    assert metadata["settings"]["structure"] == GROW


def rule(**changes):
    return {"rule": [{**GROW["rule"][0], **changes}]}


def renewal(name, **options):
    return {"rule": [{"layer": "actor.0", "policy": {"name": name, **options}}]}


@pytest.mark.parametrize(
    "tables,message",
    [
        ({}, r"expected one or more tables \[\[rule\]\], got \[\]"),
        ({**GROW, "bugdet": {}}, "unknown key 'bugdet'; did you mean 'budget'?"),
        ({**GROW, "budget": {"parametres": 3}}, "budget: unknown key 'parametres'; did you mean 'parameters'?"),
        (rule(polcy={}), "rule 1: unknown key 'polcy'; did you mean 'policy'?"),
        (rule(policy={"name": "platoe"}), "rule 1: policy: unknown policy 'platoe'; did you mean 'plateau'?"),
        (rule(policy={"name": "plateau", "patiance": 3}), "rule 1: policy: unknown key 'patiance'; did you mean 'patience'?"),
        (rule(policy={"name": "plateau", "patience": 0}), "rule 1: policy: patience: expected at least 1, got 0"),
        (rule(policy={"name": "plateau", "best": 0}), "rule 1: policy: unknown key 'best'"),
        (rule(edit={"name": "grow", "units": "8"}), r"rule 1: edit: units: expected an integer, got '8' \(str\)"),
        (rule(edit={"name": "grow", "init": "zero"}), "rule 1: edit: init: expected one of 'zero_out'"),
        (rule(edit={}), "rule 1: edit: expected a name, one of 'deepen', 'grow'"),
        (
            rule(edit={"name": "no_such_module:Edit"}),
            "rule 1: edit: edit 'no_such_module:Edit': no module 'no_such_module' is installed or in this directory",
        ),
        (rule(interval=0), "rule 1: interval: expected at least 1, got 0"),
        (rule(layer=3), "rule 1: layer: expected the name of a layer, such as 'actor.0', or a list of names, got 3"),
        (rule(budget={"unit": 1}), "rule 1: budget: unknown key 'unit'; did you mean 'units'?"),
        (rule(budget={"least": 0}), "rule 1: budget: least: expected at least 1, got 0"),
        (rule(budget={"units": 0}), "rule 1: budget: units: expected at least 1, got 0"),
        ({**GROW, "budget": {"latency": 3}}, "budget: unknown key 'latency'; did you mean 'latency_ms'?"),
        ({**GROW, "budget": {"latency_ms": 0}}, "budget: latency_ms: expected a positive number of milliseconds, got 0"),
        ({**GROW, "budget": {"latency_ms": "1"}}, r"budget: latency_ms: expected a number or 'none', got '1' \(str\)"),
        (rule(trial={"episode": 3}), "rule 1: trial: unknown key 'episode'; did you mean 'episodes'?"),
        (rule(trial={"episodes": 0}), "rule 1: trial: episodes: expected at least 1, got 0"),
        (rule(trial={"tolerance": -0.1}), "rule 1: trial: tolerance: expected at least 0, got -0.1"),
        (rule(trial={"rest": -1}), "rule 1: trial: rest: expected at least 0, got -1"),
        (rule(trial=5), "rule 1: trial: expected a table, got 5"),
        (renewal("redo", treshold=0.1), "rule 1: policy: unknown key 'treshold'; did you mean 'threshold'?"),
        (renewal("redo", threshold=-0.1), "rule 1: policy: threshold: expected a number of at least 0, got -0.1"),
        (renewal("continual_backprop", rate=2.0), "rule 1: policy: rate: expected a number from 0 to 1, got 2.0"),
        (renewal("continual_backprop", maturity=-1), "rule 1: policy: maturity: expected a number of at least 0, got -1"),
        (renewal("continual_backprop", decay=1.0), "rule 1: policy: decay: expected a number from 0 to below 1, got 1.0"),
        (renewal("continual_backprop", known=3), "rule 1: policy: unknown key 'known'"),
        (renewal("continual_backprp"), "rule 1: policy: unknown policy 'continual_backprp'; did you mean 'continual_backprop'?"),
        (
            rule(policy={"name": "redo"}),
            "rule 1: edit: policy 'redo' starts units anew by itself, ever again; leave this table out",
        ),
        (
            {"rule": [{**renewal("continual_backprop")["rule"][0], "trial": {}}]},
            "rule 1: trial: policy 'continual_backprop' starts units anew by itself, ever again; leave this table out",
        ),
    ],
)
def test_a_file_with_anything_unknown_is_refused(tables, message):
    with pytest.raises(ConfigError, match=f"growth.toml: {message}"):
        read_plan(tables, "growth.toml")


@pytest.mark.parametrize(
    "layer,message",
    [
        ("actor.7", r"structure: rule 1: grow: no layer '7'"),
        ("acter.0", r"structure: rule 1: layer: expected 'PART.LAYER' with one of the parts 'actor', 'critic', got 'acter.0'"),
        ("actor.1", r"structure: rule 1: grow: expected a Linear"),
        (
            "actor.2",
            r"structure: rule 1: grow: cannot follow the units of '2': they reach the network's output",
        ),
    ],
)
def test_a_layer_that_is_not_there_is_said_before_anything_is_learnt(tmp_path, layer, message):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "run", rule(layer=layer))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("policy,kind", [("continual_backprop", "ContinualBackprop"), ("redo", "ReDo")])
def test_a_layer_whose_units_cannot_start_anew_is_said_before_anything_is_learnt(tmp_path, policy, kind):
    for layer, message in (
        ("actor.7", "no layer '7'; there are '0', '1', '2'"),
        ("actor.2", "cannot follow the units of '2': they reach the network's output"),
    ):
        tables = {"rule": [{**renewal(policy)["rule"][0], "layer": layer}]}
        with pytest.raises(ConfigError, match=f"structure: rule 1: {kind}: {message}"):
            train(tmp_path / "run", tables)
        assert not (tmp_path / "run").exists()


def test_the_command_line_reads_a_file_or_a_shipped_one(tmp_path, capsys):
    flags = ["train", "--env", "CartPole-v1", "--hidden-sizes", "4", "--steps", "400", "--quiet", "--dir", str(tmp_path / "run")]
    assert main([*flags, "--structure", "plateau"]) == 0
    assert main([*flags, "--overwrite", "--structure", "platau"]) == 2
    assert "unknown structure 'platau'; did you mean 'plateau'?" in capsys.readouterr().err
    file = tmp_path / "growth.toml"
    file.write_text("[[rule]]\nlayer = 'actor.0'\n")
    assert main([*flags, "--overwrite", "--structure", str(file)]) == 2
    assert (
        "growth.toml: rule 1: expected a table [rule.policy] with a name, one of 'continual_backprop', 'dormant', 'drift'"
        in capsys.readouterr().err
    )


def look(number, value, more=True):
    return Look(number, number, value, more, None, "", None)


def test_a_plateau_of_what_is_good_enough_is_none():
    values = [10.0, 480.0, 481.0, 482.0, 470.0, 400.0, 390.0]
    policy = Plateau(patience=2, below=475)
    assert [bool(policy(look(n, v))) for n, v in enumerate(values)] == [False] * 4 + [True, False, True]


@pytest.mark.parametrize("policy", [lambda: Plateau(patience=3), lambda: Drift(delta=0.1)])
def test_what_a_policy_remembers_survives_a_checkpoint(policy, tmp_path):
    rng = np.random.default_rng(0)
    values = [*rng.normal(10, 1, 80), *rng.normal(2, 1, 80)]
    whole, first, second = policy(), policy(), policy()
    answers = [whole(look(n, v)) for n, v in enumerate(values)]
    for n, v in enumerate(values[:90]):
        first(look(n, v))
    checkpoint.save(tmp_path / "p.safetensors", memory(first), {})
    load_memory(second, checkpoint.load(tmp_path / "p.safetensors")[0])
    assert [second(look(n + 90, v)) for n, v in enumerate(values[90:])] == answers[90:]
    assert any(answers)


def test_an_action_that_appears_is_served_by_the_runner(tmp_path):
    from envs.coasting import CoastingCartPole

    class Soon(CoastingCartPole):
        def __init__(self, render_mode=None):
            super().__init__(at=1500, render_mode=render_mode)

    rlcore.ENVS.register("SoonCoasting-v0", Soon)
    _, result = train(
        tmp_path / "run",
        None,
        steps=3000,
        agent="dqn",
        env="SoonCoasting-v0",
        learning_starts=200,
        gradient_steps=4,
        train_interval=8,
    )
    run = rlcore.load(tmp_path / "run")
    assert [(edit["step"], edit["edit"], edit["units"]) for edit in run.edits] == [(1500, "add_outputs", 1)]
    assert run.agent.actions == 3
    assert 2 in run.agent.replay["action"]
    assert result.steps == 3000
