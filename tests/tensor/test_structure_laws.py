"""Laws of edits, on random networks of every kind: what keeps the function keeps it, and what does not says so."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tensor as T
from tensor import nn, structure

ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.LeakyReLU]


class Skip(nn.Module):
    """Residual blocks, the second of which is used twice."""

    def __init__(self, width, hidden, act):
        super().__init__()
        self.first, self.last, self.act = nn.Linear(3, width), nn.Linear(width, 2), act()
        self.block = nn.Sequential(nn.Linear(width, hidden), act(), nn.Linear(hidden, width))
        self.shared = nn.Linear(width, width)

    def forward(self, x):
        h = self.first(x)
        h = h + self.block(h)
        h = h + self.act(self.shared(h))
        return self.last(h + self.act(self.shared(h)))


class Recurrent(nn.Module):
    def __init__(self, kind, hidden, layers, both):
        super().__init__()
        self.rnn = kind(3, hidden, num_layers=layers, bidirectional=both, batch_first=True)
        self.read = nn.Linear(hidden * (1 + both), 2)

    def forward(self, x):
        return self.read(self.rnn(x)[0])


class Reader(nn.Module):
    """Words, attention with and without a layer norm, and words again, by the same weights where they are tied."""

    def __init__(self, heads, hidden, act, norm, tied, separate=False):
        super().__init__()
        width = 2 * heads
        self.words, self.place = nn.Embedding(7, width), nn.Parameter(T.randn(1, 4, width))
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True, kdim=width + separate, vdim=width)
        self.keys = nn.Linear(width, width + separate)
        self.mix = nn.Sequential(nn.Linear(width, hidden), act(), nn.Linear(hidden, width))
        self.out = nn.Linear(width, 7, bias=False)
        if tied:
            self.out.weight = self.words.weight

    def forward(self, x):
        h = self.words(x) + self.place
        n = self.norm(h)
        h = h + self.attention(n, self.keys(n) if self.attention.in_proj_weight is None else n, n)[0]
        return self.out(h + self.mix(h))


def images(c, d, act, norm, pool):
    parts = [nn.Conv2d(2, c, 3, padding=1), norm(c), act(), pool(2), nn.Conv2d(c, c, 3, padding=1, groups=c), nn.Conv2d(c, d, 1)]
    return nn.Sequential(*parts, act(), nn.Flatten(), nn.Linear(4 * d, 3), act(), nn.Linear(3, 2))


def two(draw):
    return draw(st.integers(2, 5)), draw(st.integers(2, 5)), draw(st.sampled_from(ACTIVATIONS))


def mlp(draw):
    a, b, act = two(draw)
    return nn.Sequential(nn.Linear(3, a), act(), nn.Linear(a, b), act(), nn.Linear(b, 2)), T.randn(5, 3)


def convolutional(draw):
    norm, pool = draw(st.sampled_from([nn.BatchNorm2d, nn.Identity])), draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))
    return images(*two(draw), norm, pool), T.randn(3, 2, 4, 4)


def recurrent(draw):
    kind, both = draw(st.sampled_from([nn.RNN, nn.GRU, nn.LSTM])), draw(st.booleans())
    return Recurrent(kind, draw(st.integers(2, 4)), draw(st.integers(1, 2)), both), T.randn(2, 4, 3)


def attentive(draw, norm=False, tied=False):
    separate = draw(st.booleans()) and not norm
    return Reader(draw(st.integers(1, 3)), *two(draw)[1:], norm, tied, separate), T.randint(0, 7, (3, 4))


KINDS = {
    "mlp": mlp, "conv": convolutional, "residual": lambda draw: (Skip(*two(draw)), T.randn(5, 3)), "recurrent": recurrent,
    "attention": attentive, "shared": lambda draw: attentive(draw, tied=True), "norm": lambda draw: attentive(draw, norm=True),
}  # fmt: skip
#: What keeps the function, unless it is announced that it does not.
KEEPING = {
    **{init: lambda net, name, units, x, init=init: structure.grow(net, name, units, x=x, init=init) for init in ("zero_out",
    "net2wider", "pair")}, "deepen": lambda net, name, units, x: structure.deepen(net, name, x=x),
    "residual": lambda net, name, units, x: structure.deepen(net, name, x=x, init="residual"),
    "inject": lambda net, name, units, x: structure.inject(net, name, x=x),
    "add_outputs": lambda net, name, units, x: structure.add_outputs(net, name, units, x=x),
    "add_inputs": lambda net, name, units, x: structure.add_inputs(net, name, units, x=x),
}  # fmt: skip
CHANGING = {
    "random": lambda net, name, units, x: structure.grow(net, name, units, x=x, init="random"),
    "prune": lambda net, name, units, x: structure.prune(net, name, [0], x=x),
    "reset": lambda net, name, units, x: structure.reset_units(net, name, [1], x=x),
}


@st.composite
def edits(draw, table, kinds=tuple(KINDS)):
    """A network, an input, and an edit of it that can be made."""
    T.manual_seed(draw(st.integers(0, 2**20)))
    net, x = KINDS[draw(st.sampled_from(kinds))](draw)
    net(x)  # moves running statistics
    if draw(st.booleans()):
        net, x = net.double(), x.double() if x.is_floating_point() else x
    named = [name for name, m in net.named_modules() if name and list(m.parameters(recurse=False))]
    heads = next((m.num_heads for m in net.modules() if isinstance(m, nn.MultiheadAttention)), 1)
    name, units = draw(st.sampled_from(named)), 2 * heads * draw(st.integers(1, 2))
    try:
        return net, x, table[draw(st.sampled_from(list(table)))](net, name, units, x)
    except ValueError:
        assume(False)  # this layer is none that this edit is for
        raise


def tolerance(net):
    return 1e-12 if next(net.parameters()).dtype == T.float64 else 1e-5


@settings(max_examples=200, deadline=None)
@given(edits(KEEPING, ("mlp", "conv", "residual", "recurrent", "attention", "shared")))
def test_the_function_is_kept(world):
    net, x, edit = world
    assert edit.reasons == ()
    assert edit.check(x).relative <= tolerance(net)
    net.eval()
    before = net(x).detach().numpy()
    edit.apply()
    if edit.inputs is None:
        after = net(x).detach().numpy()[..., : before.shape[-1]]
        assert abs(after - before).max() <= tolerance(net) * abs(before).max()


@settings(max_examples=100, deadline=None)
@given(edits(KEEPING | CHANGING))
def test_what_does_not_keep_the_function_says_why(world):
    net, x, edit = world
    change = edit.check(x)
    assert change.relative <= tolerance(net) or change.reasons


@settings(max_examples=40, deadline=None)
@given(edits({k: v for k, v in (KEEPING | CHANGING).items() if k != "add_inputs"}), st.sampled_from([T.optim.SGD, T.optim.Adam]))
def test_a_network_goes_on_as_one_built_at_its_size(world, kind):
    """Step for step, with the same weights and state of the optimizer, for every kind of network and edit."""
    net, x, edit = world
    optimizer = kind(net.parameters(), lr=0.01, **({"momentum": 0.9} if kind is T.optim.SGD else {}))

    def step(net, optimizer):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()

    net.train()
    for _ in range(3):
        step(net, optimizer)
    edit.apply(optimizer)
    built = structure.build(structure.describe(net))
    built.load_state_dict(net.state_dict())
    other = kind(built.parameters(), lr=0.01, **({"momentum": 0.9} if kind is T.optim.SGD else {}))
    other.load_state_dict(optimizer.state_dict())
    for _ in range(3):
        step(net, optimizer)
        step(built, other)
        for (name, a), b in zip(net.state_dict().items(), built.state_dict().values(), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=name)


def test_attention_of_a_wider_model():
    T.manual_seed(0)
    for separate in (False, True):
        net, x = Reader(2, 5, nn.GELU, False, False, separate).double(), T.randint(0, 7, (3, 4))
        optimizer = T.optim.Adam(net.parameters())
        edit = structure.grow(net, "words", 4, x=x)
        assert edit.check(x).relative <= 1e-12
        edit.apply(optimizer)
        attention = net.attention
        assert (attention.embed_dim, attention.head_dim, attention.vdim) == (8, 4, 8)
        assert attention.kdim == (5 if separate else 8)
        assert attention.out_proj.weight.shape == (8, 8)
        assert net.place.shape == (1, 4, 8)
        net(x).square().mean().backward()  # the new keys and values are drawn, so that all learns
        optimizer.step()
        assert net.out.weight.grad[:, 4:].abs().min() > 0
    assert structure.grow(net, "mix.2", 2, x=x).apply().net.words.embedding_dim == 10


def test_attention_and_tied_weights_refuse_what_they_cannot():
    x = T.randint(0, 7, (3, 4))
    net, tied = Reader(2, 5, nn.GELU, True, False), Reader(2, 5, nn.GELU, False, True)
    before = {name: t.numpy().copy() for name, t in (net.state_dict() | tied.state_dict()).items()}
    cases = [
        (
            lambda: structure.grow(net, "words", 3, x=x),
            r"a multiple of 2 units, the heads of the MultiheadAttention at 'attention', got 3",
        ),
        (lambda: structure.prune(net, "words", [0], x=x), "prune: expected units that no heads hang on, got those of 'words'"),
        (
            lambda: structure.grow(tied, "words", 2, x=x, init="net2wider"),
            r"init zero_out or random for 'words', whose units come from and go into words.weight, got 'net2wider'",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    assert all(np.array_equal(before[name], t.numpy()) for name, t in (net.state_dict() | tied.state_dict()).items())
    assert structure.grow(net, "words", 2, x=x).check(x).reasons == ("norm: LayerNorm mixes all units",)
