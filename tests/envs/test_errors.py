from __future__ import annotations

import re
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Text
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import envs
from envs.vector import SyncVector
from rlcore.errors import SpaceError, WorldError


class FailingEnv(gymnasium.Env[Any, Any]):
    """At its third step it does what it is told to."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Discrete(2)

    def __init__(self, third: Any = None) -> None:
        self.third, self.count = third, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(2), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.count += 1
        outcome = {"observation": np.zeros(2), "reward": 0.0}
        if self.count == 3 and self.third is not None:
            if isinstance(self.third, Exception):
                raise self.third
            outcome.update(self.third)
        return outcome["observation"], outcome["reward"], False, False, {}


class BoundedEnv(FailingEnv):
    observation_space = Box(-1, 1, (2,), np.float32)


def third_step(make_world: Any) -> None:
    world = make_world()
    world.reset(seed=0)
    for _ in range(3):
        world.step(np.zeros(2, int))


def own(third: Any) -> envs.VectorWorld:
    return envs.VectorWorld(SyncVector([FailingEnv, lambda: FailingEnv(third)], "Bad-v0"), name="Bad-v0")


def gymnasiums(third: Any) -> envs.VectorWorld:
    return envs.from_vector_env(SyncVectorEnv([FailingEnv, lambda: FailingEnv(third)]), name="Bad-v0")


@pytest.mark.parametrize("make_world", [own, gymnasiums])
@pytest.mark.parametrize(
    "third, text",
    [
        ({"observation": np.array([0, np.nan])}, "environment 1: expected a finite observation, got [ 0., nan]"),
        ({"observation": np.array([np.inf, 0])}, "environment 1: expected a finite observation, got [inf,  0.]"),
        ({"observation": np.array([1e300, 0])}, "environment 1: expected a finite observation, got [inf,  0.]"),
        ({"reward": np.nan}, "environment 1: expected a finite reward, got nan"),
        ({"reward": -1e200}, "environment 1: expected a finite reward, got -inf"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_numbers_that_are_not_finite(make_world: Any, third: Any, text: str) -> None:
    with pytest.raises(WorldError, match=r"^" + re.escape(f"Bad-v0: step 3: {text}") + "$"):
        third_step(lambda: make_world(third))


@pytest.mark.parametrize(
    "third, text",
    [
        ({"observation": np.zeros(3)}, "expected observation of shape (2,), got (3,)"),
        ({"observation": np.zeros(())}, "expected observation of shape (2,), got ()"),
        ({"reward": None}, "expected a finite reward, got nan"),
        ({"reward": "much"}, "step raised ValueError: could not convert string to float: 'much'"),
        ({"reward": [1.0, 2.0]}, "ValueError: setting an array element"),
        (ZeroDivisionError("the maze\nhas no exit"), "step raised ZeroDivisionError: the maze has no exit"),
    ],
)
def test_what_an_environment_does_wrong_is_told_in_one_line(third: Any, text: str) -> None:
    with pytest.raises(WorldError, match=re.escape(text)) as caught:
        third_step(lambda: own(third))
    assert str(caught.value).startswith("Bad-v0: step 3: environment 1: ")
    assert "\n" not in str(caught.value)
    if isinstance(third, Exception):
        assert caught.value.__cause__ is third


def test_errors_of_vector_environments_are_told_too() -> None:
    with pytest.raises(WorldError, match=r"^Bad-v0: step 3: step raised KeyError: 'door'$"):
        third_step(lambda: gymnasiums(KeyError("door")))


@pytest.mark.parametrize(
    "position, given, text",
    [
        (0, np.zeros((2, 3)), "expected observations of shape (n, 2), got (2, 3)"),
        (0, np.zeros((1, 2)), "expected observations of shape (2, 2), got (1, 2)"),
        (1, np.zeros((2, 1)), "expected rewards of shape (2,), got (2, 1)"),
        (3, False, "expected terminated and truncated of shape (2,), got (2,) and ()"),
    ],
)
def test_vector_environments_that_give_wrong_shapes(position: int, given: Any, text: str) -> None:
    class Wrong(SyncVectorEnv[Any, Any]):
        def step(self, actions: Any) -> Any:
            outcome = list(super().step(actions))
            outcome[position] = given
            return tuple(outcome)

    world = envs.from_vector_env(Wrong([BoundedEnv, BoundedEnv]), name="Bad-v0")
    world.reset()
    with pytest.raises(WorldError, match=re.escape(text)):
        world.step(np.zeros(2, int))


def test_large_finite_numbers_pass() -> None:
    world = own({"observation": np.array([1e30, 0]), "reward": 1e30})
    third_step(lambda: world)


def test_after_an_error_the_world_wants_a_reset() -> None:
    world = own({"reward": np.nan})
    with pytest.raises(WorldError):
        third_step(lambda: world)
    with pytest.raises(RuntimeError, match=re.escape("Bad-v0: call reset() before step()")):
        world.step(np.zeros(2, int))
    world.reset(seed=0)
    world.step(np.zeros(2, int))


def test_step_before_reset() -> None:
    with pytest.raises(RuntimeError, match=re.escape("call reset() before step()")):
        envs.from_env(FailingEnv()).step(np.zeros(1, int))


def test_wrong_actions_are_the_callers_fault() -> None:
    world = envs.from_env(FailingEnv())
    world.reset()
    with pytest.raises(ValueError, match=re.escape("expected actions of shape (1,), got (2,)")):
        world.step(np.zeros(2, int))
    assert world.step(np.zeros(1, int)).valid.all()


def test_errors_in_reset_name_the_environment() -> None:
    class Broken(FailingEnv):
        def reset(self, **_: Any) -> Any:
            message = "no map"
            raise OSError(message)

    world = envs.from_env(Broken(), name="Maze-v0")
    with pytest.raises(WorldError, match=r"^Maze-v0: step 0: environment 0: reset raised OSError: no map$"):
        world.reset()


def test_a_same_step_environment_must_give_final_observations(counting_env: Any) -> None:
    class Forgetful(SyncVectorEnv[Any, Any]):
        def step(self, actions: Any) -> Any:
            *rest, _ = super().step(actions)
            return *rest, {}

    venv = Forgetful([lambda: counting_env(1)], autoreset_mode=AutoresetMode.SAME_STEP)
    world = envs.from_vector_env(venv, name="Maze-v0")
    world.reset()
    with pytest.raises(WorldError, match=re.escape("Maze-v0: step 1: step, reading infos['final_obs'] raised KeyError")):
        world.step(np.zeros(1, int))


def test_spaces_must_agree(counting_env: Any) -> None:
    with pytest.raises(ValueError, match="expected environments with the same spaces"):
        SyncVector([lambda: counting_env(2, as_dict=True), lambda: counting_env(3, as_dict=True)])


def test_spaces_that_cannot_be_served(counting_env: Any) -> None:
    env = counting_env()
    env.observation_space = Text(4)
    with pytest.raises(SpaceError, match="CountingEnv: cannot serve the observation space"):
        envs.from_env(env)
    env = counting_env()
    env.action_space = Dict({"move": Discrete(2)})
    with pytest.raises(SpaceError, match="CountingEnv: cannot serve the action space"):
        envs.from_env(env)
