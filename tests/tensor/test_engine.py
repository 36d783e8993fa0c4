"""The backward pass: order, accumulation, freeing, errors, hooks."""

from __future__ import annotations

import gc
import time
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest

import tensor as T
from tensor.autograd import backward, grad
from tensor.autograd.node import Node
from tensor.jit import backward as jit_backward
from tensor.jit import compiled


def leaf(*values: float) -> Any:
    return T.tensor(list(values), requires_grad=True)


def live_nodes() -> int:
    gc.collect()  # what other tests left behind
    return sum(isinstance(o, Node) for o in gc.get_objects())


# --- depth and order -------------------------------------------------------------------------------------------------


def test_a_chain_of_200_000_nodes_goes_backward_and_is_freed() -> None:
    x = T.ones(1, requires_grad=True)
    before = live_nodes()
    y = x * 1.0
    for _ in range(200_000):
        y = y + 1.0
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.item() == 1
    del y  # no recursion here either: a graph is freed node by node
    gc.collect()
    assert live_nodes() == before


def test_a_chain_dropped_without_backward_is_freed() -> None:
    y = T.ones(1, requires_grad=True)
    for _ in range(200_000):
        y = y * 1.0
    del y
    gc.collect()


def test_a_wide_and_shared_graph_is_visited_once_a_node() -> None:
    """2**40 paths, 40 nodes."""
    x = T.tensor(1.0, dtype=T.float64, requires_grad=True)
    y = x
    for _ in range(40):
        y = y + y
    start = time.perf_counter()
    y.backward()
    assert x.grad is not None
    assert x.grad.item() == 2.0**40
    assert time.perf_counter() - start < 1


def test_sixth_derivative() -> None:
    x = T.tensor(2.0, dtype=T.float64, requires_grad=True)
    y = x**7
    for k in range(6):
        assert y.item() == pytest.approx(np.prod(np.arange(7 - k + 1, 8)) * 2.0 ** (7 - k))
        (y,) = grad(y, x, create_graph=True)
    assert y.item() == pytest.approx(5040 * 2)


def test_hessian_vector_product() -> None:
    a = np.array([[2.0, 1.0], [1.0, 3.0]])
    x = T.tensor([0.3, -0.7], dtype=T.float64, requires_grad=True)
    (g,) = grad(0.5 * (x @ T.tensor(a) @ x), x, create_graph=True)
    (hv,) = grad((g * T.tensor([1.0, -2.0], dtype=T.float64)).sum(), x)
    np.testing.assert_allclose(hv.numpy(), a @ [1, -2])


# --- roots and results ---------------------------------------------------------------------------------------------


def test_gradients_accumulate_over_backwards() -> None:
    x = leaf(1.0, 2.0)
    for k in range(1, 4):
        (x * x).sum().backward()
        assert x.grad.tolist() == [2.0 * k, 4.0 * k]


def test_gradients_are_not_shared_between_leaves() -> None:
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (a + b).sum().backward()
    a.grad.zero_()
    assert b.grad.tolist() == [1, 1]
    seed = T.ones(2)
    c = leaf(1.0, 2.0)
    (c + 0).backward(seed)
    c.grad.mul_(5)
    assert seed.tolist() == [1, 1]


def test_a_leaf_used_twice_and_views_of_one_gradient() -> None:
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    T.cat([a, b, a]).backward(T.arange(6.0))
    assert a.grad.tolist() == [4, 6]
    assert b.grad.tolist() == [2, 3]
    b.grad.zero_()
    assert a.grad.tolist() == [4, 6]


def test_accumulation_keeps_the_tensor_that_somebody_holds() -> None:
    x = leaf(1.0)
    (x * 2).sum().backward()
    held = x.grad
    (x * 3).sum().backward()
    assert x.grad is held
    assert held.item() == 5


def test_create_graph_gradients_can_be_differentiated_again() -> None:
    x = leaf(3.0)
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    (g,) = grad(x.grad.sum(), x)
    assert g.item() == 18
    x.grad = None
    (x**3).sum().backward()
    assert not x.grad.requires_grad


def test_backward_of_several_tensors_and_inputs() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    backward([(x * y).sum(), (x * x)], [None, T.tensor([1.0, 10.0])])
    assert x.grad.tolist() == [3 + 2, 4 + 40]
    assert y.grad.tolist() == [1, 2]
    x.grad = y.grad = None
    (x * y).sum().backward(inputs=[x])
    assert x.grad.tolist() == [3, 4]
    assert y.grad is None


def test_grad_leaves_dot_grad_alone_and_takes_intermediates() -> None:
    x = leaf(2.0)
    y = x * x
    z = (y * 3).sum()
    assert [g.item() for g in grad(z, [y, x])] == [3, 12]
    assert x.grad is None


def test_grad_of_unused_inputs() -> None:
    x, unused = leaf(1.0), leaf(1.0, 2.0)
    with pytest.raises(
        RuntimeError, match="one of the inputs does not appear in the graph of the outputs; pass allow_unused=True"
    ):
        grad((x * 1).sum(), [x, unused])
    assert grad((x * 1).sum(), [x, unused], allow_unused=True)[1] is None
    assert grad((x * 1).sum(), [x, unused], materialize_grads=True)[1].tolist() == [0, 0]


def test_grad_outputs_weigh_the_outputs() -> None:
    x = leaf(1.0, 2.0)
    (g,) = grad([x * 2, x * 3], x, [T.tensor([1.0, 0.0]), T.tensor([0.0, 1.0])])
    assert g.tolist() == [2, 3]


@pytest.mark.parametrize(
    "run, text",
    [
        (lambda x: (x * 1).backward(), r"backward: grad can be implicitly created only for scalar outputs, got shape \(2,\)"),
        (lambda x: x.detach().sum().backward(), r"backward: a tensor of shape \(\) does not require grad and has no grad_fn"),
        (lambda x: (x * 1).backward(T.ones(3)), r"backward: expected a gradient of shape \(2,\), got \(3,\)"),
        (lambda x: backward([x.sum()], [T.tensor(1.0)] * 2), "expected 1 gradients, one for each output, got 2"),
        (lambda x: grad(x.sum(), T.ones(2)), r"grad: an input of shape \(2,\) does not require grad"),
        (
            lambda x: x.requires_grad_().int().requires_grad_(),
            "only floating-point tensors can require gradients, got tensor.int32",
        ),
        (lambda x: (x * 1).requires_grad_(False), "can only change the flag of leaf tensors"),
        (lambda x: setattr(x, "grad", T.ones(3)), r"grad: expected shape \(2,\), got \(3,\)"),
        (lambda x: x[:1].detach_(), "a view cannot be detached in place"),
    ],
)
def test_errors_say_what_was_expected(run: Any, text: str) -> None:
    with pytest.raises(RuntimeError, match=text):
        run(leaf(1.0, 2.0))


# --- freeing and versions --------------------------------------------------------------------------------------------


def test_a_second_backward_is_an_error_unless_the_graph_was_retained() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4, 8]
    text = "mul: trying to backward through the graph a second time, but its saved values were freed; pass retain_graph=True"
    with pytest.raises(RuntimeError, match=text):
        y.backward()


def test_a_graph_that_saved_nothing_may_go_backward_again() -> None:
    x = leaf(1.0, 2.0)
    y = (x + 1).reshape(1, 2).sum()
    y.backward()
    y.backward()
    assert x.grad.tolist() == [2, 2]


def test_backward_frees_what_was_saved() -> None:
    x = leaf(1.0, 2.0)
    middle = x * 2
    kept = weakref.ref(middle)
    y = (middle * middle).sum()
    del middle
    assert kept() is not None
    y.backward()
    assert kept() is None


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda a, b: a * b, "mul: an input"), (lambda a, b: a.sin() + 0 * b, "sin: an input"), (lambda a, b: a / b, "div: an input"),
        (lambda a, b: a @ b, "matmul: an input"), (lambda a, b: T.cat([a, b]).prod() + (a * b).sum(), "mul: an input"),
    ],
)  # fmt: skip
def test_writing_over_what_backward_needs_names_the_operator(make: Any, name: str) -> None:
    a, b = leaf(1.0, 2.0).clone(), leaf(3.0, 4.0).clone()
    y = make(a, b)
    a.add_(1)
    b.add_(1)
    text = rf"{name} of shape \(2,\), needed for its gradient, was changed by an in-place operation \(version 1, expected 0\); clone it"
    with pytest.raises(RuntimeError, match=text):
        y.sum().backward()


def test_writing_over_an_output_that_backward_needs() -> None:
    y = leaf(1.0, 2.0).exp()
    z = y.sum()
    y.mul_(2)
    with pytest.raises(RuntimeError, match=r"exp: its output of shape \(2,\), needed for its gradient, was changed"):
        z.backward()


def test_writing_over_what_backward_does_not_need() -> None:
    x = leaf(1.0, 2.0)
    y = x + 1
    z = y.sum()
    y.mul_(100)
    z.backward()
    assert x.grad.tolist() == [1, 1]


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.add_(1),
        lambda x: x.zero_(),
        lambda x: x[0].mul_(2),
        lambda x: x.__setitem__(0, 5.0),
        lambda x: x.copy_(T.ones(2)),
    ],
)
def test_a_leaf_that_requires_grad_refuses_writes_unless_unrecorded(write: Any) -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="leaf tensor that requires grad is being used in an in-place operation"):
        write(x)
    assert x.tolist() == [1, 2]
    with T.no_grad():
        write(x)
    assert x.tolist() != [1, 2]
    assert x.requires_grad
    assert x.is_leaf


def test_data_goes_unnoticed_and_detach_does_not() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    x.data.add_(1)  # as in PyTorch: the caller's risk
    y.backward(retain_graph=True)
    x.detach().add_(1)
    with pytest.raises(RuntimeError, match="changed by an in-place operation"):
        y.backward()


# --- hooks -----------------------------------------------------------------------------------------------------------


def test_hooks_see_replace_and_go() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    seen: list[Any] = []
    handle = y.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 10)
    y.sum().backward(retain_graph=True)
    assert seen == [[1, 1]]
    assert x.grad.tolist() == [20, 20]
    handle.remove()
    handle.remove()
    y.sum().backward()
    assert len(seen) == 1


def test_hooks_of_leaves_act_on_backward_and_grad() -> None:
    x = leaf(1.0)
    with x.register_hook(lambda g: g + 1):
        (x * 2).sum().backward()
        assert x.grad.item() == 3
        assert grad((x * 2).sum(), x)[0].item() == 3
    assert grad((x * 2).sum(), x)[0].item() == 2


def test_a_hook_runs_once_on_the_whole_gradient() -> None:
    x = leaf(1.0)
    y = x * 1
    calls: list[float] = []
    y.register_hook(lambda g: calls.append(g.item()))
    (y + y + y).sum().backward()
    assert calls == [3]


def test_post_accumulate_hooks_see_dot_grad() -> None:
    x = leaf(1.0)
    seen: list[float] = []
    handle = x.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.item()))
    (x * 2).sum().backward()
    (x * 2).sum().backward()
    handle.remove()
    (x * 2).sum().backward()
    assert seen == [2, 4]
    with pytest.raises(RuntimeError, match="only a leaf that requires grad accumulates"):
        (x * 2).register_post_accumulate_grad_hook(print)


def test_retain_grad() -> None:
    x = leaf(1.0, 2.0)
    y = x * 3
    assert y.grad is None
    y.retain_grad()
    assert y.retains_grad
    (y * y).sum().backward()
    assert y.grad.tolist() == [6, 12]
    x.retain_grad()  # a leaf keeps its gradient anyway
    with pytest.raises(RuntimeError, match="the tensor does not require grad"):
        T.ones(1).retain_grad()
    with pytest.raises(RuntimeError, match="the tensor does not require grad"):
        T.ones(1).register_hook(print)


# --- memory ----------------------------------------------------------------------------------------------------------


def step(w: Any, b: Any, x: Any) -> Any:
    h = x @ w + b
    h[:, 0].mul_(2.0)
    loss = (h * h).mean()
    loss.backward()
    with T.no_grad():
        w.sub_(w.grad * 0.01)
        w.grad = b.grad = None
    return loss


def test_a_step_leaves_no_reference_cycle() -> None:
    w, b, x = T.ones(3, 2, requires_grad=True), T.zeros(2, requires_grad=True), T.ones(4, 3)
    step(w, b, x)
    gc.collect()
    gc.disable()
    before = live_nodes()
    try:
        loss = step(w, b, x)
        gone = weakref.ref(loss)
        assert live_nodes() > before
        del loss
        assert gone() is None
        assert live_nodes() == before
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_20_000_steps_do_not_grow_memory() -> None:
    w, b, x = T.ones(3, 2, requires_grad=True), T.zeros(2, requires_grad=True), T.ones(1, 3)
    compiled._queue.join()
    jit_backward.install()  # which would be made meanwhile
    for _ in range(500):
        step(w, b, x)
    gc.collect()  # also empties Python's free lists, which would count as growth
    tracemalloc.start()
    start, _ = tracemalloc.get_traced_memory()
    for _ in range(4_000):  # tracing slows everything down eight times
        step(w, b, x)
    gc.collect()
    end, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert end - start < 8_000  # two bytes a step
    count = len(gc.get_objects())
    for _ in range(16_000):
        step(w, b, x)
    gc.collect()
    assert len(gc.get_objects()) - count < 100


def test_views_of_a_long_lived_tensor_do_not_pile_up() -> None:
    base = T.zeros(10)
    for i in range(10_000):
        base[i % 10]
    assert len(base._version.views) < 100
