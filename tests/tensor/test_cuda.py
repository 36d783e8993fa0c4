"""CUDA: what it says without a device, and what it does with one (`pytest -m cuda`)."""

from __future__ import annotations

import numpy as np
import pytest

import tensor as T

missing = pytest.mark.skipif(T.cuda.is_available(), reason="there is a device")


@missing
@pytest.mark.parametrize(
    "ask",
    [
        lambda: T.ones(1).cuda(), lambda: T.ones(1, device="cuda"), lambda: T.ones(1).to("cuda:0"), lambda: T.ones(1).pin_memory(),
        T.cuda.current_device, T.cuda.synchronize, T.cuda.Stream, T.cuda.Event, T.cuda.current_stream, T.cuda.mem_get_info,
        T.cuda.get_device_name, lambda: T.cuda.device(0), lambda: T.cuda.set_device("cuda:1"), T.nn.Linear(1, 1).cuda,
    ],
)  # fmt: skip
def test_without_a_device_the_error_says_what_is_missing(ask) -> None:
    with pytest.raises(RuntimeError, match=r"pip install 'rlcore\[cuda\]'|CuPy is installed but finds no CUDA device|below 0"):
        ask()


@missing
def test_what_needs_no_device_works_without_one() -> None:
    assert T.cuda.device_count() == 0
    assert T.cuda.memory_allocated() == T.cuda.memory_reserved() == 0
    assert T.cuda.memory_stats() == {}
    T.cuda.empty_cache()
    T.cuda.manual_seed(1)
    with T.cuda.device(-1), T.cuda.stream(None):
        pass


def test_names_of_devices_are_checked() -> None:
    with pytest.raises(ValueError, match="expected a CUDA device such as 'cuda:0' or 0, got 'cpu'"):
        T.cuda.device("cpu")
    with pytest.raises(ValueError, match=r"expected a fraction between 0 and 1, got 2"):
        T.cuda.set_per_process_memory_fraction(2)


@pytest.mark.cuda
@pytest.mark.skipif(not T.cuda.is_available(), reason="no CUDA device")
class TestWithADevice:
    def test_there_and_back(self) -> None:
        x = T.arange(6.0).reshape(2, 3)
        there = x.cuda()
        assert there.is_cuda
        assert str(there.device) == f"cuda:{T.cuda.current_device()}"
        assert T.equal(there.cpu(), x)
        assert there.cuda() is there
        assert "device='cuda:0'" in repr(there)

    def test_device_blocks(self) -> None:
        before = T.cuda.current_device()
        with T.cuda.device(0):
            assert T.ones(1, device="cuda").device.index == 0
        assert T.cuda.current_device() == before
        with pytest.raises(RuntimeError, match="expected a CUDA device below"):
            T.cuda.device(99)

    def test_streams_and_events(self) -> None:
        side = T.cuda.Stream()
        begin, end = T.cuda.Event(enable_timing=True), T.cuda.Event(enable_timing=True)
        a = T.ones(1000, 1000, device="cuda")
        side.wait_stream(T.cuda.current_stream())
        with T.cuda.stream(side):
            assert T.cuda.current_stream() == side
            begin.record()
            b = a @ a
            end.record()
        T.cuda.current_stream().wait_stream(side)
        end.synchronize()
        assert end.query()
        assert begin.elapsed_time(end) > 0
        assert float(b[0, 0]) == 1000
        side.synchronize()
        assert side.query()

    def test_memory(self) -> None:
        before = T.cuda.memory_allocated()
        x = T.zeros(1_000_000, device="cuda")
        assert T.cuda.memory_allocated() - before >= x.nbytes
        assert T.cuda.memory_reserved() >= T.cuda.memory_allocated()
        del x
        assert T.cuda.memory_allocated() <= before
        T.cuda.empty_cache()
        free, total = T.cuda.mem_get_info()
        assert 0 < free <= total == T.cuda.get_device_properties().total_memory

    def test_pinned(self) -> None:
        x = T.arange(5.0)
        pinned = x.pin_memory()
        np.testing.assert_array_equal(pinned.numpy(), x.numpy())
        assert T.equal(pinned.cuda().cpu(), x)
