"""Whole steps become one program: what is in it, what is left out and why, and that nothing stays where a run turns back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensor as T
from tensor.jit import Compiled
from tensor.jit.codegen import available, checker, compile_program
from tensor.jit.lower import Lowering

pytestmark = pytest.mark.skipif(not available(), reason="llvmlite is not installed")
F = T.nn.functional


def normal(*shape: int, seed: int = 0) -> T.Tensor:
    return T.tensor(np.random.default_rng(seed).normal(size=shape).astype("f"))


def integers(high: int, *shape: int) -> T.Tensor:
    return T.tensor(np.random.default_rng(1).integers(0, high, shape))


def native(compiled: Compiled) -> None:
    """Machine code for all recordings, now."""
    for plan in compiled.plans:
        if not plan.tier:
            plan.lower(compile_program, checker())


def lowering(compiled: Compiled) -> Lowering:
    script = compiled.plans[0].script
    return Lowering(script.recording, script.instructions, script.wanted)


def projection(x: T.Tensor, r: T.Tensor, a: T.Tensor) -> T.Tensor:
    """The categorical projection of C51: floors, casts, sums into places."""
    p, z = x.softmax(-1)[T.arange(8), a], T.linspace(-1, 1, 5)
    b = ((r.unsqueeze(1) + 0.9 * z).clamp(-1, 1) + 1) / 0.5
    low, high = b.floor().long(), b.ceil().long()
    m, rows = T.zeros(8, 5), (T.arange(8) * 5).unsqueeze(1)
    m.view(-1).index_add_(0, (low + rows).view(-1), (p * (high.float() - b)).view(-1))
    m.view(-1).index_add_(0, (high + rows).view(-1), (p * (b - low.float())).view(-1))
    return m


SQUARE, CUBE = normal(8, 5), normal(8, 3, 5, seed=3)
ONE_PROGRAM: dict[str, tuple[Callable[..., Any], tuple[T.Tensor, ...]]] = {
    "mixed element types": (lambda x, i: (x * i, x + (x > 0), i / 3, (x > 0) & (i > 2), i.float().sqrt()), (SQUARE, integers(5, 8, 5))),
    "integers": (lambda i: (i * 3 - 1, i.max(), i.sum(0), (i == 2).sum(), i & 1, (i - 2) // 3 % 2, i << 2 >> 1), (integers(5, 8, 5),)),
    "gather": (lambda x, i: (x.gather(1, i), x.take_along_dim(i, 1)), (SQUARE, integers(5, 8, 2))),
    "rows": (lambda x, i: (x[i], x[:, i % 5], x[i, i % 5], x[i, None]), (SQUARE, integers(8, 6))),
    "scatter": (lambda x, i: (T.zeros(8, 7).scatter(1, i, x), T.zeros(8, 7).scatter_add(1, i, x)), (SQUARE, integers(7, 8, 5))),
    "rows by name": (lambda x, i: (x.index_select(0, i) * 2, T.zeros(3, 5).index_add(0, i, x)), (SQUARE, integers(3, 8))),
    "one_hot": (lambda i: F.one_hot(i, 5), (integers(5, 8),)),
    "masks": (lambda x, m: (x.masked_fill(m, -1e9), T.where(m, x, 0.0), m.any(), m.all(1), x * m), (SQUARE, T.tensor(np.eye(8, 5) > 0))),
    "running": (lambda x: (x.cumsum(0), x.cumsum(-1), x.cumprod(1)), (SQUARE,)),
    "extremes": (lambda x: (x.argmax(1), x.argmin(), x.max(0).values, x.amax((0, 1)), x.logsumexp(1)), (SQUARE,)),
    "transposed results": (lambda x: (x.t() * 2, (x.t() @ x).t() + 1, x.t().contiguous()), (SQUARE,)),
    "batched products": (lambda x: (x @ x.transpose(1, 2), x @ x[0].t(), x[:, 0] @ x[0, 0], T.einsum("bij,bkj->ik", x, x)), (CUBE,)),
    "joins": (lambda x: (T.cat([x, x[:2]]), T.stack([x, -x], 1), x.roll(2, 0), x.flip(1), F.pad(x, (1, 2))), (SQUARE,)),
    "losses": (lambda x, y, i: (F.cross_entropy(x, i), F.nll_loss(x.log_softmax(-1), i), F.huber_loss(x, y), F.smooth_l1_loss(x, y)), (SQUARE, -SQUARE, integers(5, 8))),
    "projection": (projection, (normal(8, 2, 5), normal(8, seed=2) * 0.3, integers(2, 8))),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), (CUBE,)),
    "pooling": (lambda x: (F.max_pool1d(x, 2), F.avg_pool1d(x, 2), F.max_pool1d(x, 3, 1, padding=1)), (CUBE,)),
    "a number": (lambda x: x * (1 / (x.norm().item() + 1.0)), (SQUARE,)),
    "double": (lambda x: (x.double().exp().sum(), x.double() @ x.double().t()), (SQUARE,)),
}  # fmt: skip


def same(a: Any, b: Any) -> None:
    if isinstance(a, (tuple, list)):
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=3e-5, atol=1e-6)


@pytest.mark.parametrize("name", ONE_PROGRAM)
def test_one_program(name: str) -> None:
    step, args = ONE_PROGRAM[name]
    with T.no_grad():
        compiled = Compiled(step, native=False)
        for _ in range(2):
            compiled(*args)
        lowered = lowering(compiled)
        assert lowered.reasons == []
        assert len(lowered.segments) == 1
        native(compiled)
        for _ in range(2):
            same(compiled(*args), step(*args))
    assert compiled.hits == 3


LAYERS: dict[str, tuple[Callable[[], T.nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: T.nn.Sequential(T.nn.Linear(6, 16), T.nn.Tanh(), T.nn.LayerNorm(16), T.nn.Linear(16, 3)), (4, 6)),
    "convolution": (lambda: T.nn.Sequential(T.nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False), T.nn.BatchNorm2d(4), T.nn.ReLU(), T.nn.MaxPool2d(2)), (3, 2, 9, 9)),
    "depthwise": (lambda: T.nn.Sequential(T.nn.Conv2d(4, 4, 3, groups=4), T.nn.GroupNorm(2, 4), T.nn.SiLU()), (2, 4, 6, 6)),
    "transposed": (lambda: T.nn.Sequential(T.nn.ConvTranspose2d(2, 3, 3, stride=2), T.nn.GELU()), (2, 2, 4, 4)),
    "one axis": (lambda: T.nn.Sequential(T.nn.Conv1d(2, 4, 3, dilation=2), T.nn.AvgPool1d(2), T.nn.Softplus()), (3, 2, 12)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_learning_steps(name: str, optimizer: str) -> None:
    build, shape = LAYERS[name]
    x, found = normal(*shape), []
    for compile_it in (False, True):
        T.manual_seed(0)
        net = build()
        optim = getattr(T.optim, optimizer)(net.parameters(), lr=0.01)

        def step(x: T.Tensor, net: Any = net, optim: Any = optim) -> T.Tensor:
            optim.zero_grad()
            loss = (net(x) ** 2).mean()
            loss.backward()
            T.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            optim.step()
            return loss.detach()

        run: Any = Compiled(step, native=False) if compile_it else step
        losses = []
        for _ in range(6):
            losses.append(run(x))
            if compile_it:
                native(run)
        found.append((losses, [*net.state_dict().values()]))
    assert run.hits >= 3
    assert not [why for why in lowering(run).reasons if why[0] not in ("read ge",)]
    same(found[1][0], found[0][0])
    same(found[1][1], found[0][1])


def test_an_index_outside_raises_as_ever() -> None:
    rows = Compiled(lambda x, i: x[i] * 2 + x.sum() - x[0], native=False)
    x = normal(4, 3)
    for _ in range(2):
        rows(x, T.tensor([0, -4]))
    native(rows)
    assert rows(x, T.tensor([3, 1])).shape == (2, 3)
    for bad in (4, -5):
        with pytest.raises(IndexError):
            rows(x, T.tensor([0, bad]))


def test_a_run_that_turns_back_leaves_memory_as_it_was() -> None:
    state = T.zeros(3)

    def step(x: T.Tensor) -> T.Tensor:
        state.mul_(0.5).add_(x)
        y = state * 2 + x.exp()
        return y - 1 if bool((y > 0).all()) else y + 1

    compiled = Compiled(step, native=False)
    for _ in range(2):
        compiled(T.ones(3))
    native(compiled)
    before = state.clone()
    expected = before * 0.5 - 9
    same(compiled(T.full((3,), -9.0)), expected * 2 + T.full((3,), -9.0).exp() + 1)
    same(state, expected)


def test_memory_from_outside_is_written_in_place() -> None:
    table, a = T.zeros(5, 2), T.tensor([1, 3])

    def learn(s: T.Tensor, r: T.Tensor) -> T.Tensor:
        with T.no_grad():
            error = r - table[s, a]
            table[s, a] += 0.5 * error
            return error

    compiled = Compiled(learn, native=False)
    a = T.tensor([1, 0])
    expected = np.zeros((5, 2), "f")
    for k in range(4):
        s, r = T.tensor([k, 4]), normal(2, seed=k)
        compiled(s, r)
        native(compiled)
        expected[s.numpy(), a.numpy()] += 0.5 * (r.numpy() - expected[s.numpy(), a.numpy()])
    np.testing.assert_allclose(table.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("checked", [False, True], ids=["nothing compared", "a value compared later"])
def test_tensors_that_turn_out_to_share_memory(checked: bool) -> None:
    """Recorded with two tensors apart, called with two views of one: the order of reads and writes is the function's."""

    def step(a: T.Tensor, b: T.Tensor) -> T.Tensor:
        first = b * 2 + a
        a.mul_(3).add_(first)
        second = b * 2 + first + a
        if checked and bool((second > 1e9).any()):
            second = second * 0
        return second

    compiled = Compiled(step, native=False)
    for _ in range(2):
        compiled(normal(4), normal(4, seed=1))
    native(compiled)
    for shift in (0, 1, 4):
        ours, theirs = (T.arange(8, dtype=T.float32) * 1 for _ in range(2))
        same(compiled(ours[:4], ours[shift : shift + 4]), step(theirs[:4], theirs[shift : shift + 4]))
        same(ours, theirs)


def test_a_function_without_a_rule_says_so() -> None:
    compiled = Compiled(lambda x: (x * 2 + 1).exp().sort().values * 3 - x, native=False)
    with T.no_grad():
        for _ in range(2):
            compiled(normal(9))
        lowered = lowering(compiled)
        assert [name in ("sort", "argsort") for name, _ in lowered.reasons] == [True]
        native(compiled)
        same(compiled(normal(9)), compiled.function(normal(9)))
