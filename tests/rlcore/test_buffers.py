from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcore.buffers import ReplayBuffer, RolloutBuffer

FIELDS = {"observation": ((2,), np.float32), "action": ((), np.int64), "done": ((), np.bool_)}


def rows(first: int, count: int) -> dict[str, np.ndarray]:
    number = np.arange(first, first + count)
    return {"observation": np.stack([number, -number], axis=1), "action": number, "done": number % 2 == 0}


@given(st.integers(1, 12), st.lists(st.integers(0, 30), max_size=12))
def test_the_ring_holds_what_a_list_would(capacity, counts):
    replay, model, total = ReplayBuffer(capacity, FIELDS), [], 0
    for count in counts:
        replay.add(**rows(total, count))
        model += range(total, total + count)
        total += count
        assert len(replay) == min(total, capacity)
    assert sorted(replay["action"].tolist()) == model[-capacity:]
    place = [number % capacity for number in model[-capacity:]]
    assert replay["action"][place].tolist() == model[-capacity:], "row i lies where adding one by one puts it"
    assert np.array_equal(replay["observation"][:, 1], -replay["action"])
    assert np.array_equal(replay["done"], replay["action"] % 2 == 0)


@given(st.integers(1, 9), st.integers(1, 30), st.integers(0, 30))
def test_a_restored_replay_continues_with_the_same_samples(capacity, before, after):
    first = ReplayBuffer(capacity, FIELDS)
    first.add(**rows(0, before))
    state = first.state_dict()
    assert state["fields"]["observation"].shape == (min(before, capacity), 2), "only the filled part is saved"
    second = ReplayBuffer(capacity, FIELDS)
    second.load_state_dict(state)
    for replay in (first, second):
        replay.add(**rows(before, after))
    one, two = (replay.sample(16, np.random.default_rng(3)) for replay in (first, second))
    for name in FIELDS:
        assert np.array_equal(one[name], two[name])


def test_samples_are_copies_with_the_declared_dtypes():
    replay = ReplayBuffer(4, FIELDS)
    replay.add(**rows(0, 3))
    batch = replay.sample(5, np.random.default_rng(0))
    assert {name: (a.shape, a.dtype) for name, a in batch.items()} == {
        "observation": ((5, 2), np.float32),
        "action": ((5,), np.int64),
        "done": ((5,), np.bool_),
    }
    batch["action"][:] = 99
    assert 99 not in replay["action"]


def test_sampling_is_uniform():
    replay = ReplayBuffer(10, FIELDS)
    replay.add(**rows(0, 25))
    counts = np.bincount(replay.sample(100_000, np.random.default_rng(0))["action"] - 15, minlength=10)
    assert abs(counts - 10_000).max() < 400, "four standard deviations"


def test_replay_refuses_what_it_was_not_declared_for():
    replay = ReplayBuffer(4, FIELDS)
    with pytest.raises(ValueError, match="empty"):
        replay.sample(1, np.random.default_rng(0))
    with pytest.raises(TypeError, match="expected the fields 'observation', 'action', 'done'; got 'action'"):
        replay.add(action=[1])
    with pytest.raises(ValueError, match="different lengths: observation 2, action 1, done 2"):
        replay.add(**{**rows(0, 2), "action": [1]})
    with pytest.raises(ValueError, match="capacity"):
        ReplayBuffer(0, FIELDS)
    assert len(replay) == 0


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"other": ((), np.float32)}, "has the fields"),
        ({**FIELDS, "observation": ((3,), np.float32)}, r"saved \(2, 2\)"),
        ({**FIELDS, "action": ((), np.int32)}, "int64, expected"),
    ],
)
def test_a_state_of_another_buffer_is_refused(fields, message):
    replay = ReplayBuffer(4, FIELDS)
    replay.add(**rows(0, 2))
    with pytest.raises(ValueError, match=message):
        ReplayBuffer(4, fields).load_state_dict(replay.state_dict())
    with pytest.raises(ValueError, match="2 entries, this one room for 1"):
        ReplayBuffer(1, FIELDS).load_state_dict(replay.state_dict())


def test_sampling_is_fast():
    replay = ReplayBuffer(1000, {**FIELDS, "next": ((2,), np.float32), "reward": ((), np.float32)})
    replay.add(**rows(0, 900), next=np.zeros((900, 2)), reward=np.zeros(900))
    rng, times = np.random.default_rng(0), []
    for _ in range(50):
        start = time.perf_counter()
        for _ in range(20):
            replay.sample(64, rng)
        times.append((time.perf_counter() - start) / 20)
    assert min(times) < 40e-6, "about 12 us where measured"


def step(value: float) -> dict[str, np.ndarray]:
    return {"observation": np.full((3, 2), value), "action": np.full(3, value), "done": np.array([1, 0, 1], bool)}


@given(st.integers(1, 6), st.data())
def test_a_rollout_fills_clears_and_survives_a_checkpoint(length, data):
    rollout = RolloutBuffer(length, 3, FIELDS)
    count = data.draw(st.integers(0, length))
    for index in range(count):
        assert not rollout.full
        rollout.add(**step(index))
    assert len(rollout) == count
    assert rollout.full == (count == length)
    other = RolloutBuffer(length, 3, FIELDS)
    other.load_state_dict(rollout.state_dict())
    for name, (shape, dtype) in FIELDS.items():
        assert other[name].shape == (length, 3, *shape)
        assert other[name].dtype == dtype
        assert np.array_equal(other[name][:count], rollout[name][:count])
    assert len(other) == count
    rollout.clear()
    assert len(rollout) == 0


def test_a_full_rollout_refuses_more_and_a_state_is_a_copy():
    rollout = RolloutBuffer(1, 3, FIELDS)
    with pytest.raises(TypeError, match="got none"):
        rollout.add()
    rollout.add(**step(1))
    state = rollout.state_dict()
    with pytest.raises(IndexError, match="full"):
        rollout.add(**step(2))
    rollout.clear()
    rollout.add(**step(2))
    assert state["fields"]["action"][0, 0] == 1
