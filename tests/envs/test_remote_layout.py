"""Spaces as data and values as bytes: whatever goes out comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, Sequence, Space, Text, Tuple
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.remote.layout import Layout, describe_space, make_space
from envs.remote.messages import from_plain, to_plain
from rlcore.errors import SpaceError, WorldError

LEAVES: list[Space[Any]] = [
    Box(-1, 1, (3,), np.float32),
    Box(np.array([-np.inf, 0]), np.array([1.0, np.inf]), dtype=np.float64),
    Box(0, 255, (4, 5, 3), np.uint8),
    Box(-5, 5, (), np.int32),
    Box(0, 1, (0,), np.float32),
    Discrete(4),
    Discrete(3, start=-7),
    MultiDiscrete([2, 5]),
    MultiDiscrete([[2, 5], [3, 3]], start=[[1, 2], [0, 0]]),
    MultiBinary((2, 3)),
    Text(8),
    Text(5, min_length=2, charset="äbc"),
]
SPACES = st.recursive(
    st.sampled_from(LEAVES),
    lambda parts: st.one_of(
        st.dictionaries(st.sampled_from("abcd"), parts, min_size=1, max_size=3).map(Dict),
        st.lists(parts, min_size=1, max_size=3).map(Tuple),
    ),
    max_leaves=5,
)


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return [plain(part) for part in value]
    array = np.asarray(value)
    return array.dtype, array.tolist()


@settings(max_examples=40, deadline=None)
@given(SPACES, st.integers(0, 1000), st.integers(1, 3))
def test_there_and_back(space: Space[Any], seed: int, count: int):
    assert make_space(describe_space(space)) == space
    layout = Layout(make_space(describe_space(space)))
    space.seed(seed)
    values = [space.sample() for _ in range(count)]
    raw = layout.pack(values)
    assert len(raw) == count * layout.size
    again = layout.unpack_all(raw, count)
    for one, other in zip(values, again, strict=True):
        assert space.contains(other)
        assert plain(one) == plain(other)
    assert plain(layout.unpack(layout.pack(values[:1]))) == plain(values[0])
    batch = batch_space(space, count)
    expected = concatenate(space, values, create_empty_array(space, count))
    assert plain(layout.unpack_batch(raw, count)) == plain(expected)
    assert batch.contains(layout.unpack_batch(raw, count))


def test_what_has_no_size_is_refused():
    for space in (Sequence(Discrete(2)), Graph(Discrete(2), None), Dict({"a": Sequence(Discrete(2))})):
        with pytest.raises(SpaceError, match=r"remote: cannot send the space .* expected Box, Discrete"):
            describe_space(space)
        with pytest.raises(SpaceError):
            Layout(space)


@pytest.mark.parametrize(
    "description",
    [None, [], ["sphere"], ["box", "<f4", [2]], ["box", "|O", [1], b"", b""], ["box", "<f4", [1 << 60], b"0000", b"0000"],
     ["discrete", "<i8", 0, 0], ["dict", [["a"]]], ["box", "<f4", [2], b"123", b"1234"]],
)  # fmt: skip
def test_what_describes_no_space_is_said(description: Any):
    with pytest.raises(SpaceError, match="expected the description of a space, got"):
        make_space(description)


def test_values_of_another_form_are_said():
    layout = Layout(Dict({"at": Box(-1, 1, (2,)), "door": Discrete(3), "name": Text(3)}))
    good = {"at": np.zeros(2), "door": 1, "name": "abc"}
    assert layout.unpack(layout.pack([good]))["name"] == "abc"
    for bad in ({"at": np.zeros(2)}, {**good, "at": np.zeros(3)}, {**good, "door": "x"}, {**good, "name": "abcd"}, 3):
        with pytest.raises(WorldError, match="remote: expected values of Dict"):
            layout.pack([bad])
    with pytest.raises(WorldError, match=r"expected 1 values of Box.*8 bytes, got 7"):
        Layout(Box(-1, 1, (2,))).unpack(bytes(7))


PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False), st.text(), st.tuples(st.text())
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=5), PLAIN))
def test_plain_data_come_back(info: dict[str, Any]):
    assert from_plain(to_plain(info)) == info
