from __future__ import annotations

import sys

import fake_rl
import pytest

from rlcore.errors import UnknownNameError
from rlcore.registry import AGENTS, ENVS, Registry


def test_names_are_listed_without_importing_anything():
    registry = Registry("thing", {"b": "no_such_module:B", "a": "math:pi"})
    assert registry.names() == ["a", "b"]
    assert "b" in registry
    assert "c" not in registry
    assert "no_such_module" not in sys.modules


def test_load_imports_a_string_and_returns_an_object():
    registry = Registry("thing", {"pi": "math:pi"})
    registry.register("three", 3)
    assert registry.load("pi") == pytest.approx(3.14159, abs=1e-4)
    assert registry.load("three") == 3


def test_unknown_name_gives_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown agent 'pppo'; did you mean 'ppo'"):
        AGENTS.load("pppo")


def test_third_parties_add_names_by_entry_points():
    assert {"dqn", "fake", "ppo"} <= set(AGENTS.names())
    assert AGENTS.load("fake") is fake_rl.FakeAgent
    assert "Walk-v0" in ENVS
    assert ENVS.load("Walk-v0") is fake_rl.make_walk


def test_an_entry_point_cannot_replace_what_is_built_in():
    registry = Registry("agent", {"fake": "math:pi"}, entry_points="rlcore.agents")
    assert registry.load("fake") is not fake_rl.FakeAgent
