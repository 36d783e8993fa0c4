"""What an operator of two tensors takes instead of one: numbers and arrays, but no lists or tuples, whatever their position."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

import tensor as T
from tensor.ops import OPERATORS

BINARY = sorted(name for name, op in OPERATORS.items() if op.dtype and op.inputs == [(0, False), (1, False)] and op.arity == 2)
BINARY += ["add", "sub", "div", "rsub", "true_divide", "float_power", "xlogy", "matmul"]
SYMBOLS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]
SYMBOLS += [operator.and_, operator.or_, operator.xor, operator.lt, operator.le, operator.gt, operator.ge, operator.matmul]


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("name", BINARY)
def test_a_sequence_is_refused_at_once(name: str, recorded: bool) -> None:
    x = T.ones(2, requires_grad=recorded)
    for other in ((1.0, 2.0), [1.0, 2.0]):
        message = f"expected a tensor, a number or a NumPy array, got {type(other).__name__}; make a tensor of it first$"
        with pytest.raises(TypeError, match=message):
            OPERATORS[name].function(x, other)
        with pytest.raises(TypeError, match=message):
            OPERATORS[name].function(other, x)


@pytest.mark.parametrize("symbol", SYMBOLS, ids=lambda f: f.__name__)
def test_symbols_refuse_sequences_and_text(symbol: Any) -> None:
    x = T.ones(2, dtype=T.int64)
    for other in ((1, 2), [1, 2]):
        with pytest.raises(TypeError, match=r"^\w+: expected a tensor, a number or a NumPy array, got (tuple|list); make"):
            symbol(x, other)
        with pytest.raises(TypeError, match=r"^\w+: expected a tensor, a number or a NumPy array, got (tuple|list); make"):
            symbol(other, x)
    if symbol is not operator.matmul:
        for other in (None, "1", range(2), {}):
            with pytest.raises(TypeError, match="expected a tensor, a number or a NumPy array, got"):
                symbol(x, other)


def test_in_place_and_where_refuse_sequences() -> None:
    x = T.ones(2)
    with pytest.raises(TypeError, match=r"^mul: expected a tensor, a number or a NumPy array, got tuple"):
        x *= (1.0, 2.0)  # type: ignore[operator]
    with pytest.raises(TypeError, match=r"^where: expected a tensor, a number or a NumPy array, got list"):
        T.where(x > 0, x, [1.0, 2.0])
    assert x.tolist() == [1.0, 1.0]


def test_what_equals_no_tensor_is_unequal() -> None:
    x = T.ones(2)
    for other in ((1.0, 1.0), [1.0, 1.0], None, "1", T.float32):
        assert (x == other) is False
        assert (x != other) is True


def test_numbers_and_arrays_are_taken() -> None:
    x = T.tensor([2.0, 3.0], requires_grad=True)
    for other in (2, 2.0, True, np.float32(2), np.array([1.0, 2.0], np.float32), np.ones(2, np.float32)):
        y = x * other
        assert y.dtype is T.float32
        assert y.tolist() == (np.array([2.0, 3.0], np.float32) * other).tolist() == (other * x).tolist()
        y.sum().backward()
