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
    assert type(low.grad_fn).__name__ == "FunctionNode"
    assert low.grad_fn.name() == "MinMaxBackward"
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
    with pytest.raises(ValueError, match=r"input 0 must be float64 or complex128, got tensor\.float32"):
        gradcheck(T.sin, (T.ones(1, requires_grad=True),))


class Increment(Function):
    """Changes its input in place."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        x.add_(1)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * 2


def test_a_function_that_writes_into_its_input() -> None:
    x = T.ones(2, 3, dtype=T.float64, requires_grad=True)
    y = x * 1
    row = y[0]
    before = y.sin()
    z = Increment.apply(row)
    assert z is row
    assert y.tolist() == [[2, 2, 2], [1, 1, 1]]
    y.sum().backward()  # through the base: the row was replaced by the Function's output
    assert x.grad.tolist() == [[2, 2, 2], [1, 1, 1]]
    with pytest.raises(RuntimeError, match=r"sin: an input .* was changed by an in-place operation"):
        before.sum().backward()
    with pytest.raises(RuntimeError, match="a leaf tensor that requires grad is being used in an in-place operation"):
        Increment.apply(x)


class Split(Function):
    """The style without a context in forward; gradients that nothing asked for stay None."""

    @staticmethod
    def forward(x: Any, scale: float) -> Any:
        return x * scale, x.exp(), "no tensor", (x > 0).long()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.scale = inputs[1]
        ctx.save_for_backward(output[1])
        ctx.set_materialize_grads(False)
        assert ctx.needs_input_grad == (True, False)

    @staticmethod
    def backward(ctx: Any, g: Any, h: Any, *others: Any) -> Any:
        assert others == (None, None)
        (e,) = ctx.saved_tensors
        total = None if g is None else g * ctx.scale
        if h is not None:
            total = h * e if total is None else total + h * e
        return total, None


def test_setup_context_and_gradients_that_stay_none() -> None:
    x = leaf(0.5, 1.0)
    a, b, text, positive = Split.apply(x, 3.0)
    assert text == "no tensor"
    assert not positive.requires_grad
    assert grad(a.sum(), x, retain_graph=True)[0].tolist() == [3, 3]
    assert gradcheck(lambda x: Split.apply(x, 3.0)[1], (x,))
    assert gradgradcheck(lambda x: Split.apply(x, 3.0)[1], (x,))
    (g,) = grad((a + b).sum(), x, create_graph=True)
    np.testing.assert_allclose(grad(g.sum(), x)[0].numpy(), np.exp([0.5, 1.0]))


def test_once_differentiable() -> None:
    class Square(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @T.autograd.function.once_differentiable
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            assert not g.requires_grad
            return T.tensor(2 * x.numpy() * g.numpy())

    x = leaf(3.0)
    assert grad(Square.apply(x), x)[0].item() == 6
    weight = leaf(2.0)
    (g,) = grad(Square.apply(x) * weight, x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"Square\.backward: trying to differentiate twice"):
        g.sum().backward()


def test_saved_tensors_are_watched() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    z = Cube.apply(y)
    y.mul_(2)
    with pytest.raises(RuntimeError, match=r"CubeBackward: a saved tensor of shape \(2,\) was changed by an in-place operation"):
        z.sum().backward()
    _, high, _ = MinMax.apply(x * 1)
    high.add_(1)
    with pytest.raises(RuntimeError, match="MinMaxBackward: a saved tensor"):
        high.backward()


@pytest.mark.parametrize(
    "result, error, text",
    [
        (lambda g: g[:1].expand(3), RuntimeError, r"BadBackward: expected gradient 0 of shape \(2,\), got \(3,\)"),
        (lambda g: 3.0, TypeError, "BadBackward: expected a tensor or None as gradient 0, got float"),
        (lambda g: (g, g), RuntimeError, "BadBackward: expected 1 gradients, one for each input of forward, got 2"),
    ],
)
def test_a_backward_that_returns_something_else(result: Any, error: Any, text: str) -> None:
    class Bad(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return result(g)

    with pytest.raises(error, match=text):
        Bad.apply(leaf(1.0, 2.0)).sum().backward()
    with pytest.raises(TypeError, match="save_for_backward: expected tensors or None, got int"):
        T.autograd.function.FunctionContext((True,)).save_for_backward(3)  # type: ignore[arg-type]


def test_inside_of_vmap() -> None:
    class Scaled(Function):
        """With a rule of its own for batches."""

        @staticmethod
        def forward(ctx: Any, x: Any, w: Any) -> Any:
            ctx.save_for_backward(x, w)
            return x * w

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            x, w = ctx.saved_tensors
            return g * w, g * x

        @staticmethod
        def vmap(info: Any, in_dims: Any, x: Any, w: Any) -> Any:
            seen.append((info.batch_size, in_dims, tuple(x.shape)))
            return Scaled.apply(x, w), 0

    seen: list[Any] = []
    x, w = T.tensor(np.arange(6.0).reshape(3, 2)), T.tensor([1.0, 2.0], dtype=T.float64)
    assert T.func.vmap(Scaled.apply, in_dims=(0, None))(x, w).tolist() == (x * w).tolist()
    assert seen == [(3, (0, None), (3, 2))]
    per_sample = T.func.vmap(T.func.grad(lambda r: Cube.apply(r, 2.0).sum()))(x)
    np.testing.assert_allclose(per_sample.numpy(), 6 * x.numpy() ** 2)
    np.testing.assert_allclose(T.func.vmap(T.func.grad(lambda r: Scaled.apply(r, w).sum()))(x).numpy(), np.tile([1, 2], (3, 1)))
