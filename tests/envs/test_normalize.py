from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import envs
from envs import NormalizedWorld, RunningMeanStd
from rlcore.errors import CheckpointError

ACTIONS = np.zeros(2, int)
rows = hnp.arrays(np.float64, st.tuples(st.integers(0, 6), st.just(3)), elements=st.floats(-1e3, 1e3))


@settings(deadline=None)
@given(st.lists(rows, min_size=1, max_size=6))
def test_parts_give_what_the_whole_gives(parts: list[NDArray[np.float64]]) -> None:
    statistics = RunningMeanStd((3,))
    for part in parts:
        statistics.update(part)
    whole = np.concatenate(parts)
    assert statistics.count == len(whole)
    if len(whole) > 1:
        np.testing.assert_allclose(statistics.mean, whole.mean(axis=0), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(statistics.var, whole.var(axis=0), rtol=1e-7, atol=1e-7)
    assert (statistics.var >= 0).all()


def test_a_large_mean_costs_no_precision() -> None:
    statistics = RunningMeanStd()
    values = 1e9 + np.random.default_rng(0).standard_normal((50, 20))
    for part in values:
        statistics.update(part)
    assert float(statistics.var) == pytest.approx(values.var(), rel=1e-6)


def test_one_row_has_no_spread() -> None:
    statistics = RunningMeanStd((2,))
    statistics.update(np.array([[3.0, 4.0]]))
    assert statistics.mean.tolist() == [3, 4]
    assert statistics.var.tolist() == [1, 1]


def test_statistics_round_trip() -> None:
    statistics = RunningMeanStd((2,))
    statistics.update(np.random.default_rng(0).random((7, 2)))
    other = RunningMeanStd((2,))
    other.load_state_dict(statistics.state_dict())
    for one in (statistics, other):
        one.update(np.ones((1, 2)))
    assert other.mean.tobytes() == statistics.mean.tobytes()
    assert other.var.tobytes() == statistics.var.tobytes()


def make(counting: Any, mode: AutoresetMode = AutoresetMode.SAME_STEP, **options: Any) -> NormalizedWorld:
    venv = SyncVectorEnv([lambda: counting(2), lambda: counting(3)], autoreset_mode=mode)
    return NormalizedWorld(envs.from_vector_env(venv), **options)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_every_observation_counts_once(counting_env: Any, mode: AutoresetMode) -> None:
    """In every mode the statistics are those of all observations that the environments gave."""
    seen: list[NDArray[Any]] = []

    class Watched(counting_env):  # type: ignore[misc]
        def observe(self) -> Any:
            observation = super().observe()
            seen.append(observation.astype(np.float64))
            return observation

    world = make(Watched, mode)
    world.reset()
    for _ in range(40):
        world.step(ACTIONS)
    statistics = world.state_dict()["observation"]
    assert statistics["count"] == len(seen)
    np.testing.assert_allclose(statistics["mean"], np.mean(seen, axis=0))
    np.testing.assert_allclose(statistics["squares"] / len(seen), np.var(seen, axis=0))


@pytest.mark.parametrize("mode", AutoresetMode)
def test_observations_are_standardised_with_the_statistics_so_far(counting_env: Any, mode: AutoresetMode) -> None:
    world, raw = make(counting_env, mode), make(counting_env, mode, observation=False)
    world.reset()
    raw.reset()
    for _ in range(30):
        step, plain = world.step(ACTIONS), raw.step(ACTIONS)
        state = world.state_dict()["observation"]
        var = state["squares"] / state["count"]
        for mine, theirs in ((step[0], plain[0]), (step[2], plain[2])):
            expected = np.clip((theirs - state["mean"]) / np.sqrt(var + 1e-8), -10, 10).astype(np.float32)
            np.testing.assert_array_equal(mine, expected)
        assert step.episodes == plain.episodes


@pytest.mark.parametrize("mode", AutoresetMode)
def test_rewards_are_scaled_by_the_running_return(counting_env: Any, mode: AutoresetMode) -> None:
    world = make(counting_env, mode, observation=False, reward=True, discount=0.9)
    raw = make(counting_env, mode, observation=False)
    world.reset()
    raw.reset()
    running, seen = np.zeros(2), []
    for _ in range(30):
        step, plain = world.step(ACTIONS), raw.step(ACTIONS)
        running[plain.valid] = running[plain.valid] * 0.9 + plain.reward[plain.valid]
        seen += running[plain.valid].tolist()
        expected = np.clip(plain.reward / np.sqrt(np.var(seen) + 1e-8), -10, 10)
        np.testing.assert_allclose(step.reward, expected, rtol=1e-5)
        assert step.reward.dtype == np.float32
        running[plain.terminated | plain.truncated] = 0
        assert step.episodes == plain.episodes


def test_values_are_clipped() -> None:
    world = envs.make_world("CartPole-v1", normalize_observation=True, normalize_reward=True)
    state = world.state_dict()
    for statistics in (state["observation"], state["reward"]):  # as after a thousand zeros
        statistics["count"] = 1000
    assert world.load_state_dict(state) is None
    assert np.abs(world.reset(seed=0)).max() == 10
    assert world.step(np.zeros(1, int)).reward.max() == 10
    assert world.observation_space.contains(np.full(4, 10, np.float32))


def test_frozen_statistics_do_not_move_and_rewards_pass(counting_env: Any) -> None:
    trained = make(counting_env, reward=True)
    trained.reset()
    for _ in range(10):
        trained.step(ACTIONS)
    state = trained.state_dict()
    shown = envs.NormalizedWorld(
        envs.from_env(counting_env(5)), observation=True, reward=True, training=False
    )  # another number of environments, as in evaluation
    assert shown.load_state_dict(state) is None
    shown.reset()
    rewards = [float(shown.step(np.zeros(1, int)).reward[0]) for _ in range(4)]
    assert rewards == [1, 2, 3, 4]
    for name in ("observation", "reward"):
        assert repr(shown.state_dict()[name]) == repr(state[name])


def test_a_state_without_statistics_is_refused(counting_env: Any) -> None:
    with pytest.raises(CheckpointError, match="holds no statistics of the observation"):
        make(counting_env).load_state_dict(envs.from_env(counting_env()).state_dict())
    state = make(counting_env).state_dict()
    state["observation"] = RunningMeanStd((5,)).state_dict()
    with pytest.raises(CheckpointError, match=r"expected statistics of shape \(2,\), got \(5,\)"):
        make(counting_env).load_state_dict(state)
