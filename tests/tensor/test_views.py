"""Views and in-place writes: one memory, one version counter, one gradient.

The oracle for random programs is NumPy itself: the same views and writes on a plain array, and finite differences through the
whole program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensor as T

VIEWS: dict[str, Callable[[Any], Any]] = {
    "view": lambda t: t.view(-1, 2), "reshape": lambda t: t.reshape(2, 6), "transpose": lambda t: t.transpose(0, 1), "T": lambda t: t.T,
    "permute": lambda t: t.permute(1, 0), "narrow": lambda t: t.narrow(0, 1, 2), "select": lambda t: t.select(1, 0), "row": lambda t: t[1],
    "slice": lambda t: t[:, 1:3], "step": lambda t: t[::2], "none": lambda t: t[None], "ellipsis": lambda t: t[..., 0],
    "squeeze": lambda t: t[:1].squeeze(0), "unsqueeze": lambda t: t.unsqueeze(1), "expand": lambda t: t.expand(2, 3, 4),
    "diagonal": lambda t: t.diagonal(), "unbind": lambda t: t.unbind(0)[1], "split": lambda t: t.split(2)[0], "chunk": lambda t: t.chunk(2, 1)[1],
    "flatten": lambda t: t.flatten(), "movedim": lambda t: t.movedim(0, 1), "as_strided": lambda t: t.as_strided((2, 2), (4, 1)),
    "detach": lambda t: t.detach(), "real": lambda t: t.real, "unfold": lambda t: t.unfold(1, 2, 1), "view_as": lambda t: t.view_as(T.zeros(4, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", list(VIEWS))
def test_a_view_shares_memory_and_version(name: str) -> None:
    base = T.arange(12.0).reshape(3, 4).clone()
    view = VIEWS[name](base)
    assert np.shares_memory(view.numpy(), base.numpy())
    x = T.ones(3, 4, requires_grad=True)
    kept = (base * x).sum()  # needs the value of base
    if name == "expand":  # several elements over one memory: refused rather than written twice
        base.mul_(2)
    else:
        view.fill_(9.0)
        assert (base == 9).any()
    with pytest.raises(RuntimeError, match="changed by an in-place operation"):
        kept.backward()


@pytest.mark.parametrize("name", [n for n in VIEWS if n not in ("detach", "unfold")])
def test_gradients_of_views(name: str) -> None:
    x = T.tensor(np.random.default_rng(0).normal(size=(3, 4)), requires_grad=True)
    assert T.autograd.gradcheck(VIEWS[name], (x,))
    assert T.autograd.gradgradcheck(lambda t: VIEWS[name](t).sin(), (x,))


@pytest.mark.parametrize(
    "copying",
    [
        lambda t: t.clone(),
        lambda t: t[[0, 1]],
        lambda t: t.T.reshape(-1),
        lambda t: t.flip(0),
        lambda t: t.repeat(1, 1),
        lambda t: +t,
        lambda t: t.sum_to_size(2, 2),
    ],
)
def test_a_copy_shares_nothing(copying: Callable[[Any], Any]) -> None:
    base = T.arange(4.0).reshape(2, 2).clone()
    copy = copying(base)
    assert not np.shares_memory(copy.numpy(), base.numpy())
    copy.zero_()
    assert base.sum().item() == 6


def test_view_refuses_what_needs_a_copy() -> None:
    with pytest.raises(
        RuntimeError,
        match=r"view: the shape is not compatible with the tensor's strides; use reshape \(operands float32\[3, 2\]\)",
    ):
        T.zeros(2, 3).T.view(6)


def test_the_owners_example() -> None:
    """A row written, then normalised in place through a view, is differentiable."""

    def program(row: Any) -> Any:
        m = T.zeros(2, 3, dtype=T.float64)
        m[1] = row
        m[1].div_(m[1].clone().norm())
        return m

    row = T.tensor([3.0, 4.0, 1.0], dtype=T.float64, requires_grad=True)
    assert T.autograd.gradcheck(program, (row,))
    np.testing.assert_allclose(program(row).detach().numpy()[1], row.detach().numpy() / np.sqrt(26))


def test_writing_through_a_view_changes_the_gradient_of_the_base() -> None:
    x = T.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x.clone()
    y[1:].mul_(10)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 10, 10]


def test_a_view_made_before_the_write_follows() -> None:
    x = T.tensor([1.0, 2.0], requires_grad=True)
    y = x.clone()
    first = y[0]
    y.mul_(3)
    first.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3, 0]


def test_writing_a_value_that_requires_grad_into_a_plain_tensor() -> None:
    buffer, x = T.zeros(2, 2), T.tensor([1.0, 2.0], requires_grad=True)
    buffer[0] = x
    buffer.select(1, 1).copy_(x * 2)
    assert buffer.requires_grad
    (buffer * T.tensor([[1.0, 10.0], [100.0, 1000.0]])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1 + 20, 2000]


def test_in_place_operators_that_need_their_input_keep_it() -> None:
    """As in PyTorch: `sin_` saves what it overwrites; the value of another tensor is the writer's to keep."""
    x = T.tensor([0.3, 1.2], dtype=T.float64, requires_grad=True)
    assert T.autograd.gradcheck(lambda x: x.clone().sin_().mul_(x).pow_(2).log_(), (x,))
    y = x.clone()
    z = (y * y).sum()
    y.sin_()
    with pytest.raises(RuntimeError, match=r"mul: an input .* was changed by an in-place operation"):
        z.backward()


# --- random programs -----------------------------------------------------------------------------------------------


def views(a: Any) -> list[Any]:
    """The views that fit, the same source text for arrays and tensors."""
    n = a.ndim
    fits: list[Any] = [lambda t: t[None], lambda t: t.reshape(-1)]
    if n and 0 not in a.shape:
        fits += [lambda t: t[-1, ...], lambda t: t[1:], lambda t: t[..., ::2]]
    if n >= 2 and 0 not in a.shape:
        fits += [lambda t: t.swapaxes(0, -1), lambda t: t[:, 0], lambda t: t[0, ..., 1:], lambda t: writable_diagonal(t)]
    return fits


def writable_diagonal(t: Any) -> Any:
    d = t.diagonal()
    if isinstance(d, np.ndarray):
        d.flags.writeable = True
    return d


def weights(shape: Any) -> Any:
    return np.linspace(0.5, 1.5, int(np.prod(shape))).reshape(shape)


Step = tuple[str, int, int, float]


class Program:
    """Steps drawn once, run on arrays or on tensors."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps

    def run(self, x: Any) -> tuple[Any, list[Any]]:
        array = isinstance(x, np.ndarray)
        wrap = (lambda a: a) if array else T.tensor
        copy = (lambda t: t.copy()) if array else (lambda t: t.clone())
        sin = np.sin if array else T.sin
        live = [copy(x)]
        total = wrap(np.zeros(()))
        for kind, which, choice, number in self.steps:
            t = live[which % len(live)]
            other = live[choice % len(live)]
            if kind == "view":
                options = views(t)
                live.append(options[choice % len(options)](t))
            elif kind == "copy":
                live.append(copy(t))
            elif kind == "read":
                total = total + (sin(copy(t)) * wrap(weights(t.shape))).sum()
            elif kind == "scale":
                t *= number
            elif kind == "sin":
                t[...] = np.sin(t) if array else t
                if not array:
                    t.sin_()
            elif kind == "add":  # from itself, another view of the same memory, or other memory
                if tuple(other.shape) == tuple(t.shape):
                    t += copy(other)
                else:
                    t += number
            elif kind == "multiply":
                if tuple(other.shape) == tuple(t.shape):
                    t *= copy(other)
            elif kind == "set" and t.ndim and t.shape[0]:
                t[choice % t.shape[0]] = copy(t[0]) * number
            elif kind == "set-many" and t.ndim and t.shape[0]:
                t[[0, -1]] = number
            elif kind == "mask":
                if array:
                    t[t > number] = 0.25
                else:
                    t.masked_fill_(t > number, 0.25)
        for t in live:
            total = total + (copy(t) * wrap(weights(t.shape))).sum()
        return total, live


STEPS = st.tuples(
    st.sampled_from(["view", "view", "view", "copy", "read", "scale", "sin", "add", "multiply", "set", "set-many", "mask"]),
    st.integers(0, 9), st.integers(0, 9), st.sampled_from([-1.5, 0.5, 2.0, 0.3]),
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(STEPS, min_size=1, max_size=14))
def test_random_programs_agree_with_numpy(steps: list[Step]) -> None:
    program = Program(steps)
    start = np.array([[0.31, -0.72, 1.13], [0.55, 0.94, -1.21]])
    x = T.tensor(start, requires_grad=True)
    total, live = program.run(x)
    expected, arrays = program.run(start)
    for t, a in zip(live, arrays, strict=True):
        np.testing.assert_allclose(t.detach().numpy(), a, rtol=1e-12)
    np.testing.assert_allclose(total.item(), expected, rtol=1e-12)
    total.backward()
    numerical = np.zeros_like(start)
    for i in np.ndindex(*start.shape):
        step = np.zeros_like(start)
        step[i] = 1e-6
        numerical[i] = (program.run(start + step)[0] - program.run(start - step)[0]) / 2e-6
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), numerical, rtol=1e-4, atol=1e-4 * max(1, abs(numerical).max()))


def test_a_view_made_under_no_grad_takes_part_in_later_writes() -> None:
    x = T.ones(3, requires_grad=True)
    y = x * 1
    with T.no_grad():
        v = y[0]
    v.mul_(5)
    y.sum().backward()
    assert x.grad.tolist() == [5, 1, 1]


def test_expanded_memory_refuses_writes() -> None:
    for x in (T.zeros(1, 3), T.ones(1, 3, requires_grad=True) * 2):
        with pytest.raises(
            RuntimeError, match=r"the tensor of shape \(2, 3\) cannot be written into: several of its elements share one place"
        ):
            x.expand(2, 3).add_(1)


def test_a_tensor_times_itself_in_place() -> None:
    x = T.tensor([1.0, 2.0], dtype=T.float64, requires_grad=True)
    y = x * 1
    y *= y
    y.sum().backward()
    assert x.grad.tolist() == [2, 4]


def test_the_gradient_kept_is_that_of_the_value_after_a_write() -> None:
    x = T.ones(2, requires_grad=True)
    y = x * 2
    y.retain_grad()
    y.mul_(3)
    y.sum().backward()
    assert (y.grad.tolist(), x.grad.tolist()) == ([1, 1], [6, 6])


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.squeeze_(0),
        lambda t: t.unsqueeze_(1),
        lambda t: t[0].t_(),
        lambda t: t.transpose_(0, 1),
        lambda t: t.swapaxes_(0, 1),
    ],
)
def test_becoming_a_view_of_oneself(change: Callable[[Any], Any]) -> None:
    x = T.tensor(np.arange(6.0).reshape(1, 2, 3), requires_grad=True)
    y = x * 1
    old_view = y[0, 1]
    z = change(y)
    old_view.mul_(2)
    z.mul_(3)
    z.sum().backward()
    assert x.grad.tolist() == [[[3, 3, 3], [6, 6, 6]]]
    with pytest.raises(RuntimeError, match="a leaf tensor that requires grad"):
        x.squeeze_(0)


def test_fill_diagonal() -> None:
    for shape, wrap in (((3, 3), False), ((2, 4), False), ((7, 3), True), ((7, 3), False), ((2, 2, 2), False)):
        expected = np.zeros(shape)
        np.fill_diagonal(expected, 2.0, wrap)
        np.testing.assert_array_equal(T.zeros(*shape).fill_diagonal_(2.0, wrap).numpy(), expected)
    x = T.ones(2, 2, requires_grad=True)
    (x * 1).fill_diagonal_(0.0).sum().backward()
    assert x.grad.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(
        RuntimeError, match=r"fill_diagonal_: expected a matrix, or dimensions all of one size, got shape \(2, 3, 2\)"
    ):
        T.zeros(2, 3, 2).fill_diagonal_(1.0)


@pytest.mark.parametrize("name", [n for n in VIEWS if n not in ("expand", "detach")])
def test_views_of_samples_share_their_memory(name: str) -> None:
    def step(x: Any) -> Any:
        y = x * 1
        VIEWS[name](y).mul_(3)
        return y

    x = T.tensor(np.random.default_rng(0).normal(size=(2, 3, 4)))
    assert T.func.vmap(step)(x).tolist() == [step(r).tolist() for r in x]
    slopes = T.func.vmap(T.func.grad(lambda r: (step(r) ** 2).sum()))(x)
    np.testing.assert_allclose(slopes.numpy(), np.stack([T.func.grad(lambda r: (step(r) ** 2).sum())(r).numpy() for r in x]))
