"""What every agent must hold to: run over each registered one, and over yours with `check_agent`.

>>> from agents.checks import CHECKS
>>> len(CHECKS) >= 8
True
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rlcore.errors import SpaceError
from rlcore.types import Agent

__all__ = ["ACTION_SPACES", "CHECKS", "check_agent"]

#: The kinds of action space that an agent either serves or refuses with a SpaceError.
ACTION_SPACES: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(3),
    "box": spaces.Box(-2.0, 2.0, (2,), np.float32),
}
OBSERVATION = spaces.Box(-1.0, 1.0, (4,), np.float32)
NUM_ENVS, TOTAL_STEPS = 3, 2_000

AgentClass = Callable[..., Agent]


class Driver:
    """A made-up world of random observations: enough to put an agent through its paces, and the same every time."""

    def __init__(self, agent: Agent, seed: int = 0) -> None:
        self.agent = agent
        self.rng = np.random.default_rng(seed)
        self.observation = self._draw()
        self.metrics: list[dict[str, float]] = []

    def _draw(self) -> NDArray[np.float32]:
        return self.rng.uniform(-1, 1, (NUM_ENVS, 4)).astype(np.float32)

    def run(self, steps: int) -> NDArray[Any]:
        """Act, observe and learn; returns all actions."""
        actions = []
        for _ in range(steps):
            action = self.agent.act(self.observation)
            after = self._draw()
            reward = self.rng.normal(size=NUM_ENVS).astype(np.float32)
            ends, valid = self.rng.random((2, NUM_ENVS)) < 0.05, self.rng.random(NUM_ENVS) >= 0.05
            self.agent.observe(self.observation, action, reward, after, ends[0] & valid, ends[1] & valid, valid)
            metrics = self.agent.learn()
            if metrics is not None:
                self.metrics.append(dict(metrics))
            self.observation = after
            actions.append(np.array(action))
        return np.stack(actions) if actions else np.empty(0)


def small(agent_class: Any) -> Any:
    """The agent's configuration, brought down so that a few hundred steps learn: fields by their common names."""
    wanted: dict[str, Any] = {"rollout_length": 16, "minibatch_size": 16, "epochs": 2, "batch_size": 8, "buffer_size": 500}
    wanted |= {"learning_starts": 20, "hidden_sizes": (8,), "train_interval": 4, "target_update_interval": 20}
    names = {f.name for f in dataclasses.fields(agent_class.Config)}
    return agent_class.Config(**{k: v for k, v in wanted.items() if k in names})


def make(agent_class: Any, space: str | spaces.Space[Any], seed: int = 0) -> Agent:
    """A small agent for an action space."""
    action_space = ACTION_SPACES[space] if isinstance(space, str) else space
    agent: Agent = agent_class(
        small(agent_class), OBSERVATION, action_space, num_envs=NUM_ENVS, total_steps=TOTAL_STEPS, seed=seed
    )
    return agent


def served(agent_class: Any) -> list[str]:
    """The kinds of action space that the agent serves."""
    kinds = []
    for kind in ACTION_SPACES:
        try:
            make(agent_class, kind)
        except SpaceError:
            continue
        kinds.append(kind)
    return kinds


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal to the last bit."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def difference(a: Any, b: Any, at: str = "state") -> str:
    """Where two states differ first, and by how much; empty where they are equal to the last bit."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return next(filter(None, (difference(a[k], b[k], f"{at}[{k!r}]") for k in a)), "")
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return next(filter(None, (difference(x, y, f"{at}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True)))), "")
    if same(a, b):
        return ""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape and a.dtype.kind == b.dtype.kind == "f":
        return f"{at}: {np.count_nonzero(a != b)} of {a.size} elements, by up to {np.abs(a - b).max():.3g}"
    return f"{at}: {a!r:.80} and {b!r:.80}"


# --- the checks --------------------------------------------------------------------------------------------------------


def check_config_is_documented(agent_class: Any) -> None:
    """The configuration is a dataclass whose fields all have defaults."""
    config: Any = agent_class.Config
    assert dataclasses.is_dataclass(config)
    assert config.__doc__
    agent_class.Config()


def check_serves_or_refuses(agent_class: Any) -> None:
    """Each kind of action space is served, or refused by a SpaceError that names the agent and the space."""
    assert served(agent_class), "serves no action space"
    for kind in set(ACTION_SPACES) - set(served(agent_class)):
        text = _refusal(agent_class, kind)
        assert str(ACTION_SPACES[kind]) in text, "the error does not name the space"
        assert "expected" in text, "the error does not say what was expected"


def _refusal(agent_class: Any, kind: str) -> str:
    try:
        make(agent_class, kind)
    except SpaceError as e:
        return str(e)
    return ""


def check_actions_fit_the_space(agent_class: Any) -> None:
    """Actions have the space's shape and kind; discrete ones lie in it."""
    for kind in served(agent_class):
        agent, space = make(agent_class, kind), ACTION_SPACES[kind]
        for deterministic in (True, False):
            actions = agent.act(np.zeros((5, 4), np.float32), deterministic=deterministic)
            assert actions.shape == (5, *(space.shape or ())), f"{kind}: shape {actions.shape}"
            if kind == "box":
                assert np.issubdtype(actions.dtype, np.floating), kind
            else:
                assert all(space.contains(a.astype(space.dtype)) for a in actions), kind


def check_same_seed_same_agent(agent_class: Any) -> None:
    """One seed gives one run, another seed another."""
    for kind in served(agent_class):
        runs = [Driver(make(agent_class, kind, seed)).run(40) for seed in (0, 0, 1)]
        assert np.array_equal(runs[0], runs[1]), kind
        assert not np.array_equal(runs[0], runs[2]), kind


def check_deterministic_draws_nothing(agent_class: Any) -> None:
    """Deterministic acting changes no state, and gives the same actions again."""
    for kind in served(agent_class):
        agent = make(agent_class, kind)
        Driver(agent).run(30)
        before = copy.deepcopy(agent.state_dict())
        x = np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4)
        first, second = (agent.act(x, deterministic=True) for _ in range(2))
        assert np.array_equal(first, second), kind
        assert same(before, agent.state_dict()), f"{kind}: deterministic acting changed the state"


def check_learns_something(agent_class: Any) -> None:
    """Learning changes the weights and reports finite numbers."""
    for kind in served(agent_class):
        agent = make(agent_class, kind)
        before = copy.deepcopy(agent.state_dict())
        driver = Driver(agent)
        driver.run(200)
        assert driver.metrics, f"{kind}: never learnt"
        for metrics in driver.metrics:
            assert all(math.isfinite(v) for v in metrics.values()), f"{kind}: {metrics}"
        assert not same(before, agent.state_dict()), kind


def check_state_is_complete(agent_class: Any) -> None:
    """An agent restored in the middle of a run goes on bit for bit, whenever it was saved."""
    for kind in served(agent_class):
        for steps in (0, 7, 50, 131):
            driver = Driver(make(agent_class, kind))
            driver.run(steps)
            other = Driver(make(agent_class, kind, seed=9))
            other.agent.load_state_dict(copy.deepcopy(driver.agent.state_dict()))
            other.rng.bit_generator.state = driver.rng.bit_generator.state
            other.observation = driver.observation
            assert np.array_equal(driver.run(120), other.run(120)), f"{kind}: differs after {steps} steps"
            found = difference(driver.agent.state_dict(), other.agent.state_dict())
            assert not found, f"{kind}: restored after {steps} steps and run for 120, differs in {found}"


def check_state_is_a_copy(agent_class: Any) -> None:
    """A state taken does not change when the agent goes on."""
    agent = make(agent_class, served(agent_class)[0])
    driver = Driver(agent)
    driver.run(60)
    state = agent.state_dict()
    kept = copy.deepcopy(state)
    driver.run(60)
    assert same(state, kept), "state_dict handed out live arrays"


def check_reset_rows_are_ignored(agent_class: Any) -> None:
    """What a row that only reset an environment holds makes no difference."""
    for kind in served(agent_class):
        states = []
        for junk in (0.0, 1e3):
            agent = make(agent_class, kind)
            rng = np.random.default_rng(0)
            for i in range(80):
                x, after = (rng.uniform(-1, 1, (NUM_ENVS, 4)).astype(np.float32) for _ in range(2))
                reward = rng.normal(size=NUM_ENVS).astype(np.float32)
                valid = np.array([True, i % 5 != 0, True])
                # The row before a reset row ended its episode.
                ends = np.array([False, i % 5 == 4, False])
                action = agent.act(x)
                reward[~valid] = junk
                agent.observe(x, action, reward, after, ends, ~valid & False, valid)
                agent.learn()
            state = agent.state_dict()
            states.append({k: state[k] for k in ("networks", "network") if k in state} or state)
        assert same(states[0], states[1]), f"{kind}: a reset row's reward was learnt from"


def check_interrupt_leaves_it_working(agent_class: Any) -> None:
    """After an interruption the agent acts, observes and learns as before."""
    agent = make(agent_class, served(agent_class)[0])
    driver = Driver(agent)
    driver.run(37)
    agent.interrupt()
    driver.run(100)
    assert driver.metrics


def check_policy_is_enough_to_act(agent_class: Any) -> None:
    """Where an agent gives its policy, another one acts by it as the first does, and it is a copy."""
    for kind in served(agent_class):
        agent, other = make(agent_class, kind), make(agent_class, kind, seed=9)
        if not hasattr(agent, "policy"):
            return
        driver = Driver(agent)
        driver.run(60)
        policy = agent.policy()
        kept = copy.deepcopy(policy)
        x = np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4)
        wanted = agent.act(x, deterministic=True)
        driver.run(60)
        assert same(policy, kept), f"{kind}: policy handed out live arrays"
        other.load_policy(policy)  # type: ignore[attr-defined]
        assert np.array_equal(other.act(x, deterministic=True), wanted), kind


CHECKS: tuple[Callable[[Any], None], ...] = (
    check_config_is_documented,
    check_serves_or_refuses,
    check_actions_fit_the_space,
    check_same_seed_same_agent,
    check_deterministic_draws_nothing,
    check_learns_something,
    check_state_is_complete,
    check_state_is_a_copy,
    check_reset_rows_are_ignored,
    check_interrupt_leaves_it_working,
    check_policy_is_enough_to_act,
)


def check_agent(agent_class: AgentClass) -> None:
    """Run every check; raises AssertionError that says what an agent does wrong."""
    for check in CHECKS:
        check(agent_class)
