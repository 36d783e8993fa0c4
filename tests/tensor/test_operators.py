"""Every differentiable operator against an independent formula, and its gradients to second order against differences.

The cases are in `tests/operator_cases`. An operator with gradient rules that has none fails `test_every_operator_with_rules_has_a_case`.
"""

from __future__ import annotations

import numpy as np
import pytest
from operator_cases import RULED as CASES

import tensor as T
from tensor.ops import OPERATORS

RULED = {id(op): name for name, op in reversed(OPERATORS.items()) if any(rule is not None for rule, _ in op.rules)}
NAMES = list(CASES)


def test_every_operator_with_rules_has_a_case() -> None:
    assert {n for n in RULED.values() if id(OPERATORS[n]) not in {id(OPERATORS[k]) for k in CASES}} == set()


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.ref is not None])
def test_value(name: str, device: str) -> None:
    case = CASES[name]
    function, leaves = case.call(name, device=device)
    y = function(*leaves).cpu().numpy()
    expected = np.asarray(case.ref(*case.args))  # type: ignore[misc]
    assert y.shape == expected.shape
    assert y.dtype == expected.dtype
    np.testing.assert_allclose(y, expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradient(name: str) -> None:
    function, leaves = CASES[name].call(name, grad=True)
    assert T.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.second])
def test_gradient_of_the_gradient(name: str) -> None:
    function, leaves = CASES[name].call(name, grad=True)
    assert T.autograd.gradgradcheck(function, leaves, atol=1e-4)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "cast"])
def test_float32_stays_float32(name: str, device: str) -> None:
    case = CASES[name]
    exact, wide = case.call(name, device=device)
    function, leaves = case.call(name, "float32", grad=True, device=device)
    y = function(*leaves)
    assert y.dtype is T.float32
    np.testing.assert_allclose(y.detach().cpu().numpy(), exact(*wide).cpu().numpy(), rtol=1e-4, atol=1e-5)
    y.sum().backward()
    assert {leaf.grad.dtype for leaf in leaves if leaf.grad is not None} <= {T.float32}


@pytest.mark.parametrize("name", [n for n in NAMES if OPERATORS[n].dtype == "float" and n != "scan_logaddexp"])
def test_integers_become_the_default_float(name: str) -> None:
    op = OPERATORS[name]
    ones = [T.ones(2, dtype=T.int64) for _ in op.inputs]
    assert op.function(*ones).dtype is T.float32
    T.set_default_dtype(T.float64)
    assert op.function(*ones).dtype is T.float64


@pytest.mark.parametrize(
    "name",
    ["neg", "abs", "sign", "square", "floor", "ceil", "trunc", "round", "relu", "clone", "positive", "add", "mul", "cumsum"],
)
def test_integers_stay_integers(name: str) -> None:
    a = np.array([-2, 0, 3])
    args = [T.tensor(a)] * (2 if name in ("add", "mul") else 1) + [0] * (name == "cumsum")
    y = OPERATORS[name].function(*args)
    assert y.dtype is T.int64
    expected = {"add": a + a, "mul": a * a, "square": a * a, "relu": a * (a > 0), "cumsum": a.cumsum(), "neg": -a, "abs": abs(a)}
    np.testing.assert_array_equal(y.numpy(), expected.get(name, np.sign(a) if name == "sign" else a))


@pytest.mark.parametrize(
    "name", ["argmax", "eq", "lt", "isnan", "isfinite", "signbit", "logical_not", "any", "all", "count_nonzero", "argsort"]
)
def test_what_has_no_gradient_requires_none(name: str) -> None:
    a = T.tensor([1.0, 2.0], requires_grad=True)
    y = OPERATORS[name].function(a, a) if name in ("eq", "lt") else OPERATORS[name].function(a)
    assert not y.requires_grad


def test_a_missing_rule_names_the_operator() -> None:
    a = T.tensor([1.0, 2.0], requires_grad=True)
    (slope,) = T.autograd.grad(T.special.bessel_j0(a).sum(), a, create_graph=True)
    with pytest.raises(NotImplementedError, match="bessel_j1: no gradient rule for input 0"):
        slope.sum().backward()


@pytest.mark.parametrize(
    "name", [n for n in NAMES if hasattr(T.Tensor, n + "_") and n not in ("fill", "zero", "copy", "as_strided")]
)
def test_in_place_is_the_operator_written_back(name: str) -> None:
    """Same value and gradient as out of place, when the result has the tensor's shape."""
    case = CASES[name]
    function, leaves = case.call(name, grad=True)
    expected = function(*leaves)
    if expected.shape != leaves[0].shape or name in ("hypot",):
        pytest.skip("the result has another shape")
    expected.square().sum().backward()
    grads = [leaf.grad for leaf in leaves]
    method, again = case.call(name, grad=True)
    inplace = OPERATORS[name].function
    try:
        OPERATORS[name].function = lambda first, *rest, **kw: getattr(first.clone(), name + "_")(*rest, **kw)
        result = method(*again)
    finally:
        OPERATORS[name].function = inplace
    np.testing.assert_array_equal(result.detach().numpy(), expected.detach().numpy())
    result.square().sum().backward()
    for leaf, g in zip(again, grads, strict=True):
        np.testing.assert_allclose(leaf.grad.numpy(), g.numpy(), rtol=1e-12)
