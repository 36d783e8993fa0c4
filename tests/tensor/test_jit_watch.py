"""What is watched in memory shows every change; what is handed out is written again only where nobody has hold of it."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensor as T
from tensor import nn, optim
from tensor.jit import Compiled, codegen, compiled, watch
from tensor.jit.arguments import argument_rows

pytestmark = pytest.mark.skipif(not codegen.available() or not watch.layout_is_known(), reason="needs llvmlite and CPython")


class Slotted:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 1.5


def function(a: int = 1000) -> int:
    return a


def other(a: int = 1001) -> int:
    return a + 1


def change_function(f: Any) -> None:
    f.__code__ = other.__code__


LISTED: list[Any] = [1, "two", 3.0]
CASES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "list: element": (lambda: list(LISTED), watch.list_rows, lambda x: x.__setitem__(1, "other")),
    "list: longer": (lambda: list(LISTED), watch.list_rows, lambda x: x.append(1)),
    "list: shorter": (lambda: list(LISTED), watch.list_rows, lambda x: x.pop()),
    "list: order": (lambda: list(LISTED), watch.list_rows, lambda x: x.reverse()),
    "dict: value": (lambda: {"a": 1, "b": 2}, watch.dict_rows, lambda x: x.update(a=3)),
    "dict: new key": (lambda: {"a": 1, "b": 2}, watch.dict_rows, lambda x: x.update(c=3)),
    "dict: key gone": (lambda: {"a": 1, "b": 2}, watch.dict_rows, lambda x: x.pop("a")),
    "steady dict: value": (lambda: {"a": 1, "b": 2}, lambda x: watch.dict_rows(x, True), lambda x: x.update(a=3)),
    "steady dict: new key": (lambda: {"a": 1, "b": 2}, lambda x: watch.dict_rows(x, True), lambda x: x.update(c=3)),
    "steady dict: order": (lambda: {"a": 1, "b": 2}, lambda x: watch.dict_rows(x, True), lambda x: x.update(a=x.pop("a"))),
    "steady dict: last key anew": (lambda: {"a": 1, "b": 2}, lambda x: watch.dict_rows(x, True), lambda x: x.update([x.popitem(), ("c", 1)])),
    "entry: value": (lambda: {"a": 1}, lambda x: watch.entry_row(x, "a"), lambda x: x.update(a=2)),
    "entry: gone": (lambda: {"a": 1}, lambda x: watch.entry_row(x, "a"), lambda x: x.clear()),
    "entry: appears": (lambda: {"a": 1}, lambda x: watch.entry_row(x, "b"), lambda x: x.update(b=1)),
    "set": (lambda: {1, 2}, watch.set_rows, lambda x: x.add(3)),
    "cell": (lambda: types.CellType(1000), watch.cell_rows, lambda x: setattr(x, "cell_contents", 1001)),
    "code": (lambda: types.FunctionType(function.__code__, globals(), "f", (1,)), watch.code_rows, change_function),
    "defaults": (lambda: types.FunctionType(function.__code__, globals(), "f", (1,)), watch.code_rows, lambda f: setattr(f, "__defaults__", (2,))),
    "slot": (Slotted, lambda x: watch.attribute_row(x, "value"), lambda x: setattr(x, "value", 2.5)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_change_shows(case: str) -> None:
    make, rows, change = CASES[case]
    holder, untouched = make(), make()
    check = codegen.checker()(rows(holder), holder)
    assert check is not None
    assert check(None, None) is True
    change(untouched)
    assert check(None, None) is True
    change(holder)
    assert check(None, None) is False


def test_what_does_not_matter_in_a_steady_dict() -> None:
    holder = {"lr": 0.5, "count": 0}
    check = codegen.checker()(watch.dict_rows(holder, True, ["lr"]), holder)
    holder["count"] = 1
    assert check(None, None) is True
    holder["lr"] = 0.25
    assert check(None, None) is False


X, Y = T.ones(2, 3), T.zeros(2, 3)
ARGUMENTS: list[tuple[tuple[Any, ...], list[tuple[Any, ...]], list[tuple[Any, ...]]]] = [
    ((X,), [(T.zeros(2, 3),)], [(T.ones(3, 2),), (T.ones(2, 3, dtype=T.float64),), (T.ones(3, 2).t(),), (T.ones(2, 3, requires_grad=True),), (1,), ()]),
    ((X, Y), [(Y, X)], [(X, X)]),
    ((X, X), [(Y, Y)], [(X, Y)]),
    ((2.5,), [(2.5,)], [(2.0,), (2,), (float("nan"),)]),
    ((3, None, True), [(3, None, True)], [(4, None, True), (3, None, False), (3.0, None, True)]),
    (([X, 1], (Y,)), [([Y, 1], (X,))], [((X, 1), (Y,)), ([X, 2], (Y,)), ([X, 1, 1], (Y,)), ([X, 1], (X,))]),
    ((T.tensor(1.0),), [(T.tensor(5.0),)], [(T.ones(1),)]),
]  # fmt: skip


@pytest.mark.parametrize("made, alike, unlike", ARGUMENTS)
def test_arguments(made: tuple[Any, ...], alike: list[tuple[Any, ...]], unlike: list[tuple[Any, ...]]) -> None:
    rows = argument_rows(made, {}, ())
    assert rows is not None
    check = codegen.checker()(rows, made)
    assert check(made, {}) is True
    assert [check(args, {}) for args in alike] == [True] * len(alike)
    assert [check(args, {}) for args in unlike] == [False] * len(unlike)
    assert check(made, {"more": 1}) is False
    assert check((*made, 1), {}) is False


def learner(seed: int = 0) -> tuple[Any, Any, Any]:
    T.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = optim.Adam(net.parameters(), lr=1e-2)

    def step(x: T.Tensor) -> T.Tensor:
        optimizer.zero_grad()
        loss = (net(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return net, optimizer, step


def settled(step: Any, x: T.Tensor, calls: int = 4) -> Compiled:
    """The step compiled, and served by machine code."""
    f = Compiled(step)
    for _ in range(calls):
        f(x)
        compiled._queue.join()
    assert f.plans[0].tier == 1
    return f


HOLD: dict[str, Callable[[Any, Any], Any]] = {
    "nothing": lambda loss, net: None,
    "the result": lambda loss, net: loss,
    "its array": lambda loss, net: loss.detach().numpy(),
    "a gradient": lambda loss, net: net[0].weight.grad,
    "a row of a gradient": lambda loss, net: net[0].weight.grad[1],
    "a gradient's memory": lambda loss, net: memoryview(net[0].bias.grad.numpy()),
    "all": lambda loss, net: [loss, *(p.grad for p in net.parameters())],
}


def values(held: Any) -> Any:
    if isinstance(held, list):
        return [values(h) for h in held]
    return held.detach().numpy().copy() if isinstance(held, T.Tensor) else np.array(held)


@pytest.mark.parametrize("hold", HOLD)
def test_what_somebody_holds_is_never_written_again(hold: str) -> None:
    net, _, step = learner()
    x = T.randn(5, 3)
    f = settled(step, x)
    eager_net, _, eager = learner()
    for _ in range(4):
        eager(x)
    kept = []
    for _ in range(5):
        held = HOLD[hold](f(x), net)
        kept.append((held, values(held)))
        expected = eager(x)
        np.testing.assert_allclose(net[0].weight.grad.numpy(), eager_net[0].weight.grad.numpy(), rtol=1e-4, atol=1e-6)
        if hold == "the result":
            np.testing.assert_allclose(held.item(), expected.item(), rtol=1e-5)
    for held, before in kept:
        for a, b in zip(values(held), before, strict=True) if isinstance(before, list) else [(values(held), before)]:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("change", ["replaced", "cleared", "reshaped", "given to another"])
def test_gradients_that_were_meddled_with(change: str) -> None:
    nets, x = [], T.ones(5, 3)
    for kind in (lambda step: step, lambda step: settled(step, x)):
        net, _, step = learner()
        f = kind(step)
        if f is step:
            for _ in range(4):
                f(x)
        for _ in range(3):
            p = net[0].weight
            if change == "replaced":
                p.grad.data = T.zeros(8, 3)
            elif change == "cleared":
                p.grad = None
            elif change == "reshaped":
                p.grad._array.resize((24,), refcheck=False)  # the very array
            else:
                net[2].weight.grad, p.grad = None, p.grad.clone()
            f(x)
        nets.append(net)
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(b.grad.numpy(), a.grad.numpy(), rtol=1e-4, atol=1e-6)
        assert a.grad.shape == b.grad.shape


class Agent:
    """An object that changes at every step in ways that do not matter, and now and then in one that does."""

    def __init__(self) -> None:
        self.scale = 1.0
        self.steps = 0
        self.history: list[int] = []

    def __call__(self, x: T.Tensor) -> T.Tensor:
        return x * self.scale


def test_an_object_that_changes_all_the_time() -> None:
    agent = Agent()
    f, x = Compiled(agent.__call__), T.ones(3)
    for i in range(60):
        agent.steps += 1
        agent.history.append(i)
        if i % 20 == 19:
            agent.scale += 1.0
        assert f(x).tolist() == [agent.scale] * 3
        if i == 3:
            compiled._queue.join()
    assert f.recorded == 4
    assert f.hits == 56


def test_a_rate_that_changes_at_every_step() -> None:
    x, (eager_net, eager_optimizer, eager), (net, optimizer, step) = T.ones(5, 3), learner(), learner()
    f = settled(step, x)
    for i in range(30):
        if i >= 4:
            for each in (eager_optimizer, optimizer):
                each.param_groups[0]["lr"] = 1e-1 / i
            f(x)
        eager(x)
    np.testing.assert_allclose(net[0].weight.detach().numpy(), eager_net[0].weight.detach().numpy(), rtol=1e-4, atol=1e-5)
    assert f.recorded == 1


def test_later_recordings_wait_for_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "LATER", 20)
    _, _, step = learner()
    f = settled(step, T.ones(5, 3))
    tiers = []
    for _ in range(30):
        f(T.ones(6, 3))
        compiled._queue.join()
        tiers.append(f.plans[0].tier)
    assert tiers[:20] == [0] * 20
    assert tiers[-1] == 1
