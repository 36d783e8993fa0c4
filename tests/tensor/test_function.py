"""Operators written by users."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensor as T
from tensor.autograd import Function, grad, gradcheck, gradgradcheck


class Cube(Function):
    """x**3, with a backward that can be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Any, scale: float = 1.0) -> Any:
        assert not T.is_grad_enabled()
        ctx.save_for_backward(x)
        ctx.scale = scale
        return x**3 * scale

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * 3 * x**2 * ctx.scale, None


class MinMax(Function):
    """Several outputs, one of them an index without gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        low, high, where = x.amin(), x.amax(), x.argmax()
        ctx.mark_non_differentiable(where)
        ctx.save_for_backward(x, low, high)
        return low, high, where

    @staticmethod
    def backward(ctx: Any, glow: Any, ghigh: Any, _: Any) -> Any:
        x, low, high = ctx.saved_tensors
        return glow * (x == low) + ghigh * (x == high)


def leaf(*values: float) -> Any:
    return T.tensor(list(values), dtype=T.float64, requires_grad=True)


def test_gradients_to_second_order() -> None:
    x = leaf(0.5, -1.5)
    assert gradcheck(lambda x: Cube.apply(x, 2.0), (x,))
    assert gradgradcheck(lambda x: Cube.apply(x, 2.0), (x,))
    (g,) = grad(Cube.apply(x).sum(), x, create_graph=True)
    np.testing.assert_allclose(grad(g.sum(), x)[0].numpy(), 6 * x.detach().numpy())


def test_several_outputs() -> None:
    x = leaf(1.0, 5.0, 3.0)
    low, high, where = MinMax.apply(x)
    assert (low.item(), high.item(), where.item()) == (1, 5, 1)
    assert not where.requires_grad
    assert type(low.grad_fn).__name__ == "OutputNode"
    assert low.grad_fn.name == "MinMaxBackward"
    assert (low.output_nr, high.output_nr) == (0, 1)
    (2 * high).backward()  # the other output was not used: its gradient is zeros
    assert x.grad.tolist() == [0, 2, 0]
    low, high, _ = MinMax.apply(x)
    assert grad(low + 3 * high, x)[0].tolist() == [1, 3, 0]


def test_saved_tensors_are_checked_against_writes() -> None:
    x = leaf(1.0, 2.0)
    y = x.clone()
    z = Cube.apply(y).sum()
    y.add_(1)
    with pytest.raises(
        RuntimeError, match=r"a saved tensor of shape \(2,\) was changed by an in-place operation \(version 1, expected 0\)"
    ):
        z.backward()


def test_saved_tensors_are_freed() -> None:
    x = leaf(1.0)
    y = Cube.apply(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


def test_nothing_is_recorded_without_need() -> None:
    assert not Cube.apply(T.ones(2)).requires_grad
    with T.no_grad():
        assert not Cube.apply(leaf(1.0)).requires_grad


def test_needs_input_grad() -> None:
    seen = []

    class Product(Function):
        @staticmethod
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            seen.append(ctx.needs_input_grad)
            a, b = ctx.saved_tensors
            return g * b, g * a if ctx.needs_input_grad[1] else None

    a, b = leaf(2.0), T.tensor([3.0], dtype=T.float64)
    Product.apply(a, b).sum().backward()
    assert a.grad.item() == 3
    assert seen == [(True, False)]


def test_a_wrong_number_of_gradients_is_an_error() -> None:
    class Wrong(Function):
        @staticmethod
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            return a + b

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    with pytest.raises(RuntimeError, match="WrongBackward: expected 2 gradients, one for each input of forward, got 1"):
        Wrong.apply(leaf(1.0), leaf(2.0)).sum().backward()


def test_an_input_handed_through_gets_a_node_of_its_own() -> None:
    class Negate(Function):
        @staticmethod
        def forward(ctx: Any, a: Any) -> Any:
            return a

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return -g

    x = leaf(1.0)
    y = Negate.apply(x)
    assert y is not x
    assert x.is_leaf
    y.sum().backward()
    assert x.grad.item() == -1


def test_a_dirty_input_is_changed_in_place() -> None:
    class Double(Function):
        @staticmethod
        def forward(ctx: Any, a: Any) -> Any:
            a.mul_(2)
            ctx.mark_dirty(a)
            return a

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2

    x = leaf(1.0)
    y = x * 3
    z = Double.apply(y)
    assert z is y
    z.sum().backward()
    assert x.grad.item() == 6


def test_gradcheck_finds_a_wrong_gradient() -> None:
    class Wrong(Function):
        @staticmethod
        def forward(ctx: Any, a: Any) -> Any:
            return a * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 3

    with pytest.raises(RuntimeError, match="gradcheck: output 0 by input 0: analytical"):
        gradcheck(Wrong.apply, (leaf(1.0),))
    assert not gradcheck(Wrong.apply, (leaf(1.0),), raise_exception=False)
    with pytest.raises(ValueError, match=r"input 0 must be float64, got tensor\.float32"):
        gradcheck(T.sin, (T.ones(1, requires_grad=True),))
