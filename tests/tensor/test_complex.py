"""Gradients of complex numbers: PyTorch's convention, and every operator that takes them against differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensor as T

RNG = np.random.default_rng(5)


def z(*shape: int) -> Any:
    """Complex numbers away from 0 and from the branch cuts on the axes."""
    return RNG.uniform(0.4, 1.5, shape) * np.exp(1j * (RNG.uniform(0.2, 1.2, shape) + RNG.choice([0, 2.0, -1.5, -3.0], shape)))


def r(*shape: int) -> Any:
    return RNG.uniform(0.3, 1.5, shape)


ELEMENTWISE = [
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sqrt",
    "rsqrt",
    "square",
    "reciprocal",
    "sigmoid",
    "sinc",
    "neg",
    "abs",
    "sgn",
    "angle",
    "real",
    "imag",
    "conj",
    "positive",
    "clone",
    "view_as_real",
]
INDEX = np.array([[0, 1, 1], [2, 0, 1]])

CASES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    **{name: (getattr(T, name), [z(4)]) for name in ELEMENTWISE},
    "add": (lambda a, b: T.add(a, b, alpha=2j), [z(2, 1), r(3)]),
    "sub": (lambda a, b: a - b, [r(3), z(3)]),
    "mul": (lambda a, b: a * b, [z(2, 1), z(3)]),
    "mul by a number": (lambda a: a * (2 + 3j), [r(3)]),
    "mul of real and complex": (lambda a, b: a * b, [r(2, 1), z(3)]),
    "div": (lambda a, b: a / b, [r(3), z(2, 3)]),
    "pow": (lambda a, b: a**b, [z(3), z(3)]),
    "pow of real": (lambda a, b: a**b, [r(3), z(3)]),
    "pow of a number": (lambda b: (1 + 2j) ** b, [z(3)]),
    "pow by a number": (lambda a: a ** (0.5 - 1j), [z(3)]),
    "cube": (lambda a: a**3, [z(3)]),
    "addcmul": (lambda a, b, c: T.addcmul(a, b, c, value=1j), [z(3), z(3), r(3)]),
    "lerp": (T.lerp, [z(3), z(3), z(3)]),
    "logaddexp": (T.logaddexp, [z(3), z(3)]),
    "sum": (lambda a: a.sum(1), [z(2, 3)]),
    "mean": (lambda a: a.mean(), [z(2, 3)]),
    "prod": (lambda a: a.prod(1), [z(2, 3)]),
    "cumsum": (lambda a: a.cumsum(1), [z(2, 3)]),
    "cumprod": (lambda a: a.cumprod(1), [z(2, 3)]),
    "cumprod with a zero": (lambda a: (a * T.tensor([1.0, 0.0, 1.0])).cumprod(0), [z(3)]),
    "logsumexp": (lambda a: a.logsumexp(1), [z(2, 3)]),
    "logcumsumexp": (lambda a: a.logcumsumexp(1), [z(2, 3)]),
    "var": (lambda a: a.var(1), [z(2, 3)]),
    "std": (lambda a: a.std(), [z(2, 3)]),
    "matmul": (T.matmul, [z(2, 3), z(2, 3, 2)]),
    "matrix by vector": (T.matmul, [z(2, 3), z(3)]),
    "vector by matrix": (T.matmul, [z(3), z(3, 2)]),
    "vdot": (T.vdot, [z(3), z(3)]),
    "linear": (T.nn.functional.linear, [z(2, 3), z(2, 3), z(2)]),
    "einsum": (lambda a, b: T.einsum("ij,jk->k", a, b), [z(2, 3), z(3, 2)]),
    "cov": (T.cov, [z(2, 3)]),
    "where": (lambda a, b: T.where(T.tensor([True, False, True]), a, b), [z(3), z(3)]),
    "index": (lambda a: a[[0, 2, 2]], [z(3)]),
    "gather": (lambda a: a.gather(0, T.tensor(INDEX)), [z(3, 3)]),
    "index_add": (lambda a, b: a.index_add(0, T.tensor([0, 1]), b, alpha=2j), [z(3, 2), z(2, 2)]),
    "scatter_reduce": (lambda a, b: a.scatter_reduce(0, T.tensor(INDEX), b, "prod"), [z(3, 3), z(2, 3)]),
    "adjoint": (lambda a: a.mH @ a, [z(2, 3)]),
    "cat": (lambda a, b: T.cat([a, b]), [z(3), r(2)]),
    "complex": (T.complex, [r(3), r(3)]),
    "polar": (T.polar, [r(3), r(3)]),
    "view_as_complex": (T.view_as_complex, [r(3, 2)]),
}


@pytest.mark.parametrize("name", list(CASES))
def test_gradients_to_second_order(name: str) -> None:
    function, inputs = CASES[name]
    leaves = [T.tensor(a, requires_grad=True) for a in inputs]
    assert T.autograd.gradcheck(function, leaves)
    assert T.autograd.gradgradcheck(function, leaves, atol=1e-4)


def test_the_gradient_points_uphill() -> None:
    a = T.tensor([1 + 2j, -3j], requires_grad=True)
    (a.abs() ** 2).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), [2 + 4j, -6j], rtol=1e-6)


def test_a_real_input_takes_the_real_part() -> None:
    a = T.tensor([1.0, 2.0], requires_grad=True)
    (a * T.tensor([1 + 1j, 2j])).backward(T.tensor([1 + 0j, 1j]))
    assert a.grad.dtype is T.float32
    assert a.grad.tolist() == [1.0, 2.0]


def test_a_complex_result_needs_its_gradient() -> None:
    a = T.tensor(1 + 1j, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"only for real scalar outputs, got tensor\.complex64"):
        (a * a).backward()


def test_signs_and_angles_at_zero_have_no_gradient() -> None:
    for function in (T.sgn, T.abs, T.angle):
        a = T.zeros(2, dtype=T.complex128).requires_grad_()
        y = function(a)
        (g,) = T.autograd.grad(y, a, T.ones_like(y))
        assert g.tolist() == [0, 0]


def test_parts_are_views_and_writes_go_through() -> None:
    a = T.tensor([1 + 2j, 3 + 4j])
    a.real.mul_(10)
    a.imag[0] = 7
    assert a.tolist() == [10 + 7j, 30 + 4j]
    T.view_as_real(a)[1, 1] = 0
    assert a.tolist() == [10 + 7j, 30]


def test_a_write_into_a_part_is_recorded() -> None:
    a = T.tensor([1 + 2j], dtype=T.complex128, requires_grad=True)
    y = a * 1
    y.imag.mul_(3)
    assert T.autograd.grad(y, a, T.tensor([1 + 1j], dtype=T.complex128))[0].tolist() == [1 + 3j]


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: T.imag(T.ones(2)), "imag: expected a complex tensor, got float32"),
        (lambda: T.view_as_real(T.ones(2)), "view_as_real: expected a complex tensor, got float32"),
        (lambda: T.view_as_complex(T.ones(3)), r"view_as_complex: expected a floating-point tensor with a last dimension of 2, got float32\[3\]"),
        (lambda: T.complex(T.ones(2), T.ones(2, dtype=T.float64)), "complex: expected two tensors of one floating-point dtype, got float32 and float64"),
        (lambda: T.autograd.gradcheck(T.exp, T.ones(2, dtype=T.complex64).requires_grad_()), "must be float64 or complex128"),
    ],
)  # fmt: skip
def test_errors(call: Any, text: str) -> None:
    with pytest.raises((RuntimeError, ValueError), match=text):
        call()
