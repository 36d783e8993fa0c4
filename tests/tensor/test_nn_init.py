"""Initialisation: distributions, identity, reproducibility."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensor as T
from tensor import nn
from tensor.nn import init


@pytest.mark.parametrize(
    "fill, mean, std, bound",
    [
        (lambda w, g: init.uniform_(w, -1, 3, generator=g), 1, 4 / math.sqrt(12), 3),
        (lambda w, g: init.normal_(w, 2, 0.5, generator=g), 2, 0.5, math.inf),
        (lambda w, g: init.xavier_uniform_(w, 2, generator=g), 0, 2 * math.sqrt(2 / 500), 2 * math.sqrt(6 / 500)),
        (lambda w, g: init.xavier_normal_(w, generator=g), 0, math.sqrt(2 / 500), math.inf),
        (lambda w, g: init.kaiming_uniform_(w, math.sqrt(5), generator=g), 0, 1 / math.sqrt(900), 1 / math.sqrt(300)),
        (lambda w, g: init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu", generator=g), 0, 0.1, math.inf),
        (lambda w, g: init.trunc_normal_(w, generator=g), 0, 0.8796, 2),
        (lambda w, g: init.orthogonal_(w, 3, generator=g), 0, 3 / math.sqrt(300), math.inf),
    ],
)
def test_distribution(fill, mean, std, bound):
    w = nn.Parameter(T.empty(200, 300))
    array = w._array
    assert fill(w, T.Generator().manual_seed(0)) is w
    assert w._array is array
    assert w.is_leaf
    values = array.copy()
    assert values.mean() == pytest.approx(mean, abs=4 * std / math.sqrt(values.size) + 0.003)
    assert values.std() == pytest.approx(std, rel=0.02)
    assert np.abs(values).max() <= bound * (1 + 1e-6)
    fill(w, T.Generator().manual_seed(0))
    assert (array == values).all()


@given(rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 100))
def test_orthogonal_has_orthonormal_rows_or_columns(rows, columns, seed):
    w = init.orthogonal_(T.empty(rows, columns, dtype=T.float64), generator=T.Generator().manual_seed(seed)).numpy()
    product = w @ w.T if rows <= columns else w.T @ w
    np.testing.assert_allclose(product, np.eye(min(rows, columns)), atol=1e-12)


def test_constants_and_sparse():
    assert init.eye_(T.empty(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert init.ones_(T.empty(2)).tolist() == [1, 1]
    assert init.zeros_(T.empty(2)).tolist() == [0, 0]
    w = init.sparse_(T.empty(10, 4), 0.3)
    assert ((w == 0).sum(0) == 3).all()


@pytest.mark.parametrize("shape", [(4, 2, 3), (3, 3, 3, 3), (2, 2, 1, 3, 5)])
def test_dirac_passes_its_input_on(shape):
    convolution = {3: nn.functional.conv1d, 4: nn.functional.conv2d, 5: nn.functional.conv3d}[len(shape)]
    w = init.dirac_(T.empty(*shape))
    x = T.randn(1, shape[1], *[6] * (len(shape) - 2))
    y = convolution(x, w, padding=tuple(n // 2 for n in shape[2:]))
    assert (y[:, : shape[1]] == x).all()
    assert (y[:, shape[1] :] == 0).all()
    assert init.dirac_(T.empty(4, 1, 3), groups=2).sum(2).tolist() == [[1], [0], [1], [0]]


def test_skipping_leaves_memory_and_generator_alone():
    state = T.get_rng_state()
    layer = nn.utils.skip_init(nn.Linear, 3, 2)
    assert T.get_rng_state() == state
    assert layer.weight.shape == (2, 3)
    with init.skipped():
        assert init.ones_(T.zeros(2)).tolist() == [0, 0]
    assert init.ones_(T.zeros(2)).tolist() == [1, 1]


def test_the_default_generator_makes_layers_reproducible():
    T.manual_seed(3)
    a = nn.Linear(4, 4)
    T.manual_seed(3)
    b = nn.Linear(4, 4)
    assert (a.weight == b.weight).all()
    assert a.weight.abs().max() <= 0.5
    assert a.bias.abs().max() <= 0.5


def test_writes_are_seen_by_saved_values():
    w = nn.Parameter(T.ones(2))
    y = w * w
    init.zeros_(w)
    with pytest.raises(RuntimeError, match="changed by an in-place operation"):
        y.sum().backward()


@pytest.mark.parametrize(
    "act, text",
    [
        (
            lambda: init.xavier_uniform_(T.empty(3)),
            r"xavier_uniform_: expected at least two dimensions, got shape \[3\]",
        ),
        (lambda: init.eye_(T.empty(3)), "eye_: expected a matrix"),
        (lambda: init.dirac_(T.empty(2, 2)), r"dirac_: expected 3 to 5 dimensions, got shape \[2, 2\]"),
        (lambda: init.dirac_(T.empty(3, 1, 1), groups=2), "dirac_: expected 2 groups to divide the outputs, got 3"),
        (lambda: init.calculate_gain("rleu"), "expected one of 'linear', 'conv1d'"),
        (lambda: init.kaiming_normal_(T.empty(2, 2), mode="fan"), "expected mode 'fan_in' or 'fan_out', got 'fan'"),
    ],
)
def test_refused(act, text):
    with pytest.raises(ValueError, match=text):
        act()
