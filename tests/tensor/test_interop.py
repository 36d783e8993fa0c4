"""Memory shared with NumPy and others, in both directions: `from_dlpack`, `asarray`, ``__array__``, buffers, and views of all kinds."""

from __future__ import annotations

import array
import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tensor as T
from tensor.dtypes import DTYPES

NUMPY_DTYPES = sorted(d.name for d in DTYPES)

INTO: dict[str, Callable[[Any], T.Tensor]] = {
    "from_numpy": T.from_numpy, "as_tensor": T.as_tensor, "asarray": T.asarray, "from_dlpack": T.from_dlpack, "array_api": T.array_api.asarray,
}  # fmt: skip
OUT_OF: dict[str, Callable[[T.Tensor], Any]] = {
    "numpy()": lambda t: t.numpy(), "asarray": np.asarray, "from_dlpack": np.from_dlpack, "frombuffer": lambda t: np.asarray(t.__buffer__(0)),
}  # fmt: skip

#: Ways to see an array of shape (4, 6) otherwise, without copying it.
VIEWS: dict[str, Callable[[Any], Any]] = {
    "whole": lambda a: a,
    "transposed": lambda a: a.T,
    "strided": lambda a: a[::2, 1::3],
    "backwards": lambda a: a[::-1, ::-2],
    "a row": lambda a: a[2],
    "an element": lambda a: a[1, 2, ...],
    "none": lambda a: a[4:],
    "broadcast": lambda a: np.lib.stride_tricks.as_strided(a, (3, *a.shape), (0, *a.strides)),
}


class Producer:
    """An array of another library: DLPack and nothing else."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __dlpack__(self, **options: Any) -> Any:
        return self.held.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.held.__dlpack_device__()  # type: ignore[no-any-return]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("way", INTO)
def test_a_tensor_over_numpys_memory(way: str, view: str):
    base = np.arange(24.0).reshape(4, 6)
    a = VIEWS[view](base)
    t = INTO[way](a)
    assert t.shape == a.shape
    assert t.tolist() == a.tolist()
    if a.size:
        t[...] = -1.0
        assert np.all(a == -1), "written through the tensor, read through the array"
        a[...] = 50.0
        assert bool((t == 50.0).all()), "and the other way round"
        assert np.count_nonzero(base == 50) == len(set(np.ravel(VIEWS[view](np.arange(24).reshape(4, 6)))))


@pytest.mark.parametrize("view", ["whole", "transposed", "strided", "a row", "none"])
@pytest.mark.parametrize("way", OUT_OF)
def test_an_array_over_a_tensors_memory(way: str, view: str):
    base = T.arange(24.0).reshape(4, 6)
    t = VIEWS[view](base)
    a = OUT_OF[way](t)
    assert isinstance(a, np.ndarray)
    assert a.tolist() == t.tolist()
    if a.size:
        a[...] = 50.0
        assert bool((t == 50).all())
        t.mul_(2)
        assert np.all(a == 100)
        assert int((base == 100).sum()) == a.size


@given(st.sampled_from(NUMPY_DTYPES).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0, max_side=3))))
def test_every_dtype_there_and_back(a: np.ndarray[Any, Any]):
    for make in INTO.values():
        t = make(a)
        assert t.numpy().dtype == a.dtype
        for back in OUT_OF.values():
            assert back(t).dtype == a.dtype
            np.testing.assert_array_equal(back(t), a)
    np.testing.assert_array_equal(T.from_dlpack(T.from_dlpack(a)).numpy(), a)


def test_memory_lives_as_long_as_either_side():
    t = T.from_dlpack(np.arange(5.0))
    a = np.from_dlpack(T.arange(5.0))
    assert t.tolist() == a.tolist() == [0, 1, 2, 3, 4]


# --- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [T.asarray, T.from_dlpack])
def test_copy_flag(function: Any):
    a = np.arange(3.0)
    assert np.shares_memory(function(a).numpy(), a)
    assert np.shares_memory(function(a, copy=False).numpy(), a)
    assert not np.shares_memory(function(a, copy=True).numpy(), a)
    assert np.shares_memory(function(Producer(a), device="cpu").numpy(), a)


def test_asarray_takes_what_there_is():
    t = T.ones(2)
    assert T.asarray(t) is t
    assert T.asarray(t, copy=True) is not t
    assert T.asarray(t, dtype=T.float64).dtype is T.float64
    assert T.asarray([1.5, 2], requires_grad=True).requires_grad
    assert T.asarray([T.ones(2), T.zeros(2)]).shape == (2, 2)
    assert T.asarray(np.float64(1.5)).dtype is T.float64
    assert T.asarray(range(3)).tolist() == [0, 1, 2]
    assert T.asarray([2**64 - 1, 1], dtype=T.uint64).tolist() == [2**64 - 1, 1], "not by way of float64"
    assert T.asarray([0.1], dtype=T.float64).item() == 0.1, "not by way of float32"
    assert T.asarray(True).dtype is T.bool
    with pytest.raises(OverflowError):
        T.asarray([300], dtype=T.uint8)
    with pytest.raises(TypeError, match="expected numbers"):
        T.asarray("text")


def test_asarray_over_buffers():
    for held, dtype in ((array.array("d", [1, 2]), T.float64), (bytearray(b"\x01\x02"), T.uint8)):
        t = T.asarray(held)
        assert t.dtype is dtype
        t[0] = 9
        assert held[0] == 9
    assert T.asarray(b"\x01\x02").tolist() == [1, 2]


def test_array_honours_dtype_and_copy():
    t = T.arange(3.0)
    assert np.shares_memory(np.asarray(t), t.numpy())
    assert np.shares_memory(np.asarray(t, dtype="float32", copy=False), t.numpy())
    assert not np.shares_memory(np.array(t), t.numpy())
    assert np.asarray(t, dtype="int8").dtype == np.int8
    with pytest.raises(ValueError, match="__array__: float32 cannot become int8 without a copy; leave copy=False away"):
        t.__array__(np.dtype("int8"), copy=False)
    with pytest.raises(ValueError, match="copy"):  # NumPy's own words, where it reads the buffer first
        np.asarray(t, dtype="int8", copy=False)


def test_gradients_are_not_handed_out():
    """Writes from outside could not be recorded."""
    t = T.ones(2, requires_grad=True)
    with pytest.raises(BufferError, match=r"__dlpack__: the tensor requires grad; use t.detach\(\)"):
        np.from_dlpack(t)
    with pytest.raises(BufferError, match="__buffer__: the tensor requires grad"):
        t.__buffer__(0)
    with pytest.raises(RuntimeError, match="numpy: the tensor requires grad"):
        np.asarray(t)
    assert np.from_dlpack(t.detach()).tolist() == [1, 1]
    x = T.asarray(t)
    (x * 3).sum().backward()
    assert t.grad is not None


def test_a_write_from_outside_is_not_seen_by_the_version_counter_but_one_through_a_tensor_is():
    x = T.tensor([2.0], requires_grad=True)
    y = x * 1
    z = y * y
    T.from_dlpack(y.detach()).add_(1)
    z.sum().backward()  # memory of another library: nobody can know
    z = y * y
    y.detach().add_(1)
    with pytest.raises(RuntimeError, match="was changed by an in-place operation"):
        z.sum().backward()


# --- read-only memory ------------------------------------------------------------------------------------------------


def test_read_only_memory_stays_read_only():
    a = np.arange(3.0)
    a.flags.writeable = False
    for make in INTO.values():
        t = make(a)
        assert t.tolist() == [0, 1, 2]
        with pytest.raises(ValueError, match="read-only"):
            t[0] = 1.0
    t = T.from_numpy(a)
    assert not np.from_dlpack(t).flags.writeable
    with pytest.raises(
        BufferError, match=r"__dlpack__: read-only memory can only be shared with a reader of DLPack 1\.0 or later"
    ):
        t.__dlpack__()
    assert t.__dlpack__(copy=True) is not None
    with pytest.raises(BufferError, match="__buffer__: the tensor's memory is read-only"):
        t.__buffer__(1)
    assert t.__buffer__(0).readonly


# --- DLPack itself ---------------------------------------------------------------------------------------------------


@given(st.sampled_from([None, (0, 0), (1, 0), (2, 0)]), st.sampled_from([None, True, False]), st.sampled_from([None, (1, 0)]))
def test_capsules(max_version: Any, copy: Any, dl_device: Any):
    capsule = T.ones(2, 3).T.__dlpack__(max_version=max_version, copy=copy, dl_device=dl_device)
    assert ('"dltensor_versioned"' if max_version and max_version >= (1, 0) else '"dltensor"') in repr(capsule)


def test_devices():
    assert T.ones(1).__dlpack_device__() == (1, 0)
    assert T.ones(1).to_device("cpu").device == T.device("cpu")
    t = T.ones(1)
    assert t.to_device(t.device) is t
    with pytest.raises(ValueError, match="to_device: expected stream None"):
        t.to_device("cpu", stream=3)
    assert not hasattr(t, "__cuda_array_interface__")
    with pytest.raises(AttributeError, match="__cuda_array_interface__: the tensor is on cpu"):
        t.__cuda_array_interface__  # noqa: B018 (reading it is what is tested)


class Elsewhere(Producer):
    def __dlpack_device__(self) -> tuple[int, int]:
        return (8, 0)  # Metal


@pytest.mark.parametrize("given_, error, message", [
    (3.0, TypeError, "from_dlpack: expected an array with __dlpack__ and __dlpack_device__, got float"),
    (Elsewhere(np.ones(1)), BufferError, "from_dlpack: expected memory of the CPU or of a CUDA device, got DLPack device kind 8"),
])  # fmt: skip
def test_what_cannot_be_taken(given_: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        T.from_dlpack(given_)


# --- beside NumPy's arrays -------------------------------------------------------------------------------------------


def test_a_tensor_wins_beside_an_array():
    a, t = np.arange(3.0), T.arange(3.0, dtype=T.float64)
    for result in (a * t, t * a, a - t, t / (a + 1), a @ t, a**t, np.float64(2) * t, a < t):
        assert isinstance(result, T.Tensor)
    x = T.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (a * x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 2]
    assert isinstance(np.exp(t), np.ndarray)
    assert np.concatenate([a, t]).tolist() == [0, 1, 2, 0, 1, 2]


def test_buffers():
    t = T.arange(6, dtype=T.int16).reshape(2, 3)
    view = t.__buffer__(0)
    assert (view.format, view.shape, view.readonly) == ("h", (2, 3), False)
    view[1, 2] = 50
    assert t[1, 2].item() == 50
    with pytest.raises(
        TypeError, match=r"only integer tensors of one element can be an index, got tensor.int16 of shape \(2, 3\)"
    ):
        operator.index(t)  # a TypeError, or Python would not ask for the buffer


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python asks for __buffer__ since 3.12")
def test_python_reads_tensors_as_buffers():
    t = T.arange(4, dtype=T.int16)
    memoryview(t)[1] = 50
    assert bytes(t) == t.numpy().tobytes()
    assert np.frombuffer(t, dtype="int16").tolist() == [0, 50, 2, 3]


def test_sharing_on_every_device(device: str):
    t = T.arange(3.0, device=device)
    assert t.__dlpack_device__()[0] == {"cpu": 1, "cuda": 2}[device]
    shared = T.from_dlpack(t)
    shared[0] = 5.0
    assert t.tolist() == T.asarray(t).tolist() == T.asarray(Producer(t)).tolist() == [5.0, 1.0, 2.0]
    assert shared.device == t.device == t.to_device(device).device


@pytest.mark.cuda
@pytest.mark.skipif(not T.cuda.is_available(), reason="no CUDA device")
def test_between_devices():
    t = T.arange(3.0, device="cuda")
    assert "data" in t.__cuda_array_interface__
    assert T.from_dlpack(t, device="cpu").device.type == "cpu"
    with pytest.raises(ValueError, match="from_dlpack: memory on cuda:0 cannot be shared with cpu"):
        T.from_dlpack(t, device="cpu", copy=False)
    with pytest.raises(BufferError, match="__buffer__: the tensor is on cuda:0"):
        t.__buffer__(0)
