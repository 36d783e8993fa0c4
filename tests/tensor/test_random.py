"""Random draws: reproducible, resumable to the bit, and from the right distribution."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import tensor as T

DRAWS: dict[str, Any] = {
    "rand": lambda g: T.rand(5, generator=g), "randn": lambda g: T.randn(5, generator=g), "randint": lambda g: T.randint(0, 100, (5,), generator=g),
    "randperm": lambda g: T.randperm(10, generator=g), "normal": lambda g: T.normal(1.0, 2.0, (5,), generator=g),
    "bernoulli": lambda g: T.bernoulli(T.full((20,), 0.5), generator=g), "multinomial": lambda g: T.multinomial(T.ones(9), 4, generator=g),
    "uniform_": lambda g: T.zeros(5).uniform_(-1, 1, generator=g), "normal_": lambda g: T.zeros(5).normal_(generator=g),
    "exponential_": lambda g: T.zeros(5).exponential_(generator=g),
}  # fmt: skip


@pytest.mark.parametrize("name", list(DRAWS))
def test_state_is_restored_to_the_bit(name: str) -> None:
    g = T.Generator().manual_seed(3)
    DRAWS[name](g)
    state = g.get_state()
    first = [DRAWS[name](g).tolist() for _ in range(3)]
    other = T.Generator()
    other.set_state(json.loads(json.dumps(state)))  # plain numbers: a checkpoint can hold them
    assert [DRAWS[name](other).tolist() for _ in range(3)] == first
    assert other.initial_seed() == 3
    assert first[0] != first[1]


def test_manual_seed_and_the_default_generator() -> None:
    T.manual_seed(5)
    a, state = T.rand(3), T.get_rng_state()
    b = T.randn(2)
    T.manual_seed(5)
    assert T.rand(3).tolist() == a.tolist()
    T.set_rng_state(state)
    assert T.randn(2).tolist() == b.tolist()
    assert T.initial_seed() == 5
    assert T.seed() == T.initial_seed()
    T.manual_seed(-1)  # any integer


def test_generators_are_independent() -> None:
    g = T.Generator().manual_seed(0)
    T.manual_seed(0)
    a = T.rand(4)
    T.rand(100, generator=T.Generator())
    assert T.rand(4, generator=g).tolist() == a.tolist()


def test_distributions() -> None:
    n = 20_000
    assert T.rand(n).mean().item() == pytest.approx(0.5, abs=0.02)
    assert T.randn(n).std().item() == pytest.approx(1, abs=0.02)
    assert T.normal(3.0, 2.0, (n,)).mean().item() == pytest.approx(3, abs=0.05)
    assert T.zeros(n).exponential_(2.0).mean().item() == pytest.approx(0.5, abs=0.02)
    assert T.bernoulli(T.full((n,), 0.3)).mean().item() == pytest.approx(0.3, abs=0.02)
    counts = np.bincount(T.multinomial(T.tensor([1.0, 0.0, 3.0]), n, replacement=True).numpy(), minlength=3) / n
    np.testing.assert_allclose(counts, [0.25, 0, 0.75], atol=0.02)
    assert T.multinomial(T.ones(60), n, replacement=True).float().mean().item() == pytest.approx(29.5, abs=0.6)
    kept = T.nn.functional.dropout(T.ones(n), 0.25)
    assert kept.mean().item() == pytest.approx(1, abs=0.02)
    assert set(np.unique(kept.numpy())) == {np.float32(0), np.float32(1 / 0.75)}


def test_dtypes_shapes_and_flags() -> None:
    assert T.rand(2, 3).dtype is T.float32
    assert T.rand((2, 3), dtype=T.float64).shape == (2, 3)
    assert T.randn(2, requires_grad=True).is_leaf
    assert T.randint(5, (3,)).dtype is T.int64
    assert sorted(T.randperm(6).tolist()) == list(range(6))
    x = T.zeros(2, dtype=T.float64)
    assert T.rand_like(x).dtype is T.float64
    assert T.randint_like(x, 3).dtype is T.float64


def test_in_place_draws_are_not_recorded() -> None:
    w = T.zeros(3, requires_grad=True)
    w.uniform_(-1, 1)
    assert w.is_leaf
    assert w.abs().sum().item() > 0


@pytest.mark.parametrize(
    "weights, count, text",
    [
        (T.tensor([-1.0, 2.0]), 1, "finite weights >= 0"),
        (T.zeros(3), 1, "positive sum"),
        (T.tensor([1.0, 0.0]), 2, "cannot draw 2 different categories"),
    ],
)
def test_multinomial_refuses(weights: Any, count: int, text: str) -> None:
    with pytest.raises(RuntimeError, match=text):
        T.multinomial(weights, count)


def test_more_distributions() -> None:
    T.manual_seed(0)
    n = 20000
    assert abs(T.poisson(T.full((n,), 3.0)).mean().item() - 3) < 0.1
    assert abs(T.binomial(T.full((n,), 10.0), T.tensor(0.3)).mean().item() - 3) < 0.1
    assert abs(T.zeros(n).geometric_(0.25).mean().item() - 4) < 0.2
    assert abs(T.zeros(n).log_normal_(0.0, 0.5).log().std().item() - 0.5) < 0.05
    assert abs(T.zeros(n).cauchy_(1.0, 2.0).median().item() - 1) < 0.2
    assert abs(T.full((n,), 0.3).bernoulli().mean().item() - 0.3) < 0.02
    assert abs(T.ones(n).bernoulli(0.7).mean().item() - 0.7) < 0.02
    whole = T.zeros(n, dtype=T.int64).random_(2, 5)
    assert set(whole.tolist()) == {2, 3, 4}
    assert T.zeros(100).random_(4).max().item() <= 3
    assert T.tensor([0.0, 1.0]).multinomial(1).tolist() == [1]


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: T.poisson(T.tensor([-1.0])), "poisson: expected rates >= 0"),
        (lambda: T.zeros(2).geometric_(1.5), "geometric_: expected 0 < p < 1, got 1.5"),
        (lambda: T.zeros(2).cauchy_(0.0, 0.0), "cauchy_: expected sigma > 0, got 0.0"),
        (lambda: T.zeros(2).random_(5, 5), "random_: expected low < high, got 5 and 5"),
    ],
)
def test_bad_parameters(call: Any, text: str) -> None:
    with pytest.raises(RuntimeError, match=text):
        call()
