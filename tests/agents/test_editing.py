"""Agents go on learning through edits of their networks and changes of their spaces, and resume exactly."""

import copy

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from agents.checks import ACTION_SPACES, Driver, make, same
from agents.dqn import DQN
from agents.ppo import PPO
from agents.stream_ac import StreamAC
from agents.stream_q import StreamQ
from agents.stream_sarsa import StreamSarsa
from rlcore.errors import SpaceError
from rlcore.types import EditableAgent
from tensor import structure

OBSERVATION = Box(-1, 1, (4,), np.float32)
MORE = {
    "discrete": Discrete(5),
    "multi_discrete": MultiDiscrete([2, 3, 4]),
    "multi_binary": MultiBinary(5),
    "box": Box(-2.0, 2.0, (3,), np.float32),
}
VALUES = [DQN, StreamQ, StreamSarsa]
CASES = [(PPO, kind) for kind in ACTION_SPACES] + [(StreamAC, "discrete"), (StreamAC, "box")]
CASES += [(values, "discrete") for values in VALUES]


def grow(agent, units=3):
    for part in agent.parts().values():
        structure.grow(part.net, "0", units).apply(part.optimizer, *part.followers)
    agent.edited()


def outputs(agent, x):
    name = "actor" if isinstance(agent, PPO) else "network"
    return agent.parts()[name].net(x).detach().numpy()


class Wider(Driver):
    """More observation components, behind the others."""

    def _draw(self):
        return self.rng.uniform(-1, 1, (3, 6)).astype(np.float32)


@pytest.mark.parametrize("agent_class,kind", CASES)
def test_a_restored_agent_goes_on_bit_for_bit_after_edits(agent_class, kind):
    driver = Driver(make(agent_class, kind))
    driver.run(100)
    agent = driver.agent
    assert isinstance(agent, EditableAgent)
    grow(agent)
    driver.run(20)
    for part in agent.parts().values():
        structure.deepen(part.net, "0").apply(part.optimizer, *part.followers)
        last = [name for name, _ in part.net.named_children()][-1]
        structure.inject(part.net, last).apply(part.optimizer, *part.followers)
    agent.edited()
    for steps in (0, 5, 500):  # before the machine code of the new shapes is in use, and after
        driver.run(steps)
        other = Driver(make(agent_class, kind, seed=9))
        other.agent.load_state_dict(copy.deepcopy(driver.agent.state_dict()))
        assert same(driver.agent.state_dict(), other.agent.state_dict())
        other.rng.bit_generator.state = driver.rng.bit_generator.state
        other.observation = driver.observation
        assert np.array_equal(driver.run(60), other.run(60))
        assert same(driver.agent.state_dict(), other.agent.state_dict())


@pytest.mark.parametrize("agent_class", [PPO, DQN])
def test_after_an_edit_one_recording_becomes_machine_code(agent_class):
    pytest.importorskip("llvmlite")
    driver = Driver(make(agent_class, "discrete"))
    driver.run(100)
    grow(driver.agent)
    step = driver.agent._gradient_step
    driver.run(3)
    while step.grace:
        driver.run(1)
    driver.run(20)
    compiled = step._call
    assert (len(compiled.plans), compiled.recorded, compiled.missed, compiled.eager) == (1, 1, 0, 0)
    assert compiled.plans[0].tier == 1


@pytest.mark.parametrize("agent_class,kind", CASES)
def test_spaces_that_grow_are_served(agent_class, kind):
    driver = Driver(make(agent_class, kind))
    driver.run(90)
    agent = driver.agent
    before = {name: part.net for name, part in agent.parts().items()}
    edits = agent.adapt(Box(-1, 1, (6,), np.float32), MORE[kind])
    agent.edited()
    assert {edit.kind for _, edit in edits} == {"add_inputs", "add_outputs"}
    assert {name: part.net for name, part in agent.parts().items()} == before  # the same networks, grown
    wide = Wider(agent)
    wide.run(150)
    assert wide.metrics
    action = agent.act(np.zeros((3, 6), np.float32))
    assert action.shape == (3, *(MORE[kind].shape or ()))
    other = make(agent_class, kind, seed=5)
    other.load_state_dict(copy.deepcopy(agent.state_dict()))
    assert same(agent.state_dict(), other.state_dict())
    assert np.array_equal(agent.act(np.ones((3, 6), np.float32)), other.act(np.ones((3, 6), np.float32)))


@pytest.mark.parametrize("dueling", [False, True])
def test_a_new_action_of_dqn_changes_neither_the_best_action_nor_its_value(dueling):
    driver = Driver(make(DQN, "discrete"))
    agent = DQN(
        DQN.Config(**{**vars(driver.agent.config), "dueling": dueling}),
        OBSERVATION,
        Discrete(3),
        num_envs=3,
        total_steps=9,
        seed=0,
    )
    driver.agent = agent
    driver.run(80)
    import tensor as T

    x = T.from_numpy(np.random.default_rng(0).uniform(-1, 1, (50, 4)).astype(np.float32))
    before = agent.network(x).detach().numpy(), agent.target(x).detach().numpy()
    agent.adapt(OBSERVATION, Discrete(5))
    after = agent.network(x).detach().numpy(), agent.target(x).detach().numpy()
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new[:, :3], old, atol=1e-5)
        np.testing.assert_allclose(new[:, 3:], np.repeat(old.mean(1, keepdims=True), 2, 1), atol=1e-5)


def test_dqn_takes_new_actions_ever_more_often_and_resumes_meanwhile():
    agent = make(DQN, "discrete")
    agent.config.new_action_tries = 100
    driver = Driver(agent)
    driver.run(600)  # exploration is at its end
    agent.adapt(OBSERVATION, Discrete(4))
    agent.edited()
    agent.network.body[2].bias.data[3] = 100.0  # seems best everywhere
    shares = [float((driver.run(40) == 3).mean()) for _ in range(3)]
    assert shares[0] < 0.4
    assert shares[2] > 0.5
    assert agent.new == 0
    assert (agent.act(np.zeros((9, 4), np.float32), deterministic=True) == 3).all()


def test_a_new_choice_of_ppo_is_at_most_an_equal_share():
    import tensor as T

    driver = Driver(make(PPO, "discrete"))
    driver.run(200)
    agent = driver.agent
    agent.adapt(OBSERVATION, Discrete(4))
    x = T.from_numpy(np.random.default_rng(0).uniform(-1, 1, (50, 4)).astype(np.float32))
    shares = agent.actor(x).softmax(-1).detach().numpy()
    assert (shares[:, 3] <= 0.25 + 1e-6).all()
    assert len(agent.rollout) == 0  # what the old policy had collected is learnt from


@pytest.mark.parametrize(
    "agent_class,kind,space",
    [
        (PPO, "discrete", Discrete(2)),
        (PPO, "multi_discrete", MultiDiscrete([3, 3])),
        (PPO, "box", Box(-1, 1, (1,), np.float32)),
        (StreamAC, "discrete", Discrete(2)),
        (StreamAC, "box", Box(-1, 1, (1,), np.float32)),
        (StreamQ, "discrete", Discrete(2)),
        (StreamSarsa, "discrete", MultiBinary(4)),
        (DQN, "discrete", Discrete(1)),
        (DQN, "discrete", Box(-1, 1, (3,), np.float32)),
    ],
)
def test_spaces_that_shrink_are_refused_and_nothing_has_changed(agent_class, kind, space):
    driver = Driver(make(agent_class, kind))
    driver.run(50)
    state = driver.agent.state_dict()
    with pytest.raises(
        SpaceError, match=r"cannot go on from the action space .* expected the old actions, and new ones behind them"
    ):
        driver.agent.adapt(Box(-1, 1, (6,), np.float32), space)
    assert same(state, driver.agent.state_dict())


@pytest.mark.parametrize("agent_class", [PPO, DQN, StreamAC, StreamQ, StreamSarsa])
def test_an_actor_of_the_old_structure_acts_by_a_policy_of_the_new(agent_class):
    driver, actor = Driver(make(agent_class, "discrete")), make(agent_class, "discrete", seed=3)
    driver.run(60)
    grow(driver.agent)
    driver.agent.adapt(OBSERVATION, Discrete(5))
    driver.agent.edited()
    actor.load_policy(copy.deepcopy(driver.agent.policy()))
    x = np.random.default_rng(0).uniform(-1, 1, (50, 4)).astype(np.float32)
    assert np.array_equal(*(agent.act(x, deterministic=True) for agent in (actor, driver.agent)))
    assert actor.version == driver.agent.version


@pytest.mark.parametrize("agent_class", [PPO, DQN])
def test_transitions_carry_the_version(agent_class):
    driver = Driver(make(agent_class, "discrete"))
    driver.run(35)
    grow(driver.agent)
    driver.run(10)
    stored = driver.agent.replay if agent_class is DQN else driver.agent.rollout
    assert {0, 1} == set(stored["version"].ravel().tolist())


@pytest.mark.parametrize("agent_class", [PPO, DQN])
def test_a_checkpoint_from_before_networks_could_change_still_loads(agent_class):
    driver = Driver(make(agent_class, "discrete"))
    driver.run(50)
    state = driver.agent.state_dict()
    old = copy.deepcopy(state)
    del old["structure"]
    memory = old["replay" if agent_class is DQN else "rollout"]
    del memory["fields"]["version"]
    other = make(agent_class, "discrete", seed=4)
    other.load_state_dict(old)
    assert same(state, other.state_dict())
