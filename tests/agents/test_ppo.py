"""What PPO makes of a rollout, and that it learns."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import tensor as T
from agents.ppo import PPO, PPOConfig
from agents.returns import gae
from rlcore.config import resolve
from rlcore.errors import ConfigError
from rlcore.runs import load, train

OBSERVATION, ACTION = Box(-1, 1, (3,)), Discrete(2)


def agent_with_rollout(ends=(), valid=None, **options):
    """Two environments, four random steps; ``ends`` are (step, env, terminated)."""
    agent = PPO(PPOConfig(rollout_length=4, **options), OBSERVATION, ACTION, num_envs=2, total_steps=100, seed=0)
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (5, 2, 3)).astype(np.float32)
    final = rng.uniform(-1, 1, (4, 2, 3)).astype(np.float32)
    rewards = rng.normal(size=(4, 2)).astype(np.float32)
    terminated, truncated = np.zeros((4, 2), bool), np.zeros((4, 2), bool)
    for step, env, is_terminal in ends:
        (terminated if is_terminal else truncated)[step, env] = True
    valid = np.ones((4, 2), bool) if valid is None else valid
    after = np.where((terminated | truncated)[..., None], final, x[1:])
    for t in range(4):
        agent.observe(x[t], agent.act(x[t]), rewards[t], after[t], terminated[t], truncated[t], valid[t])
    return agent, x, after, rewards, terminated, truncated


@pytest.mark.parametrize("ends", [[], [(1, 0, True)], [(1, 0, False)], [(0, 0, False), (2, 1, True), (3, 1, False)]])
def test_advantages_bootstrap_from_the_true_final_observation(ends):
    agent, x, after, rewards, terminated, truncated = agent_with_rollout(ends)
    with T.no_grad():
        values, next_values = (agent.critic(T.tensor(o)).numpy()[..., 0] for o in (x[:4], after))
    expected = gae(rewards, values, next_values, terminated, truncated, 0.99, 0.95)
    np.testing.assert_allclose(agent._batch()["advantage"].reshape(4, 2), expected, rtol=1e-4, atol=1e-6)


def test_rows_that_only_reset_are_left_out():
    valid = np.ones((4, 2), bool)
    valid[2, 0] = False
    agent, x, *_ = agent_with_rollout([(1, 0, True)], valid)
    batch = agent._batch()
    assert len(batch["value"]) == 7
    np.testing.assert_array_equal(batch["observation"], x[:4][valid])
    assert agent.steps == 7


def test_learning_rate_and_clip_range_fall_to_the_end():
    agent, *_ = agent_with_rollout(anneal_learning_rate=True, learning_rate=1e-2, minibatch_size=8)
    assert agent.learn()["learning_rate"] == pytest.approx(1e-2)  # the first rollout learns at the full rate
    agent.steps = 58
    agent.rollout._size = 4
    assert agent.learn()["learning_rate"] == pytest.approx(1e-2 * 0.5)


def test_target_kl_stops_the_epochs():
    many, *_ = agent_with_rollout(epochs=50, learning_rate=0.05, minibatch_size=8)
    few, *_ = agent_with_rollout(epochs=50, learning_rate=0.05, minibatch_size=8, target_kl=1e-3)
    assert few.learn()["approx_kl"] < many.learn()["approx_kl"]


@pytest.mark.parametrize("option", ["clip_value_loss", "normalize_advantage"])
def test_options_change_the_update(option):
    weights = []
    for value in (False, True):
        agent, *_ = agent_with_rollout(**{option: value}, minibatch_size=8, learning_rate=0.05)
        agent.learn()
        weights.append(np.concatenate([p.detach().numpy().ravel() for p in agent.networks.parameters()]))
    assert not np.allclose(*weights)


@pytest.mark.parametrize(
    "field, value, expected",
    [("learning_rate", 0, "a number above 0"), ("epochs", 0, "at least 1"), ("gamma", 1.5, "a number from 0 to 1")],
)
def test_values_out_of_range_are_refused(field, value, expected):
    with pytest.raises(ConfigError, match=f"^{field}: expected {expected}, got {value}$"):
        PPOConfig(**{field: value})


def test_learns_cartpole(tmp_path):
    settings = resolve("CartPole-v1", "ppo").overlay({"run": {"steps": 20_000}}, where="test")
    train(settings, tmp_path)
    assert load(tmp_path).evaluate(episodes=10, seed=1).mean > 120  # a random policy gets 20
