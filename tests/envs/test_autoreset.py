"""Three ways to reset, one meaning: every mode gives the transitions that the environment makes by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import flatten
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

import envs
from envs.vector import SyncVector
from rlcore.types import EpisodeEnd

LENGTHS = (1, 3, 4)
STEPS = 60


def own(make_envs: Any) -> VectorEnv[Any, Any, Any]:
    return SyncVector(make_envs)


def without_metadata(make_envs: Any) -> VectorEnv[Any, Any, Any]:
    venv = SyncVectorEnv(make_envs)
    venv.metadata = {}
    return venv


def batched_final_observations(make_envs: Any) -> VectorEnv[Any, Any, Any]:
    """As vector environments that are written with arrays give them: whole batches, not one object per row."""

    class Batched(SyncVectorEnv[Any, Any]):
        def step(self, actions: Any) -> Any:
            *rest, infos = super().step(actions)
            if "final_obs" in infos:
                rows = [row if row is not None else self.single_observation_space.sample() for row in infos["final_obs"]]
                if isinstance(rows[0], dict):
                    infos["final_obs"] = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
                else:
                    infos["final_obs"] = np.stack(rows)
            return *rest, infos

    return Batched(make_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def gymnasium_mode(mode: AutoresetMode) -> Callable[[Any], VectorEnv[Any, Any, Any]]:
    return lambda make_envs: SyncVectorEnv(make_envs, autoreset_mode=mode)


VECTORS = {
    "next_step": gymnasium_mode(AutoresetMode.NEXT_STEP),
    "same_step": gymnasium_mode(AutoresetMode.SAME_STEP),
    "disabled": gymnasium_mode(AutoresetMode.DISABLED),
    "no metadata": without_metadata,
    "batched final_obs": batched_final_observations,
    "own": own,
}


def transitions_by_itself(env: gymnasium.Env[Any, Any]) -> tuple[list[Any], list[tuple[float, int]]]:
    def flat(observation: Any) -> list[float]:
        return np.asarray(flatten(env.observation_space, observation)).tolist()

    transitions, episodes = [], []
    observation, _ = env.reset()
    total, length = 0.0, 0
    for _ in range(STEPS):
        following, reward, terminated, truncated, _ = env.step(0)
        transitions.append((flat(observation), float(reward), flat(following), terminated, truncated))
        observation, total, length = following, total + float(reward), length + 1
        if terminated or truncated:
            episodes.append((total, length))
            observation, _ = env.reset()
            total, length = 0.0, 0
    return transitions, episodes


@pytest.mark.parametrize("as_dict", [False, True], ids=["box", "dict"])
@pytest.mark.parametrize("mode", VECTORS)
def test_every_mode_gives_the_same_transitions(counting_env: Any, mode: str, as_dict: bool) -> None:
    make_envs = [lambda length=length: counting_env(length, as_dict=as_dict) for length in LENGTHS]
    if as_dict:  # the spaces differ with the length
        make_envs = [lambda: counting_env(3, as_dict=True)] * 3
    world = envs.from_vector_env(VECTORS[mode](make_envs))
    rows: list[list[Any]] = [[] for _ in make_envs]
    episodes: list[EpisodeEnd] = []
    invalid = 0

    observation = world.reset()
    for _ in range(STEPS):
        step = world.step(np.zeros(world.num_envs, int))
        for i in np.flatnonzero(step.valid):
            outcome = (step.reward[i], step.next_observation[i].tolist(), step.terminated[i], step.truncated[i])
            rows[i].append((observation[i].tolist(), *outcome))
        for i in np.flatnonzero(~step.valid):
            assert step.reward[i] == 0
            assert not step.terminated[i]
            assert not step.truncated[i]
        invalid += int(np.count_nonzero(~step.valid))
        episodes += step.episodes
        observation = step.observation

    resets_take_a_step = mode in ("next_step", "no metadata")
    assert (invalid > 0) == resets_take_a_step
    for i, make_env in enumerate(make_envs):
        expected, ends = transitions_by_itself(make_env())
        assert rows[i] == expected[: len(rows[i])]
        assert len(rows[i]) == STEPS or resets_take_a_step
        mine = [(end.total_reward, end.length) for end in episodes if end.index == i]
        assert mine
        assert mine == ends[: len(mine)]


@pytest.mark.parametrize("mode", ["next_step", "no metadata"])
def test_a_row_that_only_reset_shows_the_first_observation(counting_env: Any, mode: str) -> None:
    world = envs.from_vector_env(VECTORS[mode]([lambda: counting_env(2), lambda: counting_env(3)]))
    world.reset()
    steps = [world.step(np.zeros(2, int)) for _ in range(4)]
    assert [step.valid.tolist() for step in steps] == [[True, True], [True, True], [False, True], [True, False]]
    assert steps[2].observation.tolist() == [[1, 0], [0, 3]]
    assert steps[3].observation.tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize("mode", ["same_step", "disabled", "own"])
def test_final_and_first_observations_are_told_apart(counting_env: Any, mode: str) -> None:
    world = envs.from_vector_env(VECTORS[mode]([lambda: counting_env(1), lambda: counting_env(2)]))
    world.reset()
    step = world.step(np.zeros(2, int))
    assert step.next_observation.tolist() == [[0, 1], [0, 1]]
    assert step.observation.tolist() == [[1, 0], [0, 1]]
    assert step.episodes == (EpisodeEnd(0, 1.0, 1),)


def test_reset_in_the_middle_begins_new_episodes(counting_env: Any) -> None:
    world = envs.from_vector_env(SyncVectorEnv([lambda: counting_env(2)]))
    world.reset()
    world.step(np.zeros(1, int))
    world.step(np.zeros(1, int))  # ended: the next step would only reset
    world.reset()
    step = world.step(np.zeros(1, int))
    assert step.valid.all()
    assert world.step(np.zeros(1, int)).episodes == (EpisodeEnd(0, 3.0, 2),)


def test_native_cartpole_marks_its_reset_rows() -> None:
    world = envs.make_world("CartPole-v1", num_envs=8)
    world.reset(seed=0)
    ended = np.zeros(8, bool)
    for _ in range(100):
        step = world.step(np.zeros(8, int))
        np.testing.assert_array_equal(step.valid, ~ended)
        assert not step.reward[~step.valid].any()
        ended = step.terminated | step.truncated
        assert {end.index for end in step.episodes} == set(np.flatnonzero(ended).tolist())
        assert all(end.total_reward == end.length for end in step.episodes)
    world.close()
