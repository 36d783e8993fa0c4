"""Compiled learning does what eager learning does, every time the same, with machine code and without."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import tensor as T
from agents.checks import ACTION_SPACES, NUM_ENVS, Driver, make, same
from agents.dqn import DQN, DQNConfig
from agents.gradients import clip_norm
from agents.ppo import PPO, PPOConfig
from rlcore import checkpoint

ROOT = Path(__file__).resolve().parents[2]
OBSERVATION = Box(-1, 1, (4,))
OPTIONS = {
    "plain": {},
    "all": {"clip_value_loss": True, "entropy_coefficient": 0.01},
    "raw advantages": {"normalize_advantage": False},
}


def weights(agent):
    return np.concatenate([p.detach().numpy().ravel() for p in agent._parameters])


def ppo_minibatch(agent, rng, n=16):
    """Rows near the policy, a few of them without weight."""
    x = T.from_numpy(rng.uniform(-1, 1, (n, 4)).astype(np.float32))
    with T.no_grad():
        outputs = agent.actor(x)
        action = T.from_numpy(agent.head.sample(outputs, rng))
        log_prob = agent.head.log_prob(outputs, action) + T.from_numpy(rng.normal(0, 0.3, n).astype(np.float32))
    columns = [T.from_numpy(rng.normal(size=n).astype(np.float32)) for _ in range(3)]
    weight = np.where(np.arange(n) < n - 3, 1 / (n - 3), 0).astype(np.float32)
    return [x, action, log_prob, *columns, T.from_numpy(weight), T.tensor(0.2)]


def dqn_minibatch(rng, n=16):
    x, after = (T.from_numpy(rng.uniform(-1, 1, (n, 4)).astype(np.float32)) for _ in range(2))
    action, reward = T.from_numpy(rng.integers(3, size=n)), T.from_numpy(rng.normal(size=n).astype(np.float32))
    return [x, action, reward, after, T.full((n,), 0.9)]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ACTION_SPACES)
def test_ppo_learns_the_same_compiled(kind, options):
    agents = [
        PPO(
            PPOConfig(hidden_sizes=(16,), learning_rate=1e-3, compile=on, **OPTIONS[options]),
            OBSERVATION, ACTION_SPACES[kind], num_envs=1, total_steps=100, seed=0,
        )
        for on in (True, False)
    ]  # fmt: skip
    before, rng = weights(agents[0]), np.random.default_rng(0)
    for _ in range(200):
        minibatch = ppo_minibatch(agents[1], rng)
        norms = [agent._gradient_step(*minibatch).item() for agent in agents]
        assert norms[0] == pytest.approx(norms[1], rel=1e-2)
    np.testing.assert_allclose(weights(agents[0]), weights(agents[1]), rtol=1e-3, atol=1e-4)
    assert np.abs(weights(agents[0]) - before).max() > 0.02


@pytest.mark.parametrize("options", [{}, {"double": True, "dueling": True}, {"max_grad_norm": 0.1}])
def test_dqn_learns_the_same_compiled(options):
    agents = [
        DQN(DQNConfig(hidden_sizes=(16,), compile=on, **options), OBSERVATION, Discrete(3), num_envs=1, total_steps=9, seed=0)
        for on in (True, False)
    ]
    before, rng = weights(agents[0]), np.random.default_rng(0)
    for _ in range(200):
        minibatch = dqn_minibatch(rng)
        losses = [agent._gradient_step(*minibatch)[0].item() for agent in agents]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    np.testing.assert_allclose(weights(agents[0]), weights(agents[1]), rtol=1e-3, atol=1e-4)
    assert np.abs(weights(agents[0]) - before).max() > 0.02


def test_a_falling_learning_rate_is_followed_without_a_new_recording():
    agents = [DQN(DQNConfig(compile=on), OBSERVATION, Discrete(3), num_envs=1, total_steps=9, seed=0) for on in (True, False)]
    rng = np.random.default_rng(0)
    for i in range(100):
        minibatch = dqn_minibatch(rng)
        for agent in agents:
            before = weights(agent)
            agent.optimizer.param_groups[0]["lr"] = 1e-2 * (1 - i / 100)
            agent._gradient_step(*minibatch)
    assert np.abs(weights(agents[0]) - before).max() < 1e-3  # of the last steps, whose rate is a hundredth of the first's
    np.testing.assert_allclose(weights(agents[0]), weights(agents[1]), rtol=1e-3, atol=1e-4)
    assert agents[0]._gradient_step._call.recorded == 1


@pytest.mark.parametrize("agent_class", [PPO, DQN])
def test_one_recording_serves_the_whole_run(agent_class):
    # A second one would be made from a call that is not compiled, at a time that a resumed run does not share.
    agent = make(agent_class, "discrete")
    Driver(agent).run(400)  # with rows that only reset, so that minibatches have fewer rows
    compiled = agent._gradient_step._call
    assert (len(compiled.plans), compiled.recorded, compiled.missed, compiled.eager) == (1, 1, 0, 0)


@pytest.mark.parametrize("agent_class", [PPO, DQN])
def test_there_is_machine_code_before_the_first_step_that_counts(agent_class):
    pytest.importorskip("llvmlite")
    agent = make(agent_class, "discrete")
    driver = Driver(agent)
    while not driver.metrics:
        driver.run(1)
    (plan,) = agent._gradient_step._call.plans
    code = plan.run
    assert plan.tier == 1
    driver.run(200)
    assert plan.run is code  # nothing has taken over since


@pytest.mark.parametrize("agent_class", [PPO, DQN])
def test_preparing_leaves_no_trace(agent_class):
    agent = make(agent_class, "discrete")
    before = agent.state_dict()
    rng = np.random.default_rng(0)
    agent._gradient_step._record(ppo_minibatch(agent, rng) if agent_class is PPO else dqn_minibatch(rng))
    assert same(before, agent.state_dict())
    assert all(p.grad is None for p in agent._parameters)


def test_learning_goes_on_from_a_state_loaded_in_the_middle():
    driver = Driver(make(PPO, "box"))
    driver.run(100)
    state = driver.agent.state_dict()
    actions = []
    for _ in range(2):
        driver.agent.load_state_dict(state)
        driver.rng, driver.observation = np.random.default_rng(1), np.zeros((NUM_ENVS, 4), np.float32)
        actions.append(driver.run(100))
    assert np.array_equal(*actions)


def test_clip_norm_is_that_of_the_library():
    rng = np.random.default_rng(0)
    for scale in (0.01, 10.0):
        ours, theirs = ([T.zeros(3, 4, requires_grad=True), T.zeros(5, requires_grad=True)] for _ in range(2))
        for p, q in zip(ours, theirs, strict=True):
            p.grad = T.from_numpy(rng.normal(scale=scale, size=tuple(p.shape)).astype(np.float32))
            q.grad = p.grad.clone()
        norms = clip_norm(ours, 0.5), T.nn.utils.clip_grad_norm_(theirs, 0.5)
        np.testing.assert_allclose(norms[0].item(), norms[1].item(), rtol=1e-6)
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-6)


RUN = """
import sys
if "--without" in sys.argv:
    sys.argv.remove("--without")
    sys.modules["llvmlite"] = None
from rlcore.cli import main
sys.exit(main())
"""


def train(directory, *flags):
    command = [sys.executable, "-c", RUN, "train", "--env", "CartPole-v1", "--steps", "1500", "--quiet", "--dir", directory]
    done = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return checkpoint.load(directory)


def test_without_llvmlite_the_run_is_that_of_no_compile_to_the_last_bit(tmp_path):
    state, metadata = train(tmp_path / "eager", "--no-compile")
    assert metadata["settings"]["agent"]["compile"] is False
    assert "compile = false" in (tmp_path / "eager" / "config.toml").read_text()
    replayed, metadata = train(tmp_path / "replayed", "--without")
    assert metadata["settings"]["agent"]["compile"] is True
    assert same(state, replayed)
