"""In from Python and NumPy, and out again; copies; errors."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import tensor as T

# --- in --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, dtype, shape",
    [
        (3, "int64", ()), (2.5, "float32", ()), (True, "bool", ()), (1j, "complex64", ()), ([], "float32", (0,)), ([[], []], "float32", (2, 0)),
        ([1, 2], "int64", (2,)), ([1, 2.5], "float32", (2,)), ([True, 2], "int64", (2,)), (((1,), (2,)), "int64", (2, 1)), (range(3), "int64", (3,)),
        (np.float64(1), "float64", ()), (np.ones(2, "float16"), "float16", (2,)), ([np.float64(0.1)], "float64", (1,)), ([np.ones(2), np.ones(2)], "float64", (2, 2)),
        ([T.tensor(1.5), 2], "float32", (2,)), ([T.ones(2), T.zeros(2)], "float32", (2, 2)), (np.ones(2, ">f4"), "float32", (2,)), (2**63, "uint64", ()),
    ],
)  # fmt: skip
def test_inferred_dtypes(data: Any, dtype: str, shape: Any) -> None:
    t = T.tensor(data)
    assert (t.dtype.name, t.shape) == (dtype, shape)


def test_a_given_dtype_takes_the_number_as_it_is() -> None:
    assert T.tensor(0.1, dtype=T.float64).item() == 0.1
    assert T.as_tensor([0.1], dtype=T.float64).item() == 0.1
    assert T.ones(1, dtype=T.float64).new_tensor(0.1).item() == 0.1
    assert T.tensor([1.9], dtype=T.int64).item() == 1
    T.set_default_dtype(T.float64)
    assert T.tensor(0.1).item() == 0.1


@pytest.mark.parametrize(
    "data, error, text",
    [
        ([[1, 2], [3]], ValueError, r"tensor: expected nested sequences of one length at each depth, got \[\[1, 2\], \[3\]\]"),
        ("text", TypeError, "tensor: expected numbers or nested sequences of one shape, got str 'text'"), ([1, None], TypeError, "got list"),
        (None, TypeError, "got NoneType None"), (np.array(["a"]), TypeError, "tensor: expected numbers, got an array of <U1"),
        ([T.ones(2), T.ones(3)], ValueError, "of one length at each depth"),
    ],
)  # fmt: skip
def test_what_is_no_tensor_says_so(data: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        T.tensor(data)


def test_tensor_copies_and_from_numpy_and_as_tensor_share() -> None:
    a = np.zeros(2)
    copied, shared, also = T.tensor(a), T.from_numpy(a), T.as_tensor(a)
    a[0] = 1
    shared[1] = 5
    assert copied.tolist() == [0, 0]
    assert also.tolist() == [1, 5]
    assert a.tolist() == [1, 5]
    t = T.ones(2)
    assert T.as_tensor(t) is t
    assert T.tensor(t).data_ptr() != t.data_ptr()
    with pytest.raises(TypeError, match=r"from_numpy: expected a numpy.ndarray, got list"):
        T.from_numpy([1])  # type: ignore[arg-type]


def test_requires_grad_of_new_tensors() -> None:
    assert T.tensor([1.0], requires_grad=True).is_leaf
    with pytest.raises(RuntimeError, match=r"only floating-point tensors can require gradients, got tensor\.int64"):
        T.tensor([1], requires_grad=True)


# --- out -------------------------------------------------------------------------------------------------------------


def test_numpy_shares_memory_both_ways() -> None:
    t = T.zeros(3)
    a = t.numpy()
    a[0] = 1
    t[1] = 2
    assert t.tolist() == a.tolist() == [1, 2, 0]
    assert np.asarray(t) is a or np.shares_memory(np.asarray(t), a)
    assert np.array(t, dtype=np.int8).tolist() == [1, 2, 0]
    assert np.sin(t.numpy()).dtype == np.float32


def test_numpy_of_a_recording_tensor() -> None:
    x = T.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"numpy: the tensor requires grad; use t.detach\(\).numpy\(\)"):
        x.numpy()
    with pytest.raises(RuntimeError, match="requires grad"):
        np.asarray(x)
    assert x.numpy(force=True).tolist() == [1, 1]


def test_arrays_on_the_left_give_tensors() -> None:
    a, t = np.array([1.0, 2.0], np.float32), T.tensor([3.0, 4.0], requires_grad=True)
    for y, expected in ((a * t, [3, 8]), (a + t, [4, 6]), (a - t, [-2, -2]), (a / t, [1 / 3, 0.5]), (np.float32(2) * t, [6, 8])):
        assert isinstance(y, T.Tensor)
        assert y.requires_grad
        assert y.tolist() == pytest.approx(expected)


def test_item_and_numbers() -> None:
    assert T.tensor([[2.5]]).item() == 2.5
    assert isinstance(T.tensor(2).item(), int)
    assert float(T.tensor(2.5)) == 2.5
    assert int(T.tensor([3])) == 3
    assert complex(T.tensor(1j)) == 1j
    assert [10, 20][T.tensor(1)] == 20
    assert bool(T.tensor([0.5])) is True
    assert not T.tensor(0)


@pytest.mark.parametrize(
    "run, error, text",
    [
        (lambda: T.ones(2).item(), RuntimeError, r"item: expected a tensor with one element, got shape \(2,\)"),
        (lambda: bool(T.ones(2)), RuntimeError, r"bool: the truth of a tensor with 2 elements is ambiguous; use any\(\) or all\(\)"),
        (lambda: bool(T.ones(0)), RuntimeError, "with 0 elements is ambiguous"),
        (lambda: [1, 2][T.tensor(1.0)], TypeError, r"only integer tensors of one element can be an index, got tensor\.float32"),  # type: ignore[call-overload]
        (lambda: T.ones(2, 3) @ T.ones(2, 3), RuntimeError, r"matmul: shapes \(2, 3\) and \(2, 3\) cannot be multiplied"),
        (lambda: T.ones(2) @ T.ones(2, dtype=T.float64), RuntimeError, "matmul: expected operands of one dtype, got float32 and float64"),
        (lambda: T.ones(2, 3).sum(2), IndexError, r"sum: Dimension out of range \(expected to be in range of \[-2, 1\], but got 2\)"),
        (lambda: T.ones(2, 3).reshape(4), RuntimeError, r"reshape: cannot reshape array of size 6 into shape \(4,\) \(operands float32\[2, 3\]\)"),
        (lambda: T.cat([T.ones(2, 2), T.ones(2, 3)]), RuntimeError, r"cat: .* \(operands float32\[2, 2\], float32\[2, 3\]\)"),
        (lambda: T.stack([T.ones(2), T.ones(3)]), RuntimeError, r"stack: expected tensors of one shape, got \[\(2,\), \(3,\)\]"),
        (lambda: T.ones(2).mean(along=0), TypeError, r"mean\(\) got an unexpected keyword argument 'along'"),
        (lambda: T.ones(2).narrow(0), TypeError, r"narrow\(\) missing .* argument.*'start'"),
        (lambda: T.ones(2).tril(1, 2), TypeError, "tril: expected a tensor as out=, got int"),
        (lambda: T.tensor([1, 2]).mean(), RuntimeError, "mean: expected a floating-point or complex tensor, got int64"),
        (lambda: T.ones(2) + "a", TypeError, "expected"), (lambda: T.tensor([True]) - T.tensor([True]), RuntimeError, "logical_xor"),
        (lambda: T.ones(2).add_(T.ones(3, 2)), RuntimeError, r"add_: the result has shape \(3, 2\), which does not fit the tensor's \(2,\)"),
    ],
)  # fmt: skip
def test_errors_give_operation_expected_and_actual(run: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        run()


# --- what it is ------------------------------------------------------------------------------------------------------


def test_attributes() -> None:
    t = T.zeros(2, 3, dtype=T.float64)
    assert (t.ndim, t.dim(), t.numel(), t.nelement(), len(t), t.size(1), t.size()) == (2, 2, 6, 6, 2, 3, (2, 3))
    assert (t.itemsize, t.element_size(), t.nbytes) == (8, 8, 48)
    assert t.stride() == (3, 1)
    assert t.T.stride(0) == 1
    assert t.is_contiguous()
    assert not t.T.is_contiguous()
    assert t.T.contiguous().is_contiguous()
    assert t.contiguous() is t
    assert t.is_floating_point()
    assert not t.is_complex()
    assert t.T._base is t
    assert t._base is None


def test_conversions_return_themselves_when_nothing_changes() -> None:
    t = T.ones(2, requires_grad=True)
    assert t.to(T.float32) is t.float() is t
    assert t.cpu() is t
    assert t.to(t) is t
    assert t.to(T.float32, copy=True) is not t
    t.double().sum().backward()
    assert t.grad is not None
    assert t.grad.dtype is T.float32
    assert T.tensor([1.7, -1.7]).long().tolist() == [1, -1]
    assert T.tensor([0.0, 2.0]).bool().tolist() == [False, True]


# --- copies ----------------------------------------------------------------------------------------------------------


def test_deepcopy_keeps_gradient_flag_and_identity() -> None:
    x = T.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    a, b = copy.deepcopy([x, x])
    assert a is b
    assert a is not x
    assert a.requires_grad
    assert a.is_leaf
    assert a.grad.tolist() == [2, 4]
    a.grad.zero_()
    with T.no_grad():
        a.zero_()
    assert x.tolist() == [1, 2]
    assert x.grad.tolist() == [2, 4]  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match="deepcopy: only tensors made by the user"):
        copy.deepcopy(x * 2)


def test_pickle() -> None:
    x = T.tensor([[1.0, 2.0]], requires_grad=True)
    y = pickle.loads(pickle.dumps(x))
    assert y.tolist() == [[1, 2]]
    assert y.requires_grad
    assert y.dtype is T.float32
    with pytest.raises(RuntimeError, match=r"pickle: only tensors without history can be pickled; use detach\(\)"):
        pickle.dumps(x * 2)


def test_equality_is_elementwise_and_hash_is_identity() -> None:
    a = T.tensor([1, 2])
    assert (a == T.tensor([1, 3])).tolist() == [True, False]
    assert a != None  # noqa: E711
    assert len({a, a, T.tensor([1, 2])}) == 2
