"""Edits of width through every kind of layer, every rule of initialisation, and every optimizer."""

from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensor as T
from tensor import nn, structure


class Sequence(nn.Module):
    """A recurrent layer whose outputs are read by a linear one."""

    def __init__(self, kind, hidden, layers=1, both=False, read=2):
        super().__init__()
        self.rnn = kind(3, hidden, num_layers=layers, bidirectional=both, batch_first=True)
        self.read = nn.Linear(hidden * (1 + both), read)

    def forward(self, x):
        return self.read(self.rnn(x)[0])


class Words(nn.Module):
    """An embedding, and the way back to words by the same weights."""

    def __init__(self):
        super().__init__()
        self.words, self.mix = nn.Embedding(7, 4), nn.Linear(4, 4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x):
        return self.out(self.words(x) + self.mix(self.words(x)).tanh())


def depthwise(channels=3):
    return nn.Sequential(
        nn.Conv2d(1, channels, 3), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.Tanh(),
        nn.MaxPool2d(2), nn.Conv2d(channels, 2, 1), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip


def change(net, edit, x):
    """The relative change of the output in float64."""
    return (
        edit(net.double(), x if not x.is_floating_point() else x.double())
        .check(x if not x.is_floating_point() else x.double())
        .relative
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), kind=st.sampled_from([nn.RNN, nn.LSTM, nn.GRU]), hidden=st.integers(2, 5),
    layers=st.integers(1, 2), both=st.booleans(), units=st.integers(1, 3), init=st.sampled_from(["zero_out", "net2wider"]),
)  # fmt: skip
def test_recurrent_layers_grow(seed, kind, hidden, layers, both, units, init):
    T.manual_seed(seed)
    net, x = Sequence(kind, hidden, layers, both), T.randn(4, 5, 3)
    assert change(net, lambda n, x: structure.grow(n, "rnn", units, x=x, init=init), x) <= 1e-12
    structure.grow(net, "rnn", units, init=init).apply()
    assert net.rnn.hidden_size == hidden + units
    assert net(x.double()).shape == (4, 5, 2)
    structure.prune(net, "rnn", [0]).apply()
    assert net.read.in_features == (hidden + units - 1) * (1 + both)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_inputs_are_added(kind):
    net, x = Sequence(kind, 3).double(), T.randn(4, 5, 3, dtype=T.float64)
    before = net(x).detach().numpy()
    structure.add_inputs(net, "rnn", 2).apply()
    after = net(T.cat([x, T.randn(4, 5, 2, dtype=T.float64)], 2)).detach().numpy()
    np.testing.assert_allclose(after, before, rtol=1e-12)
    assert net.rnn.input_size == 5


@pytest.mark.parametrize("init", ["zero_out", "net2wider", "pair"])
def test_embeddings_convolutions_and_feed_forward_widths(init):
    T.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(8, 2, dim_feedforward=6)
    assert change(encoder, lambda n, x: structure.grow(n, "linear1", 4, x=x, init=init), T.randn(5, 2, 8)) <= 1e-12
    stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, dim_feedforward=6), 2)
    assert change(stack, lambda n, x: structure.grow(n, "layers.1.linear1", 2, x=x, init=init), T.randn(5, 2, 8)) <= 1e-12
    table = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))
    assert change(table, lambda n, x: structure.grow(n, "0", 2, init=init), T.tensor([[1, 2], [3, 4]])) <= 1e-12
    net = depthwise()
    assert change(net, lambda n, x: structure.grow(n, "0", 2, init=init), T.randn(2, 1, 10, 10)) <= 1e-12
    edited = structure.grow(net, "0", 2, init=init).apply().net
    assert (edited[2].groups, edited[2].in_channels, edited[2].weight.shape) == (5, 5, (5, 1, 3, 3))


def test_words_are_added_to_an_embedding_and_tied_weights_stay_tied():
    table = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))
    before = table(T.tensor([0, 4])).detach().numpy()
    structure.add_inputs(table, "0", 3).apply()
    assert np.array_equal(table(T.tensor([0, 4])).detach().numpy(), before)
    assert table[0].num_embeddings == 8
    assert table(T.tensor([7])).abs().sum() > 0
    net, x = Words(), T.tensor([[1, 2], [3, 6]])
    structure.grow(net, "mix", 2, x=x).apply()
    assert net.out.weight is net.words.weight
    assert net.words.weight.shape == (7, 6) == (net.out.out_features, net.out.in_features)
    assert net(x).shape == (2, 2, 7)


def test_group_norms_grow_by_whole_groups():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 2, 1)).double()
    x = T.randn(2, 1, 5, 5, dtype=T.float64)
    with pytest.raises(ValueError, match="grow: expected whole groups of 2 channels, as of the GroupNorm at '1', got 5 channels"):
        structure.grow(net, "0", 1)
    edit = structure.grow(net, "0", 2)
    assert edit.check(x).relative <= 1e-12
    assert edit.reasons == ()
    assert structure.grow(net, "0", 2, init="net2wider").reasons == ("1: GroupNorm mixes all units",)
    edit.apply()
    assert (net[1].num_groups, net[1].num_channels) == (3, 6)


def test_what_cannot_grow_says_why():
    heads = nn.TransformerEncoderLayer(8, 2, dim_feedforward=6)
    x = T.randn(5, 2, 8)
    cases = [
        (lambda: structure.grow(heads, "linear2", 2, x=x), "cannot follow the units of 'linear2'"),
        (lambda: structure.grow(nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)), "0", 2), "got Conv2d of 2 groups at '0'"),
        (lambda: structure.grow(Sequence(nn.LSTM, 1), "rnn", 1), "a recurrence of a single unit"),
        (
            lambda: structure.grow(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Softmax(1)), "0", 2),
            "grow: expected x, an input to follow Sequential with, since none could be made up .its first layer, Conv2d, does not",
        ),
        (
            lambda: structure.grow(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)), "0", 3, init="pair"),
            "an even number",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_layer_norms_are_announced():
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    assert structure.grow(net, "0", 2).reasons == ("1: LayerNorm mixes all units",)


class Both(nn.Module):
    """Two layers side by side, normalised together."""

    def __init__(self, norm):
        super().__init__()
        self.one, self.other, self.norm, self.out = nn.Linear(3, 4), nn.Linear(3, 4), norm, nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.norm(T.cat([self.one(x), self.other(x)], 1)))


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_only_whole_copies_of_a_layer_are_kept_by_its_norm(kind, affine):
    x = T.randn(20, 3)
    net = nn.Sequential(nn.Linear(3, 4), kind(4, elementwise_affine=affine), nn.LeakyReLU(), nn.Linear(4, 2))
    said = (f"1: {kind.__name__} mixes all units",)
    for units, init in ((2, "zero_out"), (4, "zero_out"), (4, "pair"), (2, "net2wider"), (6, "net2wider")):
        change = structure.grow(net, "0", units, init=init).check(x)
        assert change.reasons == said
        assert change.relative > 1e-3
    for copies in (2, 3):
        edit = structure.grow(net, "0", 4 * (copies - 1), init="net2wider")
        assert edit.check(x).reasons == ()
        assert edit.check(x).relative < 1e-5
        assert edit.apply().net[1].normalized_shape == (4 * copies,)
        net(x)
        edit.undo()
        assert net[1].normalized_shape == (4,)
    assert said[0] in structure.prune(net, "0", [1]).check(x).reasons
    assert structure.prune(net, "0", [1, 2]).apply().net[1].normalized_shape == (2,)
    net(x)


@pytest.mark.parametrize("affine", [False, True])
def test_a_copy_of_a_part_of_what_is_normalised_is_not_whole(affine):
    net, x = Both(nn.LayerNorm(8, elementwise_affine=affine)), T.randn(20, 3)
    edit = structure.grow(net, "one", 4, init="net2wider", x=x)
    assert edit.check(x).reasons == ("norm: LayerNorm mixes all units",)
    assert edit.check(x).relative > 1e-3
    assert edit.apply().net.norm.normalized_shape == (12,)
    net(x)


def mlp(*sizes, activation=nn.Tanh):
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


def learn(net, optimizer, x, y, steps=1):
    for _ in range(steps):
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()


def test_gradmax_has_a_larger_gradient_than_random_directions():
    T.manual_seed(0)
    net, x, y = mlp(3, 4, 4, 2).double(), T.randn(32, 3, dtype=T.float64), T.randn(32, 2, dtype=T.float64)

    def loss():
        return (net(x) - y).square().mean()

    edit = structure.grow(net, "2", 2, init="gradmax", loss=loss)
    assert edit.check(x).relative <= 1e-12
    assert all(p.grad is None for p in net.parameters())
    edit.apply()
    loss().backward()
    best = net[2].weight.grad.numpy()[4:]
    for _ in range(20):
        other = deepcopy(net)
        columns = np.random.default_rng().normal(size=(2, 2))
        columns *= np.linalg.norm(net[4].weight.detach().numpy()[:, 4:], axis=0) / np.linalg.norm(columns, axis=0)
        other[4].weight.data = T.tensor(np.c_[net[4].weight.detach().numpy()[:, :4], columns])
        other.zero_grad()
        (other(x) - y).square().mean().backward()
        first = np.linalg.svd(other[2].weight.grad.numpy()[4:])[1][0]
        assert first <= np.sqrt(2) * np.linalg.norm(best[0]) + 1e-12
    with pytest.raises(ValueError, match="grow: expected loss, a function that runs the network"):
        structure.grow(net, "2", 1, init="gradmax")
    with pytest.raises(ValueError, match=r"expected Linear, one of Tanh, .* got Linear, ReLU, Linear"):
        structure.grow(mlp(3, 4, 2, activation=nn.ReLU), "0", 1, init="gradmax", loss=loss)


OPTIMIZERS = {
    "SGD": {"momentum": 0.9, "nesterov": True}, "ASGD": {"t0": 3}, "Adam": {"amsgrad": True}, "AdamW": {}, "NAdam": {}, "RAdam": {},
    "Adamax": {}, "Adagrad": {"lr_decay": 0.1, "initial_accumulator_value": 0.1}, "Adadelta": {}, "Rprop": {},
    "RMSprop": {"momentum": 0.9, "centered": True}, "Muon": {},
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_gives_each_element_its_own_age(name):
    """An element that comes at an edit is updated as the element of a parameter that is new, the others as if nothing had been."""
    T.manual_seed(0)
    make = getattr(T.optim, name)
    net = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)).double()
    optimizer = make(net.parameters(), lr=0.01, **OPTIMIZERS[name])

    def slope(shape, t):
        return T.tensor(np.sin(np.arange(np.prod(shape)).reshape(shape) + t))

    def step(params, optimizer, slopes):
        for p, g in zip(params, slopes, strict=True):
            p.grad = g
        optimizer.step()

    old = deepcopy(net)
    reference = make(old.parameters(), lr=0.01, **OPTIMIZERS[name])
    for t in range(7):
        for n, o in ((net, optimizer), (old, reference)):
            step(n.parameters(), o, [slope(p.shape, t) for p in n.parameters()])
    structure.grow(net, "0", 2).apply(optimizer)
    new = [net[0].weight[4:].detach().clone().requires_grad_(), net[1].weight[:, 4:].detach().clone().requires_grad_()]
    fresh = make(new, lr=0.01, **OPTIMIZERS[name])
    for t in range(7, 14):
        slopes = [slope(p.shape, t) for p in net.parameters()]
        step(net.parameters(), optimizer, slopes)
        if name != "Muon":  # whose update of an element depends on all others
            step(old.parameters(), reference, [slopes[0][:4].clone(), slopes[1][:, :4].clone()])
            step(new, fresh, [slopes[0][4:].clone(), slopes[1][:, 4:].clone()])
            for whole, part, added, cut in zip(net.parameters(), old.parameters(), new, ((0, 4), (1, 4)), strict=True):
                a, b = np.split(whole.detach().numpy(), [cut[1]], axis=cut[0])
                np.testing.assert_allclose(a, part.detach().numpy(), rtol=1e-12)
                np.testing.assert_allclose(b, added.detach().numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_checkpoint_of_an_edited_network_goes_on_alike(name):
    T.manual_seed(0)
    make = getattr(T.optim, name)
    net = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False)).double()
    x, y = T.randn(8, 3, dtype=T.float64), T.randn(8, 2, dtype=T.float64)
    optimizer = make(net.parameters(), lr=0.01, **OPTIMIZERS[name])
    learn(net, optimizer, x, y, 5)
    structure.grow(net, "0", 3, init="net2wider").apply(optimizer)
    learn(net, optimizer, x, y, 2)
    structure.reset_units(net, "0", [0, 5]).apply(optimizer)
    learn(net, optimizer, x, y, 2)
    structure.prune(net, "0", [1]).apply(optimizer)
    other = deepcopy(net)
    loaded = make(other.parameters(), lr=0.01, **OPTIMIZERS[name])
    loaded.load_state_dict(optimizer.state_dict())
    copied = deepcopy(optimizer)
    assert [type(f.late) for f in copied._flats[0]] == [type(f.late) for f in optimizer._flats[0]]
    for _ in range(5):
        learn(net, optimizer, x, y)
        learn(other, loaded, x, y)
        for a, b in zip(net.parameters(), other.parameters(), strict=True):
            np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


@pytest.mark.parametrize("name", ["Adafactor", "LBFGS"])
def test_optimizers_that_cannot_follow_are_named(name):
    net = mlp(3, 4, 2)
    before = [p.detach().numpy().copy() for p in net.parameters()]
    with pytest.raises(TypeError, match=f"grow: expected an optimizer that can follow an edit, got {name}, which cannot"):
        structure.grow(net, "0", 2).apply(getattr(T.optim, name)(net.parameters()))
    assert all(np.array_equal(a, b.detach().numpy()) for a, b in zip(before, net.parameters(), strict=True))


@settings(max_examples=40, deadline=None)
@given(data=st.data(), shape=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_places_go_where_elements_go(data, shape):
    axis = data.draw(st.integers(0, len(shape) - 1))
    index = data.draw(st.lists(st.integers(-1, shape[axis] - 1), min_size=1, max_size=6))
    array = np.arange(np.prod(shape)).reshape(shape)
    wanted = np.array(sorted(data.draw(st.sets(st.sampled_from(array.ravel().tolist())))), dtype=int)
    moved = structure.remap(array, axis, index, fill=-1)
    places, source = structure.Slices(index).places(wanted, tuple(shape), axis)
    expected = {(i, v) for i, v in enumerate(moved.ravel().tolist()) if v in {-1, *wanted.tolist()}}
    assert {(int(i), -1 if s < 0 else int(wanted[s])) for i, s in zip(places, source, strict=True)} == expected
    assert len(places) == len(expected)
