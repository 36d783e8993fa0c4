"""DQN's targets, schedules and options, and that it learns."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import tensor as T
from agents.dqn import DQN, DQNConfig
from rlcore.config import resolve
from rlcore.errors import SpaceError
from rlcore.runs import load, train

OBSERVATION, ACTION = Box(-1, 1, (3,)), Discrete(4)
COLUMNS = ("observation", "action", "reward", "next_observation", "discount")


def make(total_steps=100, **options):
    return DQN(DQNConfig(hidden_sizes=(8,), **options), OBSERVATION, ACTION, num_envs=1, total_steps=total_steps, seed=0)


def batch(n=6, discount=0.9):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2, n, 3)).astype(np.float32)
    columns = {"observation": x[0], "next_observation": x[1], "reward": rng.normal(size=n).astype(np.float32)}
    columns |= {"action": rng.integers(4, size=n), "discount": np.full(n, discount, np.float32)}
    return columns


def expected_loss(agent, rows, bootstrap):
    with T.no_grad():
        q = agent.network(T.tensor(rows["observation"])).numpy()
    error = q[np.arange(len(q)), rows["action"]] - (rows["reward"] + rows["discount"] * bootstrap)
    return np.where(np.abs(error) < 1, 0.5 * error**2, np.abs(error) - 0.5).mean()


def values(network, x):
    with T.no_grad():
        return network(T.tensor(x)).numpy()


def test_the_target_is_the_target_networks_best_action():
    agent, rows = make(), batch()
    T.nn.init.normal_(agent.target.body[0].weight)
    bootstrap = values(agent.target, rows["next_observation"]).max(1)
    loss, _ = agent._step(*(T.tensor(rows[name]) for name in COLUMNS))
    assert loss.item() == pytest.approx(expected_loss(make(), rows, bootstrap), rel=1e-5)


def test_double_values_the_networks_own_choice():
    agent, rows = make(double=True), batch()
    T.nn.init.normal_(agent.target.body[0].weight)
    chosen = values(agent.network, rows["next_observation"]).argmax(1)
    bootstrap = values(agent.target, rows["next_observation"])[np.arange(6), chosen]
    loss, _ = agent._step(*(T.tensor(rows[name]) for name in COLUMNS))
    assert loss.item() == pytest.approx(expected_loss(make(double=True), rows, bootstrap), rel=1e-5)


def test_dueling_advantages_are_centred():
    agent = make(dueling=True)
    x = batch()["observation"]
    outputs = values(agent.network.body, x)
    np.testing.assert_allclose(values(agent.network, x).mean(1), outputs[:, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("terminated, truncated, discount", [(True, False, 0.0), (False, True, 0.99), (False, False, 0.99)])
def test_only_termination_stops_bootstrapping(terminated, truncated, discount):
    agent, rows = make(), batch(1)
    flags = [np.array([f]) for f in (terminated, truncated, True)]
    agent.observe(rows["observation"], rows["action"], rows["reward"], rows["next_observation"], *flags)
    assert agent.replay["discount"][0] == pytest.approx(discount)
    np.testing.assert_array_equal(agent.replay["next_observation"], rows["next_observation"])


def test_epsilon_falls_linearly_and_stays():
    agent = make(1000, exploration_fraction=0.5, exploration_initial_epsilon=1.0, exploration_final_epsilon=0.1)
    seen = []
    for agent.steps in (0, 250, 500, 900):
        seen.append(agent.epsilon)
    assert seen == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_target_network_follows_at_its_interval():
    agent = make(target_update_interval=10, learning_starts=1000)
    T.nn.init.zeros_(agent.network.body[0].weight)
    agent.steps = 9
    agent.learn()
    assert agent.target.body[0].weight.abs().sum().item() > 0
    agent.steps = 10
    agent.learn()
    assert agent.target.body[0].weight.abs().sum().item() == 0


def test_learns_at_its_interval_after_the_start():
    agent = make(learning_starts=20, train_interval=5, gradient_steps=2, batch_size=4)
    rng, learnt = np.random.default_rng(0), []
    x, no = rng.uniform(-1, 1, (1, 3)).astype(np.float32), np.array([False])
    for _ in range(40):
        agent.observe(x, agent.act(x), np.ones(1, np.float32), x, no, no, ~no)
        if agent.learn() is not None:
            learnt.append(agent.steps)
    assert learnt == [20, 25, 30, 35, 40]
    assert agent.updates == 10


def test_continuous_actions_are_refused():
    space = Box(-1, 1, (2,))
    with pytest.raises(SpaceError, match=r"^dqn cannot serve the action space Box\(.*\): expected Discrete; ppo serves others$"):
        DQN(DQNConfig(), OBSERVATION, space, num_envs=1, total_steps=1, seed=0)


def test_learns_cartpole(tmp_path):
    overrides = {"run": {"steps": 12_000}, "agent": {"hidden_sizes": [64, 64], "double": True, "dueling": True, "n_step": 3}}
    train(resolve("CartPole-v1", "dqn").overlay(overrides, where="test"), tmp_path)
    assert load(tmp_path).evaluate(episodes=10, seed=1).mean > 80  # a random policy gets 20
