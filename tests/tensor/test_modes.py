"""Recording on and off: nesting, decorators, threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import tensor as T
from tensor.autograd.modes import disabled


def test_blocks_nest_and_restore() -> None:
    assert T.is_grad_enabled()
    with T.no_grad():
        assert not T.is_grad_enabled()
        with T.enable_grad():
            assert T.is_grad_enabled()
            with T.set_grad_enabled(False):
                assert not T.is_grad_enabled()
            assert T.is_grad_enabled()
        assert not T.is_grad_enabled()
    assert T.is_grad_enabled()


def test_one_object_may_be_entered_again_after_it_was_left() -> None:
    block = T.no_grad()
    for _ in range(2):
        with block:
            assert not T.is_grad_enabled()
        assert T.is_grad_enabled()


def test_an_exception_restores() -> None:
    with pytest.raises(KeyError), T.no_grad():
        raise KeyError
    assert T.is_grad_enabled()


def test_set_grad_enabled_acts_at_once() -> None:
    T.set_grad_enabled(False)
    assert not T.is_grad_enabled()
    T.set_grad_enabled(True)
    assert T.is_grad_enabled()


@pytest.mark.parametrize("make", [T.no_grad, lambda: T.no_grad, lambda: T.set_grad_enabled(False)])
def test_decorators(make: Any) -> None:
    @make()
    def inside(x: Any) -> bool:
        """Kept."""
        return (x * 2).requires_grad

    assert T.is_grad_enabled()
    assert not inside(T.ones(1, requires_grad=True))
    assert T.is_grad_enabled()
    assert (inside.__name__, inside.__doc__) == ("inside", "Kept.")


def test_nothing_is_recorded_inside_no_grad() -> None:
    x = T.ones(2, requires_grad=True)
    with T.no_grad():
        y = x * 2
        new = T.zeros(1, requires_grad=True)
    assert y.grad_fn is None
    assert not y.requires_grad
    assert new.requires_grad
    with T.no_grad(), T.enable_grad():
        assert (x * 2).requires_grad


def test_each_thread_has_its_own_flag() -> None:
    inside, go = threading.Event(), threading.Event()

    def other() -> None:
        with T.no_grad():
            inside.set()
            go.wait(5)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(5)
    assert T.is_grad_enabled()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(T.is_grad_enabled).result()
    go.set()
    thread.join()


def test_a_thread_that_ends_inside_no_grad_leaves_nothing_to_the_next() -> None:
    """Thread numbers are used again: the flag must go with the thread."""

    def dies() -> None:
        T.no_grad().__enter__()

    before = set(disabled)
    for _ in range(20):
        thread = threading.Thread(target=dies)
        thread.start()
        thread.join()
        found: list[bool] = []
        following = threading.Thread(target=lambda found=found: found.append(T.is_grad_enabled()))
        following.start()
        following.join()
        assert found == [True]
    assert disabled == before


def test_backward_in_threads() -> None:
    def work(k: int) -> float:
        x = T.tensor(float(k), requires_grad=True)
        for _ in range(20):
            (x * x).backward()
        assert x.grad is not None
        return float(x.grad.item())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(8))) == [40.0 * k for k in range(8)]


def test_inference_mode() -> None:
    w = T.ones(2, requires_grad=True)
    with T.inference_mode():
        assert T.is_inference_mode_enabled()
        assert not (w * 2).requires_grad
        with T.inference_mode(False):
            assert not T.is_inference_mode_enabled()
            assert (w * 2).requires_grad
        assert not T.is_grad_enabled()
    assert not T.is_inference_mode_enabled()
    assert T.is_grad_enabled()

    @T.inference_mode
    def plain() -> tuple[bool, bool]:
        return T.is_inference_mode_enabled(), T.is_grad_enabled()

    assert plain() == T.inference_mode()(plain)() == (True, False)


@pytest.mark.parametrize("block, inside", [(T.no_grad, False), (T.inference_mode, False), (T.enable_grad, True)])
def test_a_decorated_generator_is_in_the_mode_only_while_it_runs(block: Any, inside: bool) -> None:
    closed: list[bool] = []

    @block()
    def numbers(n: int) -> Any:
        """The docstring stays."""
        got = None
        try:
            for i in range(n):
                assert T.is_grad_enabled() is inside
                try:
                    got = yield i, got
                except KeyError as e:
                    got = str(e)
        finally:
            closed.append(T.is_grad_enabled())
        return "end"

    with T.set_grad_enabled(not inside):
        steps = numbers(4)
        assert next(steps) == (0, None)
        assert T.is_grad_enabled() is not inside
        assert steps.send("a") == (1, "a")
        assert steps.throw(KeyError("b")) == (2, "'b'")
        assert next(steps) == (3, None)
        with pytest.raises(StopIteration, match="end"):
            next(steps)
        steps = numbers(2)
        next(steps)
        steps.close()
        assert T.is_grad_enabled() is not inside
    assert closed == [inside, inside]
    assert numbers.__doc__ == "The docstring stays."
