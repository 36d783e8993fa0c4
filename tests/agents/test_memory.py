"""Neural Turing machines and differentiable neural computers: addressing, gradients, slots that come while they run."""

import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensor as T
from agents.networks.memory import DNCCell, NTMCell, add_slots, addressing
from tensor import nn, structure

CELLS = {"ntm": NTMCell, "feedforward ntm": partial(NTMCell, feedforward=True), "dnc": DNCCell}
ALL = pytest.mark.parametrize("kind", list(CELLS))


def cell_of(kind, dtype=T.float32, **options):
    T.manual_seed(0)
    return CELLS[kind](3, 2, **({"hidden_size": 6, "slots": 5, "width": 4} | options)).to(dtype)


def run(cell, x, state=None):
    outputs = []
    for row in x.unbind(0):
        y, state = cell(row, state)
        outputs.append(y)
    return T.stack(outputs), state


@ALL
def test_gradients_reach_all_parameters_and_are_right(kind):
    cell = cell_of(kind, T.float64, reads=2, hidden_size=2, width=2, slots=3)
    names, values = zip(*((name, p.detach().clone().requires_grad_()) for name, p in cell.named_parameters()), strict=True)
    x = T.randn(3, 1, 3, dtype=T.float64)

    def loss(*given):
        parameters = dict(zip(names, given, strict=True))
        state, total = None, 0
        for row in x.unbind(0):
            y, state = T.func.functional_call(cell, parameters, (row, state))
            total = total + y.square().sum() + state.memory.square().sum()
        return total

    assert all(g.abs().sum() > 0 for g in T.autograd.grad(loss(*values), values))
    assert T.autograd.gradcheck(loss, values)


def address_of(cell, h):
    """What a machine of one reading and one writing head makes of its controller's units."""
    return cell.heads(h)[:, : 2 * (cell.width + 6)].reshape(len(h), 2, cell.width + 6)


def test_a_key_of_a_feed_forward_controller_singles_out_a_slot_from_the_start():
    cell = cell_of("feedforward ntm", hidden_size=32, slots=128, width=8)
    with T.no_grad():
        strengths = nn.functional.softplus(address_of(cell, T.rand(50, 32) * 2 - 1)[..., 8:9])
        memory = T.cat([T.eye(8), -T.eye(8).repeat(15, 1)]).expand(50, -1, -1)
        weights = addressing.content(memory, T.eye(8)[:2].expand(50, -1, -1), strengths)
    assert bool((weights.argmax(-1) == T.tensor([0, 1])).all())
    assert float(weights.max(-1).values.mean().item()) > 0.3


@pytest.mark.parametrize("kind", ["ntm", "feedforward ntm"])
def test_heads_hold_on_to_where_they_are_at_first(kind):
    cell = cell_of(kind, hidden_size=32)
    with T.no_grad():
        gates = address_of(cell, T.rand(50, 32) * 2 - 1)[..., cell.width + 2].sigmoid()
    assert float(gates.max().item()) < 0.2


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 128), st.sampled_from([-1, 0, 1]), st.floats(0.85, 1), st.integers(0, 10**6))
def test_a_power_of_2_keeps_a_weighting_together_while_it_moves(slots, by, share, seed):
    away = T.tensor(np.random.default_rng(seed).dirichlet([1, 1])) * (1 - share)
    shifts = T.tensor([away[0], share, away[1]] if by == 0 else [share, away[0], away[1]][::-by], dtype=T.float64)
    weights = 0.8 * T.eye(slots, dtype=T.float64)[:1].unsqueeze(0) + 0.2 / slots
    for _ in range(200):
        weights = addressing.sharpen(addressing.shift(weights, shifts.reshape(1, 1, 3)), 2)
    assert int(weights.argmax().item()) == 200 * by % slots
    assert float(weights.max().item()) > 0.9


@pytest.mark.parametrize("kind, kept", [("feedforward ntm", True), ("ntm", False)])
def test_heads_of_a_feed_forward_controller_stay_sharp_whatever_it_says(kind, kept):
    cell = cell_of(kind, slots=128)
    with T.no_grad():
        cell.heads.weight.zero_()
        cell.heads.bias.fill_(0)
        address = cell.heads.bias[: 2 * (cell.width + 6)].view(2, cell.width + 6)
        address[:, cell.width + 1 : cell.width + 3] = -60.0  # the least power; gates shut
        address[:, -1] = float(np.log(8))  # 0.8 of it moves on by one slot
        _, state = run(cell, T.randn(100, 1, 3))
    assert bool((state.weights.argmax(-1) == 100).all()) == kept
    assert bool((state.weights.max(-1).values > 0.9).all()) == kept


def test_a_feed_forward_controller_knows_of_the_past_only_what_it_reads():
    cell, x = cell_of("feedforward ntm"), T.randn(3, 2, 3)
    _, state = run(cell, x)
    changed = state._replace(hidden=T.randn(2, 6), cell=T.randn(2, 6))
    y, after = cell(x[0], state)
    again, _ = cell(x[0], changed)
    assert np.array_equal(y.detach().numpy(), again.detach().numpy())
    assert bool((after.cell == 0).all())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 3))
def test_weightings_stay_distributions(seed, slots, heads):
    T.manual_seed(seed)
    memory, keys = T.randn(2, slots, 4), T.randn(2, heads, 4)
    weights = addressing.content(memory, keys, T.rand(2, heads, 1) * 10)
    weights = addressing.shift(weights, T.randn(2, heads, 3).softmax(-1))
    weights = addressing.sharpen(weights, 1 + 5 * T.rand(2, heads, 1))
    free = addressing.allocation(T.rand(2, slots))
    assert bool((weights >= 0).all())
    assert np.allclose(weights.sum(-1).numpy(), 1, atol=1e-5)
    assert bool((free >= 0).all())
    assert bool((free.sum(-1) <= 1 + 1e-5).all())


def test_content_finds_the_slot_that_is_like_the_key():
    memory = T.eye(4).unsqueeze(0)
    weights = addressing.content(memory, T.tensor([[[0.0, 0.0, 7.0, 0.0]]]), T.tensor([[[50.0]]]))
    assert np.allclose(weights.numpy(), [[[0, 0, 1, 0]]], atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 5), st.sampled_from([-1, 0, 1]))
def test_a_shift_goes_around(slots, at, by):
    weights = T.zeros(1, 1, slots)
    weights[0, 0, at % slots] = 1
    moved = addressing.shift(weights, T.eye(3)[by + 1].reshape(1, 1, 3))
    assert np.array_equal(moved.numpy(), np.roll(weights.numpy(), by, -1))


def test_writes_follow_one_another():
    memory, ones = T.ones(1, 2, 2), T.ones(1, 2, 2)
    both_at_first_slot = T.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    after = addressing.write(memory, both_at_first_slot, ones, ones * T.tensor([[[2.0], [3.0]]]))
    assert after.tolist() == [[[3.0, 3.0], [1.0, 1.0]]]


def test_links_remember_the_order_of_writing():
    cell = cell_of("dnc")
    state = cell.initial_state(1)
    for slot in (3, 0, 4):
        w = T.eye(5)[slot].unsqueeze(0)
        link = cell._linked(state, w)
        state = state._replace(link=link, precedence=(1 - w.sum(-1, keepdim=True)) * state.precedence + w)
    after = {(int(i), int(j)) for i, j in zip(*np.nonzero(state.link[0].numpy() == 1), strict=True)}
    assert after == {(0, 3), (4, 0)}


def test_the_least_used_slots_are_allocated_first():
    w = addressing.allocation(T.tensor([[0.9, 0.1, 0.5]]))
    assert np.allclose(w.numpy(), [[0.1 * 0.1 * 0.5, 0.9, 0.1 * 0.5]])


@ALL
def test_what_an_example_gives_does_not_depend_on_the_others(kind):
    cell, x = cell_of(kind), T.randn(4, 3, 3)
    together, _ = run(cell, x)
    alone = T.cat([run(cell, x[:, i : i + 1])[0] for i in range(3)], 1)
    assert np.allclose(together.detach().numpy(), alone.detach().numpy(), atol=1e-6)


@ALL
def test_slots_come_while_a_machine_runs(kind):
    net, x = nn.ModuleDict({"mind": cell_of(kind)}), T.randn(3, 2, 3)
    optimizer = T.optim.Adam(net.parameters())
    _, state = run(net["mind"], x)
    kept = [part.detach() for part in state]
    state = type(state)(*kept)
    edit = add_slots(net, "mind", 3, reason="full").apply(optimizer)
    y, after = net["mind"](x[0], state)
    assert net["mind"].slots == after.memory.shape[1] == 8
    assert y.shape == (2, 2)
    assert edit.log(7)["units"] == 3
    assert edit.log(7)["reason"] == "full"
    assert edit.reasons == ("mind: looking by content is a softmax over all slots",)
    y.sum().backward()
    optimizer.step()
    edit.undo()
    assert net["mind"].slots == 5
    with pytest.raises(RuntimeError, match="expected a state of at most 5 slots, got 8"):
        net["mind"](x[0], after)


@ALL
def test_new_slots_are_empty_and_the_old_keep_what_they_held(kind):
    cell, x = cell_of(kind), T.randn(3, 2, 3)
    with T.no_grad():
        _, state = run(cell, x)
        add_slots(cell, "", 2).apply()
        asked = cell.interface if kind == "dnc" else cell.heads
        asked.weight.zero_()
        asked.bias.fill_(-60.0)  # nothing is erased, and the DNC's gate of writing is shut
        if kind != "dnc":
            asked.bias[-4:] = 0
        _, after = cell(x[0], state)
    assert np.allclose(after.memory[:, :5].numpy(), state.memory.numpy(), atol=1e-4)
    assert bool((after.memory[:, 5:].abs() < 1e-4).all())


@ALL
def test_a_grown_memory_is_rebuilt_from_its_description(kind):
    cell = cell_of(kind)
    add_slots(cell, "", 4).apply()
    again = structure.build(json.loads(json.dumps(structure.describe(cell))))
    again.load_state_dict(cell.state_dict())
    x = T.randn(3, 2, 3)
    assert np.array_equal(run(cell, x)[0].detach().numpy(), run(again, x)[0].detach().numpy())


@pytest.mark.parametrize(
    "name, slots, text",
    [
        ("mint", 1, "add_slots: no layer 'mint'; did you mean 'mind'"),
        ("other", 1, "expected a layer with slots .an NTMCell, a DNCCell., got Linear at 'other'"),
        ("mind", 0, "expected at least 1 new slot, got 0"),
    ],
)
def test_errors_of_add_slots(name, slots, text):
    net = nn.ModuleDict({"mind": cell_of("ntm"), "other": nn.Linear(1, 1)})
    with pytest.raises(ValueError, match=text):
        add_slots(net, name, slots)


@ALL
def test_a_step_compiles_to_the_same(kind):
    cell, x = cell_of(kind), T.randn(4, 2, 3)

    def loss(x):
        y, state = run(cell, x)
        return y.square().sum() + state.memory.square().sum()

    compiled = T.compile(loss)
    for _ in range(3):
        cell.zero_grad()
        compiled(x).backward()
        got = [p.grad.numpy().copy() for p in cell.parameters()]
        cell.zero_grad()
        loss(x).backward()
        for a, p in zip(got, cell.parameters(), strict=True):
            assert np.allclose(a, p.grad.numpy(), rtol=1e-4, atol=1e-6)
    assert "2 of 3 calls replayed" in T.compile.explain(compiled)


@ALL
def test_a_compiled_cell_serves_sequences_of_every_length(kind):
    cell = cell_of(kind)
    step = T.compile(cell)
    for length in (3, 5, 4):
        x = T.randn(length, 2, 3)
        gradients = []
        for each in (step, cell):
            y, state = run(each, x, cell.initial_state(2))
            (y.square().sum() + state.memory.sum()).backward()
            gradients.append([p.grad.numpy().copy() for p in cell.parameters()])
            cell.zero_grad()
        assert all(np.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(*gradients, strict=True))
    said = T.compile.explain(step)
    replayed, calls = (int(said.split()[i]) for i in (1, 3))
    assert calls == 12
    assert replayed >= 8
