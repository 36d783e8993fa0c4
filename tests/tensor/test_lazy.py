"""`T.lazy`: nothing runs before it is looked at, and then everything is as it would have been."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensor as T
from tensor.jit.deferred.array import Deferred
from tensor.jit.seams import slot


def plain(t: T.Tensor) -> bool:
    return type(slot.__get__(t)) is np.ndarray


def chain(x: T.Tensor) -> T.Tensor:
    return ((x * 2 + 1).exp() - x).sum()


# --- deferral -----------------------------------------------------------------------------------------------------------


def test_nothing_runs_until_it_is_read_and_then_only_what_is_needed() -> None:
    with T.lazy() as block:
        x = T.ones(3)
        y = x * 2
        z, other = y + 1, y.exp()
        assert block.deferred == 3
        assert block.ran == 0
        assert z.tolist() == [3, 3, 3]
        assert block.ran == 2
        assert z.tolist() == [3, 3, 3]
        assert block.ran == 2
        assert other.shape == (3,)
        assert other.dtype is T.float32
        assert block.ran == 2
    assert block.ran == 3
    assert other.numpy() == pytest.approx(np.exp(2))


def test_what_nobody_holds_is_never_run() -> None:
    with T.lazy() as block:
        x = T.ones(3)
        for _ in range(10):
            y = (x * 2).exp()
        del y
        kept = x + 1
    assert block.deferred == 21
    assert block.ran == 1
    assert kept.tolist() == [2, 2, 2]


READS: dict[str, Callable[[T.Tensor], Any]] = {
    "item": lambda t: t.sum().item(),
    "tolist": lambda t: t.tolist(),
    "numpy": lambda t: t.numpy().tolist(),
    "bool": lambda t: bool(t.sum() > 3),
    "float": lambda t: float(t.sum()),
    "int": lambda t: int(t.sum()),
    "complex": lambda t: complex(t.sum()),
    "if": lambda t: "more" if t.max() > 1 else "less",
    "repr": repr,
    "format": lambda t: f"{t.sum():.3f}",
    "iteration": lambda t: [v.item() for v in t],
    "contains": lambda t: 3.0 in t,
    "array": lambda t: np.asarray(t).tolist(),
    "compare": lambda t: (t == t).all().item(),
    "equal": lambda t: T.equal(t, t),
    "allclose": lambda t: T.allclose(t, t),
    "index": lambda t: list(range(5))[t.argmax()],
    "mask": lambda t: t[t > 2].tolist(),
    "nonzero": lambda t: T.nonzero(t).tolist(),
    "unique": lambda t: T.unique(t).tolist(),
    "pickle": lambda t: pickle.loads(pickle.dumps(t)).tolist(),
    "deepcopy": lambda t: copy.deepcopy(t).tolist(),
    "dlpack": lambda t: np.from_dlpack(t).tolist(),
    "cpu": lambda t: t.cpu().tolist(),
}


@pytest.mark.parametrize("read", READS)
def test_every_way_of_reading(read: str) -> None:
    x = T.tensor([1.0, -2.0, 3.0])
    expected = READS[read](x * 2 - 1)
    with T.lazy():
        assert READS[read](x * 2 - 1) == expected


def test_no_deferred_array_leaves_the_block() -> None:
    x = T.randn(4, 4, requires_grad=True)
    with T.lazy():
        y = x.tanh().exp()
        view = y.detach()[1:]
        parts = {"a": [y @ y]}
    assert all(map(plain, (x, y, view, parts["a"][0])))
    assert np.shares_memory(view.numpy(), y.detach().numpy())
    y.sum().backward()
    with T.lazy():
        again = x.detach().tanh().exp()
    z = x.detach().requires_grad_()
    z.tanh().exp().sum().backward()
    assert T.equal(again, y.detach())
    assert plain(x.grad)
    assert T.equal(x.grad, z.grad)


def test_a_backward_pass_after_the_block_uses_what_was_made_inside() -> None:
    x = T.randn(3, requires_grad=True)
    with T.lazy():
        y = (x.tanh() * x).sum()
    y.backward()
    z = x.detach().requires_grad_()
    (z.tanh() * z).sum().backward()
    assert T.equal(x.grad, z.grad)
    assert plain(x.grad)


def test_it_leaves_nothing_behind() -> None:
    before = (T.Tensor.__dict__["_array"], T.optim.Adam.step, np.asarray, np.array)
    with T.lazy():
        T.ones(2)
    assert (T.Tensor.__dict__["_array"], T.optim.Adam.step, np.asarray, np.array) == before


def test_a_function_can_be_lazy() -> None:
    @T.lazy()
    def f(x: T.Tensor) -> T.Tensor:
        return x * 2

    assert plain(f(T.ones(2)))
    assert f(T.ones(2)).tolist() == [2, 2]


# --- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x + T.ones(4), lambda x: x @ T.ones(5, 2), lambda x: x.reshape(7), lambda x: x.sum(3), lambda x: x[5],
        lambda x: x[[0, 9]], lambda x: T.cat([x, T.ones(2, 9)]), lambda x: T.stack([x, T.ones(3)]), lambda x: x.expand(4, 4),
        lambda x: x.squeeze(7), lambda x: T.einsum("ij,jk->ik", x, x), lambda x: x.clone().add_(T.ones(4)),
        lambda x: x.clone().__setitem__(0, T.ones(5)), lambda x: T.linalg.inv(T.zeros(2, 2)), lambda x: T.linalg.inv(x),
        lambda x: x.to(T.int32) << 1.5, lambda x: x.expand(2, 2, 3).add_(1), lambda x: x.max(dim=9), lambda x: x.item(),
    ],
)  # fmt: skip
def test_errors_are_those_of_eager_code_at_the_same_place(wrong: Callable[[T.Tensor], Any]) -> None:
    x = T.ones(2, 3)
    with pytest.raises(Exception) as eager:  # noqa: PT011  # whatever it is, it is the same
        wrong(x * 2)
    with T.lazy():
        y = x * 2
        with pytest.raises(type(eager.value)) as deferred:
            wrong(y)
        assert str(deferred.value) == str(eager.value)
    assert y.tolist() == [[2, 2, 2], [2, 2, 2]]


def test_an_error_of_the_run_comes_at_the_read_and_leaves_the_rest() -> None:
    with T.lazy():
        x, index = T.ones(3), T.tensor([5]) + 1
        good, bad = x * 2, x[index]
        for _ in range(2):
            with pytest.raises(IndexError, match="out of bounds") as error:
                bad.tolist()
            assert error.value.__notes__ == ["in getitem, which T.lazy had deferred"]
        assert good.tolist() == [2, 2, 2]
        del bad, error


def test_an_error_at_the_end_of_the_block_leaves_the_others() -> None:
    x, index = T.ones(3), T.tensor([5])
    with pytest.raises(IndexError, match="out of bounds"), T.lazy():
        bad, good = x[index + 1], x + 1
    assert good.tolist() == [2, 2, 2]
    assert plain(good)
    with pytest.raises(IndexError, match="out of bounds"):
        bad.tolist()


def test_an_exception_in_the_block_passes() -> None:
    with pytest.raises(ZeroDivisionError), T.lazy():  # noqa: PT012  # what comes before it matters
        x = T.ones(2) * 3
        1 / 0  # noqa: B018
    assert plain(x)
    assert x.tolist() == [3, 3]


# --- learning -----------------------------------------------------------------------------------------------------------


def learn(optimizer: Any, options: dict[str, Any], lazily: Any, steps: int = 12) -> Any:
    T.manual_seed(0)
    net = T.nn.Sequential(T.nn.Linear(3, 8), T.nn.BatchNorm1d(8), T.nn.Tanh(), T.nn.Dropout(0.2), T.nn.Linear(8, 2))
    opt = optimizer(net.parameters(), **options)
    losses = []
    with lazily:
        for k in range(steps):
            opt.zero_grad()
            x = T.randn(6, 3)
            loss = ((net(x) - T.rand(6, 2)) ** 2).mean()
            loss.backward()
            if k % 3 == 1:
                T.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
            if k == 5:
                for group in opt.param_groups:
                    group["lr"] *= 0.5
            opt.step()
            losses.append(loss if k % 2 else loss.item())
    return [float(v) for v in losses], [v.tolist() for v in net.state_dict().values()], T.rand(1).item()


class Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *exc: object) -> None: ...


OPTIMIZERS = [
    (T.optim.SGD, {"lr": 0.1}), (T.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}), (T.optim.Adam, {"lr": 0.01}),
    (T.optim.AdamW, {"lr": 0.01, "amsgrad": True}), (T.optim.RMSprop, {"lr": 0.01}), (T.optim.Adafactor, {"lr": 0.01}),
]  # fmt: skip


@pytest.mark.parametrize("optimizer, options", OPTIMIZERS)
def test_learning_is_as_it_is_eagerly_to_the_last_bit(optimizer: Any, options: dict[str, Any]) -> None:
    assert learn(optimizer, options, T.lazy(native=False)) == learn(optimizer, options, Nothing())


def test_an_optimizer_with_a_closure_and_one_made_in_the_block() -> None:
    def run(lazily: Any) -> Any:
        w = T.tensor([1.0, 2.0], requires_grad=True)
        with lazily:
            for opt in (T.optim.LBFGS([w], lr=0.5, max_iter=3), T.optim.SGD([w], lr=0.1)):

                def closure(opt: Any = opt) -> T.Tensor:
                    opt.zero_grad()
                    loss = (w**4).sum()
                    loss.backward()
                    return loss

                losses = [opt.step(closure) for _ in range(3)]
        return w.tolist(), [loss.item() for loss in losses]

    assert run(T.lazy(native=False)) == run(Nothing())


def test_second_derivatives() -> None:
    def hessian(x: T.Tensor) -> Any:
        y = (x.tanh() * x.exp()).sum()
        (g,) = T.autograd.grad(y, x, create_graph=True)
        (h,) = T.autograd.grad((g * g).sum(), x)
        return g, h

    x = T.randn(4, requires_grad=True)
    expected = [t.tolist() for t in hessian(x)]
    with T.lazy(native=False) as block:
        got = hessian(x)
        assert block.ran == 0
        assert [t.tolist() for t in got] == expected


def test_gradients_accumulate() -> None:
    w = T.ones(3, requires_grad=True)
    with T.lazy():
        for _ in range(3):
            (w * 2).sum().backward()
        assert w.grad.tolist() == [6, 6, 6]
        first = w.grad
        (w * 2).sum().backward()
        assert first.tolist() == [8, 8, 8]


def test_draws_keep_their_order() -> None:
    T.manual_seed(3)
    expected = [T.rand(2), T.nn.functional.dropout(T.ones(8)), T.randn(2), T.randperm(5)]
    T.manual_seed(3)
    with T.lazy():
        got = [T.rand(2), T.nn.functional.dropout(T.ones(8)), T.randn(2), T.randperm(5)]
        assert [t.tolist() for t in reversed(got)] == [t.tolist() for t in reversed(expected)]


def test_control_flow_on_values() -> None:
    def collatz(x: T.Tensor) -> int:
        n = 0
        while x > 1:
            x = x // 2 if x % 2 == 0 else 3 * x + 1
            n += 1
        return n

    with T.lazy():
        assert collatz(T.tensor(27)) == 111


# --- threads, nesting, the compiler -------------------------------------------------------------------------------------


def test_other_threads_see_ordinary_arrays() -> None:
    seen: dict[str, Any] = {}
    with T.lazy() as block:
        x = T.ones(3)
        y = x * 2

        def other() -> None:
            seen["pending"] = y.tolist(), type(y._array)
            z = x + 5
            seen["own"] = type(slot.__get__(z)), z.tolist()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        deferred = block.deferred
        assert type(y._array) is Deferred
    assert seen == {"pending": ([2, 2, 2], np.ndarray), "own": (np.ndarray, [6, 6, 6])}
    assert deferred == 1


def test_blocks_in_two_threads() -> None:
    results: dict[int, Any] = {}
    shared = T.arange(4.0)
    together = threading.Barrier(2)

    def work(k: int) -> None:
        with T.lazy(native=False) as block:
            together.wait()
            y = shared * k
            for _ in range(50):
                y = y + shared.exp() * 0
            before = block.ran
            together.wait()
            results[k] = before, y.tolist()
            together.wait()

    threads = [threading.Thread(target=work, args=(k,)) for k in (1, 2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {k: (0, [0, k, 2 * k, 3 * k]) for k in (1, 2)}
    assert plain(shared)


def test_an_inner_block_joins_the_outer_one() -> None:
    with T.lazy() as outer:
        with T.lazy() as inner:
            y = T.ones(2) * 3
        assert outer.ran == inner.ran == 0
        assert type(y._array) is Deferred
    assert plain(y)
    assert outer.deferred == inner.deferred == 1


def test_compiled_functions_in_a_block() -> None:
    w = T.ones(3, requires_grad=True)
    opt = T.optim.SGD([w], lr=0.25)

    @T.compile
    def step(x: T.Tensor) -> T.Tensor:
        opt.zero_grad()
        loss = ((w * x) ** 2).sum()
        loss.backward()
        opt.step()
        return loss.detach()

    with T.lazy() as block:
        before = w * 1
        losses = [step(T.ones(3) * 1) for _ in range(4)]
        after = w * 1
        deferred = block.deferred
        assert before.tolist() == [1, 1, 1]
        assert after.tolist() == [0.0625] * 3
        opt.zero_grad()
        (w * 8).sum().backward()
        opt.step()  # which is followed again after recordings
        assert w.tolist() == [0.0625 - 2] * 3
    assert [loss.item() for loss in losses] == [3, 0.75, 0.1875, 0.046875]
    assert step.hits == 3
    assert deferred == 6


def test_a_block_in_a_compiled_function() -> None:
    @T.compile
    def f(x: T.Tensor) -> T.Tensor:
        with T.lazy():
            return (x * 2).exp()

    assert [f(T.zeros(2) + k).tolist() == (T.full((2,), 2.0 * k)).exp().tolist() for k in range(3)] == [True] * 3
    assert f.hits == 2


# --- what it costs, what it says ----------------------------------------------------------------------------------------


def test_many_steps_in_one_block_do_not_grow_memory() -> None:
    w = T.ones(3, 2, requires_grad=True)
    opt = T.optim.SGD([w], lr=1e-3)

    def steps(n: int) -> None:
        for _ in range(n):
            x = T.randn(4, 3)
            loss = ((x @ w) ** 2).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            loss.item()

    with T.lazy(native=False):
        steps(600)  # by then every list that is pruned now and then has been
        gc.collect()
        tracemalloc.start()
        grown = []
        for _ in range(2):  # what steps leave, every round leaves; other threads may be at work in one
            start, _ = tracemalloc.get_traced_memory()
            steps(1500)
            gc.collect()
            grown.append(tracemalloc.get_traced_memory()[0] - start)
        tracemalloc.stop()
    assert min(grown) < 60_000  # forty bytes a step


def test_explain_names_what_was_run_at_once() -> None:
    with T.lazy() as block:
        x = T.ones(3) * 2
        T.nonzero(x)
        x[x > 1].sum().item()
    lines = block.explain().splitlines()
    assert lines[0] == "lazy: 3 calls deferred, 3 run, in 3 graphs: 0 seen before, 0 as machine code"
    assert {line.split(": ")[1] for line in lines[1:]} == {"argwhere", "getitem"}
    assert block.at_once == {"argwhere": 1, "getitem": 1}


def test_samples_of_a_vmap_are_deferred_too() -> None:
    x = T.arange(6.0).reshape(3, 2)

    def f(row: T.Tensor) -> T.Tensor:
        return (row * row).sum() + row[0]

    expected = T.vmap(f)(x).tolist()
    with T.lazy() as block:
        y = T.vmap(f)(x)
        assert block.ran == 0
        assert y.tolist() == expected
