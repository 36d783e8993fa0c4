"""Steps that are told what to achieve: they achieve it, exactly where the function is linear, and never more."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from hypothesis import given
from hypothesis import strategies as st

import tensor as T
from agents.intentional import PolicyIntent, intentional
from agents.stream_ac import StreamAC, StreamACConfig
from agents.stream_q import StreamQ, StreamQConfig
from agents.stream_sarsa import StreamSarsa, StreamSarsaConfig
from rlcore.errors import ConfigError

CLASSES = {"q": (StreamQ, StreamQConfig), "sarsa": (StreamSarsa, StreamSarsaConfig), "ac": (StreamAC, StreamACConfig)}
INPUTS, ACTIONS, GAMMA = 3, 4, 0.9
SPACE = Box(-5, 5, (INPUTS,), np.float32)


def agent_of(kind, compile=False, **options):
    agent_class, config = CLASSES[kind]
    plain = {"standardize_observations": False, "scale_rewards": False, "sparsity": 0.0, "hidden_sizes": (), "gamma": GAMMA}
    made = config(step_rule="intentional", compile=compile, **{**plain, **options})
    return agent_class(made, SPACE, Discrete(ACTIONS), num_envs=1, total_steps=1000, seed=0)


def show(agent, x, action, reward, after, terminated=False):
    flags = (np.array([flag]) for flag in (terminated, False, True))
    agent.observe(x, np.array([action]), np.array([reward], np.float32), after, *flags)
    return agent.learn()


def states(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 1, INPUTS)).astype(np.float32)


numbers = st.lists(st.floats(-10, 10), min_size=4, max_size=4)


@given(gradients=st.lists(numbers, min_size=1, max_size=6), change=st.floats(-100, 100), decay=st.floats(0, 1))
def test_a_linear_output_changes_by_what_was_intended_and_never_by_more(gradients, change, decay):
    w, e = T.zeros(4, dtype=T.float64), T.zeros(4, dtype=T.float64)
    for gradient in gradients:
        g, before = T.tensor(gradient, dtype=T.float64), w.clone()
        intentional([w], [e], [g], T.tensor(change, dtype=T.float64), T.tensor(decay, dtype=T.float64))
        moved = (g * (w - before)).sum().item()
        influence, square = (g * e).sum().item(), (g * g).sum().item()
        slack = 1e-6 * abs(change) + 1e-9
        assert abs(moved) <= abs(change) + slack
        if influence >= square > 1e-6:
            assert moved == pytest.approx(change, abs=slack)


@pytest.mark.parametrize("reduction", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["q", "sarsa"])
def test_an_update_takes_the_stated_part_of_the_error_away(kind, reduction):
    """Against the target of that moment, which for a step that ends its episode is the reward."""
    agent = agent_of(kind, error_reduction=reduction)
    for x in states(20):
        before = 3.0 - agent.values.network(T.from_numpy(x))[0, 2].item()
        show(agent, x, 2, 3.0, x, terminated=True)
        after = 3.0 - agent.values.network(T.from_numpy(x))[0, 2].item()
        assert after == pytest.approx((1 - reduction) * before, abs=1e-5)


def test_the_critic_does_too():
    agent = agent_of("ac", error_reduction=0.25)
    for x in states(20):
        before = 3.0 - agent.critic(T.from_numpy(x)).item()
        show(agent, x, 1, 3.0, x, terminated=True)
        assert 3.0 - agent.critic(T.from_numpy(x)).item() == pytest.approx(0.75 * before, abs=1e-5)


@pytest.mark.parametrize("reward_size", [1.0, 1e6])
def test_a_policy_changes_by_a_bounded_amount_whatever_the_reward(reward_size):
    """The bound holds to first order: log-probabilities are concave in the logits, so that a step down may do a little more."""
    agent, rng, changes = agent_of("ac", policy_change=0.02, entropy_coefficient=0.0), np.random.default_rng(0), []

    def log_probabilities(x):
        logits = agent.actor(T.from_numpy(x)).detach().numpy()[0]
        return logits - np.log(np.exp(logits).sum())

    for x, after in zip(states(300), states(300, seed=1), strict=True):
        action = int(agent.act(x)[0])
        before = log_probabilities(x)
        show(agent, x, action, float(rng.normal() * reward_size), after, terminated=bool(rng.random() < 0.1))
        now = log_probabilities(x)
        changes.append(abs(now[action] - before[action]))
        assert (np.exp(before) * (before - now)).sum() < 0.02  # the Kullback-Leibler divergence of the policy there
    assert max(changes) < 0.021
    assert max(changes) > 0.015


def test_an_action_that_is_almost_certain_is_not_made_certain_at_once():
    """Its gradient is almost nothing, so that the step that changes it by much would be one without bound."""
    usual, w = T.tensor(1.0), T.tensor([0.0])
    intentional([w], [T.tensor([0.0])], [T.tensor([1e-4])], T.tensor(0.1), T.tensor(0.0), usual)
    assert 0 < w.item() < 1e-4
    assert usual.item() == pytest.approx(0.999)


def test_errors_are_measured_by_their_usual_size():
    intent = PolicyIntent()
    for _ in range(5000):
        intent.change(T.tensor(2.0), 0.1)
    assert [intent.change(T.tensor(d), 0.1).item() for d in (1.0, -0.5, 100.0, 0.0)] == pytest.approx(
        [0.05, -0.025, 0.1, 0.0], abs=1e-3
    )


@pytest.mark.parametrize("kind", CLASSES)
def test_compiled_learning_is_that_of_the_eager_library(kind):
    options = {"hidden_sizes": (16,), "standardize_observations": True, "scale_rewards": True}
    agents, rng = [agent_of(kind, compile=on, **options) for on in (True, False)], np.random.default_rng(0)
    for x, after in zip(states(100), states(100, seed=1), strict=True):
        action, reward, ends = int(rng.integers(ACTIONS)), float(rng.normal()), bool(rng.random() < 0.1)
        for agent in agents:
            show(agent, x, action, reward, after, terminated=ends)
    networks = [a.networks if kind == "ac" else a.values.network for a in agents]
    for p, q in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-2, atol=1e-3)


def test_a_policys_running_means_are_kept():
    one, other = agent_of("ac"), agent_of("ac")
    for x in states(5):
        show(one, x, 1, 1.0, x)
    kept = one.state_dict()
    other.load_state_dict(kept)
    for x in states(5, seed=1):
        for agent in (one, other):
            show(agent, x, 1, 1.0, x)
    for p, q in zip(one.networks.parameters(), other.networks.parameters(), strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())
    assert one.intent.usual.item() == other.intent.usual.item() > 0
    del kept["intent"]  # as in a checkpoint from before there was one
    other.load_state_dict(kept)


@pytest.mark.parametrize("kind, options, text", [
    ("q", {"error_reduction": 0.0}, "error_reduction: expected a number above 0, got 0.0"),
    ("ac", {"error_reduction": 1.5}, "error_reduction: expected a number from 0 to 1, got 1.5"),
    ("ac", {"policy_change": -1.0}, "policy_change: expected a number above 0, got -1.0"),
])  # fmt: skip
def test_ranges(kind, options, text):
    with pytest.raises(ConfigError, match=text):
        agent_of(kind, **options)
