"""Clipping and flattening."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensor as T
from tensor import nn
from tensor.nn import utils


def with_gradients(*grads):
    params = [nn.Parameter(T.zeros(len(g))) for g in grads]
    for p, g in zip(params, grads, strict=True):
        p.grad = T.tensor(np.asarray(g, np.float32))
    return params


@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=8),
    bound=st.floats(0.1, 10),
    order=st.sampled_from([1.0, 2.0, 3.0, math.inf]),
)
def test_clipping_keeps_direction_and_bounds_the_norm(values, bound, order):
    params = with_gradients(values, [0.5])
    whole = np.array([*values, 0.5])
    norm = np.linalg.norm(whole, order)
    assert utils.clip_grad_norm_(params, bound, order).item() == pytest.approx(norm, rel=1e-4)
    clipped = np.concatenate([p.grad.numpy() for p in params])
    np.testing.assert_allclose(clipped, whole * min(1, bound / (norm + 1e-6)), rtol=1e-4, atol=1e-6)


def test_parameters_without_a_gradient_are_left_out():
    p = nn.Parameter(T.ones(2))
    assert utils.clip_grad_norm_([p], 1.0).item() == 0
    assert utils.clip_grad_norm_(iter(with_gradients([3, 4])), 1.0).item() == 5
    (q,) = with_gradients([3, 4])
    assert utils.clip_grad_norm_(q, 1.0).item() == 5


def test_a_norm_that_is_not_finite():
    params = with_gradients([math.inf, 1])
    with pytest.raises(RuntimeError, match=r"norm of order 2.0 is inf, not finite"):
        utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert params[0].grad[1] == 1
    params = with_gradients([math.nan, 1])
    utils.clip_grad_norm_(params, 1.0)
    assert params[0].grad.isnan().all()


def test_clip_value_and_half_precision():
    params = with_gradients([-3, 0.5])
    utils.clip_grad_value_(params, 1)
    assert params[0].grad.tolist() == [-1, 0.5]
    big = T.full((100_000,), 10.0, dtype=T.float16)
    assert utils.get_total_norm([big]).item() == pytest.approx(10 * math.sqrt(100_000), rel=1e-3)
    params = with_gradients([3, 4])
    utils.clip_grads_with_norm_(params, 1.0, T.tensor(5.0))
    assert params[0].grad.tolist() == pytest.approx([0.6, 0.8], rel=1e-5)


def test_the_names_of_2017_are_the_same_functions():
    assert utils.clip_grad_norm is utils.clip_grad_norm_
    old = ("constant", "dirac", "eye", "normal", "sparse", "uniform", "kaiming_normal", "kaiming_uniform", "orthogonal")
    for name in (*old, "xavier_normal", "xavier_uniform"):
        assert getattr(nn.init, name) is getattr(nn.init, name + "_")


def test_vectors_round_trip_and_differentiate():
    net = nn.Linear(2, 3)
    flat = utils.parameters_to_vector(net.parameters())
    flat.sum().backward()
    assert (net.weight.grad == 1).all()
    arrays = [p._array for p in net.parameters()]
    utils.vector_to_parameters(T.arange(9.0), net.parameters())
    assert net.weight.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert all(p._array is a for p, a in zip(net.parameters(), arrays, strict=True))
    with pytest.raises(ValueError, match=r"expected a vector of 9 elements, got shape \[8\]"):
        utils.vector_to_parameters(T.ones(8), net.parameters())
