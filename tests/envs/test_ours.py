"""Every environment of ours: Gymnasium's checker finds nothing wrong with it, and it goes on from its state bit for bit."""

from __future__ import annotations

import copy

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs.registration import OURS
from envs.state import capture_env, restore_env

#: Need a process at the other end: tested with it, in test_sensor_env and test_remote.
ELSEWHERE = {"rlcore/CarLive-v0", "rlcore/Remote-v0"}
SETTINGS = [
    *((name, {}) for name in OURS if name not in ELSEWHERE),
    ("rlcore/Car-v0", {"controls": "pedals", "track": None}),
    ("rlcore/Car-v0", {"observation": "dict", "random_start": False}),
]


@pytest.mark.parametrize("name, kwargs", SETTINGS)
def test_gymnasium_checks_it(name: str, kwargs: dict[str, object]):
    check_env(gymnasium.make(name, **kwargs).unwrapped)


@pytest.mark.parametrize("name, kwargs", SETTINGS)
def test_goes_on_from_a_state(name: str, kwargs: dict[str, object]):
    env, other = gymnasium.make(name, **kwargs), gymnasium.make(name, **kwargs)
    env.reset(seed=3)
    env.action_space.seed(3)
    actions = [env.action_space.sample() for _ in range(60)]
    for action in actions[:30]:
        env.step(action)
    other.reset(seed=4)
    restore_env(other, copy.deepcopy(capture_env(env)))
    for action in actions[30:]:
        observation, *rest, _ = env.step(action)
        again, *also, _ = other.step(action)
        assert rest == also
        for ours, theirs in zip(_arrays(observation), _arrays(again), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert str(env.reset()) == str(other.reset())


def _arrays(observation: object) -> list[np.ndarray]:
    return list(observation.values()) if isinstance(observation, dict) else [np.asarray(observation)]


def test_is_a_world():
    world = envs.make_world("rlcore/Car", num_envs=2)
    observation = world.reset(seed=0)
    step = world.step(np.zeros((2, 2)))
    assert observation.shape == step.observation.shape == (2, 29)
    world.close()
