"""`compile` on whole learning steps, what it says of itself, and the machine code of optimizers' steps."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from jit_worlds import TIER, World, compiled_by_tier, equal, learner, tier  # noqa: F401

import tensor as T
from tensor.jit import Compiled, codegen, compiled, rehearsal

F = T.nn.functional
nn = T.nn


class Recurrent(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.cells, self.head = kind(3, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x: T.Tensor) -> Any:
        return self.head(self.cells(x.unsqueeze(1).expand(-1, 3, -1))[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.front = nn.Linear(3, 4)

    def forward(self, x: T.Tensor) -> Any:
        return self.layer(self.front(x).unsqueeze(0))


NETWORKS = {
    "mlp": lambda: nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)),
    "dropout": lambda: nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2)),
    "batch norm": lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.SiLU(), nn.Linear(8, 2)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(4, 2)
    ),
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "attention": Attention,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_learns_as_it_does_eagerly(name: str) -> None:
    # A bias before a norm, or of attention's keys, has gradients of mere rounding, which Adam would blow up.
    optimizer = T.optim.SGD if name in ("batch norm", "attention") else T.optim.Adam
    f = equal(lambda: learner(optimizer, layers=NETWORKS[name], lr=0.01), calls=20, hits=18)
    assert f.plans[0].tier == (TIER[0] == "native")


@pytest.mark.parametrize(
    "kind, options",
    [
        (T.optim.SGD, {}),
        (T.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
        (T.optim.SGD, {"momentum": 0.9, "nesterov": True, "maximize": True}),
        (T.optim.Adam, {"weight_decay": 0.01}),
        (T.optim.Adam, {"amsgrad": True, "maximize": True}),
        (T.optim.AdamW, {"weight_decay": 0.1}),
        (T.optim.Adagrad, {}),
    ],
)
def test_an_optimizer_steps_as_it_does_eagerly(kind: Any, options: dict[str, Any]) -> None:
    equal(lambda: learner(kind, **{"lr": 0.001, **options}), calls=70, hits=68)  # past a flush of small moments


def test_an_optimizer_that_changes_is_left_to_itself() -> None:
    counted: list[int] = []

    def hook(w: World) -> None:
        w.handle = w.opt.register_step_post_hook(lambda *_: counted.append(1))

    def moments(w: World) -> None:
        w.opt.param_groups[0]["amsgrad"] = True

    equal(learner, hook, lambda w: w.handle.remove(), moments, lambda w: w.opt.zero_grad(), hits=8)
    assert len(counted) == 6


def test_clipping_and_targets() -> None:
    def build() -> World:
        w = learner()
        target = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        target.requires_grad_(False)
        net, opt = w.net, w.opt

        def step(x: T.Tensor) -> Any:
            with T.no_grad():
                wanted = target(x).max(1, keepdim=True)[0] * 0.9 + x[:, :1]
            loss = F.smooth_l1_loss(net(x), wanted.expand(-1, 2))
            opt.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(net.parameters(), 0.05)
            opt.step()
            with T.no_grad():
                for p, q in zip(target.parameters(), net.parameters(), strict=True):
                    p.lerp_(q, 0.1)
            return {"loss": loss.item(), "norm": norm}

        w.step, w.seen = step, list(target.parameters())
        return w

    equal(build, calls=20, hits=18)


def test_a_module_is_compiled() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    f = T.compile(net)
    x = T.ones(2, 3)
    with T.no_grad():
        for _ in range(3):
            assert (f(x) == net(x)).all()
    assert f.hits == 2
    assert list(f.state_dict()) == ["0.weight", "0.bias"]
    assert f(x).requires_grad  # with gradients on it runs as it is
    f(x).sum().backward()
    assert net[0].weight.grad is not None


def test_what_is_returned_is_what_would_be() -> None:
    w = T.ones(2, requires_grad=True)

    def step(x: T.Tensor) -> Any:
        w.grad = None
        (w * x).sum().backward()
        x.add_(1)
        return x, w, w.grad, x[0], [x.sum().item(), None, "text"]

    f = compiled_by_tier(step)
    for n in range(4):
        x = T.full((2,), float(n))
        same, leaf, grad, view, rest = f(x)
        assert same is x
        assert leaf is w
        assert grad is w.grad
        view.zero_()
        assert x.tolist() == [0.0, n + 1.0]
        assert rest == [2.0 * n + 2, None, "text"]
        compiled._queue.join()
    assert f.hits == 0  # a string may have a number in it, and each call has another one
    f = compiled_by_tier(lambda x: step(x)[:4])
    assert [f(T.ones(2))[0].tolist() for _ in range(3)] == [[2.0, 2.0]] * 3
    assert f.hits == 2


def test_explain_and_reset() -> None:
    @T.compile
    def f(x: T.Tensor) -> T.Tensor:
        return x * 2

    for _ in range(3):
        f(T.ones(2))
    text = T.compile.explain(f)
    assert "2 of 3 calls replayed, 1 recordings kept" in text
    assert "return wrap(" in text
    T.compile.reset()
    assert not f.plans
    with pytest.raises(TypeError, match=r"^compile.explain: expected a compiled function, got builtin_function_or_method$"):
        T.compile.explain(len)

    @T.compile
    def g(x: T.Tensor) -> T.Tensor:
        print("seen")  # noqa: T201
        return x

    g(T.ones(1))
    assert "not compiled (1 times): print() is used" in T.compile.explain(g)


def test_recordings_are_bounded_and_a_hopeless_function_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    f = compiled_by_tier(lambda x: x * 2)
    for n in range(1, compiled.KEPT + 5):
        f(T.ones(n)), f(T.ones(n))
    assert len(f.plans) == compiled.KEPT
    g = compiled_by_tier(lambda x: print(x.shape))  # noqa: T201
    for n in range(1, 12):
        g(T.ones(n))
    assert g.eager == 12 - 1 - compiled.PATIENCE
    assert len(capsys.readouterr().out.splitlines()) == 11


def test_nothing_of_a_recording_is_left() -> None:
    w = learner()
    f = compiled_by_tier(w.step)
    x = T.ones(5, 3)
    for _ in range(4):
        f(x)
    before = T.Tensor.__dict__["_array"], T.Tensor.numpy, np.asarray, T.optim.Adam.step
    assert type(before[0]).__name__ == "member_descriptor"
    assert all(type(p._array) is np.ndarray and type(p.grad._array) is np.ndarray for p in w.net.parameters())
    with pytest.raises(ZeroDivisionError):
        Compiled(lambda x: x / (1 // 0))(x)
    assert before == (T.Tensor.__dict__["_array"], T.Tensor.numpy, np.asarray, T.optim.Adam.step)


def test_memory_does_not_grow() -> None:
    w = learner()
    f = compiled_by_tier(w.step)
    x = T.ones(5, 3)
    for _ in range(20):
        f(x)
    compiled._queue.join()
    f.plans[0].foresee()  # as the thread does, once nobody waits for it
    gc.collect()
    count = len(gc.get_objects())
    for _ in range(500):
        f(x)
    gc.collect()
    assert len(gc.get_objects()) <= count + 20


@pytest.mark.skipif(not codegen.available(), reason="no llvmlite")
def test_machine_code_takes_over() -> None:
    if TIER[0] != "native":
        pytest.skip("of machine code only")
    f = T.compile(lambda x: (x * 2 + 1).tanh().sum())
    x = T.randn(10)
    plain = f(x)
    assert f(x).item() == plain.item()
    compiled._queue.join()
    assert f.plans[0].tier == 1
    assert abs(f(x).item() - plain.item()) < 1e-5


@pytest.mark.skipif(not codegen.available(), reason="no llvmlite")
def test_machine_code_is_hastened_where_it_would_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording that follows another one waits for its machine code, unless somebody is in a hurry."""
    if TIER[0] != "native":
        pytest.skip("of machine code only")
    monkeypatch.setattr("tensor.jit.compiled.LATER", 256)  # tests have it made at once
    wave = T.compile(lambda x: ((x * 2 + x).tanh() * x + 1).exp() - x)
    for n in (2, 3):
        for _ in range(3):
            before = wave(T.ones(n))
    wave.wait()
    assert not wave.native  # the one for three elements, used last
    wave.hasten()
    wave.wait()
    assert wave.native
    assert T.allclose(wave(T.ones(3)), before)


@pytest.mark.skipif(not codegen.available(), reason="no llvmlite")
def test_machine_code_is_made_for_calls_in_a_mode_of_their_thread() -> None:
    if TIER[0] != "native":
        pytest.skip("of machine code only")
    f = T.compile(lambda x: (x * 2 + 1).tanh())
    x = T.randn(10, requires_grad=True)
    with T.no_grad():
        for _ in range(2):
            f(x)
        f.wait()
        assert f.plans[0].tier == 1
        assert not f(x).requires_grad
    assert f(x).requires_grad


def test_the_rehearsal_is_a_whole_recording_and_leaves_no_trace() -> None:
    T.manual_seed(3)
    expected = T.rand(2).tolist()
    T.manual_seed(3)
    plan = rehearsal._recorded()
    assert plan is not None
    assert T.rand(2).tolist() == expected


def test_a_function_is_compiled_first_where_no_gradients_are_wanted() -> None:
    rehearsal._once.cache_clear()
    with T.no_grad():
        double = T.compile(lambda x: x * 2 + x)
        assert [double(T.ones(2)).tolist() for _ in range(3)] == [[3.0, 3.0]] * 3
        assert not T.is_grad_enabled()
    assert T.is_grad_enabled()


def test_it_takes_what_pytorch_takes() -> None:
    @T.compile(mode="max-autotune", fullgraph=True)
    def double(x: T.Tensor) -> T.Tensor:
        return x * 2

    def triple(x: T.Tensor) -> T.Tensor:
        return x * 3

    assert isinstance(double, Compiled)
    assert double(T.ones(1)).item() == 2
    assert isinstance(T.compile(triple, dynamic=True, backend="inductor", options={}), Compiled)
    assert T.compile(triple, disable=True) is triple
    assert T.compile(disable=True)(triple) is triple


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match=r"compile: expected a function or a module, got 3$"):
        T.compile(3)
