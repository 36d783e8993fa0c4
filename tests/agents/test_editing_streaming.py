"""What follows an edit of a streaming agent's networks: traces of every environment, statistics, and the policy."""

import copy

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st

import tensor as T
from agents.checks import Driver, make, same
from agents.growing import Chances, cautious
from agents.networks import sparse_mlp
from agents.statistics import RunningStatistics
from agents.stream_ac import StreamAC
from agents.stream_q import StreamQ
from agents.stream_sarsa import StreamSarsa
from agents.streaming import RECENT, Recent
from tensor import structure

OBSERVATION = Box(-1, 1, (4,), np.float32)
AGENTS = [StreamAC, StreamQ, StreamSarsa]
POINTS = np.random.default_rng(0).uniform(-1, 1, (50, 4)).astype(np.float32)


def driven(agent_class, steps=60, space="discrete", **options):
    """An agent that has learnt for some steps, in three environments; no unit of it is cut off from the inputs at first."""
    agent = make(agent_class, space)
    config = type(agent.config)(**{**vars(agent.config), "compile": False, "sparsity": 0.5, "trace_decay": 0.95, **options})
    kind = agent.action_space if agent_class is StreamAC else Discrete(3)
    driver = Driver(agent_class(config, OBSERVATION, kind, num_envs=3, total_steps=2000, seed=0))
    driver.run(steps)
    return driver


def inner(agent):
    return agent if isinstance(agent, StreamAC) else agent.values


def apply(agent, edit_of):
    """An edit of each part, as `rlcore.living` applies it; returns the traces before, by part, environment and name."""
    before = {}
    for name, part in agent.parts().items():
        before[name] = [{key: e.numpy().copy() for key, e in named.items()} for named in part.followers]
        edit_of(part.net).apply(part.optimizer, *part.followers)
    agent.edited()
    return before


def traces(agent):
    return {
        name: [{key: e.numpy() for key, e in named.items()} for named in part.followers] for name, part in agent.parts().items()
    }


@pytest.mark.parametrize("agent_class", AGENTS)
def test_traces_of_every_environment_grow_with_zeros(agent_class):
    agent = driven(agent_class).agent
    before = apply(agent, lambda net: structure.grow(net, "0", 3))
    after = traces(agent)
    for part, environments in before.items():
        assert len(environments) == 3
        for old, new in zip(environments, after[part], strict=True):
            assert np.abs(old["0.weight"]).sum() > 0
            assert np.array_equal(new["0.weight"][:8], old["0.weight"])
            assert np.array_equal(new["3.weight"][:, :8], old["3.weight"])
            assert new["0.weight"].shape == (11, 4)
            for name, axis in (("0.weight", 0), ("0.bias", 0), ("3.weight", 1)):
                assert not np.take(new[name], range(8, 11), axis).any()


@pytest.mark.parametrize("agent_class", AGENTS)
def test_traces_go_with_units_that_are_pruned_and_begin_anew_with_those_that_do(agent_class):
    driver = driven(agent_class)
    agent = driver.agent
    before = apply(agent, lambda net: structure.prune(net, "0", [0, 5]))
    left = [1, 2, 3, 4, 6, 7]
    for part, environments in traces(agent).items():
        for old, new in zip(before[part], environments, strict=True):
            assert np.array_equal(new["0.weight"], old["0.weight"][left])
            assert np.array_equal(new["3.weight"], old["3.weight"][:, left])
    driver.run(20)
    before = apply(agent, lambda net: structure.reset_units(net, "0", [1]))
    for part, environments in traces(agent).items():
        for old, new in zip(before[part], environments, strict=True):
            assert np.abs(old["0.weight"][1]).sum() > 0
            assert not new["0.weight"][1].any()
            assert not new["3.weight"][:, 1].any()
            assert np.array_equal(np.delete(new["0.weight"], 1, 0), np.delete(old["0.weight"], 1, 0))
    driver.run(20)


@pytest.mark.parametrize("agent_class", AGENTS)
def test_a_new_layer_has_traces_and_a_frozen_one_none(agent_class):
    driver = driven(agent_class)
    agent = driver.agent
    outputs = [part.net(T.from_numpy(POINTS)).detach().numpy() for part in agent.parts().values()]
    before = apply(agent, lambda net: structure.deepen(net, "0"))
    for part, net in agent.parts().items():
        assert [tuple(e.shape) for e in net.followers[0].values()] == [p.shape for p in net.net.parameters()]
        for old, new in zip(before[part], traces(agent)[part], strict=True):
            assert not new["1.body.0.weight"].any()
            assert np.array_equal(new["4.weight"], old["3.weight"])
    apply(agent, lambda net: structure.inject(net, "4"))
    for old, net in zip(outputs, agent.parts().values(), strict=True):
        assert "4.frozen.weight" not in net.followers[0]
        np.testing.assert_allclose(net.net(T.from_numpy(POINTS)).detach().numpy(), old, atol=1e-6)
    frozen = [part.net.get_submodule("4.frozen").weight.numpy().copy() for part in agent.parts().values()]
    driver.run(40)
    for kept, part in zip(frozen, agent.parts().values(), strict=True):
        assert np.array_equal(kept, part.net.get_submodule("4.frozen").weight.numpy())
        assert part.net.get_submodule("1.body.2").weight.detach().numpy().any()


@pytest.mark.parametrize("agent_class", AGENTS)
def test_after_growth_it_learns_as_an_agent_of_that_size_with_the_same_weights_and_traces(agent_class):
    driver = driven(agent_class)
    apply(driver.agent, lambda net: structure.grow(net, "0", 4))
    other = driven(agent_class, steps=0, hidden_sizes=(12,))
    state = copy.deepcopy(driver.agent.state_dict())
    state["structure"] = other.agent.state_dict()["structure"]
    for name in ("actions", "network", "actor", "critic"):
        if name in state["structure"]:
            assert same(state["structure"][name], driver.agent.state_dict()["structure"][name])
    other.agent.load_state_dict(state)
    other.rng.bit_generator.state, other.observation = driver.rng.bit_generator.state, driver.observation
    assert np.array_equal(driver.run(30), other.run(30))
    for one, two in zip(driver.agent.parts().values(), other.agent.parts().values(), strict=True):
        for p, q in zip(one.net.parameters(), two.net.parameters(), strict=True):
            assert np.array_equal(p.detach().numpy(), q.detach().numpy())


@pytest.mark.parametrize("agent_class", AGENTS)
def test_what_is_measured_is_what_the_networks_take(agent_class):
    driver = driven(agent_class, steps=0)
    assert driver.agent.sample() is None
    driver.run(100)
    sample = driver.agent.sample()
    assert sample.shape == (RECENT, 4)
    assert np.abs(sample.mean(0)).max() < 0.5
    assert np.abs(sample.std(0) - 1).max() < 0.3  # uniform in ±1 they would have 0.58
    state = driver.agent.state_dict()
    assert np.array_equal(driver.agent.sample(), sample)
    assert same(state, driver.agent.state_dict())


def test_the_latest_observations_are_kept_in_order():
    recent, rows = Recent(2), np.arange(2.0 * (RECENT + 5), dtype=np.float32).reshape(-1, 2)
    recent.add(rows[:7])
    assert np.array_equal(recent.rows, rows[:7])
    recent.add(rows[7:])
    assert np.array_equal(recent.rows, rows[-RECENT:])
    other = Recent(5)
    other.load_state_dict(recent.state_dict())
    recent.widen(3)
    assert np.array_equal(recent.rows, np.pad(rows[-RECENT:], ((0, 0), (0, 1))))
    assert np.array_equal(other.rows, rows[-RECENT:])


@pytest.mark.parametrize("agent_class", AGENTS)
def test_after_an_edit_one_recording_becomes_machine_code(agent_class):
    pytest.importorskip("llvmlite")
    driver = driven(agent_class, compile=True)
    apply(driver.agent, lambda net: structure.grow(net, "0", 3))
    step = inner(driver.agent)._learn
    assert step.grace == 256
    while step.grace:
        driver.run(1)
    driver.run(20)
    compiled = step._call
    assert (len(compiled.plans), compiled.recorded, compiled.missed, compiled.eager) == (1, 1, 0, 0)
    assert compiled.plans[0].tier == 1


@pytest.mark.parametrize("agent_class", AGENTS)
def test_an_agent_that_is_prepared_after_an_edit_is_compiled_at_once_and_says_so(agent_class):
    driver = driven(agent_class, compile=True)
    apply(driver.agent, lambda net: structure.grow(net, "0", 3))
    before = driver.agent.state_dict()
    driver.agent.prepare()
    after = driver.agent.state_dict()
    assert before["structure"].pop("grace") == [256, 256]
    assert after["structure"].pop("grace") == [0, 0]
    assert same(before, after)
    other = driven(agent_class, 0, compile=True)
    other.agent.load_state_dict(copy.deepcopy(driver.agent.state_dict()))
    other.rng.bit_generator.state, other.observation = driver.rng.bit_generator.state, driver.observation
    assert np.array_equal(driver.run(30), other.run(30))
    assert same(driver.agent.state_dict(), other.agent.state_dict())


@pytest.mark.parametrize("agent_class", AGENTS)
@pytest.mark.parametrize("edit", [lambda net: structure.grow(net, "0", 3), lambda net: structure.reset_units(net, "0", [1])])
def test_an_edit_is_taken_back_with_what_was_learnt_since(agent_class, edit):
    driver = driven(agent_class, compile=True)
    agent = driver.agent
    snapshot = copy.deepcopy(agent.snapshot())
    outputs = [part.net(T.from_numpy(POINTS)).detach().numpy() for part in agent.parts().values()]
    apply(agent, edit)
    driver.run(30)
    seen, version = inner(agent).scales.state_dict(), agent.version
    agent.roll_back(snapshot)
    assert agent.version == version + 1
    for old, part in zip(outputs, agent.parts().values(), strict=True):
        assert np.array_equal(part.net(T.from_numpy(POINTS)).detach().numpy(), old)
    assert same(seen, inner(agent).scales.state_dict())  # what was experienced stays
    assert all(inner(agent).traces.fresh)
    other = driven(agent_class, 0, compile=True)
    other.agent.load_state_dict(copy.deepcopy(agent.state_dict()))
    other.rng.bit_generator.state, other.observation = driver.rng.bit_generator.state, driver.observation
    assert np.array_equal(driver.run(100), other.run(100))  # through the calls that run as they are, and after
    assert same(agent.state_dict(), other.agent.state_dict())


# --- spaces that grow ---------------------------------------------------------------------------------------------------


class Wider(Driver):
    """Two more components, which lie far off."""

    def _draw(self):
        return np.concatenate([super()._draw(), self.rng.normal(500, 3, (3, 2)).astype(np.float32)], 1)


@pytest.mark.parametrize("agent_class", AGENTS)
def test_a_new_component_has_the_statistics_of_its_own_time(agent_class):
    agent = driven(agent_class).agent
    agent.interrupt()
    mean = inner(agent).scales.observations.mean.numpy().copy()
    values = [part.net(T.from_numpy(POINTS)).detach().numpy() for part in agent.parts().values()]
    inner(agent).adapt(Box(-1000, 1000, (6,), np.float32), agent.action_space if agent_class is StreamAC else Discrete(3))
    agent.edited()
    wide = np.concatenate([POINTS, np.full((50, 2), 7.0, np.float32)], 1)
    for old, part in zip(values, agent.parts().values(), strict=True):
        np.testing.assert_allclose(part.net(T.from_numpy(wide)).detach().numpy(), old, atol=1e-6)
    statistics = inner(agent).scales.observations
    assert statistics.mean.numpy()[:4] == pytest.approx(mean, abs=0.2)
    assert not statistics.count.numpy()[4:].any()
    driver = Wider(agent)
    driver.run(120)
    counts = statistics.count.numpy()
    assert counts[0] == counts[3] > counts[4] == counts[5] > 0
    assert statistics.mean.numpy()[4:] == pytest.approx([500, 500], abs=1)
    assert statistics.std().numpy()[4:] == pytest.approx([3, 3], rel=0.2)
    assert np.abs(agent.sample()).max() < 6


def test_statistics_of_elements_that_come_later_are_those_of_their_rows():
    rng, statistics = np.random.default_rng(0), RunningStatistics((2,))
    rows = rng.normal([1, 2, 3], [1, 2, 3], (60, 3))
    for row in rows[:20]:
        statistics.update(T.from_numpy(row[:2]))
    statistics.widen(3)
    assert statistics.std().numpy()[2] == pytest.approx(1.0)
    for row in rows[20:]:
        statistics.update(T.from_numpy(row))
    wanted = [*rows[:, :2].mean(0), rows[20:, 2].mean()], [*rows[:, :2].std(0), rows[20:, 2].std()]
    np.testing.assert_allclose(statistics.mean.numpy(), wanted[0], rtol=1e-9)
    np.testing.assert_allclose(statistics.std().numpy(), wanted[1], rtol=1e-6)
    other = RunningStatistics((3,))
    other.load_state_dict(statistics.state_dict())
    assert same(other.state_dict(), statistics.state_dict())


def test_statistics_of_earlier_checkpoints_have_one_count():
    statistics = RunningStatistics((2,))
    statistics.load_state_dict({"count": np.array(7.0), "mean": np.ones(2), "squares": np.ones(2)})
    assert statistics.count.tolist() == [7.0, 7.0]


@pytest.mark.parametrize("agent_class", [StreamQ, StreamSarsa])
def test_a_new_action_changes_neither_the_best_action_nor_its_value(agent_class):
    agent = driven(agent_class).agent
    before = agent.values.network(T.from_numpy(POINTS)).detach().numpy()
    agent.values.adapt(OBSERVATION, Discrete(5))
    after = agent.values.network(T.from_numpy(POINTS)).detach().numpy()
    np.testing.assert_allclose(after[:, :3], before, atol=1e-6)
    np.testing.assert_allclose(after[:, 3:], np.repeat(before.mean(1, keepdims=True), 2, 1), atol=1e-5)


@pytest.mark.parametrize("agent_class", [StreamQ, StreamSarsa])
def test_new_actions_are_taken_ever_more_often(agent_class):
    driver = driven(
        agent_class, 60, new_action_tries=50, step_size=1e-6, exploration_fraction=0.0, exploration_final_epsilon=0.05
    )
    agent = driver.agent
    agent.adapt(OBSERVATION, Discrete(4))
    agent.edited()
    agent.values.network[3].bias.data[3] = 100.0  # seems best everywhere
    assert not (agent.act(np.zeros((9, 4), np.float32), deterministic=True) == 3).any()
    policy = copy.deepcopy(agent.policy())
    shares = [float((driver.run(40) == 3).mean()) for _ in range(3)]
    assert shares[0] < 0.4
    assert shares[2] > 0.5
    assert agent.values.new == 0
    actor = driven(agent_class, 0).agent
    actor.load_policy(policy)
    assert (actor.values.actions, actor.values.new, actor.values.tries) == (4, 1, 0)
    actor.load_policy(agent.policy())  # of the same structure: but by now the action is no longer new
    assert actor.values.new == 0
    assert (actor.act(np.zeros((9, 4), np.float32), deterministic=True) == 3).all()


def test_a_new_choice_of_stream_ac_is_at_most_an_equal_share():
    agent = driven(StreamAC).agent
    agent.adapt(OBSERVATION, Discrete(4))
    shares = agent.actor(T.from_numpy(POINTS)).softmax(-1).detach().numpy()
    assert (shares[:, 3] <= 0.25 + 1e-6).all()


def test_new_dimensions_leave_means_and_spreads_of_the_others():
    driver = driven(StreamAC, space="box")
    agent = driver.agent
    before = agent.actor(T.from_numpy(POINTS)).detach().numpy()
    agent.adapt(OBSERVATION, Box(-2.0, 2.0, (5,), np.float32))
    agent.edited()
    after = agent.actor(T.from_numpy(POINTS)).detach().numpy()
    np.testing.assert_allclose(after[:, [0, 1, 5, 6]], before, atol=1e-6)
    assert not after[:, [2, 3, 4, 7, 8, 9]].any()
    for named in agent.parts()["actor"].followers:
        assert named["3.weight"].shape == (10, 8)
        assert not named["3.weight"].numpy()[[2, 3, 4, 7, 8, 9]].any()
        assert named["3.weight"].numpy()[[0, 1]].any()
    driver.run(20)


def test_what_waits_for_its_next_action_is_learnt_from_before_spaces_change():
    agent = driven(StreamSarsa, next_value="taken").agent
    assert agent._waiting
    before = agent.values.network[0].weight.detach().numpy().copy()
    agent.adapt(Box(-1, 1, (6,), np.float32), Discrete(3))
    assert not agent._waiting
    assert not np.array_equal(before, agent.values.network[0].weight.detach().numpy()[:, :4])


def test_what_waits_in_a_checkpoint_is_learnt_from_though_nothing_waits_any_more():
    driver = driven(StreamSarsa, next_value="taken")
    state = driver.agent.state_dict()
    other = driven(StreamSarsa, 0).agent
    other.load_state_dict(state)
    waited = list(other._waiting.values())
    assert waited
    learnt = []
    other.values.learn = lambda step, *_: learnt.append(step) or 0.0
    driver.agent = other
    driver.run(4)
    assert not other._waiting
    assert [sum(step is other for other in learnt) for step in waited] == [1] * len(waited)
    assert len(learnt) > len(waited)


@given(seed=st.integers(0, 99), known=st.integers(1, 4), new=st.integers(0, 3), share=st.floats(0, 1), epsilon=st.floats(0, 1))
@settings(max_examples=30)
def test_chances_are_how_often_actions_are_taken(seed, known, new, share, epsilon):
    rng, n = np.random.default_rng(seed), 20_000
    share = share if new else 1.0
    values = rng.permutation(known + new).astype(np.float32)
    explore = rng.random(n) < epsilon
    if new:
        taken = cautious(rng, np.tile(values, (n, 1)), new, share, explore)
    else:
        taken = np.where(explore, rng.integers(known, size=n), values.argmax())
    chances, rows = Chances.of(known + new, new, share, epsilon), T.from_numpy(values[None])
    probabilities = np.array([chances.probability(rows, T.tensor([a])).item() for a in range(known + new)])
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    # Five standard deviations of a frequency, and a few steps where it can hardly vary.
    np.testing.assert_array_less(np.abs(np.bincount(taken, minlength=known + new) / n - probabilities),
                                 5 * np.sqrt(probabilities * (1 - probabilities) / n).clip(0) + 1e-3)  # fmt: skip
    assert chances.expected(rows).item() == pytest.approx(float(probabilities @ values), abs=1e-4)


def test_stream_sarsa_values_a_new_action_as_seldom_as_it_takes_it():
    """A step is worth the mean over what is done next, in which the new action has the share that it has so far."""
    agent = driven(StreamSarsa, 0, new_action_tries=40, exploration_initial_epsilon=0.1, exploration_final_epsilon=0.1).agent
    agent.adapt(OBSERVATION, Discrete(4))
    agent.edited()
    agent.values.network[3].bias.data[3] = 5.0
    x = np.zeros((3, 4), np.float32)
    yes, no = np.ones(3, bool), np.zeros(3, bool)
    for _ in range(5):  # 15 of 40 tries
        agent.observe(x, np.full(3, 3), np.zeros(3, np.float32), x, no, no, yes)
        agent._seen.clear()
    assert agent.values.share == 15 / 40
    q = agent.values.network(agent.values.scales.standardized(T.zeros(1, 4)))[0].detach().numpy()
    greedy = 15 / 40 * q[3] + 25 / 40 * q[:3].max()
    wanted = 0.9 * greedy + 0.1 * (q[3] / 2 + q[:3].mean() / 2)
    assert agent.values._chances().expected(T.from_numpy(q[None])).item() == pytest.approx(float(wanted), abs=1e-5)


def test_check_tells_the_truth_of_a_sparse_network():
    T.manual_seed(0)
    net, x = sparse_mlp(4, [8, 8], 3, sparsity=0.5), T.from_numpy(POINTS)
    kept = [
        structure.grow(net, "0", 8, init="net2wider"),
        structure.grow(net, "3", 16, init="net2wider"),
        structure.deepen(net, "0"),
        structure.inject(net, "3"),
        structure.add_inputs(net, "0", 2),
        structure.add_outputs(net, "6", 2),
    ]
    for edit in kept:
        assert edit.check(x).reasons == ()
        assert edit.check(x).relative < 1e-5
    lost = [structure.grow(net, "0", 3, init=init) for init in ("zero_out", "net2wider", "random")]
    for edit in [*lost, structure.prune(net, "0", [1]), structure.reset_units(net, "0", [1])]:
        assert edit.check(x).reasons[0] == "1: LayerNorm mixes all units"
        assert edit.check(x).relative > 1e-3


@pytest.mark.parametrize("agent_class", AGENTS)
def test_a_checkpoint_from_before_networks_could_change_still_loads(agent_class):
    driver = driven(agent_class, 50)
    state = driver.agent.state_dict()
    old = {name: value for name, value in copy.deepcopy(state).items() if name not in ("structure", "recent")}
    other = driven(agent_class, 0)
    other.agent.load_state_dict(old)
    other.rng.bit_generator.state, other.observation = driver.rng.bit_generator.state, driver.observation
    assert np.array_equal(driver.run(30), other.run(30))
