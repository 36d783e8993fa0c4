"""A compiled step goes on through edits of its network, as the eager one does."""

from __future__ import annotations

import itertools
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensor as T
from tensor import nn, optim, structure
from tensor.jit import Compiled, codegen, stepping
from tensor.jit import compiled as engine


def learner(native: bool | None, width: int = 8) -> tuple[Any, Any, Any]:
    """A network, its optimizer and its step, compiled unless ``native`` is None."""
    T.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))
    optimizer = optim.Adam(net.parameters(), lr=1e-2)

    def step(x: T.Tensor, y: T.Tensor) -> T.Tensor:
        optimizer.zero_grad()
        loss = ((net(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return net, optimizer, step if native is None else Compiled(step, native=native)


WIDTHS = st.integers(1, 40)


@given(
    widths=st.lists(WIDTHS, min_size=2, max_size=4),
    batch=st.integers(1, 33),
    act=st.sampled_from([nn.Tanh, nn.ReLU, nn.GELU]),
    growths=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 20)), min_size=1, max_size=4),
    native=st.booleans(),
)
@settings(max_examples=12, deadline=None)
def test_sizes_of_all_kinds(
    widths: list[int], batch: int, act: type[nn.Module], growths: list[tuple[int, int]], native: bool
) -> None:
    """Scripts, entries and optimizers' kernels serve recordings of one kind whatever their sizes: also where these coincide."""

    def world(compiles: bool) -> tuple[Any, Any, Any]:
        T.manual_seed(0)
        layers = [each for n, m in itertools.pairwise([3, *widths]) for each in (nn.Linear(n, m), act())]
        net = nn.Sequential(*layers[:-1])
        optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.5)

        def step(x: T.Tensor) -> T.Tensor:
            optimizer.zero_grad()
            loss = (net(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        return net, optimizer, Compiled(step, native=native) if compiles else step

    worlds = [world(False), world(True)]
    rng = np.random.default_rng(0)
    for layer, units in [(0, 0), *growths]:
        for net, optimizer, _ in worlds:
            if units:
                T.manual_seed(units)
                structure.grow(net, str(2 * (layer % (len(widths) - 1))), +units, x=T.ones(batch, 3)).apply(optimizer)
        for _ in range(5 if units else 4):  # after an edit, one runs as it is before the next one records
            x = T.tensor(rng.normal(size=(batch, 3)).astype("f"))
            eager, compiled = (step(x) for _, _, step in worlds)
            worlds[1][2].wait()
            np.testing.assert_allclose(compiled.detach().numpy(), eager.detach().numpy(), rtol=1e-4, atol=1e-6)
    for a, b in zip(worlds[0][0].parameters(), worlds[1][0].parameters(), strict=True):
        np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(b.grad.numpy(), a.grad.numpy(), rtol=1e-3, atol=1e-5)
    assert worlds[1][2].hits == 3 * (len(growths) + 1)


@pytest.mark.parametrize("native", [False, True])
def test_a_compiled_step_follows_every_edit(native: bool) -> None:
    rng = np.random.default_rng(0)
    worlds = [learner(None), learner(native)]
    for edit in range(4):
        for _ in range(12):
            x, y = (T.tensor(rng.normal(size=(5, n)).astype("f")) for n in (3, 2))
            eager, compiled = (step(x, y) for _, _, step in worlds)
            np.testing.assert_allclose(compiled.detach().numpy(), eager.detach().numpy(), rtol=1e-4, atol=1e-5)
        for net, optimizer, _ in worlds:
            T.manual_seed(edit)
            sample = T.ones(5, 3)
            change = structure.prune(net, "0", [1], x=sample) if edit == 2 else structure.grow(net, "0", +4, x=sample)
            change.apply(optimizer)
    (eager_net, *_), (compiled_net, *_) = worlds
    for a, b in zip(eager_net.parameters(), compiled_net.parameters(), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=1e-3, atol=1e-4)
    assert worlds[1][2].hits > 8
    assert deepcopy(compiled_net)(T.ones(1, 3)).shape == (1, 2)


def test_no_step_pays_for_both_an_edit_and_a_recording() -> None:
    worlds = [learner(None), learner(False)]
    x, y = T.ones(5, 3), T.zeros(5, 2)
    counts = []
    for edits in range(3):
        for net, optimizer, _ in worlds:
            if edits:
                T.manual_seed(edits)
                structure.grow(net, "0", +4, x=x).apply(optimizer)
        for _ in range(3):
            losses = [step(x, y).item() for _, _, step in worlds]
            assert losses[0] == losses[1]
            compiled = worlds[1][2]
            counts.append((compiled.eager, compiled.recorded, compiled.hits))
    assert counts == [(0, 1, 0), (0, 1, 1), (0, 1, 2), (1, 1, 2), (1, 2, 2), (1, 2, 3), (2, 2, 3), (2, 3, 3), (2, 3, 4)]


@pytest.mark.skipif(not codegen.available(), reason="no llvmlite")
@pytest.mark.parametrize("foreseen", [False, True])
def test_code_that_is_at_hand_serves_at_once(foreseen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """That for elements of different ages is made at the first edit, or before, when there is nothing else to do."""
    monkeypatch.setattr(engine, "LATER", 256)  # what follows an edit is not compiled whole before that
    net, optimizer, step = learner(native=True, width=64)
    x, y = T.ones(5, 3), T.zeros(5, 2)

    def grown_and_used() -> None:
        structure.grow(net, "0", +4, x=x).apply(optimizer)
        for _ in range(3):  # as it is, recorded, used
            step(x, y)

    for _ in range(2):
        step(x, y)
    step.wait()
    if foreseen:
        step.plans[0].foresee()
    else:
        grown_and_used()
        step.wait()
    asked: list[Any] = []
    monkeypatch.setattr(engine, "in_background", lambda plan, whole: asked.append(plan))
    grown_and_used()
    (update,) = step.plans[0].script.steps.values()
    assert asked == []
    assert update([np.zeros(p.shape, np.float32) for p in net.parameters()])  # it is for the parameters as they are now
    assert step.plans[0].check((x, y), {})


@pytest.mark.parametrize("options", [{}, {"amsgrad": True}, {"weight_decay": 0.1, "decoupled_weight_decay": True}])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.99)])
def test_elements_of_all_ages_are_updated_by_their_own_count(options: dict[str, Any], betas: tuple[float, float]) -> None:
    """By machine code as eagerly, to the last digits, from an element's first step on; also when options change."""
    worlds = []
    for compiles in (False, True):
        T.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()
        optimizer = optim.Adam(net.parameters(), lr=1e-2, betas=betas, **options)

        def step(x: T.Tensor, net: Any = net, optimizer: Any = optimizer) -> T.Tensor:
            optimizer.zero_grad()
            loss = ((net(x) - 1) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        worlds.append((net, optimizer, Compiled(step) if compiles else step))
    rng = np.random.default_rng(0)
    for round in range(4):
        for n in range(30):
            x = T.tensor(rng.normal(size=(5, 3)))
            for net, optimizer, step in worlds:
                if n == 0 and round:
                    T.manual_seed(round)
                    structure.grow(net, "0", +3, x=x).apply(optimizer)
                if (round, n) == (2, 10):
                    optimizer.param_groups[0]["lr"] = 2e-2
                if (round, n) == (2, 20):
                    optimizer.param_groups[0]["betas"] = (0.8, 0.95)
                step(x)
            if n == 4:
                worlds[1][2].wait()
            for a, b in zip(worlds[0][0].parameters(), worlds[1][0].parameters(), strict=True):
                np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=1e-10, atol=1e-13)
    if codegen.available():
        (update,) = worlds[1][2].plans[0].script.steps.values()
        assert update._base is not None


@pytest.mark.skipif(not codegen.available(), reason="no llvmlite")
def test_what_elements_count_is_the_same_whenever_the_code_is_made() -> None:
    """To the last bit: else a run that is continued, whose code is made later, would not be the same run."""
    net, optimizer, step = learner(native=None, width=64)
    made = []
    for n in range(60):
        if n in (10, 25):
            structure.grow(net, "0", +8).apply(optimizer)
        step(T.ones(5, 3), T.zeros(5, 2))
        if n in (25, 40, 59):
            made.append(stepping.flat_step(optimizer, codegen.checker()))
    first, *others = made
    assert len(first._state) == 5  # parameters, both moments, and what elements of different ages have of each beta
    for other in others:
        for a, b in zip(first._state, other._state, strict=True):
            np.testing.assert_array_equal(a, b)
        assert first._numbers(77) == other._numbers(77)
