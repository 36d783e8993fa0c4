"""CUDA: what it says without a device, and what it does with one (`pytest -m cuda`)."""

from __future__ import annotations

import logging

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

    def test_what_cupy_lacks_runs_on_the_host_and_is_named_once(self, caplog) -> None:
        x = T.tensor([3.0, 1.0, 4.0], device="cuda")
        with caplog.at_level(logging.INFO, "tensor.cuda.backend"):
            values = [T.cummax(x, 0)[0] for _ in range(2)]
        assert all(v.is_cuda and v.tolist() == [3.0, 3.0, 4.0] for v in values)
        assert caplog.text.count("it runs on the host") <= 2

    def test_a_compiled_step_learns_what_the_eager_one_does(self) -> None:
        def run(compiled: bool) -> list[float]:
            T.manual_seed(0)
            net = T.nn.Sequential(T.nn.Linear(4, 8), T.nn.Tanh(), T.nn.Linear(8, 2)).to("cuda")
            optimizer = T.optim.Adam(net.parameters(), lr=0.01)
            x, y = T.randn(16, 4).cuda(), T.randn(16, 2).cuda()

            def step(x: T.Tensor, y: T.Tensor) -> T.Tensor:
                loss = ((net(x) - y) ** 2).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                return loss.detach()

            step = T.compile(step) if compiled else step
            return [step(x, y).item() for _ in range(20)]

        eager = run(compiled=False)
        assert eager[-1] < eager[0]
        np.testing.assert_allclose(run(compiled=True), eager, rtol=1e-5)

    def test_a_lazy_block(self) -> None:
        x = T.arange(6.0).cuda()
        with T.lazy():
            y = (x * 2 + 1).sum()
            assert y.item() == 36

    def test_a_network_grows(self) -> None:
        net = T.nn.Sequential(T.nn.Linear(4, 8), T.nn.ReLU(), T.nn.Linear(8, 2)).to("cuda")
        optimizer = T.optim.Adam(net.parameters())
        x = T.randn(5, 4).cuda()
        net(x).sum().backward()
        optimizer.step()
        before = net(x).detach()
        T.structure.grow(net, "0", 3).apply(optimizer)
        assert all(p.is_cuda for p in net.parameters())
        np.testing.assert_allclose(net(x).detach().cpu().numpy(), before.cpu().numpy(), rtol=1e-5, atol=1e-6)
        net(x).sum().backward()
        optimizer.step()
