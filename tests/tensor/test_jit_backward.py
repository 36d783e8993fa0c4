"""The backward pass as machine code: the same bits as the ordinary pass, or the ordinary pass."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensor as T
from tensor.autograd import engine
from tensor.jit import backward, compiled
from tensor.jit.backward import kernels
from tensor.jit.backward.layout import MOST_NODES
from tensor.ops import machine
from tensor.ops.record import OPERATORS, Array, Operator

linear = T.nn.functional.linear
Graph = Callable[..., T.Tensor]


class Ways:
    """Both passes, and how often machine code went all the way."""

    def __init__(self) -> None:
        assert backward.install()
        self.native = engine.shortcut.run
        self.taken = 0

    def counted(self, gradients: Any, release: bool) -> Any:
        found = self.native(gradients, release)
        self.taken += found is not None
        return found

    def gradients(self, native: bool, graph: Graph, values: list[Any], **options: Any) -> list[Any]:
        engine.shortcut.run = self.counted if native else lambda *args: None
        leaves = [T.tensor(v).requires_grad_() for v in values]
        order: list[int] = []
        for i, leaf in enumerate(leaves):
            leaf.register_hook(lambda g, i=i: order.append(i))
        graph(*leaves).backward(**options)
        return [order, *(None if x.grad is None else x.grad.numpy() for x in leaves)]

    def compare(self, graph: Graph, values: list[Any], taken: bool | None = True, **options: Any) -> None:
        """The two passes agree to the last bit; whether machine code did its one."""
        before = self.taken
        mine, usual = (self.gradients(native, graph, values, **options) for native in (True, False))
        assert mine[0] == usual[0]
        for a, b in zip(mine[1:], usual[1:], strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                assert a.base is None
                assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        assert taken is None or self.taken - before == taken


@pytest.fixture(name="ways", scope="module")
def _ways() -> Iterator[Ways]:
    pytest.importorskip("llvmlite")
    before = engine.shortcut.run
    yield Ways()
    engine.shortcut.run = before


def normal(*shape: int, dtype: Any = "f", seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def kept(x: T.Tensor) -> Any:
    """The gradient that a tensor has, as numbers."""
    assert x.grad is not None
    return x.grad.tolist()


EACH: dict[str, tuple[Graph, list[tuple[int, ...]]]] = {
    "linear": (lambda x, w, b: linear(x, w, b).sum(), [(3, 5), (4, 5), (4,)]),
    "cat": (lambda x, y: (T.cat([x, y, x], -1) ** 2).sum(), [(3, 5), (3, 19)]),
    "tanh": (lambda x: x.tanh().sum(), [(3, 35)]),
    "sigmoid": (lambda x: x.sigmoid().sum(), [(35,)]),
    "relu": (lambda x: x.relu().sum(), [(3, 35)]),
    "exp": (lambda x: x.exp().sum(), [(3, 35)]),
    "expm1": (lambda x: x.expm1().sum(), [(3, 35)]),
    "log": (lambda x: (x * x).log().sum(), [(3, 35)]),
    "log1p": (lambda x: (x * x).log1p().sum(), [(3, 35)]),
    "sqrt": (lambda x: (x * x).sqrt().sum(), [(3, 35)]),
    "reciprocal": (lambda x: x.reciprocal().sum(), [(3, 35)]),
    "neg": (lambda x: ((-x) * x).sum(), [(3, 35)]),
    "add": (lambda x, y: ((x + y) * (x + 2)).sum(), [(3, 35), (3, 35)]),
    "sub": (lambda x, y: ((x - y) * (1 - x)).sum(), [(3, 35), (3, 35)]),
    "mul": (lambda x, y: (x * y * 0.3 * x).sum(), [(3, 35), (3, 35)]),
    "div": (lambda x, y: (x / 3 + x / y + 2 / y).sum(), [(3, 35), (3, 35)]),
    "pow": (lambda x: (x**2).sum(), [(3, 35)]),
    "square": (lambda x: x.square().sum(), [(3, 35)]),
    "sum": (lambda x: x.sum() * 3, [(3, 35)]),
    "mean": (lambda x: x.mean() * 3, [(3, 35)]),
    "mean_square": (T.nn.functional.mse_loss, [(3, 35), (3, 35)]),
    "clone": (lambda x: (x.clone() * x).sum(), [(3, 35)]),
    "reshape": (lambda x: (x.reshape(35, 3) ** 2).sum(), [(3, 35)]),
    "view": (lambda x: (x.view(35, 3) ** 2).sum(), [(3, 35)]),
    "squeeze": (lambda x: (x.squeeze(0) ** 2).sum(), [(1, 35)]),
    "unsqueeze": (lambda x: (x.unsqueeze(0) ** 2).sum(), [(3, 35)]),
}


def test_every_operator_of_the_table_has_its_kernel_and_its_case() -> None:
    assert set(machine.KERNELS) == set(kernels.KERNELS)
    assert set(machine.OPERATORS) == set(EACH)


def test_an_operator_of_somebody_else_may_have_the_same_name() -> None:
    def tanh(x: Array) -> Array:
        return np.tanh(x)

    theirs = Operator("tanh", tanh, {"x": lambda g: g}, None, None, None)
    assert OPERATORS["tanh"].plan(1).word != 0
    assert theirs.plan(1).word == 0


@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("name", EACH)
def test_each_operator(ways: Ways, name: str, dtype: str) -> None:
    graph, shapes = EACH[name]
    ways.compare(graph, [normal(*shape, dtype=dtype) for shape in shapes])


@pytest.mark.parametrize("rows", [1, 2, 9, 40])
@pytest.mark.parametrize("out", [1, 2, 17])
def test_networks_of_linear_layers(ways: Ways, rows: int, out: int) -> None:
    def graph(x: Any, w: Any, b: Any, v: Any, c: Any) -> T.Tensor:
        return (linear(linear(x, w, b).tanh(), v, c).relu() ** 2).mean()

    ways.compare(graph, [normal(*s) for s in [(rows, 6), (33, 6), (33,), (out, 33), (out,)]])


def tree(x: Any, w: Any, b: Any, uses: int) -> Any:
    if uses == 1:
        return x
    return linear(T.cat([tree(x, w, b, uses // 2), tree(x, w, b, uses - uses // 2)], 1), w, b).tanh()


@pytest.mark.parametrize("uses, rows, taken", [(9, 1, True), (200, 1, True), (65, 32, True), (66, 32, False), (3, 33, False)])
def test_a_weight_used_many_times(ways: Ways, uses: int, rows: int, taken: bool) -> None:
    ways.compare(lambda x, w, b: tree(x, w, b, uses).sum(), [normal(rows, 8), normal(8, 16), normal(8)], taken)


@pytest.mark.parametrize("nodes, taken", [(MOST_NODES - 3, True), (MOST_NODES, False)])
def test_a_graph_of_many_nodes(ways: Ways, nodes: int, taken: bool) -> None:
    def graph(x: Any) -> T.Tensor:
        y = x
        for _ in range(nodes):
            y = y * 1.0
        return y.sum()

    ways.compare(graph, [normal(3)], taken)


def test_gradients_that_take_more_memory_than_a_workspace(ways: Ways) -> None:
    ways.compare(lambda x: x.tanh().sum(), [normal(backward.ARENA // 16)])
    ways.compare(lambda x: x.tanh().sum(), [normal(backward.ARENA // 4)], taken=False)


#: What has an ordinary pass: the reason, the graph, the values.
ORDINARY: dict[str, tuple[Graph, list[Any]]] = {
    "broadcasting": (lambda x, y: (x * y).sum(), [normal(3, 4), normal(4)]),
    "strides": (lambda x, y: (x.T * y).sum(), [normal(3, 4), normal(4, 3)]),
    "another operator": (lambda x: x.sin().sum(), [normal(3)]),
    "a power of three": (lambda x: (x**3).sum(), [normal(3)]),
    "a sum over a dimension": (lambda x: x.sum(1).mean(), [normal(3, 4)]),
    "complex numbers": (lambda x: (x * x).abs().sum(), [normal(3) + 1j * normal(3, seed=1)]),
    "half precision": (lambda x: (x * x).sum(), [normal(3).astype(np.float16)]),
    "two types": (lambda x, y: (x.double() * y).sum(), [normal(3), normal(3, dtype="d")]),
    "samples": (lambda x: T.vmap(lambda row: row * row)(x).sum(), [normal(3, 4)]),
    "rows of rows": (lambda x, w: linear(x, w).sum(), [normal(2, 3, 4), normal(5, 4)]),
    "a leaf": (lambda x: x, [normal()]),
    "a weight that is added, too": (lambda x, w: linear(x, w).sum() + (w * w).sum(), [normal(2, 4), normal(5, 4)]),
    "a weight that was computed": (lambda x, w: linear(x, w * 2).sum(), [normal(2, 4), normal(5, 4)]),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_what_is_left_to_the_ordinary_pass(ways: Ways, name: str) -> None:
    ways.compare(*ORDINARY[name], taken=False)


#: Where the ordinary pass goes first, and machine code goes on.
HEADS: dict[str, Graph] = {
    "an operator that has no kernel": lambda x, w, v: linear(x.tanh(), w).sin().sum(),
    "a hook": lambda x, w, v: hooked(linear(x.tanh(), w) * 2).sum(),
    "two branches": lambda x, w, v: (lambda y: y.sin().sum() + y.cos().mean())(linear(x.tanh(), w)),
    "two ends": lambda x, w, v: (x.tanh().sin() + x.tanh().relu().cos()).sum(),
    "a leaf that has a gradient": lambda x, w, v: linear(x.tanh(), w).sin().sum() + x.cos().sum(),
    "a leaf that has a use": lambda x, w, v: linear(x.tanh(), w).sin().sum() + linear(x, v).sum(),
}


def hooked(y: Any) -> Any:
    y.register_hook(lambda g: g * 3)
    return y


@pytest.mark.parametrize("name", HEADS)
def test_machine_code_goes_on_where_the_ordinary_pass_began(ways: Ways, name: str) -> None:
    ways.compare(HEADS[name], [normal(3, 6), normal(5, 6), normal(2, 6)])


def test_a_weight_that_has_a_use_of_the_ordinary_pass(ways: Ways) -> None:
    def graph(x: Any, w: Any) -> T.Tensor:
        return linear(x.tanh(), w).sin().sum() + linear(x, w).sum()

    ways.compare(graph, [normal(3, 6), normal(5, 6)], taken=False)


def test_hooks_in_the_middle_see_and_replace_gradients(ways: Ways) -> None:
    def graph(x: Any) -> T.Tensor:
        y = x.tanh()
        y.register_hook(lambda g: g * 3)
        y.grad_fn.register_hook(lambda inputs, outputs: (inputs[0] * 2,))
        return (y * y).sum()

    ways.compare(graph, [normal(5)], taken=False)


def test_hooks_of_leaves(ways: Ways) -> None:
    def graph(x: Any) -> T.Tensor:
        x.register_hook(lambda g: g * 2)
        x.register_post_accumulate_grad_hook(lambda t: t.grad.mul_(5))
        return (x * x).sum()

    ways.compare(graph, [normal(5)])


def test_gradients_kept_of_values_in_between(ways: Ways) -> None:
    for native in (True, False):
        engine.shortcut.run = ways.counted if native else lambda *args: None
        x = T.ones(3, requires_grad=True)
        y = x * 2
        y.retain_grad()
        (y * y).sum().backward()
        assert kept(y) == [4.0, 4.0, 4.0]


def test_a_gradient_given_and_graphs_kept(ways: Ways) -> None:
    engine.shortcut.run = ways.counted
    x = T.ones(2, 3, requires_grad=True)
    y = x * x * x
    before = ways.taken
    for n in (1, 2):
        y.backward(T.full((2, 3), 2.0), retain_graph=True)
        assert kept(x) == [[6.0 * n] * 3] * 2
    y.backward(T.full((3, 2), 2.0).T)
    assert kept(x) == [[18.0] * 3] * 2
    assert ways.taken - before == 2


def test_gradients_are_added_to_those_that_are_there(ways: Ways) -> None:
    engine.shortcut.run = ways.counted
    x = T.ones(3, requires_grad=True)
    (x * 2).sum().backward()
    first = x.grad
    (x * 5).sum().backward()
    assert x.grad is first
    assert kept(x) == [7.0] * 3


def errors(ways: Ways, act: Callable[[], None]) -> set[str]:
    found = set()
    for native in (True, False):
        engine.shortcut.run = ways.counted if native else lambda *args: None
        with pytest.raises(RuntimeError) as e:
            act()
        found.add(str(e.value))
    return found


def test_a_graph_goes_back_once(ways: Ways) -> None:
    def act() -> None:
        x = T.ones(3, requires_grad=True)
        y = (x * x).sum()
        y.backward()
        y.backward()

    (text,) = errors(ways, act)
    assert "a second time" in text


@pytest.mark.parametrize("what", ["input", "output"])
def test_values_that_were_written_into(ways: Ways, what: str) -> None:
    leaves: list[Any] = []

    def act() -> None:
        x = T.ones(3, requires_grad=True)
        y = x.tanh()
        z = (y * y).sum()
        with T.no_grad():
            (y if what == "output" else y.view(3)).add_(1)
        leaves[:] = [x]
        z.backward()

    (text,) = errors(ways, act)
    assert "changed by an in-place operation (version 1, expected 0)" in text
    assert leaves[0].grad is None


def test_writes_before_a_value_is_kept(ways: Ways) -> None:
    def graph(x: Any) -> T.Tensor:
        y = x * 2
        y.add_(1)
        return (y * y).sum()

    ways.compare(graph, [normal(5)])


def test_gradients_of_gradients_and_of_chosen_tensors(ways: Ways) -> None:
    engine.shortcut.run = ways.counted
    x = T.tensor(3.0, requires_grad=True)
    (dy,) = T.autograd.grad(x * x * x, x, create_graph=True)
    dy.backward()
    assert kept(x) == 18.0


def test_a_pass_that_is_watched(ways: Ways) -> None:
    engine.shortcut.run = ways.counted
    before, x = ways.taken, T.tensor([0.0], requires_grad=True)
    with T.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="nan"):
        (x.log() * 0).sum().backward()
    assert ways.taken == before


def test_what_operands_may_be(ways: Ways) -> None:
    ways.compare(lambda x: (x * normal(2)).sum(), [normal(2)], taken=False)
    ways.compare(lambda x: (x * True).sum(), [normal(2)], taken=False)
    ways.compare(lambda x: (x * 10**30).sum(), [normal(2)])
    ways.compare(lambda x: (x * T.nn.Parameter(T.ones(2))).sum(), [normal(2)])


def test_threads_have_passes_at_the_same_time(ways: Ways) -> None:
    values = [normal(4, 16), normal(16, 32), normal(16)]

    def graph(x: Any, w: Any, b: Any) -> T.Tensor:
        return tree(x, w, b, 12).sum()

    expected = ways.gradients(False, graph, values)
    engine.shortcut.run = ways.native
    results: list[Any] = []

    def work() -> None:
        for _ in range(40):
            leaves = [T.tensor(v).requires_grad_() for v in values]
            graph(*leaves).backward()
            results.append([x.grad.numpy() for x in leaves if x.grad is not None])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 160
    assert all(a.tobytes() == b.tobytes() for found in results for a, b in zip(found, expected[1:], strict=True))


@pytest.mark.parametrize("name", ["linear", "cat", "mul"])
@pytest.mark.parametrize("end", [lambda y: y, lambda y: y.sin()])
def test_passes_leave_nothing_behind(ways: Ways, name: str, end: Any) -> None:
    engine.shortcut.run = ways.native
    graph, shapes = EACH[name]
    leaves = [T.tensor(normal(*shape)).requires_grad_() for shape in shapes]

    def passes(count: int) -> None:
        for _ in range(count):
            end(graph(*leaves)).backward()
            for x in leaves:
                x.grad = None
        gc.collect()

    passes(20)
    counts = [sys.getrefcount(x._array) for x in leaves]
    tracemalloc.start()
    grown = []
    for _ in range(3):  # what a pass leaves, every round leaves; other threads may be at work in one
        start, _ = tracemalloc.get_traced_memory()
        passes(300)
        grown.append(tracemalloc.get_traced_memory()[0] - start)
    tracemalloc.stop()
    assert min(grown) < 300 * 8
    assert [sys.getrefcount(x._array) for x in leaves] == counts


def test_machine_code_is_made_after_some_passes(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.shortcut.run = engine._ordinary
    monkeypatch.setattr(engine, "_passes", count(engine.SEVERAL - 1))
    for made in (False, True):
        T.ones(3, requires_grad=True).sum().backward()
        for thread in threading.enumerate():
            if thread.name == "tensor.autograd":
                thread.join()
        compiled._queue.join()
        assert (engine.shortcut.run is ways.native) == made


def test_without_machine_code_every_pass_is_an_ordinary_one(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.shortcut.run = engine._ordinary
    monkeypatch.setattr(backward.host, "available", lambda: False)
    assert not backward.install()
    assert engine.shortcut.run is engine._ordinary


# --- random graphs --------------------------------------------------------------------------------------------------------

UNARY: list[Callable[[Any], Any]] = [
    T.tanh, T.sigmoid, T.relu, T.exp, T.neg, T.square, lambda x: x**2, lambda x: x * -1.0, lambda x: 0.5 * x, lambda x: x / 3,
    lambda x: 1 - x, T.clone, lambda x: x.reshape(-1).view(x.shape), lambda x: x.sin(), lambda x: x.T.T,
]  # fmt: skip
BINARY: list[Callable[[Any, Any], Any]] = [T.add, T.sub, T.mul, lambda x, y: x / (y * y + 1)]
STEPS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=25)


def random_graph(steps: list[tuple[int, int, int]], last: int) -> Graph:
    """Values of one width: each step adds one, made of earlier ones."""

    def graph(x: Any, y: Any, w: Any, b: Any, v: Any) -> T.Tensor:
        values = [x, y, x.detach()]
        for kind, i, j in steps:
            p, q = values[i % len(values)], values[j % len(values)]
            if kind < len(UNARY):
                new = UNARY[kind](p)
            elif kind < 20:
                new = BINARY[kind % 4](p, q)
            elif kind < 25:
                new = linear(p, w, b)
            else:
                new = linear(T.cat([p, q], 1), v)
            values.append(new.tanh() if kind % 2 else new)
        total = values[-1] + x
        return (total.sum(), total.mean(), T.nn.functional.mse_loss(total, y), T.cat([total, y]).mean())[last]

    return graph


@given(STEPS, st.integers(0, 3), st.sampled_from([1, 2, 5, 33]), st.sampled_from([1, 3, 8, 21]), st.sampled_from("fd"))
def test_random_graphs_have_the_same_bits(steps: Any, last: int, rows: int, width: int, dtype: str) -> None:
    pytest.importorskip("llvmlite")
    before = engine.shortcut.run
    try:
        shapes = [(rows, width), (rows, width), (width, width), (width,), (width, 2 * width)]
        values = [0.5 * normal(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)]
        with np.errstate(all="ignore"):
            Ways().compare(random_graph(steps, last), values, taken=None)
    finally:
        engine.shortcut.run = before
