"""Action heads against SciPy's distributions and against their own samples."""

import numpy as np
import pytest
from gymnasium import spaces
from scipy import stats

import tensor as T
from agents.networks import make_head
from rlcore.errors import SpaceError

RNG = np.random.default_rng(0)
SPACES = {
    "discrete": spaces.Discrete(4),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(3),
    "box": spaces.Box(-1, 1, (2,), np.float32),
    "box_2d": spaces.Box(-1, 1, (2, 3), np.float32),
}


def head_and_outputs(kind, n=50_000):
    head = make_head(SPACES[kind], "test")
    row = RNG.normal(size=(1, head.size)).astype(np.float32)
    return head, T.tensor(np.repeat(row, n, 0))


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


@pytest.mark.parametrize("kind", SPACES)
def test_samples_fit_the_space_and_their_mean_log_probability_is_minus_the_entropy(kind):
    head, outputs = head_and_outputs(kind)
    actions = head.sample(outputs, np.random.default_rng(1))
    assert actions.shape == (50_000, *(SPACES[kind].shape or ()))
    assert actions.dtype == head.action_dtype
    log_prob = head.log_prob(outputs, T.tensor(actions)).detach().numpy()
    entropy = head.entropy(outputs).detach().numpy()
    assert log_prob.shape == entropy.shape == (50_000,)
    # Five standard errors of the mean.
    assert abs(log_prob.mean() + entropy[0]) < 5 * log_prob.std() / np.sqrt(len(log_prob)) + 1e-6


def test_categorical_frequencies_and_log_probabilities():
    head, outputs = head_and_outputs("discrete")
    p = softmax(outputs.numpy()[0].astype(float))
    actions = head.sample(outputs, np.random.default_rng(2))
    counts = np.bincount(actions, minlength=4)
    assert stats.chisquare(counts, p * len(actions)).pvalue > 1e-4
    np.testing.assert_allclose(head.log_prob(outputs, T.tensor(actions)).numpy(), np.log(p)[actions], rtol=1e-5)
    assert head.mode(outputs)[0] == p.argmax()


def test_multi_categorical_is_the_sum_of_its_parts():
    head, outputs = head_and_outputs("multi_discrete", 6)
    grid = np.array([[i, j] for i in range(2) for j in range(3)])
    log_prob = head.log_prob(outputs, T.tensor(grid)).numpy()
    assert np.exp(log_prob).sum() == pytest.approx(1, rel=1e-5)
    assert (head.mode(outputs)[0] == grid[log_prob.argmax()]).all()


def test_bernoulli_against_scipy():
    head, outputs = head_and_outputs("multi_binary", 5)
    p = 1 / (1 + np.exp(-outputs.numpy()))
    actions = RNG.integers(2, size=(5, 3))
    expected = stats.bernoulli.logpmf(actions, p).sum(1)
    np.testing.assert_allclose(head.log_prob(outputs, T.tensor(actions)).numpy(), expected, rtol=1e-4)
    np.testing.assert_allclose(head.entropy(outputs).numpy(), stats.bernoulli.entropy(p).sum(1), rtol=1e-4)


@pytest.mark.parametrize("kind", ["box", "box_2d"])
def test_gaussian_against_scipy(kind):
    head, outputs = head_and_outputs(kind, 5)
    T.nn.init.uniform_(head.log_std, -1, 1)
    std = np.exp(head.log_std.detach().numpy())
    actions = RNG.normal(size=(5, *SPACES[kind].shape)).astype(np.float32)
    normal = stats.norm(outputs.numpy(), std)
    expected = normal.logpdf(actions.reshape(5, -1)).sum(1)
    np.testing.assert_allclose(head.log_prob(outputs, T.tensor(actions)).detach().numpy(), expected, rtol=1e-4)
    np.testing.assert_allclose(head.entropy(outputs).detach().numpy(), normal.entropy().sum(1), rtol=1e-5)
    assert head.mode(outputs).shape == (5, *SPACES[kind].shape)


def test_a_space_without_a_head_is_refused():
    space = spaces.Box(0, 9, (2,), np.int64)
    with pytest.raises(SpaceError, match=r"^ppo cannot serve the action space Box.*: expected Discrete, MultiDiscrete"):
        make_head(space, "ppo")
