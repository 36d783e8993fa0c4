"""``out=``: every kind of operator writes its result where it is told to, or says why not."""

from __future__ import annotations

import numpy as np
import pytest

import tensor as T

A = np.array([[0.5, -1.5, 2.0], [3.0, 0.25, -0.75]])
CASES = {
    "a ufunc of one": lambda x, **out: T.exp(x, **out),
    "a ufunc of two": lambda x, **out: T.mul(x, x, **out),
    "with a number": lambda x, **out: T.maximum(x, T.tensor(0.1), **out),
    "a forward of our own": lambda x, **out: T.sigmoid(x, **out),
    "one tensor and arguments": lambda x, **out: T.sum(x, 1, keepdim=True, **out),
    "several tensors": lambda x, **out: T.matmul(x, x.T, **out),
    "a sequence": lambda x, **out: T.cat([x, x], dim=1, **out),
    "a composite": lambda x, **out: T.stack([x, x], **out),
    "a composite with keywords": lambda x, **out: T.add(x, x, alpha=2, **out),
}


@pytest.mark.parametrize("name", CASES)
def test_the_result_is_written_and_returned(name: str, device: str) -> None:
    x = T.tensor(A, device=device)
    expected = CASES[name](x)
    out = T.zeros(expected.shape, dtype=T.float64, device=device)
    version = out._version.value if out._version else 0
    assert CASES[name](x, out=out) is out
    np.testing.assert_array_equal(out.cpu().numpy(), expected.cpu().numpy())
    assert out._version.value > version  # so that backward notices


@pytest.mark.parametrize("name", CASES)
def test_none_is_no_out(name: str) -> None:
    x = T.tensor(A)
    np.testing.assert_array_equal(CASES[name](x, out=None).numpy(), CASES[name](x).numpy())


def test_an_empty_tensor_takes_the_shape_and_another_must_have_it() -> None:
    x = T.tensor(A)
    out = T.empty(0, dtype=T.float64)
    assert T.exp(x, out=out).shape == (2, 3)
    with pytest.raises(RuntimeError, match=r"sum: the result has shape \(2,\), got out= of shape \(3,\)"):
        T.sum(x, 1, out=T.zeros(3, dtype=T.float64))


def test_dtypes_are_cast_where_the_kind_allows_it() -> None:
    x = T.tensor(A)
    np.testing.assert_allclose(T.exp(x, out=T.zeros(2, 3)).numpy(), np.exp(A), rtol=1e-6)
    with pytest.raises(RuntimeError, match=r"exp: the result has dtype .*float64, which cannot be written into out= of .*int64"):
        T.exp(x, out=T.zeros(2, 3, dtype=T.int64))


def test_several_results_go_into_several_tensors() -> None:
    x = T.tensor(A)
    values, indices = T.zeros(2, dtype=T.float64), T.zeros(2, dtype=T.int64)
    got = T.max(x, 1, out=(values, indices))
    assert got[0] is values
    assert got.indices is indices
    np.testing.assert_array_equal(values.numpy(), A.max(1))
    with pytest.raises(TypeError, match="max: expected a tuple of 2 tensors as out=, got Tensor"):
        T.max(x, 1, out=values)


@pytest.mark.parametrize(
    "function", [T.exp, T.sum, lambda x, out: T.matmul(x, x.T, out=out), lambda x, out: T.stack([x], out=out)]
)
def test_nothing_may_want_a_gradient(function: object) -> None:
    x = T.tensor(A, requires_grad=True)
    with pytest.raises(RuntimeError, match="out= does not support automatic differentiation"):
        function(x, out=T.empty(0, dtype=T.float64))  # type: ignore[operator]


def test_what_is_no_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match="exp: expected a tensor as out=, got ndarray"):
        T.exp(T.tensor(A), out=np.zeros((2, 3)))


def test_arguments_may_have_their_names_in_numpy() -> None:
    x = T.arange(6.0).reshape(2, 3)
    assert T.equal(x.sum(axis=1, keepdims=True), x.sum(1, keepdim=True))
    assert T.equal(T.softmax(x, axis=0), T.softmax(x, 0))
    assert T.equal(T.cumsum(x, axis=1), T.cumsum(x, 1))
    assert T.equal(x.std(axis=0), x.std(0))
    assert T.equal(T.cat([x, x], axis=1), T.cat([x, x], 1))
    assert T.equal(T.stack([x, x], axis=1), T.stack([x, x], 1))
    with pytest.raises(TypeError, match=r"unsqueeze\(\) missing 1 required positional argument: 'dim'"):
        T.unsqueeze(x)
