"""Compiled functions and modules whose results the caller differentiates: networks, arguments, results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from jit_worlds import TIER, agree, both, close, compiled_by_tier, mlp, pair, tier, values  # noqa: F401

import tensor as T
from tensor.jit import compiled as engine

F = T.nn.functional
nn = T.nn


class Recurrent(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.cells = kind(3, 4, batch_first=True)

    def forward(self, x: T.Tensor) -> Any:
        return self.cells(x.unsqueeze(1).expand(-1, 3, -1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.front, self.layer = nn.Linear(3, 4), nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: T.Tensor) -> Any:
        h = self.front(x).unsqueeze(0)
        return self.layer(h, h, h)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(7, 4), nn.Linear(4, 2)

    def forward(self, x: T.Tensor) -> Any:
        return self.head(self.table((x.abs() * 3).long() % 7).mean(1))


class Heads(nn.Module):
    """Several results: two with a history, one without, and the argument itself."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.pi, self.v = nn.Linear(3, 6), nn.Linear(6, 2), nn.Linear(6, 1)

    def forward(self, x: T.Tensor) -> Any:
        h = self.body(x).tanh()
        return {"pi": self.pi(h), "v": self.v(h).squeeze(-1), "largest": h.detach().max(), "x": x}


NETWORKS: dict[str, Callable[[], Any]] = {
    "mlp": mlp,
    "dropout": lambda: nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2)),
    "batch norm": lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.SiLU(), nn.Linear(8, 2)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(4, 2)
    ),
    "embedding": Words,
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "attention": Attention,
    "heads": Heads,
}


def first(x: Any) -> Any:
    while not isinstance(x, T.Tensor):
        x = next(iter(x.values())) if isinstance(x, dict) else x[0]
    return x


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


def test_a_detached_result_shares_the_counter_of_the_one_that_it_is_of() -> None:
    w = T.ones(3, requires_grad=True)

    def f(x: Any) -> Any:
        y = w + x
        return y, y.detach()

    g = compiled_by_tier(f)
    for _ in range(3):
        y, bare = g(T.ones(3))
        z = (y * y).sum()
        bare.mul_(2)
        with pytest.raises(RuntimeError, match="was changed by an in-place operation"):
            z.backward()
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
