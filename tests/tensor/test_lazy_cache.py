"""Graphs of lazy blocks that come again: found, compiled, and told apart where they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tensor as T
from tensor.jit import codegen
from tensor.jit.deferred import cache

native = pytest.mark.skipif(not codegen.available(), reason="no llvmlite")


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    cache.clear()
    yield
    cache.settle()
    cache.clear()


def work(x: T.Tensor, scale: float = 2.0) -> T.Tensor:
    return ((x * scale + 1).tanh() - x).sum()


@native
def test_the_third_time_a_graph_is_machine_code() -> None:
    inputs = [T.arange(12.0).reshape(3, 4) * 0.1 + k for k in range(5)]
    with T.lazy() as block:
        results = []
        for x in inputs:
            results.append((work(x).item(), x))
            cache.settle()
    expected = [work(x).item() for _, x in results]
    assert [r for r, _ in results[:2]] == expected[:2]
    assert [r for r, _ in results[2:]] == pytest.approx(expected[2:], rel=1e-6)
    assert (block.graphs, block.hits, block.compiled) == (5, 4, 3)


@native
def test_numbers_that_change_from_step_to_step_do_not_make_new_graphs() -> None:
    x = T.arange(6.0) * 0.1
    expected = [work(x, 1 + k / 7).item() for k in range(6)]
    with T.lazy() as block:
        for k in range(6):
            assert work(x, 1 + k / 7).item() == pytest.approx(expected[k], rel=1e-5)
            cache.settle()
    assert block.compiled == 4


def base() -> T.Tensor:
    return T.arange(12.0).reshape(3, 4) * 1


DIFFERENT: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "shape": (lambda: work(base()), lambda: work(base()[:2].clone())),
    "strides": (lambda: work(base()), lambda: work(T.arange(12.0).reshape(4, 3).clone().t())),
    "dtype": (lambda: work(base()), lambda: work(base().double())),
    "axis": (lambda: work(base()) + base().sum(0), lambda: work(base()) + base().sum(1)[:1]),
    "integer": (lambda: work(base() ** 2), lambda: work(base() ** 3)),
    "exponent": (lambda: work(base().abs() ** 0.5), lambda: work(base().abs() ** 0.25)),
    "zero": (lambda: 1 / T.full_like(base(), 0.0).mul(work(base())), lambda: 1 / T.full_like(base(), -0.0).mul(work(base()))),
    "one or true": (lambda: work(base().clamp(max=1)), lambda: work(base().clamp(max=True))),
    "which view": (lambda: work(base()[0] + base()[1]), lambda: work(base()[0] + base()[2])),
    "order": (lambda: work(base() - base().exp()), lambda: work(base().exp() - base())),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_graphs_that_differ_are_told_apart(what: str) -> None:
    one, other = DIFFERENT[what]
    expected = [one().tolist(), other().tolist()]
    for _ in range(4):
        got = []
        for f in (one, other):
            with T.lazy():
                got.append(f())
            cache.settle()
        np.testing.assert_allclose(np.array([t.tolist() for t in got[:1]]), np.array(expected[:1]), rtol=1e-5)
        np.testing.assert_allclose(np.array([t.tolist() for t in got[1:]]), np.array(expected[1:]), rtol=1e-5)


@native
def test_what_is_still_held_is_part_of_a_graph() -> None:
    x = T.arange(6.0) * 0.1
    for k in range(8):
        with T.lazy() as block:
            a = x * 2
            b = a + 1
            c = b.tanh()
            if k % 2:
                del b
            assert c.tolist() == pytest.approx(np.tanh(x.numpy() * 2 + 1).tolist(), rel=1e-5)
            assert a.tolist() == (x * 2).tolist()
            if not k % 2:
                assert b.tolist() == (x * 2 + 1).tolist()
        cache.settle()
    assert block.compiled == 1


@native
def test_writes_and_views_in_machine_code() -> None:
    def program(x: T.Tensor) -> Any:
        y = x * 2
        before = y + 1
        y[1:].mul_(3)
        y += x
        t = y.t()
        y[0].fill_(5)
        return before, t, y.sum(0)

    x = T.randn(4, 4)
    expected = [t.numpy() for t in program(x)]
    for _ in range(4):
        with T.lazy() as block:
            got = program(x)
        cache.settle()
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a.numpy(), b, rtol=1e-5, atol=1e-6)
    assert block.compiled == 1


def test_the_least_recently_used_graph_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "KEPT", 3)

    def seen(n: int) -> int:
        with T.lazy() as block:
            work(T.ones(n)).item()
        return block.hits

    assert [seen(n) for n in (1, 2, 3, 1, 4, 1, 2)] == [0, 0, 0, 1, 0, 1, 0]


def test_without_the_compiler_graphs_run_by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codegen, "available", lambda: False)
    x = T.randn(5)
    for _ in range(4):
        with T.lazy() as block:
            assert work(x).item() == pytest.approx(work(x).item())
        cache.settle()
    assert block.compiled == 0


@native
def test_one_compiled_graph_in_two_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def run(k: int) -> bool:
        x = T.arange(1000.0) * 0.001 + k
        with T.lazy():
            got = [work(x, 1 + i / 10).item() for i in range(50)]
        return bool(np.allclose(got, [work(x, 1 + i / 10).item() for i in range(50)], rtol=1e-4))

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(run, range(6)))
