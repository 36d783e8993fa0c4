"""Networks whose path depends on the input: mixtures of experts, early exits, halting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensor as T
from agents.networks import ACT, EarlyExit, MixtureOfExperts, PonderNet, geometric_divergence, load_balance
from tensor import nn


def gradcheck_of(net, loss):
    """Check the gradient of ``loss()`` by the parameters of a network in float64."""
    names, values = zip(*((name, p.detach().clone().requires_grad_()) for name, p in net.named_parameters()), strict=True)

    def by_values(*given):
        return loss(lambda *args: T.func.functional_call(net, dict(zip(names, given, strict=True)), args))

    return T.autograd.gradcheck(by_values, values)


class Counted(nn.Module):
    """Passes rows on to a layer, and remembers how many."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.rows = layer, []

    def forward(self, *args):
        self.rows.append(len(args[0]))
        return self.layer(*args)


# --- mixture of experts -----------------------------------------------------------------------------------------------


def dense(layer, x):
    """The same mixture, with all experts run on everything."""
    scores = layer.router(x)
    best, chosen = scores.topk(layer.k, -1)
    weights = T.zeros_like(scores).scatter(-1, chosen, best.softmax(-1))
    return (T.stack([expert(x) for expert in layer.experts], 1) * weights.unsqueeze(-1)).sum(1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 9), st.data())
def test_only_the_chosen_run_and_nothing_else_changes(seed, experts, rows, data):
    k = data.draw(st.integers(1, experts))
    T.manual_seed(seed)
    layer = MixtureOfExperts(3, [Counted(nn.Linear(3, 2)) for _ in range(experts)], k)
    x = T.randn(rows, 3, requires_grad=True)
    y, _ = layer(x)
    ran = [sum(expert.rows) for expert in layer.experts]
    chosen = layer.router(x).topk(k, -1)[1].numpy()
    assert ran == np.bincount(chosen.ravel(), minlength=experts).tolist()
    expected = dense(layer, x)
    assert np.allclose(y.detach().numpy(), expected.detach().numpy(), atol=1e-5)
    wanted = [x, layer.router.weight]
    for a, b in zip(T.autograd.grad(y.square().sum(), wanted), T.autograd.grad(expected.square().sum(), wanted), strict=True):
        assert np.allclose(a.numpy(), b.numpy(), atol=1e-4)


def test_gradients_of_a_mixture():
    T.manual_seed(0)
    layer = MixtureOfExperts(3, [nn.Linear(3, 2) for _ in range(4)], 2).double()
    x = T.randn(4, 3, dtype=T.float64)

    def loss(call):
        y, balance = call(x)
        return y.square().sum() + balance

    assert gradcheck_of(layer, loss)


def test_balance_is_one_for_even_use_and_its_gradient_evens_out():
    even = T.full((4, 4), 0.25)
    assert load_balance(even, T.arange(4).unsqueeze(1)).item() == 1
    logits = T.tensor([[2.0, 0.0], [2.0, 0.0]], requires_grad=True)
    load_balance(logits.softmax(-1), T.tensor([[0], [0]])).backward()
    assert bool((logits.grad[:, 0] > 0).all())
    assert bool((logits.grad[:, 1] < 0).all())


def test_learning_with_the_balance_spreads_rows():
    used = {}
    for weight in (0.0, 1.0):
        T.manual_seed(3)
        layer = MixtureOfExperts(4, [nn.Linear(4, 1) for _ in range(4)], 1)
        with T.no_grad():
            layer.router.bias[0] = 3  # at first nearly all go to one
        optimizer = T.optim.Adam(layer.parameters(), lr=0.02)
        for _ in range(150):
            x = T.randn(64, 4)
            y, balance = layer(x)
            optimizer.zero_grad()
            ((y - x.abs().sum(1, keepdim=True)).square().mean() + weight * balance).backward()
            optimizer.step()
        chosen = layer.router(T.randn(1000, 4)).argmax(-1).numpy()
        used[weight] = np.bincount(chosen, minlength=4).max() / 1000
    assert used[1.0] < 0.45 < 0.6 < used[0.0]


@pytest.mark.parametrize("k", [0, 3])
def test_k_out_of_range(k):
    with pytest.raises(ValueError, match=f"expected k from 1 to the number of experts, 2, got {k}"):
        MixtureOfExperts(3, [nn.Linear(3, 2), nn.Linear(3, 2)], k)


# --- early exit -------------------------------------------------------------------------------------------------------


def early(threshold):
    T.manual_seed(1)
    blocks = [Counted(nn.Sequential(nn.Linear(4, 4), nn.Tanh())) for _ in range(3)]
    net = EarlyExit(blocks, [nn.Linear(4, 3) for _ in range(3)], threshold)
    with T.no_grad():
        for leave in net.exits:
            leave.weight.mul_(4)
    return net


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1), st.integers(1, 8))
def test_rows_leave_by_the_first_exit_that_is_sure(threshold, rows):
    net = early(threshold)
    x = T.randn(rows, 4)
    every_exit = T.stack(net(x)).detach().numpy()
    sure = T.stack(net(x)).softmax(-1).amax(-1).detach().numpy() >= threshold
    sure[-1] = True
    expected = sure.argmax(0)
    for block in net.blocks:
        block.rows.clear()
    with T.no_grad():
        logits, exits = net.eval()(x)
    assert exits.tolist() == expected.tolist()
    assert np.allclose(logits.numpy(), every_exit[expected, np.arange(rows)], atol=1e-5)
    assert [sum(block.rows) for block in net.blocks] == [int((expected >= i).sum()) for i in range(3)]


@pytest.mark.parametrize(
    "blocks, exits, threshold, text",
    [(2, 1, 0.5, "got 2 blocks and 1 exits"), (0, 0, 0.5, "got 0 blocks"), (1, 1, 1.5, "a threshold from 0 to 1, got 1.5")],
)
def test_errors_of_early_exit(blocks, exits, threshold, text):
    with pytest.raises(ValueError, match=text):
        EarlyExit([nn.Linear(2, 2) for _ in range(blocks)], [nn.Linear(2, 2) for _ in range(exits)], threshold)


# --- halting ----------------------------------------------------------------------------------------------------------


CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


def one_at_a_time(think, x):
    """The paper's sums, literally, for one row."""
    state, total, outputs, weights = None, 0.0, [], []
    for step in range(1, think.most + 1):
        state = think.cell(T.cat([x, x.new_full((1, 1), float(step == 1))], 1), state)
        h = state[0] if isinstance(state, tuple) else state
        p = think.halt(h).sigmoid().item()
        outputs.append(h)
        if total + p >= 1 - think.epsilon or step == think.most:
            weights.append(1 - total)
            return sum(w * y for w, y in zip(weights, outputs, strict=True)), step + weights[-1]
        weights.append(p)
        total += p
    raise AssertionError


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("kind", list(CELLS))
def test_act_is_the_papers(kind, skip):
    T.manual_seed(0)
    think = ACT(CELLS[kind](3 + 1, 5), 5, most=7, skip=skip)
    with T.no_grad():
        think.halt.weight.mul_(8)
        think.halt.bias.fill_(-1)
    x = T.randn(12, 3) * 2
    with T.no_grad():
        y, state, ponder = think(x)
        expected = [one_at_a_time(think, x[i : i + 1]) for i in range(len(x))]
    assert np.allclose(y.numpy(), T.cat([e[0] for e in expected]).numpy(), atol=1e-5)
    assert np.allclose(ponder.numpy(), [e[1] for e in expected], atol=1e-4)
    assert len(set(ponder.ceil().tolist())) > 1  # rows do think for different times
    assert (state[0] if kind == "lstm" else state) is y


def test_act_computes_only_what_still_thinks():
    T.manual_seed(0)
    cell = Counted(nn.GRUCell(4, 5))
    think = ACT(cell, 5, most=7)
    with T.no_grad():
        think.halt.weight.mul_(8)
        think.halt.bias.fill_(-1)
        _, _, ponder = think(T.randn(30, 3) * 2)
    steps = np.ceil(ponder.numpy() - 1).clip(1)
    assert cell.rows == [int((steps >= i).sum()) for i in range(1, len(cell.rows) + 1)]
    assert cell.rows[-1] < cell.rows[0] == 30


def test_act_that_skips_nothing_compiles_and_has_the_same_gradients():
    T.manual_seed(1)
    x, before = T.randn(12, 3) * 2, T.randn(2, 12, 5).unbind(0)
    skipping = ACT(nn.LSTMCell(3 + 1, 5), 5, most=7, halt_bias=-1.0)
    with T.no_grad():
        skipping.halt.weight.mul_(8)
    masking = ACT(nn.LSTMCell(3 + 1, 5), 5, most=7, skip=False)
    masking.load_state_dict(skipping.state_dict())

    def step(think):
        y, (_, c), ponder = think(x, before)
        (y.square().sum() + c.sum() + 0.3 * ponder.sum()).backward()
        return ponder

    ponder = step(skipping)
    assert len(set(ponder.ceil().tolist())) > 1
    compiled = T.compile(lambda: step(masking))
    for _ in range(3):
        masking.zero_grad()
        assert np.allclose(compiled().detach().numpy(), ponder.detach().numpy(), atol=1e-5)
        for ours, theirs in zip(masking.parameters(), skipping.parameters(), strict=True):
            assert np.allclose(ours.grad.numpy(), theirs.grad.numpy(), atol=1e-4)


@pytest.mark.parametrize("skip", [True, False])
def test_gradients_of_act(skip):
    T.manual_seed(2)
    think = ACT(nn.GRUCell(3, 3), 3, most=5, skip=skip).double()
    with T.no_grad():
        think.halt.bias.fill_(-0.5)
    x = T.randn(3, 2, dtype=T.float64)

    def loss(call):
        y, _, ponder = call(x)
        return y.square().sum() + 0.3 * ponder.sum()

    assert gradcheck_of(think, loss)


def test_a_cost_of_time_shortens_it():
    T.manual_seed(0)
    think = ACT(nn.GRUCell(4, 6), 6, most=10)
    with T.no_grad():
        think.halt.bias.fill_(-2)
    optimizer = T.optim.Adam(think.parameters(), lr=0.02)
    x, times = T.randn(16, 3), []
    for _ in range(60):
        _, _, ponder = think(x)
        optimizer.zero_grad()
        ponder.mean().backward()
        optimizer.step()
        times.append(ponder.mean().item())
    assert times[0] > 6
    assert times[-1] < 4


def test_pondernet_probabilities_are_those_it_halts_with():
    T.manual_seed(0)
    think = PonderNet(nn.GRUCell(2, 4), nn.Linear(4, 1), 4, most=5)
    x = T.randn(1, 2)
    with T.no_grad():
        p = think(x).probabilities
        _, steps = think.eval()(x.expand(20000, 2))
    assert p.sum(0).item() == pytest.approx(1, abs=1e-5)
    found = np.bincount(steps.numpy() - 1, minlength=5) / 20000
    assert np.allclose(found, p[:, 0].numpy(), atol=4 * 0.5 / 20000**0.5)


def test_pondernet_answers_are_those_of_their_steps():
    T.manual_seed(0)
    think = PonderNet(nn.LSTMCell(2, 4), nn.Linear(4, 3), 4, most=6)
    x = T.randn(20, 2)
    with T.no_grad():
        outputs = think(x).outputs.numpy()
        y, steps = think.eval()(x)
    assert np.allclose(y.numpy(), outputs[steps.numpy() - 1, np.arange(20)], atol=1e-5)


def test_gradients_of_pondernet():
    T.manual_seed(0)
    think = PonderNet(nn.RNNCell(2, 3), nn.Linear(3, 1), 3, most=4).double()
    x, target = T.randn(3, 2, dtype=T.float64), T.randn(3, dtype=T.float64)

    def loss(call):
        pondered = call(x)
        return pondered.loss((pondered.outputs.squeeze(-1) - target).square(), prior=0.3, weight=0.5)

    assert gradcheck_of(think, loss)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.floats(0.05, 0.95))
def test_divergence_is_never_negative(seed, steps, prior):
    T.manual_seed(seed)
    p = T.randn(steps, 3, dtype=T.float64).softmax(0)
    assert geometric_divergence(p, prior).item() >= -1e-12


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: ACT(nn.GRUCell(3, 4), 4, most=0), "at least 1 step and an epsilon between 0 and 1, got 0"),
        (lambda: ACT(nn.GRUCell(3, 4), 4, epsilon=1.0), "got 20 and 1.0"),
        (lambda: PonderNet(nn.GRUCell(3, 4), nn.Linear(4, 1), 4, most=0), "expected at least 1 step, got 0"),
    ],
)
def test_errors_of_halting(make, text):
    with pytest.raises(ValueError, match=text):
        make()
