from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space
from hypothesis import given
from hypothesis import strategies as st

from envs.actions import Translator
from rlcore.errors import SpaceError

NUM_ENVS = 3


@pytest.mark.parametrize(
    "space",
    [
        Discrete(4),
        Discrete(4, start=-2),
        MultiDiscrete([2, 5]),
        MultiDiscrete([[2, 5], [3, 1]], start=[[1, 2], [3, 4]]),
        MultiBinary(3),
        Box(-2, 3, (2, 2)),
        Box(0, 255, (2,), np.uint8),
        Box(-1, 1, (), np.float64),
    ],
)
def test_what_the_shown_space_samples_becomes_actions_of_the_environment(space: Space[Any]) -> None:
    translate = Translator(space, NUM_ENVS)
    translate.space.seed(0)
    for _ in range(20):
        actions = translate(np.stack([translate.space.sample() for _ in range(NUM_ENVS)]))
        assert all(space.contains(np.asarray(action)) for action in actions)


@given(st.lists(st.integers(0, 3), min_size=NUM_ENVS, max_size=NUM_ENVS), st.integers(-5, 5))
def test_the_start_is_added(actions: list[int], start: int) -> None:
    translate = Translator(Discrete(4, start=start), NUM_ENVS)
    assert translate.space == Discrete(4)
    assert translate(np.array(actions)).tolist() == [action + start for action in actions]


@given(st.lists(st.floats(-1e308, 1e308), min_size=NUM_ENVS, max_size=NUM_ENVS))
def test_box_actions_are_clipped(actions: list[float]) -> None:
    clipped = Translator(Box(-1, 2, (1,)), NUM_ENVS)(np.array(actions)[:, None])
    assert clipped.dtype == np.float32
    np.testing.assert_array_equal(clipped[:, 0], np.clip(actions, -1, 2).astype(np.float32))


@pytest.mark.parametrize(
    "space, action, text",
    [
        (Discrete(2), np.zeros((NUM_ENVS, 1), int), "expected actions of shape (3,), got (3, 1)"),
        (Discrete(2), np.zeros(NUM_ENVS), "expected integer actions, got float64"),
        (Discrete(2), np.array([0, 2, 1]), "expected actions from 0 to 1, got [0, 2, 1]"),
        (Discrete(2), np.array([0, -1, 1]), "expected actions from 0 to 1, got [0, -1, 1]"),
        (MultiDiscrete([2, 3]), np.array([[0, 3]] * NUM_ENVS), "expected actions from 0 to [1, 2], got [[0, 3]"),
        (MultiBinary(1), np.full((NUM_ENVS, 1), 2), "expected actions from 0 to [1], got [[2]"),
        (Box(-1, 1, (2,)), np.zeros((NUM_ENVS, 3)), "expected actions of shape (3, 2), got (3, 3)"),
        (Box(-1, 1, (1,)), np.full((NUM_ENVS, 1), np.nan), "expected finite actions, got [[nan]"),
        (Box(-1, 1, (1,)), np.full((NUM_ENVS, 1), "a"), "expected actions of numbers, got <U1"),
    ],
)
def test_wrong_actions_say_what_was_expected(space: Space[Any], action: Any, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        Translator(space, NUM_ENVS)(action)


def test_other_spaces_are_refused() -> None:
    with pytest.raises(SpaceError, match="Maze-v0: cannot serve the action space Dict"):
        Translator(Dict({"a": Discrete(2)}), 1, "Maze-v0")
