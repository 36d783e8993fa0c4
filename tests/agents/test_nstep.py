"""n-step transitions against a plain per-episode computation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.nstep import NStep

GAMMA = 0.9


def feed(n, rows):
    """One environment; rows are (reward, terminated, truncated, valid). Observations count the steps."""
    steps, out = NStep(n, 1, GAMMA), []
    for i, (reward, terminated, truncated, valid) in enumerate(rows):
        x, after = np.array([[i]], np.float32), np.array([[i + 1]], np.float32)
        flag = [np.array([f]) for f in (terminated, truncated, valid)]
        ready = steps.add(x, np.array([i]), np.array([reward], np.float32), after, *flag)
        if ready is not None:
            out += list(zip(*(ready[k].ravel() for k in ("observation", "reward", "next_observation", "discount")), strict=True))
    return out


def expected(n, rows):
    out, episode = [], []

    def flush(ended, terminated):
        for k in range(len(episode)):
            window = episode[k : k + n]
            if len(window) < n and not ended:
                continue
            reaches_end = k + len(window) == len(episode) and ended
            total = sum(GAMMA**j * r for j, (_, r) in enumerate(window))
            discount = 0.0 if reaches_end and terminated else GAMMA ** len(window)
            out.append((window[0][0], total, window[-1][0] + 1, discount))

    for i, (reward, terminated, truncated, valid) in enumerate(rows):
        if not valid:
            continue
        episode.append((i, reward))
        if terminated or truncated:
            flush(True, terminated)
            episode = []
    flush(False, False)
    return out


row = st.tuples(st.floats(-2, 2, width=32), st.booleans(), st.booleans(), st.just(True))


@given(st.integers(1, 4), st.lists(row, max_size=15))
def test_agrees_with_a_computation_by_episode(n, rows):
    got, want = feed(n, rows), expected(n, rows)
    assert len(got) == len(want)
    np.testing.assert_allclose(np.array(sorted(got)).reshape(-1, 4), np.array(sorted(want)).reshape(-1, 4), rtol=1e-5, atol=1e-5)


def test_reset_rows_are_left_out():
    rows = [(1.0, True, False, True), (9.0, False, False, False), (2.0, False, True, True)]
    for n in (1, 3):
        assert [r for _, r, _, _ in feed(n, rows)] == [1.0, 2.0]


@pytest.mark.parametrize("n", [1, 3])
def test_state_round_trip(n):
    a, b = NStep(n, 2, GAMMA), NStep(n, 2, GAMMA)
    no, x = np.zeros(2, bool), np.arange(4, dtype=np.float32).reshape(2, 2)
    a.add(x, np.array([0, 1]), np.ones(2, np.float32), x + 1, no, no, ~no)
    b.load_state_dict(a.state_dict())
    for s in (a, b):
        s.add(x, np.array([1, 0]), np.ones(2, np.float32), x + 1, no, no, ~no)
    ready = [s.add(x, np.array([1, 0]), np.ones(2, np.float32), x + 1, no, no, ~no) for s in (a, b)]
    for name in ready[0]:
        np.testing.assert_array_equal(ready[0][name], ready[1][name])
