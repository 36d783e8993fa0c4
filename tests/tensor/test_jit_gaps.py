"""What replaying the recorded cases of operators found: recordings that were refused, or not those of the function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensor as T
from tensor.jit import Compiled, codegen

NATIVE = [False, pytest.param(True, marks=pytest.mark.skipif(not codegen.available(), reason="no llvmlite"))]


def replayed(function: Callable[..., Any], *args: Any, native: bool = False) -> Any:
    """What a replay gives, by machine code if wanted."""
    compiled = Compiled(function, native=False)
    compiled(*args)
    assert compiled.plans, compiled.reasons
    if native:
        compiled.plans[0].lower(codegen.compile_program, codegen.checker())
    result = compiled(*args)
    assert compiled.hits == 1
    return result


PARTS = slice(1, 3)
CASES: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "strided constants": (lambda x: T.nn.functional.interpolate(x[None], scale_factor=1.5, mode="linear"), (2, 6)),
    "several views of one constant": (lambda x: T.nn.functional.adaptive_avg_pool1d(x, 4), (2, 6)),
    "a list of numbers read": (lambda x: [t * 1 for t in T.tensor_split(x, T.tensor([1, 2]))], (4, 3)),
    "a slice from outside": (lambda x: x[PARTS] * 2, (4, 3)),
    "a tuple of slices": (lambda x, at=(slice(1, 3), ..., None): x[at] * 2, (4, 3)),
    "LAPACK": (lambda x: T.linalg.solve_triangular(x[:3, :3].triu() + T.eye(3) * 9, x[:3], upper=True), (4, 3)),
    "SciPy": (lambda x: T.special.polygamma(2, x.abs() + 1), (4, 3)),
    "a complex number of parts": (lambda x: T.view_as_real(T.complex(x, x * 2)), (4, 3)),
    "filled places": (lambda x: x.index_fill(0, T.tensor([1, 2]), 5.0), (4, 3)),
    "repeated as a tensor says": (lambda x: x.repeat_interleave(T.tensor([1, 0, 2, 1]), 0), (4, 3)),
}


@pytest.mark.parametrize("native", NATIVE)
@pytest.mark.parametrize("name", CASES)
def test_a_replay_gives_what_the_function_gives(name: str, native: bool) -> None:
    function, shape = CASES[name]
    x = T.tensor(np.random.default_rng(0).normal(size=shape))
    expected, got = function(x), replayed(function, x, native=native)
    for a, b in zip(*((v if isinstance(v, list) else [v]) for v in (got, expected)), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("native", NATIVE)
def test_an_element_is_a_view(native: bool) -> None:
    def f(x: T.Tensor) -> T.Tensor:
        y = x * 1
        y[(0,)].add_(5)
        return y

    x = T.zeros(2)
    assert replayed(f, x, native=native).tolist() == [5, 0]


@pytest.mark.parametrize("native", NATIVE)
def test_a_strided_view_is_the_same_memory(native: bool) -> None:
    def f(x: T.Tensor) -> Any:
        y = x * 2 + 1
        window = y.as_strided((2, 2), (2, 1))
        before = y.exp() * 1
        window.mul_(3)
        return before, y + 0, window * 1

    x = T.arange(6.0)
    for a, b in zip(replayed(f, x, native=native), f(x), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)


def test_a_slice_argument_is_compared_by_its_numbers() -> None:
    compiled = Compiled(lambda x, at: x[at] * 2, native=False)
    x = T.arange(5.0)
    assert [compiled(x, slice(a, b)).tolist() for a, b in [(0, 2), (0, 2), (1, 3)]] == [[0, 2], [0, 2], [2, 4]]
    assert compiled.hits == 1


def test_memory_of_a_tensor_has_an_address_in_a_compiled_function() -> None:
    x = T.arange(6.0).reshape(2, 3)
    compiled = Compiled(lambda x: x[1].storage_offset(), native=False)
    assert [compiled(x), compiled(x)] == [3, 3]


@pytest.mark.parametrize("native", NATIVE)
def test_one_recording_serves_gradients_that_are_clipped_and_others(native: bool) -> None:
    net = T.nn.Linear(3, 4)

    def step(x: T.Tensor) -> T.Tensor:
        net.zero_grad()
        (net(x) ** 2).sum().backward()
        return T.nn.utils.clip_grad_norm_(net.parameters(), 1.0)

    compiled = Compiled(step, native=native)
    for i in range(8):
        x = T.randn(5, 3) * (10.0 if i % 2 else 0.001)
        norm, grads = step(x), [p.grad.clone() for p in net.parameters()]
        result = compiled(x)
        np.testing.assert_allclose(result.numpy(), norm.numpy(), rtol=1e-5)
        for p, g in zip(net.parameters(), grads, strict=True):
            np.testing.assert_allclose(p.grad.numpy(), g.numpy(), rtol=1e-5, atol=1e-7)
        compiled.wait()
    assert (compiled.recorded, compiled.hits) == (1, 7)


@pytest.mark.parametrize("native", NATIVE)
def test_categories_are_drawn_anew_by_every_replay(native: bool) -> None:
    compiled = Compiled(lambda w: T.multinomial(w, 4, replacement=True), native=native)
    weights = T.rand(5, 7)
    for seed in range(5):
        T.manual_seed(seed)
        drawn = T.multinomial(weights, 4, replacement=True).tolist()
        T.manual_seed(seed)
        assert compiled(weights).tolist() == drawn
        compiled.wait()
    assert (compiled.recorded, compiled.hits) == (1, 4)
    with pytest.raises(RuntimeError, match="multinomial: expected finite weights"):
        compiled(weights - 1)
