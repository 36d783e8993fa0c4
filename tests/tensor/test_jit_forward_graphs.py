"""Compiled functions whose results the caller differentiates: when and how often, writes in between, changes, gradients of gradients."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from jit_worlds import TIER, agree, both, close, compiled_by_tier, mlp, pair, tier, values  # noqa: F401

import tensor as T
from tensor.jit import compiled as engine

F = T.nn.functional
nn = T.nn


def dropout() -> Any:
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.GELU(), nn.Linear(8, 2))


def norm() -> Any:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.SiLU(), nn.Linear(8, 2))


def convolution() -> Any:
    return nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2))


# --- one backward, several, none -----------------------------------------------------------------------------------------


def test_a_second_backward_needs_the_graph_retained() -> None:
    def work(f: Any, net: Any, n: int) -> Any:
        y = f(T.randn(5, 3)).sum()
        y.backward(retain_graph=True)
        y.backward()
        with pytest.raises(RuntimeError, match=r"second time.*retain_graph=True"):
            y.backward()
        return [y]

    both(work, mlp())


def test_nothing_kept_means_nothing_freed() -> None:
    w = T.ones(3, requires_grad=True)
    f = compiled_by_tier(lambda x: (w + x).sum())
    for _ in range(3):
        y = f(T.ones(3))
        y.backward()
        y.backward()
    assert w.grad.tolist() == [6.0] * 3


def test_results_of_several_calls_go_backward_in_any_order() -> None:
    def work(f: Any, net: Any, n: int) -> Any:
        ys = [f(T.randn(5, 3)) for _ in range(4)]
        ys[2].sum().backward()
        more = f(T.randn(5, 3))
        (ys[0] * ys[3]).sum().backward()
        more.sum().backward()
        ys[1].mean().backward()
        return [*ys, more]

    both(work, mlp(), calls=4, hits=15, like=close)


def test_calls_in_a_row_share_leaves() -> None:
    layer = nn.Linear(3, 3)

    def work(f: Any, net: Any, n: int) -> Any:
        x = h = T.randn(4, 3, requires_grad=True)
        for _ in range(5):
            h = f(h).tanh()
        h.sum().backward()
        return [x.grad, h]

    both(work, layer, calls=4, hits=14, like=close)


def test_gradients_are_handed_out_and_never_written_again() -> None:
    net = mlp()
    f = compiled_by_tier(net)
    kept, copies = [], []
    for _ in range(8):
        g = T.autograd.grad(f(T.randn(5, 3)).sum(), list(net.parameters()))
        kept.append(g)
        copies.append([t.clone() for t in g])
        net.zero_grad()
        f(T.randn(5, 3)).sum().backward()
        kept.append([p.grad for p in net.parameters()])
        copies.append([p.grad.clone() for p in net.parameters()])
        engine._queue.join()
    assert all((a == b).all() for k, c in zip(kept, copies, strict=True) for a, b in zip(k, c, strict=True))


def test_gradients_accumulate_and_hooks_run() -> None:
    def work(f: Any, net: Any, n: int) -> Any:
        seen: list[Any] = []
        x = T.randn(5, 3, requires_grad=True) * 2
        x.register_hook(lambda g: seen.append(g))
        y = f(x)
        handle = net[0].weight.register_hook(lambda g: seen.append(g) or g * 2)
        kept = y.register_hook(lambda g: seen.append(g))
        y.retain_grad()
        (y**2).sum().backward()
        handle.remove()
        kept.remove()
        return [seen, y.grad]

    both(work, mlp(), calls=5, hits=4)


def test_hooks_of_leaves_stay_while_the_function_is_replayed() -> None:
    net = mlp()
    counted: list[int] = []
    net[0].weight.register_hook(lambda g: g * 2)
    net[0].bias.register_post_accumulate_grad_hook(lambda p: counted.append(1))
    f = compiled_by_tier(net)
    for n in range(4):
        x = T.randn(5, 3)
        net.zero_grad()
        net(x).sum().backward()
        expected = values([p.grad for p in net.parameters()])
        net.zero_grad()
        f(x).sum().backward()
        engine._queue.join()
        assert agree(expected, values([p.grad for p in net.parameters()]))
        assert len(counted) == 2 * n + 2
    assert f.hits == 3


def test_a_function_with_a_backward_inside_runs_as_it_is_where_hooks_are() -> None:
    w = T.ones(2, requires_grad=True)

    def f(x: Any) -> Any:
        (g,) = T.autograd.grad((w * x).sum(), w)
        return g * w

    g = compiled_by_tier(f)
    for _ in range(3):
        assert g(T.ones(2)).tolist() == [1.0, 1.0]
        engine._queue.join()
    assert g.hits == 2
    w.register_hook(lambda g: g * 3)
    for _ in range(3):
        assert g(T.ones(2)).tolist() == [3.0, 3.0]
    assert g.hits == 2


def test_a_history_before_the_argument_is_no_part_of_the_function() -> None:
    layer = nn.Linear(3, 3)
    f = compiled_by_tier(layer)
    for _ in range(4):
        h = layer(T.ones(2, 3)).tanh()  # through the same weights
        want = T.autograd.grad(layer(h).sum(), layer.weight, retain_graph=True)
        got = T.autograd.grad(f(h).sum(), layer.weight, retain_graph=True)
        assert T.allclose(want[0], got[0], atol=1e-6)
        h.sum().backward()  # which frees it
        with pytest.raises(RuntimeError, match="second time"):
            f(h).sum().backward()
        engine._queue.join()
    assert f.hits == 7


def test_a_checkpoint_runs_it_as_it_is() -> None:
    def work(f: Any, net: Any, n: int) -> Any:
        x = T.randn(5, 3, requires_grad=True)
        T.utils.checkpoint.checkpoint(f, x * 2, use_reentrant=False).sum().backward()
        f(x).sum().backward()
        return [x.grad]

    both(work, mlp(), calls=4, hits=3, like=close)


def test_grad_of_some_inputs() -> None:
    def work(f: Any, net: Any, n: int) -> Any:
        x = T.randn(5, 3, requires_grad=True)
        y = f(x)
        a = T.autograd.grad(y, [x, net[2].bias], T.ones_like(y) * 2, retain_graph=True)
        y.backward(T.randn(5, 2), inputs=[net[0].weight])
        return [*a]

    both(work, mlp())


def test_calls_without_gradients_and_other_modes_have_recordings_of_their_own() -> None:
    def work(f: Any, net: Any, n: int) -> Any:
        x = T.randn(5, 3)
        net.train(n % 2 == 0)
        with T.no_grad():
            a = f(x)
        assert not a.requires_grad
        b = f(x)
        b.sum().backward()
        return [a, b]

    both(work, norm(), calls=8, hits=12)


# --- writes in between ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["weight", "input", "output", "data"])
def test_what_is_written_before_backward_is_an_error_where_it_is_one_eagerly(what: str) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.Sigmoid())
    f = compiled_by_tier(net)
    for function in (net, f, f, f):
        x = T.randn(5, 3)
        y = function(x)
        engine._queue.join()
        with T.no_grad():
            if what == "weight":
                net[2].weight.mul_(2)
            elif what == "data":
                net[2].weight.data = net[2].weight.data * 2
            else:
                (x if what == "input" else y).mul_(2)
        with pytest.raises(RuntimeError, match=r"was changed by an in-place operation \(version"):
            y.sum().backward()
    assert f.hits == 2


def test_what_is_written_before_backward_is_no_error_where_backward_does_not_read_it() -> None:
    def work(f: Any, net: Any, n: int) -> Any:
        y = f(T.randn(5, 3))
        with T.no_grad():
            net[0].bias.add_(1)
            net[2].bias.add_(1)
        y.mul_(2).sum().backward()
        return [y]

    both(work, mlp())


def test_random_draws_are_fresh_in_forward_and_the_same_in_backward() -> None:
    w = T.ones(1000, requires_grad=True)
    f = compiled_by_tier(lambda: F.dropout(w, 0.5))
    seen = []
    for _ in range(4):
        y = f()
        (g,) = T.autograd.grad(y.sum(), w)
        assert (g == y).all()
        seen.append(y.tolist())
        engine._queue.join()
    assert f.hits == 3
    assert all(a != b for a, b in pairwise(seen))


# --- gradients of gradients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [mlp, dropout, norm, convolution])
def test_a_gradient_of_a_gradient(build: Callable[[], Any]) -> None:
    def work(f: Any, net: Any, n: int) -> Any:
        x = T.randn(5, 3, requires_grad=True)
        outer = T.randn(5, 3, requires_grad=True)
        y = f(x * outer)
        if n >= 2:
            (g,) = T.autograd.grad((y**2).sum(), x, create_graph=True)
            ((g**2).sum() + y.sum()).backward()
            return [y, g, x.grad, outer.grad]
        y.sum().backward()
        return [y, x.grad, outer.grad]

    f = both(work, build(), calls=6, hits=5, like=close)
    assert f.plans[0].tier == 0  # it runs as it is by now


@pytest.mark.parametrize("what", ["a bias", "the network"])
def test_a_gradient_of_a_gradient_needs_all_as_it_was(what: str) -> None:
    net = mlp()
    f = compiled_by_tier(net)
    for _ in range(3):
        y = f(T.ones(2, 3))
        engine._queue.join()
    if what == "a bias":
        with T.no_grad():
            net[0].bias.add_(1)
    else:
        net.append(nn.Tanh())
    with pytest.raises(RuntimeError, match="this gradient needs the function run again, and"):
        T.autograd.grad(y.sum(), list(net.parameters()), create_graph=True)
    assert f.hits == 2


def test_gradients_inside_of_a_vmap() -> None:
    net = mlp()
    f = compiled_by_tier(net)
    for _ in range(3):
        x = T.randn(5, 3, requires_grad=True)
        y = f(x)
        want = net(x)
        basis = T.eye(10).reshape(10, 5, 2)
        got = T.vmap(lambda v, y=y, x=x: T.autograd.grad(y, x, v, retain_graph=True)[0])(basis)
        expected = T.vmap(lambda v, y=want, x=x: T.autograd.grad(y, x, v, retain_graph=True)[0])(basis)
        assert T.allclose(got, expected, atol=1e-6)
    assert f.hits == 2


# --- never stale ---------------------------------------------------------------------------------------------------------


CHANGES: dict[str, Callable[[Any], Any]] = {
    "a parameter is replaced": lambda net: setattr(net[0], "weight", nn.Parameter(T.ones(8, 3) * 0.1)),
    "a layer grows": lambda net: (
        net.__setitem__(0, nn.Linear(3, 9)),
        net.__setitem__(2, nn.Linear(9, 2)),
    ),
    "a layer is added": lambda net: net.append(nn.Tanh()),
    "a parameter is frozen": lambda net: net[0].requires_grad_(False),
    "a bias is removed": lambda net: net[2].register_parameter("bias", None),
    "values are written": lambda net: [p.data.mul_(2) for p in net.parameters()],
    "a hook comes": lambda net: net[0].register_forward_hook(lambda m, a, o: o * 2) and None,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_network_changes(name: str) -> None:
    def work(f: Any, net: Any, n: int) -> Any:
        if n == 3:
            CHANGES[name](net)
        y = f(T.randn(5, 3))
        y.exp().mean().backward()
        return [y]

    both(work, mlp(), calls=7, hits=4)


def test_the_backward_of_a_call_is_that_of_its_time() -> None:
    net, plain = mlp(), None
    f = compiled_by_tier(net)
    x = T.randn(5, 3)
    f(x), f(x)
    y = f(x)
    old = list(net.parameters())
    plain = T.autograd.grad(net(x).sum(), old)
    net[0], net[2] = nn.Linear(3, 8), nn.Linear(8, 2)
    f(x).sum().backward()
    got = T.autograd.grad(y.sum(), old)
    assert all(T.allclose(a, b, atol=1e-6) for a, b in zip(plain, got, strict=True))


def test_histories_that_cannot_be_followed_are_left_to_the_function() -> None:
    class Double(T.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 3

    w = T.ones(2, requires_grad=True)

    def hooked(x: Any) -> Any:
        y = w * x
        y.register_hook(lambda g: g * 5)
        return y

    for function, factor, why in (
        (lambda x: Double.apply(w * x), 3, "DoubleBackward"),
        (hooked, 5, "a hook"),
        (lambda x: (w * x).detach().requires_grad_(), None, "a leaf"),
    ):
        f = compiled_by_tier(function)
        for _ in range(3):
            y = f(T.ones(2))
            w.grad = None
            y.sum().backward()
            assert w.grad is None if factor is None else w.grad.tolist() == [factor] * 2
        assert f.hits == 0
        assert why in f.explain()


def test_threads_go_forward_and_backward_side_by_side() -> None:
    net = mlp()
    f = compiled_by_tier(net)
    weights = list(net.parameters())
    wrong: list[Any] = []

    def work(k: int) -> None:
        for i in range(60):
            x = T.full((2 + i % 2, 3), k / 4)
            got = T.autograd.grad((f(x) ** 2).sum(), weights)
            want = T.autograd.grad((net(x) ** 2).sum(), weights)
            if not all(T.allclose(a, b, atol=1e-5) for a, b in zip(got, want, strict=True)):
                wrong.append((k, i))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert f.hits > 150


def test_memory_does_not_grow() -> None:
    net = mlp()
    f = compiled_by_tier(net)
    for _ in range(20):
        f(T.ones(5, 3)).sum().backward()
    engine._queue.join()
    gc.collect()
    count = len(gc.get_objects())
    for _ in range(300):
        f(T.ones(5, 3)).sum().backward()
        f(T.ones(5, 3))  # of which no backward comes
    gc.collect()
    assert len(gc.get_objects()) <= count + 30
