from __future__ import annotations

import dataclasses
import json
import math
import tomllib

import fake_rl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcore import schema
from rlcore.config import RunConfig, Settings, preset, read_toml, resolve
from rlcore.errors import ConfigError, UnknownNameError


def test_merge_order_is_defaults_preset_file_and_then_flags(tmp_path):
    assert RunConfig().num_envs == 1
    assert preset("ppo", "Unheard-v0")["run"]["num_envs"] == 8
    assert preset("ppo", "Pendulum-v1")["run"]["num_envs"] == 4
    file = tmp_path / "a.toml"
    file.write_text('[run]\nenv = "Walk-v0"\nagent = "fake"\nsteps = 7\n[agent]\ntarget_kl = 1\nhidden_sizes = [1, 2]\n')
    settings = resolve("", "", file)
    assert settings.run == RunConfig(env="Walk-v0", agent="fake", steps=7)
    assert settings.agent == fake_rl.FakeConfig(target_kl=1.0, hidden_sizes=(1, 2))
    assert resolve("Grid-v0", "", file).run.env == "Grid-v0", "a flag wins over the file"


def test_presets_hold_only_tables_of_settings():
    for agent in ("ppo", "dqn"):
        for env in ("CartPole-v1", "Pendulum-v1", "Acrobot-v1"):
            tables = preset(agent, env)
            assert tables.keys() == {"run", "agent"}
            schema.replace(RunConfig(), tables["run"], "preset")


@pytest.mark.parametrize(
    "text, message",
    [
        ("[run]\nstep = 3", r"a.toml \[run\]: unknown key 'step'; did you mean 'steps'"),
        ("[agent]\nlearning_rat = 3", r"a.toml \[agent\]: unknown key 'learning_rat'; did you mean 'learning_rate'"),
        ("[runs]\nsteps = 3", "a.toml: unknown key 'runs' at the top; did you mean 'run'"),
        ("run = 3", "a.toml: run: expected a table, got 3"),
        ("[run]\nsteps = 'many'", r"a.toml \[run\]: steps: expected an integer, got 'many' \(str\)"),
        ("[run]\nsteps = true", "steps: expected an integer, got True"),
        ("[run]\nsteps = 3.0", "steps: expected an integer, got 3.0"),
        ("[run]\nsteps = 0", r"a.toml \[run\]: steps: expected at least 1, got 0"),
        ("[run]\nseed = -1", "seed: expected at least 0, got -1"),
        ("[run]\nvectorization = 'fast'", "vectorization: expected one of 'auto', .*, got 'fast' \\(str\\)$"),
        ("[run]\nvectorization = 'nativ'", "got 'nativ' \\(str\\); did you mean 'native'\\?"),
        ("[run]\nnormalize_reward = 1", "normalize_reward: expected true or false, got 1"),
        ("[agent]\nhidden_sizes = [4, 'b']", "hidden_sizes: expected a list of integers"),
        ("[agent]\ntarget_kl = 'much'", "target_kl: expected a number or 'none', got 'much'"),
        ("[agent]\nlearning_rate = -1.0", r"a.toml \[agent\]: learning_rate: expected a positive number, got -1.0"),
        ("[run\n", "a.toml: not valid TOML: "),
    ],
)
def test_a_wrong_file_is_one_line_that_names_file_and_key(tmp_path, text, message):
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as raised:
        resolve("Walk-v0", "fake", file)
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_an_unknown_agent(tmp_path):
    with pytest.raises(ConfigError, match=r"none.toml: cannot be read: No such file"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(UnknownNameError, match="did you mean 'fake'"):
        resolve("Walk-v0", "fakee")


settings_of_any_value = st.builds(
    Settings,
    run=st.builds(
        RunConfig,
        env=st.text(),
        agent=st.just("fake"),
        steps=st.integers(1, 10**12),
        seed=st.integers(0, 2**63 - 1),
        normalize_reward=st.booleans(),
    ),
    agent=st.builds(
        fake_rl.FakeConfig,
        learning_rate=st.floats(1e-9, 1e9),
        hidden_sizes=st.lists(st.integers(0, 99)).map(tuple),
        target_kl=st.none() | st.floats(allow_nan=False),
        double=st.booleans(),
    ),
)


@given(settings_of_any_value)
def test_settings_survive_json_and_toml(settings):
    assert Settings.from_json(json.loads(json.dumps(settings.to_json())), "test") == settings
    assert Settings.from_json(tomllib.loads(settings.to_toml()), "test") == settings


def test_toml_writes_what_json_cannot():
    text = schema.format_toml({"a": {"x": math.nan, "y": -math.inf, "z": "\x7f"}})
    table = tomllib.loads(text)["a"]
    assert math.isnan(table["x"])
    assert (table["y"], table["z"]) == (-math.inf, "\x7f")


def test_replace_accepts_any_member_of_a_union():
    @dataclasses.dataclass
    class Options:
        value: int | str | None = None
        pair: tuple[int, str] = (1, "a")

    assert schema.replace(Options(), {"value": "none"}, "x").value == "none", "a field of text keeps the word"
    assert schema.replace(Options(), {"value": 3, "pair": [2, "b"]}, "x") == Options(3, (2, "b"))
    with pytest.raises(ConfigError, match="pair: expected a list of 2"):
        schema.replace(Options(), {"pair": [2]}, "x")
