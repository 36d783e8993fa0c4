"""Edits of networks: the function is kept, whoever follows goes along, and an error leaves everything as it was."""

import gc
from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensor as T
import tensor.structure.resize as resize_module
from tensor import nn, structure
from tensor.optim.flat import Flat
from tensor.structure.remap import Slices


class Image(nn.Module):
    """Convolution, batch norm, flatten, a residual block used twice."""

    def __init__(self, channels, width):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.first, self.block, self.last = nn.Linear(channels * 9, width), nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, x):
        h = self.first(T.relu(self.norm(self.conv(x))).flatten(1)).tanh()
        h = h + self.block(h).relu()
        return self.last(h + self.block(h).relu())


class Fixed(nn.Module):
    """Holds a size of four fast."""

    def forward(self, x):
        return x.reshape(-1, 4)


def mlp(*sizes):
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def state(net, optimizer):
    arrays = {name: t.numpy().copy() for name, t in net.state_dict().items()}
    kept = {(i, k): np.array(v.numpy()) for i, s in optimizer.state_dict()["state"].items() for k, v in s.items()}
    return arrays, kept


def same(a, b):
    return all(x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x) for x, y in zip(a, b, strict=True))


def learn(net, optimizer, x, steps=1):
    for _ in range(steps):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), widths=st.lists(st.integers(1, 6), min_size=1, max_size=3), units=st.integers(1, 5),
    init=st.sampled_from(["zero_out", "net2wider"]), double=st.booleans(), where=st.integers(0, 2),
)  # fmt: skip
def test_growing_keeps_the_function_of_an_mlp(seed, widths, units, init, double, where):
    T.manual_seed(seed)
    net, x = mlp(3, *widths, 2), T.randn(5, 3)
    if double:
        net, x = net.double(), x.double()
    edit = structure.grow(net, str(2 * (where % len(widths))), units, x=x, init=init)
    assert edit.check(x).relative <= (1e-12 if double else 1e-5)
    before = net(x).detach().numpy()
    edit.apply()
    np.testing.assert_allclose(net(x).detach().numpy(), before, rtol=0, atol=abs(before).max() * (1e-12 if double else 1e-5))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6), channels=st.integers(2, 4), width=st.integers(2, 5), units=st.integers(1, 4),
    init=st.sampled_from(["zero_out", "net2wider"]), name=st.sampled_from(["conv", "first", "block"]),
)  # fmt: skip
def test_growing_keeps_the_function_of_convolutions_norms_and_residuals(seed, channels, width, units, init, name):
    T.manual_seed(seed)
    net, x = Image(channels, width).double(), T.randn(4, 1, 3, 3, dtype=T.float64)
    net(x)  # moves the running statistics
    assert structure.grow(net, name, units, x=x, init=init).check(x).relative <= 1e-12


def test_a_single_channel_that_cannot_be_told_apart_is_refused():
    net, x = Image(1, 3), T.randn(4, 1, 3, 3)
    with pytest.raises(ValueError, match=r"cannot follow the units of 'conv': they reach .*an operation on a single channel"):
        structure.grow(net, "conv", 1, x=x)


def test_the_edit_concerns_norms_statistics_repeats_and_both_branches():
    net, x = Image(2, 3), T.randn(4, 1, 3, 3)
    structure.grow(net, "conv", 2, x=x).apply()
    structure.grow(net, "block", 4, x=x).apply()
    assert (net.conv.out_channels, net.norm.num_features, net.norm.running_var.shape[0]) == (4, 4, 4)
    assert net.first.weight.shape == (7, 36)
    assert (net.block.in_features, net.block.out_features, net.last.in_features) == (7, 7, 7)
    assert net(x).shape == (4, 2)


def test_what_does_not_keep_the_function_is_announced():
    x = T.randn(6, 3)
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    edit = structure.grow(net, "0", 2, x=x)
    assert edit.check(x).relative > 1e-3
    assert edit.check(x).reasons == ("1: LayerNorm mixes all units",)
    assert edit.apply().net[1].normalized_shape == (6,)
    assert structure.grow(mlp(3, 4, 1), "0", 2, x=x, init="random").check(x).relative > 1e-3
    assert structure.prune(mlp(3, 4, 1), "0", [1], x=x).check(x).relative > 1e-4


def test_inputs_and_outputs_are_added_and_the_old_ones_stay():
    net, x = mlp(3, 4, 2).double(), T.randn(5, 3, dtype=T.float64)
    before = net(x).detach().numpy()
    structure.add_outputs(net, "2", 1, x=x).apply()
    structure.add_inputs(net, "0", 2, x=x).apply()
    after = net(T.randn(5, 2, dtype=T.float64).new_ones(5, 5) * 0 + T.cat([x, T.randn(5, 2, dtype=T.float64)], 1))
    np.testing.assert_allclose(after.detach().numpy(), np.c_[before, np.zeros(5)], atol=1e-14)


@pytest.mark.parametrize("make", [
    lambda p: T.optim.SGD(p, lr=0.05, momentum=0.9), lambda p: T.optim.Adam(p, lr=0.01), lambda p: T.optim.AdamW(p, lr=0.01),
])  # fmt: skip
def test_a_trajectory_after_an_edit_is_that_of_a_network_of_that_size(make):
    T.manual_seed(0)
    net, x = mlp(3, 4, 4, 2).double(), T.randn(8, 3, dtype=T.float64)
    optimizer = make(net.parameters())
    learn(net, optimizer, x, 5)
    structure.grow(net, "0", 3, x=x, init="net2wider").apply(optimizer)
    structure.grow(net, "2", 2, x=x).apply(optimizer)
    built = mlp(3, 7, 6, 2).double()
    built.load_state_dict(net.state_dict())
    other = make(built.parameters())
    other.load_state_dict(optimizer.state_dict())
    for _ in range(6):
        learn(net, optimizer, x)
        learn(built, other, x)
        assert same(state(net, optimizer), state(built, other))


def test_new_slices_take_adams_first_step_not_a_jump():
    """Zero moments under an old step count would move 3.16 times the rate at once (for betas .9 and .999)."""
    net, x = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)).double(), T.ones(1, 2, dtype=T.float64)
    optimizer = T.optim.Adam(net.parameters(), lr=0.01)

    def constant_gradient():
        for p in net.parameters():
            p.grad = T.ones_like(p)
        optimizer.step()

    for _ in range(2000):
        constant_gradient()
    structure.grow(net, "0", 2, x=x).apply(optimizer)
    for _ in range(15):
        before = net[0].weight.detach().numpy().copy()
        constant_gradient()
        np.testing.assert_allclose(before - net[0].weight.detach().numpy(), 0.01, rtol=1e-6)
    counts = optimizer.state[net[0].weight]["step"].numpy()
    assert counts[:2].min() == counts[:2].max() == 2015
    assert counts[2:].min() == counts[2:].max() == 15


def test_target_networks_and_traces_follow_with_the_same_draws():
    T.manual_seed(1)
    net, x = mlp(3, 4, 2), T.randn(5, 3)
    target = deepcopy(net)
    traces = {name: T.ones(p.shape) for name, p in net.named_parameters()}
    structure.grow(net, "0", 2, x=x, init="random").apply(None, target, traces)
    assert all(
        np.array_equal(a.detach().numpy(), b.detach().numpy()) for a, b in zip(net.parameters(), target.parameters(), strict=True)
    )
    assert traces["2.weight"].tolist() == [[1, 1, 1, 1, 0, 0]] * 2


def test_undo_puts_everything_back():
    net, x = Image(2, 3), T.randn(4, 1, 3, 3)
    optimizer = T.optim.Adam(net.parameters())
    learn(net, optimizer, x, 3)
    before, who = state(net, optimizer), [id(p) for p in net.parameters()]
    edit = structure.grow(net, "conv", 2, x=x).apply(optimizer)
    learn(net, optimizer, x, 3)
    edit.undo()
    assert same(state(net, optimizer), before)
    assert [id(p) for p in net.parameters()] == who
    assert net.conv.out_channels == 2
    learn(net, optimizer, x)
    with pytest.raises(RuntimeError, match="grow: nothing to undo"):
        edit.undo()


@pytest.mark.parametrize("when", [1, 4, 9, 14, 20, 25])
@pytest.mark.parametrize("owner, name", [
    (Slices, "apply"), (Flat, "_take"), (Flat, "place"), (resize_module, "sizes"),
    (resize_module, "refill"),
])  # fmt: skip
def test_an_error_in_the_middle_changes_nothing(monkeypatch, owner, name, when):
    net, x = Image(2, 3), T.randn(4, 1, 3, 3)
    optimizer, target = T.optim.Adam(net.parameters()), deepcopy(net)
    learn(net, optimizer, x, 3)
    traces = {"conv.bias": T.zeros(2)}
    edit = structure.grow(net, "conv", 2, x=x)
    before, other = state(net, optimizer), state(target, optimizer)
    calls, real = [], getattr(owner, name)

    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == when:
            raise MemoryError
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapped)
    try:
        edit.apply(optimizer, target, traces)
    except MemoryError:
        monkeypatch.undo()
        assert same(state(net, optimizer), before)
        assert same(state(target, optimizer), other)
        assert (net.conv.out_channels, target.conv.out_channels, traces["conv.bias"].shape) == (2, 2, (2,))
        edit.apply(optimizer, target, traces)  # and it can be tried again
    assert (net.conv.out_channels, target.conv.out_channels, traces["conv.bias"].shape) == (4, 4, (4,))
    learn(net, optimizer, x)


def test_a_follower_that_does_not_fit_changes_nothing():
    net, x = Image(2, 3), T.randn(4, 1, 3, 3)
    optimizer = T.optim.Adam(net.parameters())
    learn(net, optimizer, x, 2)
    before = state(net, optimizer)
    for follower, message in [
        ({"conv.bias": T.zeros(5)}, r"expected conv.bias of shape \[2\] in a dict, got \[5\]"),
        ({("conv.weight", 0): T.zeros(5)}, r"expected \('conv.weight', 0\) of shape \[2\] in a dict, got \[5\]"),
        (Image(3, 3), r"expected conv.weight of shape \[2, 1, 3, 3\] in follower 1, got \[3, 1, 3, 3\]"),
        ([], "expected modules or dicts as followers, got list"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            structure.grow(net, "conv", 2, x=x).apply(optimizer, follower)
        assert same(state(net, optimizer), before)


def test_errors_name_what_is_wrong():
    net, x = mlp(3, 4, 2), T.randn(5, 3)
    cases = [
        (lambda: structure.grow(net, "00", 1, x=x), "grow: no layer '00'; did you mean '0'"),
        (lambda: structure.grow(net, "0", 0, x=x), "grow: expected at least 1 new unit, got 0"),
        (lambda: structure.grow(net, "zebra", 1, x=x), "grow: no layer 'zebra'; there are '0', '1', '2'$"),
        (lambda: structure.grow(net, "1", 1, x=x), "expected a Linear, an ungrouped convolution, .*got Tanh at '1'"),
        (lambda: structure.grow(net, "2", 1, x=x), "grow: cannot follow the units of '2': they reach the network's output"),
        (
            lambda: structure.grow(net, "0", 1, x=x, init="zero"),
            "grow: expected init to be one of 'zero_out', 'net2wider', 'gradmax', 'pair', 'random', got 'zero'",
        ),
        (
            lambda: structure.add_inputs(net, "2", 1, x=x),
            "add_inputs: expected a layer of the network's inputs, got '2', which has none",
        ),
        (lambda: structure.add_outputs(net, "0", 1, x=x), "add_outputs: expected a layer of the network's outputs, got '0'"),
        (lambda: structure.prune(net, "0", range(4), x=x), "prune: expected at least 1 unit to be left in '0'"),
        (lambda: structure.prune(net, "0", [4], x=x), "prune: expected numbers of units from 0 to 3"),
    ]
    before = {name: t.numpy().copy() for name, t in net.state_dict().items()}
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
        assert all(np.array_equal(before[name], t.numpy()) for name, t in net.state_dict().items())
    fixed = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm((1, 4), elementwise_affine=False), nn.Linear(4, 1))
    with pytest.raises(ValueError, match="grow: cannot follow the units of '0': they reach a LayerNorm of several axes"):
        structure.grow(fixed, "0", 1, x=x.unsqueeze(1))
    fixed = nn.Sequential(nn.Linear(3, 4), Fixed(), nn.Linear(4, 1))
    with pytest.raises(ValueError, match="grow: after the edit of '0' the forward fails: "):
        structure.grow(fixed, "0", 1, x=x)
    edit = structure.grow(net, "0", 1, x=x)
    with pytest.raises(
        ValueError, match=r"an optimizer of the parameters to change, got one that does not hold '0.weight', '0.bias', '2.weight'"
    ):
        edit.apply(T.optim.Adam(mlp(3, 4, 2).parameters()))
    with pytest.raises(TypeError, match="an optimizer that can follow an edit, got LBFGS, which cannot"):
        edit.apply(T.optim.LBFGS(net.parameters()))
    edit.apply()
    with pytest.raises(RuntimeError, match="grow: this edit is applied already"):
        edit.apply()
    net[0].weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"0\.weight is frozen"):
        structure.grow(net, "0", 1, x=x)


def test_an_edit_that_a_backward_pass_would_miss_is_refused():
    net, x = mlp(3, 4, 2), T.randn(5, 3)
    optimizer = T.optim.Adam(net.parameters())
    before, edit = state(net, optimizer), structure.grow(net, "0", 1)
    y = net(x)
    expected = r"grow: expected no graph that still wants (0|2)\.weight, got one with LinearBackward"
    with pytest.raises(RuntimeError, match=expected):
        edit.apply(optimizer)
    seen = []

    def hook(g):
        with pytest.raises(RuntimeError, match=expected):
            edit.apply(optimizer)
        seen.append(1)

    y.register_hook(hook)
    y.sum().backward()
    assert seen
    assert same(state(net, optimizer), before)
    y = net(x)
    gc.collect()
    gc.collect()  # the graph is old now, and is not looked for
    structure.grow(net, "0", 1).apply()
    with pytest.raises(RuntimeError, match="changed"):
        y.sum().backward()
    net, _ = mlp(3, 4, 2), None
    optimizer, edit = T.optim.Adam(net.parameters()), structure.grow(net, "0", 1)
    loss = net(x).sum()
    loss.backward()  # still alive, but done with
    edit.apply(optimizer)
    assert loss.grad_fn is not None
    learn(net, optimizer, x)


def test_resetting_units_keeps_the_others_state():
    net, x = mlp(3, 4, 2), T.randn(5, 3)
    optimizer = T.optim.Adam(net.parameters())
    learn(net, optimizer, x, 4)
    old = net[0].weight.detach().numpy().copy()
    structure.reset_units(net, "0", [1], x=x).apply(optimizer)
    assert np.array_equal(net[0].weight.detach().numpy()[[0, 2, 3]], old[[0, 2, 3]])
    assert not net[2].weight.detach().numpy()[:, 1].any()
    assert optimizer.state[net[2].weight]["step"].tolist() == [[4, 0, 4, 4]] * 2
    learn(net, optimizer, x)


def test_remap_refuses_indices_that_are_not_there():
    with pytest.raises(ValueError, match="remap: expected indices from -1 to 2, got 0 to 3"):
        structure.remap(np.zeros(3), 0, [0, 3])


def test_a_layer_that_is_not_there_is_answered_with_quoted_names():
    net = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"^grow: no layer '1'; the only one is '0'$"):
        structure.grow(net, "1", 2)
    with pytest.raises(AttributeError, match=r"^get_submodule: Sequential has no module '1'; the only one is '0'$"):
        net.get_submodule("1")
    with pytest.raises(ValueError, match=r"^grow: no layer '1'; there are none$"):
        structure.grow(nn.Sequential(), "1", 2)
