"""Streaming agents: each against the same method written out for a linear network, and compiled against eager."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from hypothesis import given
from hypothesis import strategies as st

import tensor as T
from agents.checks import Driver, make, same
from agents.networks import sparse_mlp
from agents.networks.heads import SpreadGaussianHead
from agents.obgd import obgd
from agents.statistics import RunningStatistics
from agents.stream_ac import StreamAC, StreamACConfig
from agents.stream_q import StreamQ, StreamQConfig
from agents.stream_sarsa import StreamSarsa, StreamSarsaConfig
from rlcore.errors import ConfigError, SpaceError

INPUTS, ACTIONS, GAMMA, LAMBDA = 3, 4, 0.9, 0.7
SPACE = Box(-5, 5, (INPUTS,), np.float32)
CLASSES = {"q": (StreamQ, StreamQConfig), "sarsa": (StreamSarsa, StreamSarsaConfig), "ac": (StreamAC, StreamACConfig)}


def agent_of(kind, compile=False, hidden=(), **options):
    agent_class, config = CLASSES[kind]
    made = config(gamma=GAMMA, trace_decay=LAMBDA, hidden_sizes=hidden, compile=compile, sparsity=0.0, **options)
    return agent_class(made, SPACE, Discrete(ACTIONS), num_envs=1, total_steps=1000, seed=0)


def experience(n, seed=0):
    """Steps that follow on each other, with ends of both kinds."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, INPUTS)).astype(np.float32)
    for k in range(n):
        after = rng.normal(size=(1, INPUTS)).astype(np.float32)
        terminated, truncated = k % 9 == 8, k % 7 == 6
        yield x, rng.integers(ACTIONS, size=1), float(rng.normal()), after, terminated, truncated and not terminated
        x = rng.normal(size=(1, INPUTS)).astype(np.float32) if terminated or truncated else after


def show(agent, step):
    x, action, reward, after, terminated, truncated = step
    flags = (np.array([flag]) for flag in (terminated, truncated, True))
    agent.observe(x, action, np.array([reward], np.float32), after, *flags)
    return agent.learn()


class Written:
    """The arithmetic of arXiv 2410.14606 in NumPy, for one linear layer: traces, bounded steps, statistics."""

    def __init__(self, weight, bias, kappa):
        self.parameters = [weight.astype(np.float64), bias.astype(np.float64)]
        self.traces = [np.zeros_like(p) for p in self.parameters]
        self.kappa = kappa

    def __call__(self, x):
        weight, bias = self.parameters
        return weight @ x + bias

    def learn(self, delta, decay, output_gradient, x):
        gradients = np.outer(output_gradient, x), output_gradient
        self.traces = [decay * e + g for e, g in zip(self.traces, gradients, strict=True)]
        norm = sum(np.abs(e).sum() for e in self.traces)
        step = 1.0 / max(1.0, self.kappa * max(abs(delta), 1.0) * norm)
        self.parameters = [p + step * delta * e for p, e in zip(self.parameters, self.traces, strict=True)]


class Scaling:
    """Statistics from all that was seen, by their definition."""

    def __init__(self):
        self.observations, self.returns, self.running = [], [], 0.0

    def see(self, x, reward, ends):
        self.observations.append(x)
        self.running = GAMMA * self.running + reward
        self.returns.append(self.running)
        if ends:
            self.running = 0.0
        return reward / self._std(self.returns)

    @staticmethod
    def _std(rows):
        return np.sqrt(np.var(rows, axis=0) + 1e-8) if len(rows) > 1 else 1.0

    def scaled(self, x):
        return (x - np.mean(self.observations, axis=0)) / self._std(self.observations)


def written_values(steps, network, backup, epsilon=0.0):
    """Watkins' Q(lambda); SARSA(lambda), where the action after is given; or tree backup of a policy that explores."""
    scaling, fresh = Scaling(), True
    for x, action, reward, after, terminated, truncated, following in steps:
        reward = scaling.see(x[0], reward, terminated or truncated)
        state, next_values = scaling.scaled(x[0]), network(scaling.scaled(after[0]))
        values, a, greedy = network(state), int(action[0]), 1 - epsilon
        best = values[a] == values.max()
        bootstrap, kept = {
            "best": (next_values.max(), best),
            "expected": (greedy * next_values.max() + epsilon * next_values.mean(), greedy * best + epsilon / ACTIONS),
            "taken": (next_values[following or 0], 1.0),
        }[backup]
        delta = reward + (0.0 if terminated else GAMMA * bootstrap) - values[a]
        network.learn(delta, 0.0 if fresh else GAMMA * LAMBDA * kept, np.eye(ACTIONS)[a], state)
        fresh = terminated or truncated


def linear_of(network, kappa=2.0):
    return Written(network[0].weight.detach().numpy(), network[0].bias.detach().numpy(), kappa)


def check_same(network, written):
    for p, q in zip(network.parameters(), written.parameters, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q, rtol=1e-3, atol=1e-5)


def test_stream_q_is_watkins_q_lambda_with_bounded_steps():
    agent = agent_of("q")
    written, before = linear_of(agent.values.network), linear_of(agent.values.network)
    steps = list(experience(60))
    for step in steps:
        assert show(agent, step)["td_error"] >= 0
    written_values([(*step, None) for step in steps], written, "best")
    check_same(agent.values.network, written)
    assert np.abs(written.parameters[0] - before.parameters[0]).max() > 0.01


def test_stream_sarsa_is_expected_sarsa_with_the_traces_of_tree_backup():
    agent = agent_of("sarsa", exploration_initial_epsilon=0.3, exploration_final_epsilon=0.3)
    written, before = linear_of(agent.values.network), linear_of(agent.values.network)
    steps = list(experience(60))
    for step in steps:
        assert show(agent, step)["td_error"] >= 0  # at once, also where an episode was cut short
    written_values([(*step, None) for step in steps], written, "expected", epsilon=0.3)
    check_same(agent.values.network, written)
    assert np.abs(written.parameters[0] - before.parameters[0]).max() > 0.01


def test_stream_sarsa_can_value_the_action_that_was_taken_next():
    agent = agent_of("sarsa", exploration_initial_epsilon=0.0, exploration_final_epsilon=0.0, next_value="taken")
    written = linear_of(agent.values.network)
    steps = [(*s[:5], False) for s in experience(60) if not s[5]]
    for k, step in enumerate(steps):
        metrics = show(agent, step)
        # Nothing is known before the action after it, but at an end.
        assert (metrics is None) == (not step[4] and (k == 0 or steps[k - 1][4]))
    following = [int(s[1][0]) for s in steps[1:]] + [0]
    done = steps if steps[-1][4] else steps[:-1]
    written_values([(*s, a) for s, a in zip(done, following, strict=False)], written, "taken")
    check_same(agent.values.network, written)


def test_stream_sarsa_draws_an_action_where_the_episode_was_cut_short():
    agent = agent_of("sarsa", exploration_initial_epsilon=0.0, exploration_final_epsilon=0.0, next_value="taken")
    x, action, reward, after, *_ = next(experience(1))
    errors = [show(agent, (x, action, reward, after, False, True))["td_error"]]
    other = agent_of("sarsa", exploration_initial_epsilon=0.0, exploration_final_epsilon=0.0, next_value="taken")
    errors.append(show(other, (x, action, reward, after, True, False))["td_error"])
    assert errors[0] != errors[1]  # truncation bootstraps, termination does not


def test_stream_ac_is_an_actor_and_a_critic_with_bounded_steps():
    agent = agent_of("ac", entropy_coefficient=0.0)
    actor, critic = linear_of(agent.actor, 3.0), linear_of(agent.critic, 2.0)
    scaling, fresh = Scaling(), True
    for x, action, reward, after, terminated, truncated in experience(60):
        show(agent, (x, action, reward, after, terminated, truncated))
        scaled = scaling.see(x[0], reward, terminated or truncated)
        state = scaling.scaled(x[0])
        delta = scaled + (0.0 if terminated else GAMMA) * critic(scaling.scaled(after[0]))[0] - critic(state)[0]
        logits = actor(state)
        probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        decay = 0.0 if fresh else GAMMA * LAMBDA
        actor.learn(delta, decay, np.eye(ACTIONS)[int(action[0])] - probabilities, state)
        critic.learn(delta, decay, np.ones(1), state)
        fresh = terminated or truncated
    check_same(agent.actor, actor)
    check_same(agent.critic, critic)


@pytest.mark.parametrize("reward", [-1.0, 1.0])
def test_the_entropy_bonus_favours_randomness_whatever_the_sign_of_the_error(reward):
    changes = []
    for coefficient in (0.0, 10.0):
        agent = agent_of("ac", entropy_coefficient=coefficient, standardize_observations=False)
        with T.no_grad():
            agent.actor[0].bias.copy_(T.tensor([1.0, 0.0, 0.0, 0.0]))
        x = np.ones((1, INPUTS), np.float32)
        show(agent, (x, np.array([1]), reward, x, True, False))
        changes.append(agent.head.entropy(agent.actor(T.from_numpy(x))).item())
    assert changes[1] > changes[0]


@pytest.mark.parametrize("kind, new, options", [
    ("q", 0, {}),
    ("sarsa", 0, {}),
    ("sarsa", 2, {"new_action_tries": 30}),  # which are no longer new at the end
    ("sarsa", 0, {"next_value": "taken"}),
    ("ac", 0, {}),
])  # fmt: skip
def test_compiled_learning_is_that_of_the_eager_library(kind, new, options):
    agents = [agent_of(kind, compile=on, hidden=(16,), **options) for on in (True, False)]
    if new:
        for agent in agents:
            agent.values.new = new
    for step in experience(150):
        shown = [show(agent, step) for agent in agents]
        assert (shown[0] is None) == (shown[1] is None)
    networks = [a.networks if kind == "ac" else a.values.network for a in agents]
    for p, q in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-2, atol=1e-3)
    step = agents[0]._learn if kind == "ac" else agents[0].values._learn
    compiled = step._call
    assert (len(compiled.plans), compiled.recorded, compiled.missed, compiled.eager) == (1, 1, 0, 0)


@pytest.mark.parametrize("kind", ["discrete", "box"])
def test_preparing_leaves_no_trace(kind):
    agent = make(StreamAC, kind)
    before = agent.state_dict()
    agent.prepare()
    assert same(before, agent.state_dict())


def test_what_was_not_seen_to_the_end_is_not_learnt_from():
    agent, other = (make(StreamSarsa, "discrete") for _ in range(2))
    Driver(agent).run(20)
    agent.interrupt()
    assert all(agent.values.traces.fresh)
    assert agent.learn() is None
    assert other.learn() is None


@given(
    gradients=st.lists(st.floats(-100, 100), min_size=1, max_size=5),
    delta=st.floats(-1e4, 1e4),
    kappa=st.floats(1.0, 5.0),
)
def test_a_step_never_moves_further_than_its_bound(gradients, delta, kappa):
    w, e = T.zeros(len(gradients), dtype=T.float64), T.zeros(len(gradients), dtype=T.float64)
    g = T.tensor(gradients, dtype=T.float64)
    obgd([w], [e], [g], T.tensor(delta, dtype=T.float64), T.tensor(0.5, dtype=T.float64), step_size=1.0, kappa=kappa)
    moved = w.abs().sum().item()
    assert moved <= min(abs(delta), 1.0) / kappa + 1e-9 or moved <= abs(delta) * g.abs().sum().item() + 1e-9
    assert moved <= max(1.0 / kappa, 0.0) + 1e-9


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=2), min_size=2, max_size=30))
def test_running_statistics_are_those_of_all_rows(rows):
    statistics = RunningStatistics((2,))
    for row in rows:
        statistics.update(T.tensor(row))
    seen = np.array(rows, np.float32).astype(np.float64)
    np.testing.assert_allclose(statistics.mean.numpy(), seen.mean(0), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(statistics.std().numpy(), np.sqrt(seen.var(0) + 1e-8), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_sparse_networks_leave_each_unit_the_same_number_of_inputs(sparsity):
    T.manual_seed(0)
    net = sparse_mlp(20, [10], 3, sparsity=sparsity)
    for layer, inputs in ((net[0], 20), (net[3], 10)):
        weight = layer.weight.detach().numpy()
        assert (np.count_nonzero(weight, axis=1) == inputs - np.ceil(sparsity * inputs)).all()
        assert np.abs(weight).max() <= inputs**-0.5
        assert not layer.bias.detach().numpy().any()


def test_a_layer_that_begins_at_zero_learns():
    # 0.9 of four inputs are all of them.
    agent = StreamQ(StreamQConfig(), Box(-1, 1, (4,)), Discrete(2), num_envs=1, total_steps=100, seed=0)
    weight = agent.values.network[0].weight
    assert not weight.detach().numpy().any()
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, after = (rng.uniform(-1, 1, (1, 4)).astype(np.float32) for _ in range(2))
        show(agent, (x, np.array([0]), float(x[0, 0]), after, True, False))
    assert (weight.detach().numpy() != 0).all()


def test_the_spread_of_actions_depends_on_the_state():
    head = SpreadGaussianHead((2,))
    outputs = T.tensor([[1.0, -1.0, -3.0, 2.0]])
    std = np.log1p(np.exp([-3.0, 2.0])) + 1e-6
    drawn = np.concatenate([head.sample(outputs, np.random.default_rng(k)) for k in range(4000)])
    np.testing.assert_allclose(drawn.mean(0), [1.0, -1.0], atol=0.15)
    np.testing.assert_allclose(drawn.std(0), std, rtol=0.05)
    assert head.mode(outputs).tolist() == [[1.0, -1.0]]
    action = np.array([[0.9, 0.5]], np.float32)
    z = (action[0] - [1.0, -1.0]) / std
    expected = (-0.5 * z**2 - np.log(std) - 0.5 * np.log(2 * np.pi)).sum()
    assert head.log_prob(outputs, T.from_numpy(action)).item() == pytest.approx(expected, rel=1e-5)
    assert head.entropy(outputs).item() == pytest.approx((np.log(std) + 0.5 + 0.5 * np.log(2 * np.pi)).sum(), rel=1e-5)


@pytest.mark.parametrize("kind", ["q", "sarsa"])
def test_action_values_want_discrete_actions(kind):
    agent_class, config = CLASSES[kind]
    with pytest.raises(SpaceError, match=f"stream-{kind} cannot serve the action space MultiDiscrete.*; stream-ac serves others"):
        agent_class(config(), SPACE, MultiDiscrete([2, 2]), num_envs=1, total_steps=1, seed=0)


@pytest.mark.parametrize("field, value, expected", [
    ("step_size", 0.0, "a number above 0"),
    ("trace_decay", 1.5, "a number from 0 to 1"),
    ("sparsity", -1, "a number from 0 to 1"),
])  # fmt: skip
@pytest.mark.parametrize("kind", CLASSES)
def test_ranges(kind, field, value, expected):
    with pytest.raises(ConfigError, match=f"{field}: expected {expected}, got {value}"):
        CLASSES[kind][1](**{field: value})
