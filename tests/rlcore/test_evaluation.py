from __future__ import annotations

import fake_rl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcore.evaluation import Evaluation, evaluate, interquartile_mean
from rlcore.types import EpisodeEnd, Step


def agent_for(world: fake_rl.Walk) -> fake_rl.FakeAgent:
    return fake_rl.FakeAgent(
        fake_rl.FakeConfig(),
        world.observation_space,
        world.action_space,
        num_envs=world.num_envs,
        total_steps=1,
        seed=0,
    )


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_same_seed_same_result_and_the_agent_is_untouched(num_envs):
    world = fake_rl.Walk("Walk-v0", num_envs)
    agent = agent_for(world)
    before = agent.rng.bit_generator.state
    one, two = (evaluate(agent, world, episodes=7, seed=5) for _ in range(2))
    assert one == two
    assert len(one.returns) == len(one.lengths) == 7
    assert agent.rng.bit_generator.state == before
    assert evaluate(agent, world, episodes=7, seed=6) != one


def test_stochastic_evaluation_draws_actions():
    world = fake_rl.Walk("Walk-v0", 1)
    agent = agent_for(world)
    before = agent.rng.bit_generator.state
    evaluate(agent, world, episodes=2, deterministic=False)
    assert agent.rng.bit_generator.state != before


class TwoSpeeds(fake_rl.Walk):
    """Environment 0 ends every step with return 0, environment 1 every tenth with return 1."""

    def step(self, action):
        self.calls += 1
        ends = [EpisodeEnd(0, 0.0, 1)]
        if self.calls % 10 == 0:
            ends.append(EpisodeEnd(1, 1.0, 10))
        none = np.zeros(2, bool)
        return Step(self.place, np.zeros(2, np.float32), self.place, none, none, ~none, tuple(ends))


def test_short_episodes_are_not_favoured():
    world = TwoSpeeds("Walk-v0", 2)
    result = evaluate(agent_for(world), world, episodes=10)
    assert sorted(result.returns) == [0.0] * 5 + [1.0] * 5


def test_on_step_sees_the_first_and_the_last_state():
    world, seen = fake_rl.Walk("Walk-v0", 1), []
    result = evaluate(agent_for(world), world, episodes=1, on_step=lambda: seen.append(1))
    assert len(seen) == result.lengths[0] + 1


def test_less_than_one_episode_is_refused():
    world = fake_rl.Walk("Walk-v0", 1)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        evaluate(agent_for(world), world, episodes=0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_statistics_are_within_the_data(values):
    result = Evaluation.of(values, [1] * len(values))
    low, high = min(values) - 1e-6, max(values) + 1e-6
    for figure in (result.mean, result.median, result.iqm, *result.mean_interval, *result.iqm_interval):
        assert low <= figure <= high
    assert result.mean_interval[0] <= result.mean_interval[1]
    assert result.mean == pytest.approx(np.mean(values))
    assert result.std == pytest.approx(np.std(values))


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = Evaluation.of(rng.normal(3.0, 2.0, 40).tolist(), [1] * 40, seed=trial).mean_interval
        covered += low <= 3.0 <= high
    assert 0.88 < covered / 200 <= 0.99


def test_outliers_do_not_move_the_interquartile_mean():
    assert interquartile_mean(np.array([[1.0, 2.0, 3.0, 1e9], [0.0, 0.0, 0.0, -1e9]])).tolist() == [2.5, 0.0]
    assert interquartile_mean(np.array([7.0])) == 7.0


def test_json_has_the_promised_names():
    values = Evaluation.of([1.0, 3.0], [4, 5]).to_json()
    assert values["mean_return"] == 2.0
    assert values["std_return"] == 1.0
    assert values["episodes"] == 2
    assert values["returns"] == [1.0, 3.0]
    assert {"median", "iqm", "mean_interval", "iqm_interval", "lengths"} <= values.keys()
