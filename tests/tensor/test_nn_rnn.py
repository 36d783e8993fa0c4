"""Recurrent layers, cells and packed sequences: laws that hold between them. Parity with PyTorch is in `test_nn_weights.py`."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensor as T
from tensor import nn
from tensor.nn.utils import rnn

KINDS = {
    "rnn": (nn.RNN, nn.RNNCell, {}),
    "relu": (nn.RNN, nn.RNNCell, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, nn.LSTMCell, {}),
    "gru": (nn.GRU, nn.GRUCell, {}),
}
LAYERS = [*KINDS, "projected"]


def make(kind, *args, **kwargs):
    """A layer in double precision."""
    if kind == "projected":
        return nn.LSTM(*args, proj_size=args[1] // 2, **kwargs).double()
    layer, _, options = KINDS[kind]
    return layer(*args, **options, **kwargs).double()


def draw(*shape):
    return T.randn(*shape, dtype=T.float64)


def parts(state):
    return state if isinstance(state, tuple) else (state,)


def values(t):
    return t.detach().cpu().numpy()


def same(a, b, atol=1e-12):
    np.testing.assert_allclose(values(a), values(b), rtol=1e-10, atol=atol)


lengths = st.lists(st.integers(1, 5), min_size=1, max_size=4)


# --- packing ---------------------------------------------------------------------------------------------------------


@given(n=lengths, batch_first=st.booleans(), features=st.integers(0, 2), extra=st.integers(0, 2), value=st.floats(-2, 2))
def test_packing_round_trips(n, batch_first, features, extra, value):
    sequences = [draw(length, *[3] * features) for length in n]
    padded = rnn.pad_sequence(sequences, batch_first)
    packed = rnn.pack_padded_sequence(padded, n, batch_first, enforce_sorted=False)
    assert len(packed.data) == sum(n) == int(packed.batch_sizes.sum())
    total = max(n) + extra
    back, found = rnn.pad_packed_sequence(packed, batch_first, value, total)
    assert found.tolist() == n
    assert back.shape[1 if batch_first else 0] == total
    for one, other in zip(rnn.unpad_sequence(back, found, batch_first), sequences, strict=True):
        same(one, other)
    for one, other in zip(rnn.unpack_sequence(packed), sequences, strict=True):
        same(one, other)
    rows = back if batch_first else back.transpose(0, 1)
    assert all((row[length:] == value).all() for row, length in zip(rows, n, strict=True))


def test_packed_order_is_time_major_and_longest_first():
    packed = rnn.pack_sequence([T.tensor([1, 2]), T.tensor([3, 4, 5]), T.tensor([6])], enforce_sorted=False)
    assert packed.data.tolist() == [3, 1, 6, 4, 2, 5]
    assert packed.batch_sizes.tolist() == [3, 2, 1]
    assert packed.sorted_indices.tolist() == [1, 0, 2]
    assert packed.unsorted_indices.tolist() == [1, 0, 2]
    assert packed.double().data.dtype is T.float64
    assert packed.long() is packed
    assert not packed.to("cpu").is_cuda
    assert rnn.pack_sequence([T.ones(2), T.ones(2)]).sorted_indices is None


def test_padding_on_the_left_and_gradients_of_packing():
    rows = [T.tensor([1.0, 2.0], requires_grad=True), T.tensor([3.0], requires_grad=True)]
    left = rnn.pad_sequence(rows, batch_first=True, padding_value=9, padding_side="left")
    assert left.tolist() == [[1, 2], [9, 3]]
    padded, _ = rnn.pad_packed_sequence(rnn.pack_sequence(rows))
    (padded * T.tensor([[1.0, 10.0], [100.0, 1000.0]])).sum().backward()
    assert rows[0].grad.tolist() == [1, 100]
    assert rows[1].grad.tolist() == [10]


@pytest.mark.parametrize(
    "act, error, text",
    [
        (lambda x: rnn.pack_padded_sequence(x, [2]), RuntimeError, r"expected 3 lengths, one for each sequence, got \[1\]"),
        (lambda x: rnn.pack_padded_sequence(x, [2, 1, 0]), RuntimeError, r"expected lengths from 1 to 2, got \[2, 1, 0\]"),
        (lambda x: rnn.pack_padded_sequence(x, [3, 1, 1]), RuntimeError, r"expected lengths from 1 to 2, got \[3, 1, 1\]"),
        (lambda x: rnn.pack_padded_sequence(x, [1, 2, 1]), RuntimeError, "expected lengths that do not increase"),
        (
            lambda x: rnn.pad_packed_sequence(rnn.pack_padded_sequence(x, [2, 2, 1]), total_length=1),
            ValueError,
            "total_length of at least the longest sequence's 2, got 1",
        ),
        (lambda x: rnn.pad_sequence([]), RuntimeError, "at least one sequence, got none"),
        (lambda x: rnn.pad_sequence([x], padding_side="top"), ValueError, "'left' or 'right', got 'top'"),
        (lambda x: rnn.PackedSequence(x), ValueError, "expected batch_sizes, got None"),
    ],
)
def test_packing_refuses(act, error, text):
    with pytest.raises(error, match=text):
        act(T.ones(2, 3, 4))


# --- layers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_its_cell_at_every_step(kind, bias):
    layer = make(kind, 3, 4, bias=bias)
    _, cell_class, options = KINDS[kind]
    cell = cell_class(3, 4, bias=bias, **options).double()
    cell.load_state_dict({name.removesuffix("_l0"): t for name, t in layer.state_dict().items()})
    x = draw(5, 2, 3)
    output, last = layer(x)
    state = None
    for t in range(5):
        state = cell(x[t], state)
        same(parts(state)[0], output[t])
    for one, other in zip(parts(state), parts(last), strict=True):
        same(one, other[0])
    same(parts(cell(x[0, 1]))[0], output[0, 1])  # without a batch


@pytest.mark.parametrize("kind", LAYERS)
def test_bidirectional_is_one_layer_each_way(kind):
    both = make(kind, 3, 4, bidirectional=True)
    forward, backward = make(kind, 3, 4), make(kind, 3, 4)
    state = both.state_dict()
    forward.load_state_dict({k: v for k, v in state.items() if not k.endswith("_reverse")})
    backward.load_state_dict({k.removesuffix("_reverse"): v for k, v in state.items() if k.endswith("_reverse")})
    x = draw(6, 2, 3)
    output, last = both(x)
    there, end = forward(x)
    back, start = backward(x.flip(0))
    same(output, T.cat([there, back.flip(0)], 2))
    for joint, one, other in zip(parts(last), parts(end), parts(start), strict=True):
        same(joint, T.cat([one, other]))


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_are_stacked(kind):
    deep = make(kind, 3, 4, num_layers=2)
    width = deep.proj_size or 4
    first, second = make(kind, 3, 4), make(kind, width, 4)
    first.load_state_dict({k: v for k, v in deep.state_dict().items() if k.endswith("_l0")})
    second.load_state_dict({k.replace("_l1", "_l0"): v for k, v in deep.state_dict().items() if k.endswith("_l1")})
    x = draw(5, 2, 3)
    between, one = first(x)
    expected, two = second(between)
    output, last = deep(x)
    same(output, expected)
    for joint, a, b in zip(parts(last), parts(one), parts(two), strict=True):
        same(joint, T.cat([a, b]))


@pytest.mark.parametrize("kind", LAYERS)
@given(n=lengths, layers=st.integers(1, 2), bidirectional=st.booleans(), with_state=st.booleans())
def test_a_packed_batch_is_each_sequence_alone(kind, n, layers, bidirectional, with_state):
    layer = make(kind, 3, 4, num_layers=layers, bidirectional=bidirectional)
    sequences = [draw(length, 3).requires_grad_() for length in n]
    rows = layers * (1 + bidirectional)
    widths = layer._widths()
    state = [draw(rows, len(n), width) for width in widths] if with_state else None
    given_state = None if state is None else state[0] if len(state) == 1 else tuple(state)
    output, last = layer(rnn.pack_sequence(sequences, enforce_sorted=False), given_state)
    padded, _ = rnn.pad_packed_sequence(output, batch_first=True)
    loss = (padded * padded).sum() + sum((s * s).sum() for s in parts(last))
    together = T.autograd.grad(loss, sequences)
    for i, sequence in enumerate(sequences):
        own = None if state is None else tuple(s[:, i] for s in state)
        alone, end = layer(sequence, own if own is None or len(own) > 1 else own[0])
        same(padded[i, : n[i]], alone)
        for one, other in zip(parts(last), parts(end), strict=True):
            same(one[:, i], other)
        loss = (alone * alone).sum() + sum((s * s).sum() for s in parts(end))
        same(T.autograd.grad(loss, sequence)[0], together[i])


@pytest.mark.parametrize("kind", LAYERS)
def test_batch_first_transposes_and_a_state_is_carried_over(kind, device):
    layer = make(kind, 3, 4).to(device)
    turned = copy.deepcopy(layer)
    turned.batch_first = True
    x = draw(6, 2, 3).to(device)
    output, last = layer(x)
    other, end = turned(x.transpose(0, 1))
    same(output, other.transpose(0, 1))
    first, state = layer(x[:4])
    second, state = layer(x[4:], state)
    same(T.cat([first, second]), output)
    for a, b, c in zip(parts(last), parts(end), parts(state), strict=True):
        same(a, b)
        same(a, c)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("packed", [False, True])
def test_gradients_to_second_order(kind, packed):
    layer = make(kind, 2, 2)
    learnt = {name: p for name, p in layer.named_parameters() if "ih" not in name}  # the others are of a linear map before
    names = list(learnt)
    state = [draw(1, 2, width) for width in layer._widths()]

    def run(x, *tensors):
        hidden, weights = tensors[: len(state)], dict(zip(names, tensors[len(state) :], strict=True))
        given_x = rnn.pack_padded_sequence(x, [2, 1]) if packed else x
        hx = tuple(hidden) if len(hidden) > 1 else hidden[0]
        output, last = nn.utils.stateless.functional_call(layer, weights, (given_x, hx))
        return (output.data if packed else output, *parts(last))

    inputs = [draw(2, 2, 2), *state, *(p.detach() * 0.5 for p in learnt.values())]
    leaves = [t.clone().requires_grad_() for t in inputs]
    assert T.autograd.gradcheck(run, leaves)
    assert T.autograd.gradgradcheck(run, leaves, atol=1e-4)


def test_the_fast_gradient_equals_the_unrolled_one():
    layer = make("lstm", 3, 4, num_layers=2, bidirectional=True)
    output, (h, c) = layer(draw(5, 2, 3))
    loss = (output * output).sum() + h.sum() + (c * c).sum()
    fast = T.autograd.grad(loss, list(layer.parameters()), retain_graph=True)
    unrolled = T.autograd.grad(loss, list(layer.parameters()), create_graph=True)
    for one, other in zip(fast, unrolled, strict=True):
        assert not one.requires_grad
        assert other.requires_grad
        same(one, other)


@pytest.mark.parametrize("kind", LAYERS)
def test_an_empty_batch_and_half_precision(kind):
    layer = make(kind, 3, 4, num_layers=2, bidirectional=True)
    x = T.zeros(5, 0, 3, dtype=T.float64)
    output, last = layer(x)
    width = layer.proj_size or 4
    assert output.shape == (5, 0, 2 * width)
    assert parts(last)[0].shape == (4, 0, width)
    output.sum().backward()
    assert (layer.weight_hh_l1.grad == 0).all()
    output, _ = layer.half()(T.ones(5, 2, 3, dtype=T.float16))
    assert output.dtype is T.float16
    exact, _ = layer.double()(T.ones(5, 2, 3, dtype=T.float64))
    np.testing.assert_allclose(values(output), values(exact), atol=4e-3)


def test_dropout_acts_between_layers_while_training():
    layer = nn.GRU(3, 16, num_layers=2, dropout=0.5)
    x = T.randn(4, 2, 3)
    assert not (layer(x)[0] == layer(x)[0]).all()
    layer.eval()
    assert (layer(x)[0] == layer(x)[0]).all()
    alone = nn.GRU(3, 16)
    assert (alone(x)[0] == alone(x)[0]).all()
    with pytest.warns(UserWarning, match="dropout=0.5 acts between layers, and there is only one"):
        nn.LSTM(2, 2, dropout=0.5)


def test_first_values_names_and_repr():
    layer = nn.LSTM(3, 16, num_layers=2, bidirectional=True, proj_size=4)
    bound = 1 / 4
    values = np.concatenate([p.detach().numpy().ravel() for p in layer.parameters()])
    assert abs(values).max() <= bound
    assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)
    assert list(layer.state_dict())[:6] == [
        *("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l0"),
        "weight_ih_l0_reverse",
    ]
    assert [len(row) for row in layer.all_weights] == [5] * 4
    assert layer.all_weights[3][0] is layer.weight_ih_l1_reverse
    assert layer.weight_ih_l1.shape == (64, 8)
    assert repr(layer) == "LSTM(3, 16, proj_size=4, num_layers=2, bidirectional=True)"
    assert repr(nn.RNN(3, 4, nonlinearity="relu", bias=False, batch_first=True)) == "RNN(3, 4, bias=False, batch_first=True)"
    assert repr(nn.RNNCell(3, 4, bias=False, nonlinearity="relu")) == "RNNCell(3, 4, bias=False, nonlinearity=relu)"
    layer.flatten_parameters()
    twin = copy.deepcopy(layer)
    assert twin.all_weights[0][0] is twin.weight_ih_l0
    assert twin.weight_ih_l0 is not layer.weight_ih_l0
    assert nn.GRU(2, 2, dtype=T.float64).weight_ih_l0.dtype is T.float64


def test_inputs_stay_as_they_were_and_nothing_is_recorded_without_grad():
    layer = nn.LSTM(3, 4)
    x = T.randn(4, 2, 3)
    before = x.numpy().copy()
    layer(x)[0].sum().backward()
    np.testing.assert_array_equal(x.numpy(), before)
    with T.no_grad():
        assert not layer(x)[0].requires_grad


@pytest.mark.parametrize(
    "act, error, text",
    [
        (lambda: nn.LSTM(3, 4)(T.ones(2, 2, 2, 3)), RuntimeError, r"LSTM: expected an input of 2 dimensions .* \[2, 2, 2, 3\]"),
        (lambda: nn.GRU(3, 4)(T.ones(5, 2, 4)), RuntimeError, r"GRU: expected an input of 3 features, got 4"),
        (lambda: nn.GRU(3, 4)(T.ones(0, 2, 3)), RuntimeError, r"expected at least one time step, got shape \[0, 2, 3\]"),
        (
            lambda: nn.RNN(3, 4, 2)(T.ones(5, 2, 3), T.ones(1, 2, 4)),
            RuntimeError,
            r"RNN: expected a first state of shape \[2, 2, 4\], got \[1, 2, 4\]",
        ),
        (lambda: nn.LSTM(3, 4)(T.ones(5, 2, 3), (T.ones(1, 2, 4),)), RuntimeError, "a first state of 2 tensors, got 1"),
        (lambda: nn.LSTM(3, 4, proj_size=4), ValueError, "proj_size from 0 to below hidden_size 4, got 4"),
        (lambda: nn.GRU(3, 0), ValueError, "hidden_size as an integer of at least 1, got 0"),
        (lambda: nn.GRU(3, 2.5), TypeError, "hidden_size as an integer of at least 1, got 2.5"),
        (lambda: nn.GRU(3, 4, 2, dropout=1.5), ValueError, r"a probability in \[0, 1\], got 1.5"),
        (
            lambda: nn.RNNBase("LTSM", 3, 4),
            ValueError,
            "expected mode to be one of 'RNN_TANH', 'RNN_RELU', 'GRU', 'LSTM', got 'LTSM'",
        ),
        (lambda: nn.RNN(3, 4, nonlinearity="gelu"), ValueError, "'tanh' or 'relu', got 'gelu'"),
        (lambda: nn.RNNCell(3, 4, nonlinearity="gelu"), ValueError, "'tanh' or 'relu', got 'gelu'"),
        (lambda: nn.GRUCell(3, 4)(T.ones(2, 5)), RuntimeError, r"GRUCell: expected an input of shape \[\(batch,\) 3\]"),
        (
            lambda: nn.LSTMCell(3, 4)(T.ones(2, 3), (T.ones(2, 4), T.ones(4))),
            RuntimeError,
            r"a state of shape \[2, 4\], got \[4\]",
        ),
        (lambda: nn.LSTM(3, 4)(T.ones(5, 2, 3, dtype=T.float64)), RuntimeError, "expected input and weight of one dtype"),
    ],
)
def test_refused(act, error, text):
    with warnings.catch_warnings(), pytest.raises(error, match=text):
        act()
