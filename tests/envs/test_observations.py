from __future__ import annotations

import re
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    Sequence,
    Space,
    Text,
    Tuple,
    flatten,
    flatten_space,
)
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.observations import Flattener
from rlcore.errors import SpaceError

shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
boxes = st.builds(
    lambda shape, dtype, low: Box(0 if dtype is np.uint8 else low, 7, shape, dtype),
    shapes,
    st.sampled_from([np.float32, np.float64, np.uint8, np.int16]),
    st.integers(-5, 6),
)
leaves = st.one_of(
    boxes,
    st.builds(lambda n, start: Discrete(n, start=start), st.integers(1, 5), st.integers(-3, 3)),
    st.lists(st.integers(1, 4), min_size=1, max_size=3).map(MultiDiscrete),
    st.just(MultiDiscrete(np.array([[2, 3], [1, 4]]), start=np.array([[0, -1], [5, 2]]))),
    st.one_of(st.integers(1, 4), st.just([2, 3])).map(MultiBinary),
)
spaces = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(Tuple),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1).map(Dict),
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(spaces, st.integers(1, 4), st.integers(0, 2**31 - 1))
def test_layout_is_that_of_gymnasium(space: Space[Any], count: int, seed: int) -> None:
    space.seed(seed)
    samples = [space.sample() for _ in range(count)]
    batch = concatenate(space, samples, create_empty_array(space, n=count))
    flattener = Flattener(space)

    rows = flattener.batch(batch)

    expected = np.stack([np.asarray(flatten(space, sample), np.float32) for sample in samples])
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(np.stack([flattener.one(sample) for sample in samples]), expected)
    reference = flatten_space(space)
    np.testing.assert_array_equal(flattener.space.low, reference.low.astype(np.float32))
    np.testing.assert_array_equal(flattener.space.high, reference.high.astype(np.float32))
    assert all(flattener.space.contains(row) for row in rows)


def test_rows_are_copies() -> None:
    source = np.zeros((2, 3), np.float32)
    rows = Flattener(Box(-1, 1, (3,))).batch(source)
    source += 1
    assert not rows.any()


def test_bounds_beyond_float32_are_infinite() -> None:
    space = Flattener(Box(-1e300, 1e300, (1,), np.float64)).space
    assert space.low == -np.inf
    assert space.high == np.inf


@pytest.mark.parametrize(
    "space",
    [
        Text(3),
        Sequence(Discrete(2)),
        Graph(Box(0, 1, (1,)), None),
        Dict({"a": Box(0, 1, (1,)), "b": Tuple((Text(2),))}),
    ],
)
def test_other_spaces_are_refused_in_one_line(space: Space[Any]) -> None:
    with pytest.raises(SpaceError, match=r"Maze-v0: cannot serve the observation space .*expected Box") as caught:
        Flattener(space, "Maze-v0")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "space, observation, text",
    [
        (Box(0, 1, (3,)), np.zeros(2), "expected an observation of shape (3,), got (2,)"),
        (Discrete(3, start=1), 4, "expected an observation from 1 to 3, got 4"),
        (MultiDiscrete([2, 3]), np.array([0, 3]), "expected observations from [0 0] to [1 2], got [[0, 3]]"),
        (MultiDiscrete([2, 3]), np.array([0.0, 1.0]), "expected integer observations, got float64"),
        (Dict({"a": Box(0, 1, (2,))}), {"a": np.zeros(3)}, "expected observation['a'] of shape (2,), got (3,)"),
    ],
)
def test_wrong_observations_say_what_was_expected(space: gymnasium.Space[Any], observation: Any, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        Flattener(space).one(observation)
