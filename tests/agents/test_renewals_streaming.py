"""Units of streaming agents that start anew, in place: what was compiled goes on, and so does the run, bit for bit."""

import copy

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import tensor as T
from agents.checks import Driver, make, same, small
from agents.compiled import restore
from agents.dqn import DQN
from agents.ppo import PPO
from agents.stream_ac import StreamAC
from agents.stream_q import StreamQ
from agents.stream_sarsa import StreamSarsa
from rlcore.living import Life, read_plan
from tensor import nn, structure

OBSERVATION = Box(-1, 1, (4,), np.float32)
STREAMING = pytest.mark.parametrize("agent_class", [StreamAC, StreamQ, StreamSarsa])


def driven(agent_class, compile, steps=20):
    options = {**vars(small(agent_class)), "compile": compile, "sparsity": 0.5, "trace_decay": 0.95}
    driver = Driver(agent_class(agent_class.Config(**options), OBSERVATION, Discrete(3), num_envs=3, total_steps=2000, seed=0))
    driver.run(steps)
    return driver


def inner(agent):
    return agent if isinstance(agent, StreamAC) else agent.values


def compiled(agent):
    """The steps of an agent: learning, acting."""
    own = inner(agent)
    return own._learn, own._outputs if isinstance(agent, StreamAC) else own._values


def renew(agent, unit, seed):
    T.manual_seed(seed)
    for part in agent.parts().values():
        structure.reset_units(part.net, "0", [unit]).apply(part.optimizer, *part.followers)
    agent.edited()


def weights(agent):
    return np.concatenate([p.detach().numpy().ravel() for part in agent.parts().values() for p in part.net.parameters()])


@STREAMING
def test_renewals_keep_the_recordings_and_learn_as_with_new_ones_and_as_uncompiled(agent_class):
    ours, anew, eager = (driven(agent_class, compile) for compile in (True, True, False))
    codes = [[(id(plan), plan.run) for plan in step._call.plans] for step in compiled(ours.agent)]
    for seed in range(6):
        for driver in (ours, anew, eager):
            renew(driver.agent, seed, seed)
        restore(compiled(anew.agent), [0, 0])
        actions = [driver.run(12) for driver in (ours, anew, eager)]
        assert np.array_equal(actions[0], actions[1])
        assert np.array_equal(actions[0], actions[2])
        assert np.array_equal(weights(ours.agent), weights(anew.agent))
        np.testing.assert_allclose(weights(ours.agent), weights(eager.agent), rtol=1e-3, atol=1e-5)
    assert [[(id(plan), plan.run) for plan in step._call.plans] for step in compiled(ours.agent)] == codes
    assert [step._call.recorded for step in compiled(ours.agent)] == [1, 1]
    assert [(step.grace, step._ready) for step in compiled(ours.agent)] == [(0, True)] * 2
    assert ours.agent.version == 0


@STREAMING
@pytest.mark.parametrize("grown", [False, True])
def test_a_run_whose_units_are_renewed_is_resumed_bit_for_bit(agent_class, grown):
    layers = [f"{name}.0" for name in make(agent_class, "discrete").parts()]
    policy = {"name": "continual_backprop", "rate": 0.1, "maturity": 2, "decay": 0.5}
    rules = read_plan({"rule": [{"layer": layers, "interval": 1, "policy": policy}]}, "test")
    one = driven(agent_class, True)
    if grown:  # in the calls after an edit, which run as they are
        for part in one.agent.parts().values():
            structure.grow(part.net, "0", 3).apply(part.optimizer, *part.followers)
        one.agent.edited()
    other = driven(agent_class, True, 0)
    lives = [Life(driver.agent, copy.deepcopy(rules), num_envs=3) for driver in (one, other)]

    def live(driver, life, steps):
        for _ in range(steps):
            driver.run(1)
            life.look(life_steps[id(life)], {})
            life_steps[id(life)] += 1

    life_steps = {id(life): 1 for life in lives}
    live(one, lives[0], 40)
    other.agent.load_state_dict(copy.deepcopy(one.agent.state_dict()))
    lives[1].load_state_dict(copy.deepcopy(lives[0].state_dict()))
    life_steps[id(lives[1])] = life_steps[id(lives[0])]
    other.rng.bit_generator.state, other.observation = one.rng.bit_generator.state, one.observation
    for driver, life in zip((one, other), lives, strict=True):
        live(driver, life, 100)
    assert len(lives[0].edits) > 40
    assert {edit["edit"] for edit in lives[0].edits} == {"reset_units"}
    assert one.agent.version == int(grown)
    assert same(one.agent.state_dict(), other.agent.state_dict())
    assert same(lives[0].state_dict(), lives[1].state_dict())


@pytest.mark.parametrize("agent_class", [StreamAC, StreamQ, StreamSarsa, PPO, DQN])
def test_another_activation_moves_no_array_and_yet_is_no_edit_in_place(agent_class):
    driver = Driver(make(agent_class, "discrete"))
    driver.run(200)
    agent = driver.agent
    name, part = next(iter(agent.parts().items()))
    activation = next(path for path, module in part.net.named_modules() if isinstance(module, (nn.Tanh, nn.ReLU, nn.LeakyReLU)))
    structure.replace(part.net, activation, nn.SiLU()).apply(part.optimizer, *part.followers)
    agent.edited()
    assert agent.version == 1
    other = Driver(make(agent_class, "discrete"))
    other.agent.load_state_dict(copy.deepcopy(agent.state_dict()))
    assert isinstance(other.agent.parts()[name].net.get_submodule(activation), nn.SiLU)
    other.rng.bit_generator.state, other.observation = driver.rng.bit_generator.state, driver.observation
    assert np.array_equal(driver.run(100), other.run(100))
    assert same(agent.state_dict(), other.agent.state_dict())
