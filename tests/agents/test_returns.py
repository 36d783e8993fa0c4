"""Returns against the sums that define them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agents.returns import discounted_returns, gae, lambda_returns, td_errors

SHAPE = (6, 3)
floats = arrays(np.float64, SHAPE, elements=st.floats(-5, 5))
flags = arrays(np.bool_, SHAPE)
unit = st.floats(0, 1)


def slow_gae(r, v, nv, term, trunc, gamma, lam):
    """The definition: a sum of decayed errors, forwards, up to the episode's end."""
    t_max, n = r.shape
    result = np.zeros(SHAPE)
    for i in range(n):
        for t in range(t_max):
            weight = 1.0
            for k in range(t, t_max):
                result[t, i] += weight * (r[k, i] + gamma * nv[k, i] * (not term[k, i]) - v[k, i])
                if term[k, i] or trunc[k, i]:
                    break
                weight *= gamma * lam
    return result


@given(floats, floats, floats, flags, flags, unit, unit)
def test_gae_is_the_sum_of_decayed_errors(r, v, nv, term, trunc, gamma, lam):
    np.testing.assert_allclose(gae(r, v, nv, term, trunc, gamma, lam), slow_gae(r, v, nv, term, trunc, gamma, lam), atol=1e-9)


@given(floats, floats, floats, flags, flags, unit)
def test_lambda_0_is_one_step(r, v, nv, term, trunc, gamma):
    np.testing.assert_allclose(gae(r, v, nv, term, trunc, gamma, 0.0), td_errors(r, v, nv, term, gamma), atol=1e-12)


@given(floats, floats, flags, flags, unit)
def test_lambda_1_is_monte_carlo(r, v, term, trunc, gamma):
    nv = np.vstack([v[1:], np.ones((1, SHAPE[1]))])  # the next row's value, wherever no episode ended
    expected = discounted_returns(r, nv, term, trunc, gamma)
    np.testing.assert_allclose(lambda_returns(r, v, nv, term, trunc, gamma, 1.0), expected, atol=1e-9)


@pytest.mark.parametrize("terminated, expected", [(True, 1.0), (False, 1.0 + 0.9 * 10)])
def test_truncation_bootstraps_and_termination_does_not(terminated, expected):
    yes, no = np.array([[True]]), np.array([[False]])
    one, ten, zero = np.array([[1.0]]), np.array([[10.0]]), np.array([[0.0]])
    result = gae(one, zero, ten, yes if terminated else no, no if terminated else yes, 0.9, 0.95)
    assert result.item() == pytest.approx(expected)
