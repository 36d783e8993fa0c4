"""Operators written in terms of others: gradients against differences, values against NumPy and SciPy.

The cases are in `tests/operator_cases`: ``COMPOSITES`` names every composite that gives floating-point numbers, ``NO_GRADIENT`` the others.
A new composite in neither fails.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operator_cases import COMPOSITES as CASES
from operator_cases import NO_GRADIENT

import tensor as T
from tensor.ops import OPERATORS


def first(y: Any) -> Any:
    return y[0] if isinstance(y, (tuple, list)) else y


def test_every_composite_has_a_case() -> None:
    known = {id(OPERATORS[n]) for n in (*CASES, *NO_GRADIENT)}
    assert {n for n, op in OPERATORS.items() if op.composite and id(op) not in known} == set()


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if len(c) == 3])
def test_value(name: str, device: str) -> None:
    function, inputs, reference = CASES[name]  # type: ignore[misc]
    y = first(function(*[T.tensor(a) for a in inputs])).numpy()
    np.testing.assert_allclose(y, reference(*inputs), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("name", list(CASES))
def test_gradients_to_second_order(name: str) -> None:
    function, inputs = CASES[name][:2]
    leaves = [T.tensor(a, requires_grad=True) for a in inputs]
    assert T.autograd.gradcheck(function, leaves)
    assert T.autograd.gradgradcheck(function, leaves, atol=1e-4)


@pytest.mark.parametrize("name", list(CASES))
def test_float32_stays_float32(name: str) -> None:
    function, inputs = CASES[name][:2]
    if name in {"float_power", "nn.functional.hinge_embedding_loss"} or "SIGNS" in function.__code__.co_names:
        pytest.skip("computes in float64")
    y = first(function(*[T.tensor(a, dtype=T.float32) for a in inputs]))
    assert y.dtype is T.float32
