"""Deferred blocks: writes and views are seen by what comes after them, and by nothing before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensor as T
from tensor.jit.seams import slot


def plain(t: T.Tensor) -> bool:
    return type(slot.__get__(t)) is np.ndarray


def chain(x: T.Tensor) -> T.Tensor:
    return ((x * 2 + 1).exp() - x).sum()


# --- writes and views ---------------------------------------------------------------------------------------------------


def write_then_read_before(x: T.Tensor) -> Any:
    y = x * 2
    x.add_(1)
    return y, x


def write_into_a_pending_result(x: T.Tensor) -> Any:
    y = x * 2
    z = y + 1
    y.mul_(3)
    return z, y, y + 1


def write_through_a_view(x: T.Tensor) -> Any:
    y = x * 2
    row = y[0]
    before = y.sum()
    row.fill_(7)
    y[1] = row * 2
    return before, y, row, y.sum()


def a_view_follows_a_write(x: T.Tensor) -> Any:
    y = x.exp()
    t = y.t()
    y.zero_()
    y[0, 1] = 5
    return t, t.sum(0), y


def swap_rows(x: T.Tensor) -> Any:
    y = x + 0
    first = y[0].clone()
    y[0] = y[1]
    y[1] = first
    return y, first


def write_into_itself(x: T.Tensor) -> Any:
    y = x * 1
    y += y.t()[:3, :3] if y.shape[0] == y.shape[1] else y
    return y


def masked(x: T.Tensor) -> Any:
    y = x * 1
    y[y > 0] = -1
    z = y.clone()
    z[T.tensor([0, 1])] += 10
    return y, z, y.masked_fill(y < 0, 3)


def scatter(x: T.Tensor) -> Any:
    y = T.zeros(3, 3)
    y.scatter_add_(0, T.tensor([[0, 1, 2], [0, 0, 0]]), x[:2] * 2)
    before = y * 1
    y.index_add_(0, T.tensor([1]), x[:1])
    return y, before


def out_argument(x: T.Tensor) -> Any:
    out = T.empty(3, 3)
    T.add(x, 1, out=out)
    early = out * 1
    T.mul(x, 2, out=out)
    return out, early


def data_is_replaced(x: T.Tensor) -> Any:
    y = x * 2
    x.data = x * 3
    return y, x, x + y


def two_names(x: T.Tensor) -> Any:
    d = x.detach()
    y = d + 1
    x.mul_(0)
    return y, d, x


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(
    "program",
    [
        write_then_read_before, write_into_a_pending_result, write_through_a_view, a_view_follows_a_write, swap_rows,
        write_into_itself, masked, scatter, out_argument, data_is_replaced, two_names,
    ],
)  # fmt: skip
def test_writes_are_seen_by_what_comes_after_them_only(program: Callable[[T.Tensor], Any], native: bool) -> None:
    expected = [t.tolist() for t in program(T.arange(9.0).reshape(3, 3).clone() - 4)]
    x = T.arange(9.0).reshape(3, 3).clone() - 4
    with T.lazy(native=native):
        got = list(iter(program(x)))
        backwards = [t.tolist() for t in reversed(got)]
    assert backwards == expected[::-1]
    x = T.arange(9.0).reshape(3, 3).clone() - 4
    with T.lazy(native=native):
        got = list(program(x))
    assert [t.tolist() for t in got] == expected


def test_numpy_code_may_write_into_memory_it_shares() -> None:
    before = np.ones(3, np.float32)
    known = T.ones(3)
    from_known = known.numpy()
    with T.lazy():
        a = T.from_numpy(before)
        b = a * 2
        before[:] = 5
        c = known + 1
        from_known[:] = 9
        made = T.ones(3) * 4
        d = made + 1
        memory = made.numpy()
        e = made + 2
        memory[:] = 0
        given = T.tensor(before)
        f = given * 1
        before[:] = 1
        assert [t.tolist()[0] for t in (b, a, c, known, d, e, made, f)] == [2, 1, 2, 9, 5, 6, 0, 5]


def test_an_index_array_may_be_changed_afterwards() -> None:
    places = np.array([0, 1])
    with T.lazy():
        x = T.arange(4.0)
        y = x[places]
        places[:] = 3
        assert y.tolist() == [0, 1]
