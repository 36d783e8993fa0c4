"""Scripts from PyTorch's first years: the idioms of its 2017 tutorials."""

from __future__ import annotations

import numpy as np
import pytest

import tensor as T
from tensor.autograd import Variable


def test_the_autograd_tutorial_of_2017() -> None:
    x = Variable(T.ones(2, 2), requires_grad=True)
    y = x + 2
    z = y * y * 3
    out = z.mean()
    out.backward()
    assert x.grad.data.tolist() == [[4.5, 4.5], [4.5, 4.5]]
    assert isinstance(x, Variable)
    assert isinstance(z, Variable)
    assert not isinstance(np.ones(1), Variable)
    assert not Variable(T.ones(1), volatile=True).requires_grad
    assert Variable(T.ones(1)).data.new(2, 3).zero_().expand_as(T.ones(4, 2, 3)).size() == (4, 2, 3)
    with pytest.raises(TypeError, match="Variable: expected a tensor, got list"):
        Variable([1.0])


def test_a_variable_shares_its_tensors_memory() -> None:
    t = T.ones(2)
    Variable(t, requires_grad=True).data.add_(1)
    assert t.tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    "name, dtype",
    [
        ("FloatTensor", T.float32), ("DoubleTensor", T.float64), ("HalfTensor", T.float16), ("ByteTensor", T.uint8), ("CharTensor", T.int8),
        ("ShortTensor", T.int16), ("IntTensor", T.int32), ("LongTensor", T.int64), ("BoolTensor", T.bool),
    ],
)  # fmt: skip
def test_types_make_and_recognise(name: str, dtype: T.dtype) -> None:
    kind = getattr(T, name)
    made = [kind(2, 3), kind([[1, 0], [1, 1]]), kind(np.ones(3)), kind(T.Size([2])), kind(), kind(T.ones(2))]
    assert [tuple(t.shape) for t in made] == [(2, 3), (2, 2), (3,), (2,), (0,), (2,)]
    assert {t.dtype for t in made} == {dtype}
    assert all(isinstance(t, kind) for t in made)
    assert made[0].type() == f"tensor.{name}"
    for to in (kind, f"tensor.{name}", f"torch.{name}", dtype):
        assert T.ones(2, dtype=T.complex64).real.type(to).dtype is dtype
    assert made[0].new([1]).dtype is dtype
    assert not isinstance(T.ones(1, dtype=T.complex64), kind)
    assert not isinstance(1.0, kind)


def test_the_old_constructor() -> None:
    assert T.Tensor(5, 3).shape == (5, 3)
    assert T.Tensor().shape == (0,)
    assert T.Tensor([[1, 2]]).tolist() == [[1.0, 2.0]]
    assert T.Tensor((1, 2)).dtype is T.float32
    assert T.Tensor(T.Size([2, 1])).shape == (2, 1)
    t = T.ones(2)
    T.Tensor(t).add_(1)
    assert t.tolist() == [2.0, 2.0]


def test_the_default_type() -> None:
    T.set_default_tensor_type(T.DoubleTensor)
    assert T.zeros(1).dtype is T.float64
    T.set_default_tensor_type("torch.FloatTensor")
    assert T.zeros(1).dtype is T.float32
    with pytest.raises(TypeError, match="set_default_tensor_type: expected FloatTensor, DoubleTensor or HalfTensor, got 'x'"):
        T.set_default_tensor_type("x")


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"type: expected a name such as 'tensor\.FloatTensor', got 'Float'"):
        T.ones(1).type("Float")
    with pytest.raises(TypeError, match="FloatTensor: expected sizes, or one sequence, array or tensor, got 2 arguments"):
        T.FloatTensor([1], [2])
    with pytest.raises(TypeError, match="complex64 has no name of the kind of FloatTensor"):
        T.ones(1, dtype=T.complex64).type()


@pytest.mark.skipif(T.cuda.is_available(), reason="there is a device")
def test_without_a_device_cuda_types_say_what_is_missing() -> None:
    with pytest.raises(RuntimeError, match=r"CUDA|CuPy"):
        T.cuda.FloatTensor(2)
    assert not isinstance(T.ones(1), T.cuda.FloatTensor)
