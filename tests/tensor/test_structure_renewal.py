"""Units that start anew in place: no array changes hands, compiled steps go on, checkpoints lay everything as the run had it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensor as T
from tensor import nn, optim, structure
from tensor.jit import Compiled

OPTIMIZERS = {
    "adam": lambda p: optim.Adam(p, lr=1e-2),
    "amsgrad": lambda p: optim.Adam(p, lr=1e-2, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, lr=1e-2),
    "nadam": lambda p: optim.NAdam(p, lr=1e-2),
    "sgd": lambda p: optim.SGD(p, lr=1e-2, momentum=0.9),
}


def world(name: str, native: bool | None = None) -> tuple[Any, Any, Any]:
    """A network, its optimizer and its step, compiled unless ``native`` is None."""
    T.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    optimizer = OPTIMIZERS[name](net.parameters())

    def step(x: T.Tensor) -> T.Tensor:
        optimizer.zero_grad()
        loss = ((net(x) - 1) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return net, optimizer, step if native is None else Compiled(step, native=native)


def batches(n: int, seed: int = 0) -> list[T.Tensor]:
    return [T.tensor(x) for x in np.random.default_rng(seed).normal(size=(n, 8, 3)).astype("f")]


def weights(net: Any) -> list[Any]:
    return [p.detach().numpy().copy() for p in net.parameters()]


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", ["adam", "amsgrad", "adamw", "sgd"])
def test_one_recording_serves_a_run_with_many_renewals(name: str, native: bool) -> None:
    if native:
        pytest.importorskip("llvmlite")
    worlds = [world(name), world(name, native)]
    for i, x in enumerate(batches(120)):
        eager, compiled = (step(x) for _, _, step in worlds)
        np.testing.assert_allclose(compiled.numpy(), eager.numpy(), rtol=1e-3, atol=1e-5)
        worlds[1][2].wait()
        if i % 7 == 6:
            for net, optimizer, _ in worlds:
                T.manual_seed(i)
                structure.reset_units(net, "02"[i % 2] if i % 3 else "0", [i % 5, 0]).apply(optimizer)
    step = worlds[1][2]
    assert (step.recorded, step.missed, step.eager, len(step.plans)) == (1, 0, 0, 1)
    assert step.plans[0].tier == int(native)
    for a, b in zip(*(weights(net) for net, _, _ in worlds), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-2, atol=2e-4)


def test_machine_code_moves_a_renewed_unit_by_its_own_count() -> None:
    pytest.importorskip("llvmlite")
    net, optimizer, step = world("adam", native=True)
    for x in batches(300):
        step(x)
        step.wait()
    structure.reset_units(net, "0", [1]).apply(optimizer)
    before = net[0].weight.detach().numpy().copy()
    net[2].weight.data[:, 1] = 0.5  # so that it has a gradient
    step(batches(1, 9)[0])
    moved = np.abs(net[0].weight.detach().numpy() - before)[1]
    np.testing.assert_allclose(moved[moved > 0], 1e-2, rtol=1e-3)  # a first step of Adam: the rate, not 3.16 times it


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_arrays_keep_their_memory_and_the_function_what_the_units_did_not_say(name: str) -> None:
    net, optimizer, step = world(name)
    target, traces = deepcopy(net), {"0.weight": T.ones(6, 3), ("0.bias", 0): np.ones(6)}
    for x in batches(5):
        step(x)
    flat = optimizer._flats[0][0]
    arrays = [(p, p._array) for p in net.parameters()], [(p, p._array) for p in target.parameters()], flat.moments
    held = dict(traces)
    edit = structure.reset_units(net, "0", [1, 4])
    assert edit.in_place
    assert edit.numbers == (1, 4)
    edit.apply(optimizer, target, traces)
    assert all(p._array is a for p, a in (*arrays[0], *arrays[1]))
    assert optimizer._flats[0][0].moments is arrays[2]
    assert all(traces[key] is value for key, value in held.items())
    assert traces["0.weight"].numpy().sum(1).tolist() == [3, 0, 3, 3, 0, 3]
    assert traces["0.bias", 0].tolist() == [1, 0, 1, 1, 0, 1]
    # The same draws for whoever follows, on its own weights.
    assert np.array_equal(net[0].weight.detach().numpy()[[1, 4]], target[0].weight.detach().numpy()[[1, 4]])
    assert not np.array_equal(net[0].weight.detach().numpy()[0], target[0].weight.detach().numpy()[0])
    assert not net[2].weight.detach().numpy()[:, [1, 4]].any()
    assert not structure.grow(net, "0", 1).in_place


RENEWALS = st.lists(st.tuples(st.sampled_from(["0", "2"]), st.sets(st.integers(0, 4), min_size=1)), min_size=1, max_size=6)


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(["adam", "adamw", "amsgrad", "sgd"]),
    first=st.integers(0, 3),
    renewals=RENEWALS,
    growth=st.integers(0, 6),
)
def test_an_optimizer_made_from_the_state_goes_on_to_the_last_bit(
    name: str, first: int, renewals: list[tuple[str, set[int]]], growth: int
) -> None:
    net, optimizer, step = world(name)
    for x in batches(first):
        step(x)
    for i, (layer, units) in enumerate(renewals):
        if i == growth:
            structure.grow(net, layer, 2).apply(optimizer)
        structure.reset_units(net, layer, sorted(units)).apply(optimizer)
        for x in batches(2, i):
            step(x)
    copy = deepcopy(net)
    other = OPTIMIZERS[name](copy.parameters())
    other.load_state_dict(optimizer.state_dict())
    for x in batches(66, 5):
        for n, o in ((net, optimizer), (copy, other)):
            o.zero_grad()
            ((n(x) - 1) ** 2).mean().backward()
            o.step()
    assert same(weights(net), weights(copy))
    a, b = optimizer.state_dict()["state"], other.state_dict()["state"]
    for key, kept in a.items():
        assert all(np.array_equal(np.asarray(kept[k]), np.asarray(b[key][k])) for k in kept)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("with_optimizer", [True, False])
def test_undo_puts_back_what_there_was_also_what_was_learnt_since(name: str, with_optimizer: bool) -> None:
    net, optimizer, step = world(name)
    target, traces = deepcopy(net), {"0.weight": np.arange(18.0).reshape(6, 3)}
    for x in batches(4):
        step(x)
    before = weights(net), weights(target), traces["0.weight"].copy(), deepcopy(optimizer.state_dict()["state"])
    edit = structure.reset_units(net, "0", [0, 2]).apply(optimizer if with_optimizer else None, target, traces)
    for x in batches(3, 1):
        step(x)
    edit.undo()
    assert same(weights(net), before[0])
    assert same(weights(target), before[1])
    assert np.array_equal(traces["0.weight"], before[2])
    if with_optimizer:
        after = optimizer.state_dict()["state"]
        for key, kept in before[3].items():
            assert all(np.array_equal(np.asarray(kept[k]), np.asarray(after[key][k])) for k in kept)
    with pytest.raises(RuntimeError, match="reset_units: nothing to undo; the edit was not applied"):
        edit.undo()


def test_an_edit_below_a_renewal_is_undone_with_it_and_one_below_a_growth_is_not() -> None:
    net, optimizer, step = world("adam")
    step(batches(1)[0])
    before = weights(net)
    growth = structure.grow(net, "0", 2).apply(optimizer)
    renewal = structure.reset_units(net, "0", [0]).apply(optimizer)
    growth.undo()
    assert same(weights(net), before)
    with pytest.raises(RuntimeError, match="expected the optimizer as this edit left it, got a later edit's"):
        renewal.undo()
    step(batches(1)[0])


def test_what_units_said_on_average_goes_to_each_followers_own_bias() -> None:
    net, optimizer, step = world("adam")
    target, x = deepcopy(net), batches(1)[0]
    for batch in batches(6):
        step(batch)
    policy = structure.ContinualBackprop(net, optimizer, target, rate=0.3, maturity=0, layers=["0"])
    weight, bias = target[2].weight.detach().numpy().copy(), target[2].bias.detach().numpy().copy()
    said = net[:2](x).detach().numpy().mean(0)
    (edit,) = policy.plan(x)
    edit.apply(optimizer, target)
    gone = list(edit.numbers)
    assert gone
    np.testing.assert_allclose(target[2].bias.detach().numpy(), bias + weight[:, gone] @ said[gone], rtol=1e-5, atol=1e-6)


def test_machine_code_serves_parameters_that_count_fewer_steps_than_others() -> None:
    """As a layer that came later does, and one whose units have all started anew."""
    pytest.importorskip("llvmlite")
    worlds = [world("adam"), world("adam", native=True)]
    for i, x in enumerate(batches(90)):
        eager, compiled = (step(x) for _, _, step in worlds)
        np.testing.assert_allclose(compiled.numpy(), eager.numpy(), rtol=1e-3, atol=1e-5)
        worlds[1][2].wait()
        for net, optimizer, _ in worlds:
            T.manual_seed(i)
            if i < 12:
                structure.reset_units(net, "0", [i % 6]).apply(optimizer)
            if i == 20:
                structure.deepen(net, "2", init="residual").apply(optimizer)
    _, optimizer, step = worlds[1]
    assert isinstance(optimizer._flats[0][0].steps, list)
    assert step.recorded == 2  # the second for the new layer
    served = next(iter(step.plans[0].script.steps.values()))
    assert served._behind is not None
    assert served._flat is optimizer._flats[0][0]
    assert served([p.grad._array for p in optimizer._flats[0][0].params])
