"""A compiled step goes on through edits of its network, as the eager one does."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest

import tensor as T
from tensor import nn, optim, structure
from tensor.jit import Compiled


def learner(native: bool | None) -> tuple[Any, Any, Any]:
    """A network, its optimizer and its step, compiled unless ``native`` is None."""
    T.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = optim.Adam(net.parameters(), lr=1e-2)

    def step(x: T.Tensor, y: T.Tensor) -> T.Tensor:
        optimizer.zero_grad()
        loss = ((net(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return net, optimizer, step if native is None else Compiled(step, native=native)


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
