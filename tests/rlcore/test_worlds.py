from __future__ import annotations

import sys
import types

import fake_rl
import gymnasium
import pytest

from rlcore.errors import UnknownNameError
from rlcore.worlds import list_environments, make_world


@pytest.fixture
def envs(monkeypatch):
    """In place of the real `envs`: says what it was asked for."""
    module = types.ModuleType("envs")
    module.make_world = lambda env_id, **options: (env_id, options)
    module.list_environments = lambda: ["CartPole-v1"]
    monkeypatch.setitem(sys.modules, "envs", module)
    return module


def test_a_registered_callable_makes_the_world(envs):
    world = make_world("Walk-v0", num_envs=3)
    assert isinstance(world, fake_rl.Walk)
    assert world.num_envs == 3


def test_a_registered_gymnasium_class_becomes_an_id_of_gymnasium(envs):
    try:
        assert make_world("Grid-v0")[0] == "Grid-v0"
        assert isinstance(gymnasium.make("Grid-v0").unwrapped, fake_rl.GridEnv)
        assert make_world("Grid-v0")[0] == "Grid-v0", "and a second time"
    finally:
        gymnasium.registry.pop("Grid-v0", None)


def test_the_nearest_names_of_an_unknown_id_include_third_parties(envs, monkeypatch):
    def unknown(env_id, **options):
        raise UnknownNameError("environment", env_id, ["CartPole-v1"])  # noqa: EM101

    monkeypatch.setattr(envs, "make_world", unknown)
    with pytest.raises(UnknownNameError, match="unknown environment 'Walk-v1'; did you mean 'Walk-v0'"):
        make_world("Walk-v1")


def test_any_other_id_is_left_to_envs(envs):
    env_id, options = make_world("CartPole-v1", num_envs=2, discount=0.9, training=False)
    assert env_id == "CartPole-v1"
    assert options == {
        "num_envs": 2,
        "vectorization": "auto",
        "normalize_observation": False,
        "normalize_reward": False,
        "discount": 0.9,
        "training": False,
        "render_mode": None,
    }
    assert list_environments()[0] == "CartPole-v1"
    assert "Walk-v0" in list_environments()
