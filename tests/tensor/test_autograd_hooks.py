"""Hooks on nodes, on several gradients, on what is saved; and anomaly mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensor as T
from tensor.autograd import Function, detect_anomaly, grad, graph, set_detect_anomaly


def leaf(*values: float) -> Any:
    return T.tensor(list(values), dtype=T.float64, requires_grad=True)


# --- nodes ---------------------------------------------------------------------------------------------------------------


def test_the_graph_can_be_walked() -> None:
    x = leaf(3.0, 1.0)
    y = (x * 2).exp()
    assert y.grad_fn.name() == "ExpBackward"
    ((times, number),) = y.grad_fn.next_functions
    assert (times.name(), number) == ("MulBackward", 0)
    assert times.next_functions[0][0].name() == "AccumulateGrad"
    assert times.next_functions[1] == (None, 0)
    values, vectors = T.linalg.eigh(T.outer(x, x))
    assert values.grad_fn is vectors.grad_fn
    assert (values * 1).grad_fn.next_functions[0] == (values.grad_fn, 0)
    assert (vectors * 1).grad_fn.next_functions[0] == (values.grad_fn, 1)
    y.grad_fn.metadata["note"] = 1
    assert y.grad_fn.metadata == {"note": 1}


def test_hooks_before_and_after_a_node() -> None:
    x = leaf(1.0, 2.0)
    y = x.square()
    seen: list[Any] = []
    first = y.grad_fn.register_prehook(lambda outs: (outs[0] * 10,))
    last = y.grad_fn.register_hook(lambda ins, outs: seen.append((ins[0].tolist(), outs[0].tolist())))
    y.sum().backward(retain_graph=True)
    assert seen == [([20, 40], [10, 10])]
    assert x.grad.tolist() == [20, 40]
    first.remove()
    last.remove()
    with y.grad_fn.register_hook(lambda ins, outs: (ins[0] * 0 + 7,)):
        assert grad(y.sum(), x, retain_graph=True)[0].tolist() == [7, 7]
    assert grad(y.sum(), x)[0].tolist() == [2, 4]
    assert len(seen) == 1


def test_hooks_of_a_node_with_several_outputs_and_of_a_leaf() -> None:
    x = leaf(3.0, 1.0)
    values, index = x.sort()
    low, _ = T.linalg.eigh(T.diag(x))
    seen: list[Any] = []
    low.grad_fn.register_prehook(lambda outs: seen.append([o is None for o in outs]))
    low.grad_fn.register_hook(lambda ins, outs: seen.append([o is None for o in outs]))
    (values.sum() + low.sum()).backward()
    assert seen == [[False, True]] * 2
    accumulate = (x * 2).grad_fn.next_functions[0][0]
    accumulate.register_hook(lambda ins, outs: seen.append((ins, outs[0].tolist())))
    (x * 2).sum().backward()
    assert seen[-1] == ((), [2, 2])
    assert index.tolist() == [1, 0]


def test_a_hook_on_several_gradients() -> None:
    a, b, c = leaf(1.0), leaf(2.0), leaf(3.0)
    seen: list[Any] = []
    handle = graph.register_multi_grad_hook([a, b, c], lambda gs: seen.append([g if g is None else g.item() for g in gs]))
    (a * b).sum().backward()
    (a * b * c).sum().backward()
    assert seen == [[2, 1, None], [6, 3, 2]]
    handle.remove()
    (a * b).sum().backward()
    assert len(seen) == 2
    with graph.register_multi_grad_hook([a, b], lambda g: seen.append(g.item()), mode="any"):
        grad((a * b).sum(), (a, b))
    assert seen[2] in (1, 2)
    assert len(seen) == 3
    with pytest.raises(ValueError, match="expected mode 'all' or 'any', got 'some'"):
        graph.register_multi_grad_hook([a], print, mode="some")


# --- what is saved ---------------------------------------------------------------------------------------------------------


def test_hooks_on_what_is_saved() -> None:
    packed: list[Any] = []

    def pack(t: Any) -> Any:
        assert not t.requires_grad
        packed.append(t.numpy().copy())
        return len(packed) - 1

    def f(x: Any) -> Any:
        return (x.exp() * x + x / 3 + x.relu()).sum()

    x = leaf(1.0, -2.0)
    with graph.saved_tensors_hooks(pack, lambda i: T.tensor(packed[i])):
        y = f(x)
    count = len(packed)
    assert count >= 3
    f(x)
    assert len(packed) == count
    (g,) = grad(y, x, create_graph=True)
    (expected,) = grad(f(x), x, create_graph=True)
    np.testing.assert_allclose(g.detach().numpy(), expected.detach().numpy())
    np.testing.assert_allclose(grad(g.sum(), x)[0].numpy(), grad(expected.sum(), x)[0].numpy())
    with graph.saved_tensors_hooks(lambda t: t, lambda t: 3):  # type: ignore[arg-type, return-value]
        y = x.exp()
    with pytest.raises(TypeError, match="expected unpack to return a tensor, got int"):
        y.sum().backward()


def test_save_on_cpu(device: str) -> None:
    x = T.tensor([1.0, 2.0], device=device, requires_grad=True)
    with graph.save_on_cpu():
        y = (x.exp() * x).sum()
    y.backward()
    assert x.grad.device == x.device
    np.testing.assert_allclose(x.grad.cpu().numpy(), np.exp([1, 2]) * [2, 3], rtol=1e-6)


# --- anomalies --------------------------------------------------------------------------------------------------------------


class Fails(Function):
    """A backward with a mistake in it."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        msg = "oh no"
        raise ValueError(msg)


def test_nan_is_traced_to_its_line() -> None:
    x = leaf(0.0, 1.0)
    with detect_anomaly():
        y = x * 0
        root = y.sqrt()  # this line
        z = (root * 0).sum()
        with pytest.raises(
            RuntimeError,
            match=r"anomaly: SqrtBackward gave nan .* made at .*test_autograd_hooks\.py:\d+: root = y\.sqrt\(\)  # this line",
        ):
            z.backward()
    assert not T.autograd.is_anomaly_enabled()
    (x * 0).sqrt().sum().backward()  # nothing is looked at now


def test_an_error_in_backward_gets_the_line() -> None:
    x = leaf(1.0)
    with set_detect_anomaly(True):
        y = Fails.apply(x)
        with pytest.raises(ValueError, match="oh no") as caught:
            y.backward()
    assert any("in the backward of FailsBackward" in n and "y = Fails.apply(x)" in n for n in caught.value.__notes__)


def test_anomaly_mode_switches() -> None:
    set_detect_anomaly(True)
    assert T.autograd.is_anomaly_enabled()
    with set_detect_anomaly(False):
        assert not T.autograd.is_anomaly_enabled()
    assert T.autograd.is_anomaly_enabled()
    set_detect_anomaly(False)
    x = leaf(0.0)
    before = (x * 0).sqrt()
    with detect_anomaly(check_nan=False):
        before.sum().backward()
    assert x.grad.isnan().all()
    y = (x * 0).sqrt() * 0
    with detect_anomaly(), pytest.raises(RuntimeError, match="recorded before anomaly detection was on"):
        y.sum().backward()
