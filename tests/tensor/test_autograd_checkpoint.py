"""Gradient checkpointing: the same numbers, less memory, in all the ways a graph can be used."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensor as T
from tensor.autograd import Function, grad
from tensor.utils.checkpoint import checkpoint, checkpoint_sequential


def leaf(seed: int = 0) -> Any:
    return T.tensor(np.random.default_rng(seed).normal(size=3), requires_grad=True)


class Exp(Function):
    """Saves an output."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.saved_tensors[0]


def two_outputs(x: Any, w: Any) -> Any:
    values, _ = (x * w).sort()
    return values.exp() * w, x.sum() * w


PARTS: dict[str, Callable[[Any, Any], Any]] = {
    "plain": lambda x, w: (x * w).sin().exp() * w,
    "views and writes": lambda x, w: _written(x, w),
    "a Function": lambda x, w: Exp.apply(x * w) * x,
    "several outputs": lambda x, w: sum(y.sum() for y in two_outputs(x, w)),
    "a checkpoint inside": lambda x, w: checkpoint(lambda z: (z * w).exp() * z.sin(), (x * w).tanh(), use_reentrant=False) * x,
    "eigh": lambda x, w: (T.linalg.eigh(T.outer(x, x) + T.diag(w + 9))[0] ** 2).sum(),
}


def _written(x: Any, w: Any) -> Any:
    y = x * w
    y[1:].mul_(w[:2])
    return y.exp()


@pytest.mark.parametrize("name", list(PARTS))
def test_gradients_to_second_order_are_the_same(name: str) -> None:
    found = []
    for run in (PARTS[name], lambda x, w: checkpoint(PARTS[name], x, w, use_reentrant=False)):
        x, w = leaf(0), leaf(1)
        y = run(x * 1.5, w)
        (g,) = grad(y.sum(), x, create_graph=True)
        (g**2).sum().backward()
        found.append([t.detach().numpy() for t in (y, g, x.grad, w.grad)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_backward_reaches_what_the_function_closes_over() -> None:
    net = T.nn.Sequential(T.nn.Linear(3, 4), T.nn.Tanh(), T.nn.Linear(4, 1))
    x = T.randn(5, 3)
    checkpoint(net, x, use_reentrant=False).sum().backward()
    found = [p.grad.numpy().copy() for p in net.parameters()]
    net.zero_grad()
    net(x).sum().backward()
    for g, p in zip(found, net.parameters(), strict=True):
        np.testing.assert_allclose(g, p.grad.numpy(), rtol=1e-6)


def test_the_same_random_numbers_are_drawn_again() -> None:
    x = T.ones(1000, requires_grad=True)
    y = checkpoint(lambda x: T.nn.functional.dropout(x * x, 0.5), x, use_reentrant=False)
    after = T.rand(1)
    state = T.get_rng_state()
    y.sum().backward()
    assert ((x.grad != 0) == (y.detach() != 0)).all()
    assert T.get_rng_state()["bits"] == state["bits"]
    T.manual_seed(0)
    T.nn.functional.dropout(x * x, 0.5)
    assert T.rand(1).item() == after.item()


def test_values_inside_are_not_kept() -> None:
    """Between forward and backward, the arrays that the operators saved are gone."""

    def floats() -> int:
        gc.collect()
        return sum(o._array.nbytes for o in gc.get_objects() if isinstance(o, T.Tensor) and o._array.size == 12_345)

    def deep(x: Any) -> Any:
        for _ in range(10):
            x = (x * x.sin()).exp().tanh()
        return x

    x = T.ones(12_345, requires_grad=True)
    before = floats()
    y = deep(x)
    plain = floats() - before
    del y
    y = checkpoint(deep, x, use_reentrant=False)
    assert floats() - before < plain / 5
    y.sum().backward()


def test_sequential_parts() -> None:
    net = T.nn.Sequential(*[m for _ in range(4) for m in (T.nn.Linear(3, 3), T.nn.Tanh())])
    x = T.randn(2, 3, requires_grad=True)
    expected = grad(net(x).sum(), x)[0]
    for segments in (1, 2, 3, 8):
        np.testing.assert_allclose(grad(checkpoint_sequential(net, segments, x, use_reentrant=False).sum(), x)[0].numpy(), expected.numpy(), rtol=1e-6)  # fmt: skip
    with pytest.raises(ValueError, match="expected between 1 and 8 segments, got 9"):
        checkpoint_sequential(net, 9, x)


def test_contexts_and_no_grad() -> None:
    seen: list[str] = []

    class Note:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> None:
            seen.append(self.name)

        def __exit__(self, *exc: object) -> None: ...

    x = leaf()
    y = checkpoint(lambda x: x.exp(), x, use_reentrant=False, context_fn=lambda: (Note("forward"), Note("again")))  # type: ignore[arg-type, return-value]
    assert seen == ["forward"]
    y.sum().backward()
    assert seen == ["forward", "again"]
    with T.no_grad():
        assert not checkpoint(lambda x: x.exp(), x).requires_grad


def test_errors() -> None:
    x = leaf()
    y = x * 2
    z = checkpoint(lambda y: y.exp(), y, use_reentrant=False)
    y.add_(1)
    with pytest.raises(
        RuntimeError, match=r"checkpoint: an input of shape \(3,\) was changed by an in-place operation before backward"
    ):
        z.sum().backward()
    calls: list[int] = []

    def another_each_time(x: Any) -> Any:
        calls.append(1)
        return x.exp() if len(calls) == 1 else x.exp().sin()

    with pytest.raises(RuntimeError, match="recorded 1 operations, and 2 others when it was run again"):
        checkpoint(another_each_time, leaf(), use_reentrant=False).sum().backward()
    z = checkpoint(lambda x: x.exp(), leaf(), use_reentrant=False).sum()
    z.backward()
    with pytest.raises(RuntimeError, match="a second time"):
        z.backward()
