"""Spaces that change in mid-run, through every layer between an environment and an agent."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import envs
from envs.vector import AsyncVector, SyncVector
from rlcore.errors import CheckpointError, WorldError

sys.path.insert(0, str(Path(__file__).parent))
from changing import MoreActions, MoreSensors


def world_of(env, num_envs=2, at=5, vector=SyncVector):
    return envs.VectorWorld(vector([functools.partial(env, at)] * num_envs), name="changing")


def steps(world, count, action=0):
    return [world.step(np.full(world.num_envs, action)) for _ in range(count)]


@pytest.mark.parametrize("vector", [SyncVector, AsyncVector])
@pytest.mark.parametrize("at", [3, 4, 5])  # before, at and after the end of an episode
def test_a_new_action_is_seen_at_once_and_can_be_taken(vector, at):
    world = world_of(MoreActions, at=at, vector=vector)
    try:
        world.reset(seed=0)
        steps(world, at - 1)
        assert world.action_space == Discrete(2)
        with pytest.raises(ValueError, match="expected actions from 0 to 1, got"):
            steps(world, 1, action=2)
        steps(world, 1)
        assert world.action_space == Discrete(3)
        assert steps(world, 1, action=2)[0].reward.tolist() == [2, 2]
    finally:
        world.close()


def test_an_action_is_offered_once_all_environments_have_it():
    world = envs.VectorWorld(SyncVector([lambda: MoreActions(2), lambda: MoreActions(6)]), name="changing")
    world.reset(seed=0)
    assert [(steps(world, 1), world.action_space.n)[1] for _ in range(7)] == [2, 2, 2, 2, 2, 3, 3]


def test_new_components_come_last_whatever_their_names():
    world = world_of(MoreSensors)
    world.reset(seed=0)
    seen = steps(world, 12)
    assert [step.observation.shape[1] for step in seen] == [1] * 4 + [2] * 5 + [3] * 3
    assert seen[-1].observation[0].tolist() == pytest.approx([13.2, 14.5, 12.0])  # m, z, a
    assert world.observation_space.shape == (3,)


def test_an_episode_may_end_with_the_old_space_and_the_next_begin_with_the_new():
    world = world_of(MoreSensors, at=4)  # an episode has four steps
    world.reset(seed=0)
    last = steps(world, 4)[-1]
    assert last.terminated.all()
    assert last.next_observation.shape == last.observation.shape == (2, 2)


def test_a_normalised_world_follows_and_counts_each_column_from_its_beginning():
    world = envs.NormalizedWorld(world_of(MoreSensors), observation=True, reward=True)
    world.reset(seed=0)
    seen = steps(world, 40)
    assert seen[-1].observation.shape == (2, 3)
    assert world.observation_space.shape == (3,)
    statistics = world._observation
    assert statistics.count.tolist()[0] > statistics.count.tolist()[1] > statistics.count.tolist()[2] > 0
    bare = world_of(MoreSensors)
    rows = [bare.reset(seed=0), *(row for step in steps(bare, 40) for row in [step.next_observation])]
    last = np.concatenate([r for r in rows if r.shape[1] == 3])[:, 2]
    assert abs(statistics.mean[2] - last.mean()) < 2  # first observations of episodes count too


@pytest.mark.parametrize("env", [MoreActions, MoreSensors])
@pytest.mark.parametrize("at", [2, 7, 12])
def test_a_world_goes_on_from_its_state(env, at):
    world, other = (envs.NormalizedWorld(world_of(env), observation=True) for _ in range(2))
    world.reset(seed=0)
    steps(world, at)
    observation = other.load_state_dict(world.state_dict())
    assert (other.observation_space, other.action_space) == (world.observation_space, world.action_space)
    for a, b in zip(steps(world, 10), steps(other, 10), strict=True):
        assert a.observation.shape[1] >= observation.shape[1]
        assert a.observation.tobytes() == b.observation.tobytes()


@pytest.mark.parametrize("saved", [SyncVector, AsyncVector])
def test_worlds_of_another_number_have_the_same_spaces(saved):
    world, other = world_of(MoreActions, vector=saved), world_of(MoreActions, num_envs=5)
    try:
        world.reset(seed=0)
        steps(world, 6)
        assert other.load_state_dict(world.state_dict()) is None
        other.reset(seed=3)
        assert other.action_space == Discrete(3)
        assert steps(other, 1, action=2)[0].reward.tolist() == [2] * 5
    finally:
        world.close()


def test_a_native_vector_environment_announces_on_itself():
    class Native(gymnasium.vector.VectorEnv):
        def __init__(self):
            self.num_envs, self.n = 2, 0
            self.metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}
            self.single_observation_space, self.single_action_space = Box(-1, 1, (2,), np.float32), Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.zeros((2, 2), np.float32), {}

        def step(self, actions):
            self.n += 1
            if self.n == 2:
                self.single_observation_space = Box(-1, 1, (3,), np.float32)
            no = np.zeros(2, bool)
            return np.full((2, self.single_observation_space.shape[0]), 0.5, np.float32), np.ones(2), no, no, {}

    world = envs.from_vector_env(Native())
    world.reset()
    assert [step.observation.shape[1] for step in steps(world, 3)] == [2, 3, 3]


def test_what_cannot_be_served_says_so():
    world = world_of(MoreSensors, vector=AsyncVector)
    try:
        world.reset(seed=0)
        with pytest.raises(WorldError, match=r"environment [01]: .*observation space changed.* use vectorization 'sync'"):
            steps(world, 6)
    finally:
        world.close()

    class NoState(MoreActions):
        get_state = set_state = None

    world = world_of(NoState)
    world.reset(seed=0)
    steps(world, 6)
    with pytest.raises(
        CheckpointError, match=r"changing: its spaces had changed, and it cannot give its state: give it get_state"
    ):
        world_of(NoState).load_state_dict(world.state_dict())
