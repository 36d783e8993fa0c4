"""Compiled functions and modules whose results the caller differentiates, at any later time: all is as without `compile`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from forward_cases import NETWORKS, F, Heads, both, close, first, mlp, nn, pair
from jit_worlds import TIER, agree, compiled_by_tier, tier, values  # noqa: F401

import tensor as T
from tensor.jit import compiled as engine


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_the_gradients_it_has_eagerly(name: str) -> None:
    def work(f: Any, net: Any, n: int) -> Any:
        x = T.randn(5, 3)
        y = first(f(x))
        ((y - 1) ** 2).mean().backward()
        return [y]

    f = both(work, NETWORKS[name](), calls=5, hits=4)
    assert f.plans[0].tier == (TIER[0] == "native")


@pytest.mark.parametrize("name", ["mlp", "dropout", "convolution"])
def test_a_network_learns_for_hundreds_of_steps_as_it_does_eagerly(name: str) -> None:
    plain, f, twin = pair(NETWORKS[name]())
    optimizers = [T.optim.Adam(net.parameters(), lr=1e-3) for net in (plain, twin)]
    losses: list[list[float]] = [[], []]
    for n in range(300):
        for function, optimizer, seen in zip((plain, f), optimizers, losses, strict=True):
            T.manual_seed(n)
            x = T.randn(5, 3)
            optimizer.zero_grad()
            loss = ((function(x) - x[:, :2]) ** 2).mean()
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
    assert f.hits == 299
    assert np.allclose(*losses, rtol=1e-3, atol=1e-5) if TIER[0] == "native" else losses[0] == losses[1]
    assert np.mean(losses[1][-20:]) < np.mean(losses[1][:20])


def test_a_loss_function_with_its_backward_outside() -> None:
    w = T.randn(3, 2, requires_grad=True)

    def loss(x: T.Tensor, y: T.Tensor) -> T.Tensor:
        return ((x @ w - y) ** 2).mean()

    f = compiled_by_tier(loss)
    for _ in range(4):
        x, y = T.randn(5, 3), T.randn(5, 2)
        found = []
        for function in (loss, f):
            w.grad = None
            function(x, y).backward()
            found.append(values(w.grad))
        engine._queue.join()
        assert agree(*found)
    assert f.hits == 3


def test_a_method_is_decorated() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        @T.compile
        def scores(self, x: T.Tensor, scale: float = 1.0) -> T.Tensor:
            return self.layer(x).tanh() * scale

    net = Net()
    for _ in range(3):
        x = T.randn(4, 3)
        net.zero_grad()
        net.scores(x, scale=2.0).sum().backward()
        expected = T.autograd.grad((net.layer(x).tanh() * 2.0).sum(), list(net.parameters()))
        assert all(T.allclose(p.grad, g) for p, g in zip(net.parameters(), expected, strict=True))
    assert Net.scores.hits == 2


# --- arguments and results -----------------------------------------------------------------------------------------------


def test_arguments_with_a_history_are_edges() -> None:
    front = nn.Linear(3, 3)

    def work(f: Any, net: Any, n: int) -> Any:
        front.zero_grad()
        h = front(T.randn(5, 3))
        leaf = T.randn(5, 3, requires_grad=True)
        f(h * leaf).sum().backward()
        leaf2 = T.randn(5, 3, requires_grad=True)
        f(leaf2).exp().sum().backward()
        return [leaf.grad, leaf2.grad, *(p.grad for p in front.parameters())]

    both(work, mlp(), calls=4, hits=6)


def test_an_argument_given_twice_and_in_a_dictionary() -> None:
    def f(a: Any, b: Any, more: Any) -> Any:
        return (a * b).sum() + (a * more["c"]).sum()

    g = compiled_by_tier(f)
    for n in range(6):
        x = T.full((3,), n + 1.0, requires_grad=True)
        y = x if n % 2 else T.ones(3, requires_grad=True)
        z = T.full((3,), 2.0)
        want = T.autograd.grad(f(x, y, {"c": z}), [x, y])
        got = T.autograd.grad(g(x, y, {"c": z}), [x, y])
        engine._queue.join()
        assert agree(values(want), values(got))
    assert g.hits >= 4


def test_an_argument_that_requires_a_gradient_or_not() -> None:
    net = mlp()
    f = compiled_by_tier(net)
    for n in range(9):
        x = T.randn(5, 3, requires_grad=n % 3 == 1)
        x = x * 1 if n % 3 == 2 and x.requires_grad_() is x else x
        y = f(x)
        assert [r is None for r in y.grad_fn.next_functions] == [False] * len(y.grad_fn.next_functions)
        got = T.autograd.grad(y.sum(), [*net.parameters(), *([x] if x.requires_grad else [])])
        want = T.autograd.grad(net(x).sum(), [*net.parameters(), *([x] if x.requires_grad else [])])
        assert all(T.allclose(a, b, atol=1e-6) for a, b in zip(want, got, strict=True))
        engine._queue.join()
    assert f.hits == 6


@pytest.mark.parametrize("used", [("pi",), ("v",), ("pi", "v")])
def test_some_of_several_results_are_used(used: tuple[str, ...]) -> None:
    def work(f: Any, net: Any, n: int) -> Any:
        net.zero_grad()
        x = T.randn(5, 3)
        out = f(x)
        assert out["x"] is x
        assert not out["largest"].requires_grad
        sum((out[name] ** 2).sum() for name in used).backward()
        return [out["pi"], out["v"], out["largest"]]

    both(work, Heads(), calls=4, hits=3)  # a head that is not used has no gradient, and not one of zeros


def test_two_of_three_results_are_used() -> None:
    w = T.randn(3, requires_grad=True)

    def f(x: Any) -> Any:
        h = (w * x).tanh()
        return h * 2, h.exp(), h * x

    g = compiled_by_tier(f)
    for _ in range(3):
        x = T.randn(3)
        found = []
        for function in (f, g):
            a, _, c = function(x)
            found.append(values(T.autograd.grad((a * c).sum(), w)))
        engine._queue.join()
        assert np.allclose(found[0][0][2], found[1][0][2], atol=1e-5)
    assert g.hits == 2


def test_results_given_twice_and_detached_ones() -> None:
    w = T.ones(3, requires_grad=True)

    def f(x: Any) -> Any:
        y = (w * x).tanh()
        return y, [y], y.detach(), w

    g = compiled_by_tier(f)
    for _ in range(3):
        y, (again,), bare, leaf = g(T.ones(3))
        assert y is again
        assert leaf is w
        assert not bare.requires_grad
        bare.mul_(2)
        assert (bare == y).all()
        with pytest.raises(RuntimeError, match="was changed by an in-place operation"):
            y.sum().backward()
        engine._queue.join()
    assert g.hits == 2


@pytest.mark.parametrize(
    "returned",
    [
        lambda w, x: w[0],  # a view of a tensor from outside
        lambda w, x: (lambda h: (h, h[0]))(w * x),  # views of each other
        lambda w, x: x[0],
    ],
)
def test_views_of_what_others_hold_are_written_as_they_are_eagerly(returned: Any) -> None:
    f = compiled_by_tier(lambda w, x: returned(w, x))
    for n in range(3):
        found = []
        for function in (returned, f):
            w = T.full((2, 2), n + 1.0, requires_grad=True)
            x = T.full((2, 2), 2.0, requires_grad=True)
            a, b = w * 1, x * 2
            out = function(a, b)
            out = out if isinstance(out, tuple) else (out,)
            out[-1].mul_(3)
            total = sum(t.sum() for t in (*out, a, b))
            found.append(values([total, *T.autograd.grad(total, [w, x])]))
        assert agree(*found)


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
        y = f(T.randn(5, 3))
        handle = net[0].weight.register_hook(lambda g: seen.append(g) or g * 2)
        kept = y.register_hook(lambda g: seen.append(g))
        y.retain_grad()
        (y**2).sum().backward()
        handle.remove()
        kept.remove()
        net[0].weight._node.hooks = None
        return [seen, y.grad]

    both(work, mlp(), calls=5, hits=4)


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

    both(work, NETWORKS["batch norm"](), calls=8, hits=12)


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
