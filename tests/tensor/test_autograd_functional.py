"""Derivatives of functions and transforms of functions, against each other and against formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tensor as T
from tensor import func
from tensor.autograd import functional as F

NUMBERS = st.floats(-2, 2).map(lambda v: round(v, 3))
VECTORS = hnp.arrays(np.float64, st.integers(1, 4), elements=NUMBERS)
A = np.array([0.5, -1.0, 2.0])
B = np.arange(6.0).reshape(2, 3) / 4


def f(x: Any, y: Any) -> Any:
    return (x * y.sum(0)).exp(), (x * y).sum()


def close(a: Any, b: Any) -> None:
    if isinstance(b, (tuple, list)):
        assert len(a) == len(b)
        for p, q in zip(a, b, strict=True):
            close(p, q)
    else:
        np.testing.assert_allclose(
            a.detach().numpy(), np.asarray(b.detach() if isinstance(b, T.Tensor) else b), rtol=1e-9, atol=1e-9
        )


@given(VECTORS)
def test_all_ways_to_a_jacobian_agree(a: Any) -> None:
    x = T.tensor(a)
    g = lambda x: x.sin() * x.sum()  # noqa: E731
    expected = np.diag(np.cos(a) * a.sum()) + np.sin(a)[:, None]
    for found in (
        F.jacobian(g, x), F.jacobian(g, x, vectorize=True), F.jacobian(g, x, vectorize=True, strategy="forward-mode"),
        func.jacrev(g)(x), func.jacfwd(g)(x), func.jacrev(g, chunk_size=2)(x),
    ):  # fmt: skip
        close(found, expected)
        assert not found.requires_grad
    second = np.diag(6 * a)
    cubes = lambda x: (x**3).sum()  # noqa: E731
    for found in (
        F.hessian(cubes, x), F.hessian(cubes, x, vectorize=True), func.hessian(cubes)(x), func.jacrev(func.grad(cubes))(x),
        func.jacrev(func.jacrev(cubes))(x), F.hessian(cubes, x, vectorize=True, outer_jacobian_strategy="forward-mode"),
    ):  # fmt: skip
        close(found, second)


def test_several_inputs_and_outputs() -> None:
    x, y = T.tensor(A), T.tensor(B)
    rows = F.jacobian(f, (x, y))
    assert [[tuple(j.shape) for j in row] for row in rows] == [[(3, 3), (3, 2, 3)], [(3,), (2, 3)]]
    close(func.jacrev(f, argnums=(0, 1))(x, y), rows)
    close(func.jacfwd(f, argnums=(0, 1))(x, y), rows)
    close(func.jacrev(f, argnums=1)(x, y), [row[1] for row in rows])
    close(rows[1], (B.sum(0), np.broadcast_to(A, (2, 3))))


@given(VECTORS, st.integers(0, 99))
def test_products_with_a_jacobian_and_a_hessian(a: Any, seed: int) -> None:
    x, v = T.tensor(a), T.tensor(np.random.default_rng(seed).normal(size=a.shape))
    g = lambda x: x.sin() * x.sum()  # noqa: E731
    j = F.jacobian(g, x)
    for out, product in (F.vjp(g, x, v), (g(x), func.vjp(g, x)[1](v)[0])):
        close((out, product), (g(x), v @ j))
    for out, product in (F.jvp(g, x, v), func.jvp(g, (x,), (v,))):
        close((out, product), (g(x), j @ v))
    h = F.hessian(lambda x: g(x).sum(), x)
    close(F.hvp(lambda x: g(x).sum(), x, v)[1], h @ v)
    close(F.vhp(lambda x: g(x).sum(), x, v)[1], v @ h)


def test_create_graph_connects_to_where_the_inputs_come_from() -> None:
    w = T.tensor(A, requires_grad=True)
    F.jacobian(lambda x: (x**3).sum(), w * 2, create_graph=True).sum().backward()
    close(w.grad, 6 * 2 * (2 * A))
    assert F.hvp(lambda x: (x**3).sum(), w, w.detach(), create_graph=True)[1].requires_grad
    assert not F.vjp(lambda x: x * 2, w, w.detach())[0].requires_grad


def test_a_transform_is_differentiable_in_what_is_outside_of_it() -> None:
    w, x = T.tensor(A, requires_grad=True), T.tensor(A)
    g = func.grad(lambda x: (w * x**2).sum())(x)
    (slope,) = T.autograd.grad(g.sum(), w)
    close(slope, 2 * A)
    assert not func.grad(lambda x: (x**2).sum())(x).requires_grad
    g = func.grad(lambda x: (x**3).sum())(w)  # an argument that requires grad is outside too
    close(T.autograd.grad(g.sum(), w)[0], 6 * A)
    with T.no_grad():
        assert not func.grad(lambda x: (w * x**2).sum())(x).requires_grad
        close(func.grad(func.grad(lambda t: t**3))(T.tensor(2.0)), 12)


def test_trees_and_aux() -> None:
    x, y = T.tensor(A), T.tensor(B)
    loss = lambda d, y: ((d["p"] * y).sum() + (d["q"][0] ** 2).sum(), {"seen": d["p"] * 2})  # noqa: E731
    g, aux = func.grad(loss, has_aux=True)({"p": x, "q": (x,)}, y)
    close((g["p"], g["q"][0], aux["seen"]), (B.sum(0), 2 * A, 2 * A))
    g, (value, aux) = func.grad_and_value(loss, has_aux=True)({"p": x, "q": (x,)}, y)
    close(value, (A * B).sum() + (A**2).sum())
    assert not value.requires_grad
    assert not aux["seen"].requires_grad
    out, pull, aux = func.vjp(lambda x: ({"a": x * 2}, x), x, has_aux=True)
    close((out["a"], aux, pull({"a": x})[0]), (2 * A, A, 2 * A))
    close(pull({"a": x})[0], 2 * A)  # it may be called again


@pytest.mark.parametrize(
    "call, error, text",
    [
        (lambda x: func.grad(lambda x: x)(x), RuntimeError, r"grad: expected the function to return a scalar tensor, got a tensor of shape \(3,\)"),
        (lambda x: func.grad(lambda x: 1.0)(x), RuntimeError, "grad: expected the function to return tensors, got float"),
        (lambda x: func.grad(T.sum, argnums=1)(x), RuntimeError, "grad: argnums 1 is out of range for 1 arguments"),
        (lambda x: func.grad(T.sum)(x.long()), TypeError, "grad: expected floating-point tensors to differentiate by, got tensor.int64"),
        (lambda x: func.grad(T.sum, has_aux=True)(x), RuntimeError, r"with has_aux=True the function returns \(output, aux\)"),
        (lambda x: func.jvp(T.sin, x, (x,)), RuntimeError, "jvp: expected primals to be a non-empty tuple, got Tensor"),
        (lambda x: func.jvp(T.sin, (x,), (x[:2],)), RuntimeError, r"expected tangents of shapes \[\(3,\)\], got \[\(2,\)\]"),
        (lambda x: func.vjp(T.sin, x)[1]((x, x)), RuntimeError, "vjp: expected cotangents for 1 outputs, got 2"),
        (lambda x: F.jacobian(T.sin, x, strategy="up"), ValueError, "expected strategy 'reverse-mode' or 'forward-mode', got 'up'"),
        (lambda x: F.jacobian(T.sin, x, strategy="forward-mode"), NotImplementedError, "needs vectorize=True"),
        (lambda x: F.jacobian(T.sin, x, strict=True, vectorize=True), RuntimeError, "do not go together"),
        (lambda x: F.jacobian(lambda a, b: a * 2, (x, x), strict=True), RuntimeError, "jacobian: the function does not depend on input 1"),
        (lambda x: F.jacobian(lambda a: T.ones(2), x, strict=True), RuntimeError, "output 0 of the function does not depend on the inputs"),
        (lambda x: F.jacobian(T.sin, 3.0), TypeError, "expected the inputs to be a tensor or a tuple of tensors, got float"),
        (lambda x: F.hessian(T.sin, x), RuntimeError, r"hessian: expected the function to return a single value, got a tensor of shape \(3,\)"),
        (lambda x: F.vjp(T.sin, x), RuntimeError, "vjp: v may be left out only for a single output of one element"),
        (lambda x: F.jvp(T.sin, x, x[:2]), RuntimeError, r"jvp: expected v of shapes \[\(3,\)\], got \[\(2,\)\]"),
    ],
)  # fmt: skip
def test_errors(call: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        call(T.tensor(A))


def test_without_strict_what_does_not_depend_is_zero() -> None:
    x = T.tensor(A)
    close(F.jacobian(lambda a, b: a * 2, (x, x))[1], np.zeros((3, 3)))
    close(F.jacobian(lambda a: T.ones(2), x), np.zeros((2, 3)))
    close(F.jacobian(lambda a: a[:0], x), np.zeros((0, 3)))
