"""A compiled function is never stale: whatever changes between two calls, it gives what the function itself gives.

Each test runs two equal worlds side by side, one of them compiled, changes both, and compares everything that can be seen, to the last bit.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from jit_worlds import World, compiled_by_tier, equal, learner, tier  # noqa: F401

import tensor as T
from tensor.jit import Compiled

RATE = 0.5


# --- arguments -----------------------------------------------------------------------------------------------------------


def test_another_shape_of_an_argument() -> None:
    equal(learner, lambda w: setattr(w, "args", lambda x: (T.tensor(x[:2]),)), hits=4)


def test_another_dtype_of_an_argument() -> None:
    def build() -> World:
        return World(step=lambda x: x * 2 + 1)

    equal(build, lambda w: setattr(w, "args", lambda x: (T.tensor(x.astype("d")),)), hits=4)


def test_other_strides_of_an_argument() -> None:
    def build() -> World:
        return World(step=lambda x: (x.is_contiguous(), x.reshape(-1) * 2), args=lambda x: (T.tensor(x[:3]),))

    equal(build, lambda w: setattr(w, "args", lambda x: (T.tensor(x[:3]).t(),)), hits=4)


@pytest.mark.parametrize("kinds", [(2, 2.0), (2, True), (1.0, 3.0), (None, 2), ((1, 2), (1, 3)), ("a", "b"), (0.0, -0.0)])
def test_another_value_of_an_argument(kinds: tuple[Any, Any]) -> None:
    def step(x: T.Tensor, k: Any) -> Any:
        if isinstance(k, tuple):
            return x * k[1]
        if isinstance(k, str):
            return x + len(k) if k == "a" else x
        return (
            x if k is None else (x * k, T.tensor([1]) * k, T.atan2(T.zeros(1) * 1.0, T.zeros(1) + k - 1 if k else T.zeros(1) * k))
        )

    equal(
        lambda: World(step=step, args=lambda x: (T.tensor(x), kinds[0])),
        lambda w: setattr(w, "args", lambda x: (T.tensor(x), kinds[1])),
        hits=4,
    )


def test_an_argument_that_requires_grad() -> None:
    def step(x: T.Tensor) -> Any:
        y = (x * x).sum()
        return y.requires_grad, y.detach()

    equal(lambda: World(step=step), lambda w: setattr(w, "args", lambda x: (T.tensor(x, requires_grad=True),)), hits=2)


def test_the_same_tensor_given_twice() -> None:
    def step(x: T.Tensor, y: T.Tensor) -> T.Tensor:
        x.add_(1)
        return x * y

    def twice(x: Any) -> Any:
        t = T.tensor(x)
        return t, t

    for first, then in ((lambda x: (T.tensor(x), T.tensor(x)), twice), (twice, lambda x: (T.tensor(x), T.tensor(x)))):
        equal(lambda first=first: World(step=step, args=first), lambda w, then=then: setattr(w, "args", then), hits=4)


def test_arguments_in_lists_and_dictionaries() -> None:
    def step(batch: dict[str, Any]) -> Any:
        return {k: [t * 2 for t in v] for k, v in batch.items()}

    equal(
        lambda: World(step=step, args=lambda x: ({"a": [T.tensor(x)], "b": (T.tensor(x), T.tensor(x[0]))},)),
        lambda w: setattr(w, "args", lambda x: ({"b": [T.tensor(x)], "a": (T.tensor(x), T.tensor(x[0]))},)),
        lambda w: setattr(w, "args", lambda x: ({"b": [T.tensor(x)], "a": ()},)),
        hits=6,
    )


# --- what the function can see -------------------------------------------------------------------------------------------


def test_a_closure_changes() -> None:
    def build() -> World:
        w, k = World(), 2.0

        def change(value: float) -> None:
            nonlocal k
            k = value

        w.step, w.change = lambda x: x * k, change
        return w

    equal(build, lambda w: w.change(3.0), lambda w: w.change(2.0), hits=5)


def test_a_global_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> World:
        return World(step=lambda x: x * RATE)

    equal(build, lambda w: monkeypatch.setitem(globals(), "RATE", 0.25), hits=4)


def test_an_element_of_a_list_changes() -> None:
    def build() -> World:
        rates = [1.0, [2.0, 3.0]]
        return World(step=lambda x: x * rates[0] + sum(rates[1]), rates=rates)  # type: ignore[operator, arg-type]

    equal(build, lambda w: w.rates.__setitem__(0, 5.0), lambda w: w.rates[1].append(1.0), hits=6)


def test_an_entry_of_a_dictionary_changes() -> None:
    def build() -> World:
        options = {"a": 1.0, "b": {"c": 2.0}}
        return World(step=lambda x: sum(x * k for k in (options["a"], options["b"]["c"])), options=options)  # type: ignore[index]

    equal(build, lambda w: w.options.update(a=3.0), lambda w: w.options["b"].update(c=7.0), hits=6)


class Settings:
    def __init__(self) -> None:
        self.rate, self.inner = 1.0, SimpleNamespace(power=2)

    @property
    def doubled(self) -> float:
        return self.rate * 2

    def apply(self, x: T.Tensor) -> T.Tensor:
        return x**self.inner.power * self.doubled


def test_an_attribute_of_an_object_changes() -> None:
    def build() -> World:
        s = Settings()
        return World(step=lambda x: s.apply(x), s=s)

    equal(build, lambda w: setattr(w.s, "rate", 4.0), lambda w: setattr(w.s.inner, "power", 3), hits=6)


def test_a_method_is_compiled() -> None:
    equal(lambda: World(step=Settings().apply), hits=2)

    class Twice:
        def __init__(self, k: float) -> None:
            self.k = k

        @T.compile
        def __call__(self, x: T.Tensor) -> T.Tensor:
            return x * self.k

    a, b = Twice(2.0), Twice(3.0)
    for _ in range(3):
        assert a(T.ones(1)).item() == 2
        assert b(T.ones(1)).item() == 3
    b.k = 4.0
    assert (a(T.ones(1)) + b(T.ones(1))).item() == 6


def test_a_function_it_calls_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    equal(
        lambda: World(step=lambda x: helper(x)),
        lambda w: monkeypatch.setitem(globals(), "helper", lambda x: x * 3),
        hits=4,
    )


def helper(x: T.Tensor) -> T.Tensor:
    return x * 2


def test_a_captured_tensor_changes() -> None:
    def build() -> World:
        t = [T.ones(3)]
        return World(step=lambda x: x * t[0], t=t)

    equal(
        build,
        lambda w: w.t[0].mul_(3),
        lambda w: setattr(w.t[0], "data", T.full((3,), 7.0)),
        lambda w: w.t[0].numpy().fill(9),
        lambda w: w.t.__setitem__(0, T.zeros(3)),
        lambda w: setattr(w.t[0], "data", T.full((1,), 7.0)),
        lambda w: setattr(w.t[0], "data", T.ones(5, 3, dtype=T.float64)),
        hits=14,
    )


def test_a_numpy_array_is_seen() -> None:
    def build() -> World:
        a = np.ones(3, "f")
        return World(step=lambda x: x * T.tensor(a), a=a)

    equal(build, lambda w: w.a.fill(2), hits=0)


# --- randomness, modes, values -------------------------------------------------------------------------------------------


def test_the_seed_is_reset() -> None:
    def build() -> World:
        return World(step=lambda x: (x + T.randn(5, 3), T.rand(2), T.randint(0, 9, (4,)), T.nn.functional.dropout(x)))

    equal(build, lambda w: T.manual_seed(5), hits=5)


def test_grad_mode_changes() -> None:
    def build() -> World:
        w = learner()
        net = w.net
        w.step = lambda x: (net(x).requires_grad, T.is_grad_enabled(), net(x).detach())
        return w

    equal(build, lambda w: T.set_grad_enabled(False), lambda w: T.set_grad_enabled(True), hits=6)


def test_the_default_dtype_changes() -> None:
    equal(lambda: World(step=lambda x: T.ones(2) * 2), lambda w: T.set_default_dtype(T.float64), hits=4)


def test_a_branch_takes_another_way() -> None:
    def step(x: T.Tensor) -> Any:
        return x * 2 if x.sum() > 0 else (x - 1, "negative")

    f = equal(lambda: World(step=step), calls=12, hits=8)
    assert len(f.plans) == 2


def test_a_loop_takes_another_number_of_turns() -> None:
    def step(x: T.Tensor) -> Any:
        n = 0
        while x.abs().max() > 0.25:
            x, n = x * 0.5, n + 1
        return x, n

    equal(lambda: World(step=step), calls=20, hits=8)


def test_a_branch_on_a_number_that_was_read() -> None:
    def step(x: T.Tensor) -> Any:
        total = x.sum().item()
        scale = 1 / (abs(total) + 1)
        return x * scale if scale < 0.5 else (x, total, scale)

    equal(lambda: World(step=step), calls=12, hits=8)


def test_a_branch_after_writes_is_taken_back() -> None:
    def build() -> World:
        w = World(seen=T.zeros(3))
        memory = w.seen

        def step(x: T.Tensor) -> Any:
            memory.add_(x[0])
            noise = T.rand(3)
            return memory * noise if (memory + noise).sum() > 0 else memory - noise

        w.step = step
        return w

    f = equal(build, calls=12, hits=6)
    assert f.missed


def test_shapes_that_depend_on_values() -> None:
    equal(lambda: World(step=lambda x: (x[x > 0], x.nonzero())), calls=6, hits=0)


# --- what cannot be compiled runs as it is -------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["append", "attribute", "global", "print", "numpy", "clock", "generator", "random"])
def test_side_effects_happen_at_every_call(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    import random
    import time

    def build() -> World:
        w = World(seen=[], count=0)
        numbers = iter(range(1000))
        chance = random.Random(0)

        def step(x: T.Tensor) -> Any:
            if what == "append":
                w.seen.append(x.shape[0])
            elif what == "attribute":
                w.count += 1
                return x * w.count
            elif what == "global":
                global COUNT
                COUNT = x.shape[0]
            elif what == "print":
                print("called")  # noqa: T201
            elif what == "numpy":
                return T.tensor(x.numpy() * 2)
            elif what == "clock":
                return x + (0 if time.perf_counter() > 0 else 1)
            elif what == "generator":
                return x * next(numbers)
            else:
                return x * chance.random()
            return x

        w.step = step
        return w

    f = equal(build, hits=0)
    assert f.hits == 0
    assert f.reasons
    if what == "print":
        assert capsys.readouterr().out == "called\n" * 6


COUNT = 0


def test_results_are_never_overwritten() -> None:
    w = learner()
    f = compiled_by_tier(w.step)
    x = T.randn(5, 3)
    results, grads = [], []
    for _ in range(6):
        results.append(f(x))
        grads.append(next(w.net.parameters()).grad)
    assert f.hits >= 4
    kept = [r.item() for r in results], [g.clone() for g in grads]
    f(x), f(x * 2)
    assert [r.item() for r in results] == kept[0]
    assert all((a == b).all() for a, b in zip(grads, kept[1], strict=True))
    assert len(set(kept[0])) == 6


def test_exceptions_come_out_as_themselves() -> None:
    class Mine(Exception):
        pass

    fail = [False]

    @Compiled
    def f(x: T.Tensor) -> T.Tensor:
        if fail[0]:
            raise Mine
        return x @ x

    for _ in range(3):
        f(T.eye(2))
    with pytest.raises(RuntimeError, match="matmul: shapes"):
        f(T.ones(2, 3))
    fail[0] = True
    with pytest.raises(Mine):
        f(T.eye(2))
    fail[0] = False
    assert (f(T.eye(2)) == T.eye(2)).all()
    assert f.hits >= 3


def test_several_threads_call_one_function() -> None:
    w = T.ones(3)
    f = Compiled(lambda x: (x * w).sum())
    wrong: list[Any] = []

    def work(k: int) -> None:
        for i in range(50):
            n = 1 + (i + k) % 3
            plain = T.full((n, 3), float(k)).sum().item()  # eager work beside
            if not f(T.full((n, 3), float(k))).item() == plain == 3.0 * n * k:
                wrong.append((k, i))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert f.hits > 150
