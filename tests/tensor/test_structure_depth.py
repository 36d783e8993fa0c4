"""Edits of depth: layers put in, replaced, injected; the function, the optimizer, followers, and the way back."""

import sys
import threading
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensor as T
from tensor import nn, structure
from tensor.structure import rearrange
from tensor.structure.graphs import check_no_graph

ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.Hardtanh, nn.GELU, nn.Sigmoid, nn.ReLU6]
EDITS = {
    "deepen": lambda net, name: structure.deepen(net, name),
    "residual": lambda net, name: structure.deepen(net, name, init="residual"),
    "inject": lambda net, name: structure.inject(net, name),
}
OPTIMIZERS = [
    lambda p: T.optim.SGD(p, lr=0.05, momentum=0.9), lambda p: T.optim.AdamW(p, lr=0.01), lambda p: T.optim.RMSprop(p, lr=0.01),
    lambda p: T.optim.NAdam(p, lr=0.01),
]  # fmt: skip


def network(widths, activation):
    sizes = [3, *widths]
    layers = [part for a, b in zip(sizes, widths, strict=False) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 2))


def learn(net, optimizer, x, steps=1):
    for _ in range(steps):
        optimizer.zero_grad()
        (net(x) - 1).square().sum().backward()
        optimizer.step()


def values(net):
    return {name: t.detach().numpy().copy() for name, t in net.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), widths=st.lists(st.integers(1, 6), min_size=1, max_size=3), edit=st.sampled_from(list(EDITS)),
    activation=st.sampled_from(ACTIVATIONS), double=st.booleans(), where=st.integers(0, 3),
)  # fmt: skip
def test_depth_keeps_the_function(seed, widths, edit, activation, double, where):
    T.manual_seed(seed)
    net, x = network(widths, activation), T.randn(5, 3)
    if double:
        net, x = net.double(), x.double()
    planned = EDITS[edit](net, str(2 * (where % (len(widths) + 1))))
    assert planned.check(x).relative <= (1e-12 if double else 1e-5)
    before = net(x).detach().numpy()
    planned.apply()
    np.testing.assert_allclose(net(x).detach().numpy(), before, rtol=0, atol=abs(before).max() * (1e-12 if double else 1e-5))
    if edit != "inject":
        assert structure.grow(net, "0", 2).check(x).relative <= (1e-12 if double else 1e-5)


def test_convolutions_are_deepened():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(2, 1))
    x = T.randn(4, 1, 5, 5)
    before = net(x).detach().numpy()
    structure.deepen(net, "2").apply()
    structure.deepen(net, "0").apply()
    np.testing.assert_allclose(net(x).detach().numpy(), before, rtol=1e-6, atol=1e-7)
    assert [type(m).__name__ for m in net] == [
        "Conv2d",
        "ReLU",
        "Conv2d",
        "ReLU",
        "Conv2d",
        "Tanh",
        "Residual",
        "Flatten",
        "Linear",
    ]


def test_a_layer_outside_of_a_row_and_named_rows():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Sequential({"out": nn.Linear(4, 2), "act": nn.ReLU()})

        def forward(self, x):
            return self.last(self.first(x).tanh())

    net, x = Own(), T.randn(5, 3)
    before = net(x).detach().numpy()
    structure.deepen(net, "first", x=x).apply()
    structure.deepen(net, "last.out", x=x).apply()
    np.testing.assert_allclose(net(x).detach().numpy(), before, rtol=1e-6)
    assert list(net.last._modules) == ["out", "act", "act_1", "act_2"]
    assert isinstance(net.first[1], structure.Residual)


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("edit", list(EDITS))
def test_a_trajectory_after_an_edit_is_that_of_a_network_built_so(make, edit):
    T.manual_seed(0)
    net, x = network([4, 4], nn.ReLU).double(), T.randn(8, 3, dtype=T.float64)
    optimizer = make(net.parameters())
    learn(net, optimizer, x, 4)
    EDITS[edit](net, "2").apply(optimizer)
    held = {id(p): i for i, p in enumerate(optimizer._params())}
    assert {id(p) for p in net.parameters() if p.requires_grad} <= set(held)
    built = deepcopy(net)
    names = {id(p): name for name, p in net.named_parameters()}
    own = dict(built.named_parameters())
    other = make([own[names[id(p)]] for p in optimizer._params()])
    other.load_state_dict(optimizer.state_dict())
    for _ in range(5):
        learn(net, optimizer, x)
        learn(built, other, x)
        assert same(values(net), values(built))


@pytest.mark.parametrize("edit", [*EDITS, "replace"])
def test_followers_go_along_and_undo_puts_everything_back(edit):
    T.manual_seed(0)
    net, x = network([4, 4], nn.ReLU), T.randn(5, 3)
    target, average = deepcopy(net), T.optim.swa_utils.AveragedModel(net)
    optimizer = T.optim.Adam(net.parameters(), lr=0.01)
    learn(net, optimizer, x, 3)
    traces = {name: T.ones(p.shape) for name, p in net.named_parameters()} | {("4.weight", 0): T.ones(2)}
    before, target_before, traces_before = values(net), values(target), dict(traces)
    kept = {k: v.numpy().copy() for k, v in optimizer.state[net[2].weight].items()}
    planned = structure.replace(net, "2", nn.Linear(4, 4)) if edit == "replace" else EDITS[edit](net, "2")
    planned.apply(optimizer, target, average, traces)
    assert [type(m) for m in net.modules()] == [type(m) for m in target.modules()] == [type(m) for m in average.module.modules()]
    assert {k for k in traces if isinstance(k, str)} == {name for name, _ in net.named_parameters()}
    assert (f"{len(net) - 1}.weight", 0) in traces
    fresh = [line.partition(":")[0] for line in planned.plan() if ": new" in line]
    assert fresh
    assert all(np.array_equal(values(net)[name], values(target)[name]) for name in fresh)
    learn(net, optimizer, x, 3)
    planned.undo()
    assert same(values(net), before)
    assert same(values(target), target_before)
    assert traces.keys() == traces_before.keys()
    assert all(p.requires_grad for p in net.parameters())
    after = {k: v.numpy() for k, v in optimizer.state[net[2].weight].items()}
    assert same(after, kept)
    learn(net, optimizer, x)


def test_replaced_parameters_leave_the_optimizer():
    net, x = network([4], nn.ReLU), T.randn(5, 3)
    optimizer = T.optim.Adam(net.parameters(), lr=0.01)
    learn(net, optimizer, x, 2)
    edit = structure.replace(net, "2", nn.Linear(4, 5), x=x)
    assert edit.plan() == [
        "2.weight: [2, 4] -> gone", "2.bias: [2] -> gone", "2.weight: new [5, 4]", "2.bias: new [5]",
    ]  # fmt: skip
    edit.apply(optimizer)
    assert [list(p.shape) for p in optimizer._params()] == [list(p.shape) for p in net.parameters()]
    learn(net, optimizer, x)
    assert optimizer.state[net[2].weight]["step"].item() == 1
    assert optimizer.state[net[0].weight]["step"].item() == 3


def test_what_was_injected_learns_and_what_was_learnt_stays():
    net, x = network([4], nn.Tanh), T.randn(5, 3)
    optimizer = T.optim.Adam(net.parameters(), lr=0.01)
    learn(net, optimizer, x, 2)
    old = values(net)
    structure.inject(net, "2").apply(optimizer)
    start = values(net)
    learn(net, optimizer, x, 3)
    after = values(net)
    assert np.array_equal(after["2.frozen.weight"], old["2.weight"])
    assert np.array_equal(after["2.start.weight"], start["2.start.weight"])
    assert not np.array_equal(after["2.new.weight"], start["2.new.weight"])


@pytest.mark.parametrize("when", [1, 2, 3, 6])
@pytest.mark.parametrize("name", ["_set_children", "_freeze", "deepcopy", "keep_values"])
def test_an_error_in_the_middle_changes_nothing(monkeypatch, name, when):
    net, x = network([4, 4], nn.ReLU), T.randn(5, 3)
    target, optimizer = deepcopy(net), T.optim.Adam(net.parameters())
    learn(net, optimizer, x, 2)
    edit, before, other = structure.inject(net, "2"), values(net), values(target)
    calls, real = [], getattr(rearrange, name)

    def wrapped(*args):
        calls.append(1)
        if len(calls) == when:
            raise MemoryError
        return real(*args)

    monkeypatch.setattr(rearrange, name, wrapped)
    try:
        edit.apply(optimizer, target)
    except MemoryError:
        monkeypatch.undo()
        assert same(values(net), before)
        assert same(values(target), other)
        assert len(optimizer._params()) == 6
        assert all(p.requires_grad for p in net.parameters())
        edit.apply(optimizer, target)
    assert [id(p) for p in optimizer._params()] == [id(p) for p in net.parameters()]
    learn(net, optimizer, x)


def test_errors_name_what_is_wrong():
    net, x = network([4], nn.Tanh), T.randn(5, 3)
    cases = [
        (lambda: structure.deepen(net, "1", init="identity"), "expected an idempotent activation .* behind '1' .*, got Tanh"),
        (
            lambda: structure.deepen(net, "0", init="same"),
            "deepen: expected init to be one of 'identity', 'residual' or None, got 'same'",
        ),
        (lambda: structure.deepen(nn.Sequential(nn.Tanh()), "0"), "deepen: expected a Linear, .* at '0', or before it, got Tanh"),
        (lambda: structure.deepen(net, "3"), "deepen: no layer '3'"),
        (lambda: structure.inject(net, "1"), "inject: expected a layer with parameters at '1', got Tanh"),
        (lambda: structure.replace(net, "0", net[2]), "replace: expected a module that is not in the network yet"),
        (lambda: structure.replace(net, "0", nn.Linear(3, 5), x=x), "replace: after the edit of '0' the forward fails"),
        (
            lambda: structure.deepen(net, "0").apply(T.optim.Adam(network([4], nn.Tanh).parameters())),
            "deepen: expected an optimizer of the parameters at '0', got one that does not hold them",
        ),
        (
            lambda: structure.deepen(net, "0").apply(None, nn.Sequential(nn.Tanh())),
            "expected layers '0', '1', '2' at the top in follower 1",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="deepen: expected an optimizer that can follow an edit, got Adafactor"):
        structure.deepen(net, "0").apply(T.optim.Adafactor(net.parameters()))
    a, b = structure.deepen(net, "0"), structure.inject(net, "2")
    optimizer = T.optim.Adam(net.parameters())
    a.apply(optimizer)
    with pytest.raises(
        ValueError, match="inject: expected layers '0', '1', '2' at the top in the network, got '0', '1', '2', '3'"
    ):
        b.apply(optimizer)
    structure.grow(net, "0", 1).apply(optimizer)
    with pytest.raises(RuntimeError, match="deepen: expected the optimizer as this edit left it, got a later edit's"):
        a.undo()


def test_edits_disturb_no_thread_that_builds_a_tuple() -> None:
    """A tuple that is being built may not be held by anybody else, a look through the collector's objects included."""
    net = T.nn.Sequential(T.nn.Linear(4, 8), T.nn.Tanh(), T.nn.Linear(8, 2))
    loss = net(T.randn(3, 4)).sum()
    loss.backward()
    ended, errors, interval = threading.Event(), [], sys.getswitchinterval()

    def build() -> None:
        try:
            while not ended.is_set():
                for _ in range(1000):
                    tuple(i for i in range(37))
        except SystemError as error:
            errors.append(error)

    thread = threading.Thread(target=build)
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for _ in range(3000):
            check_no_graph("grow", dict(net.named_parameters()))
    finally:
        sys.setswitchinterval(interval)
        ended.set()
        thread.join()
    assert not errors
