"""Two equal worlds side by side, one of them compiled: the ground of the compiler's tests."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tensor as T
from tensor.jit import Compiled, codegen
from tensor.jit import compiled as engine

World = SimpleNamespace


@pytest.fixture(
    autouse=True,
    params=["numpy", pytest.param("native", marks=pytest.mark.skipif(not codegen.available(), reason="no llvmlite"))],
)
def tier(request: pytest.FixtureRequest) -> str:
    """All of this by NumPy's calls, to the last bit, and by machine code, but for rounding."""
    TIER[0] = request.param
    return str(request.param)


TIER = ["numpy"]


def agree(a: Any, b: Any) -> bool:
    if TIER[0] == "numpy" or not isinstance(a, (float, list, tuple, dict)):
        return bool(a == b)
    if isinstance(a, float):
        return bool(np.isclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(agree(a[k], b[k]) for k in a)
    return len(a) == len(b) and all(map(agree, a, b))


def compiled_by_tier(function: Any) -> Compiled:
    return Compiled(function, native=TIER[0] == "native")


def values(x: Any) -> Any:
    """Nested results as lists of plain numbers, with dtypes."""
    if isinstance(x, T.Tensor):
        return x.dtype, x.requires_grad if x.is_leaf else None, x.detach().numpy().tolist()
    if isinstance(x, dict):
        return {k: values(v) for k, v in x.items()}
    return [values(v) for v in x] if isinstance(x, (list, tuple)) else x


def seen(world: World) -> Any:
    parameters = list(world.net.parameters()) if hasattr(world, "net") else []
    state = world.net.state_dict() if hasattr(world, "net") else {}
    moments = world.opt.state_dict()["state"] if hasattr(world, "opt") else {}
    return values([[p.grad for p in parameters], state, moments, getattr(world, "seen", None)])


def equal(build: Callable[[], World], *changes: Callable[[World], Any], calls: int = 3, hits: int = 1) -> Compiled:
    """Call both, change both, call both again ...; ``hits``: calls that must have been replayed at least."""
    worlds = []
    for _ in range(2):
        T.manual_seed(0)
        worlds.append(build())
    compiled = worlds[1]
    compiled.step = f = compiled_by_tier(compiled.step)
    random = np.random.default_rng(0)
    for change in (lambda w: None, *changes):
        for w in worlds:
            T.manual_seed(1)
            change(w)
        for _ in range(calls):
            x = random.normal(size=(5, 3)).astype("f")
            results = []
            states = []
            for w in worlds:
                T.manual_seed(int(abs(x[0, 0]) * 100))
                args = getattr(w, "args", lambda x: (T.tensor(x),))(x)
                results.append(values(w.step(*args)))
                states.append((seen(w), T.get_rng_state()))
            engine._queue.join()
            assert agree(results[0], results[1])
            assert agree(states[0], states[1])
    assert f.hits >= hits, f.explain()
    return f


def learner(optimizer: Any = T.optim.Adam, layers: Callable[[], Any] | None = None, **options: Any) -> World:
    w = World()
    w.net = T.nn.Sequential(T.nn.Linear(3, 4), T.nn.Tanh(), T.nn.Linear(4, 2)) if layers is None else layers()
    w.opt = opt = optimizer(w.net.parameters(), **{"lr": 0.05, **options})
    net = w.net

    def step(x: T.Tensor) -> T.Tensor:
        opt.zero_grad()
        loss = (net(x) ** 2).mean()
        loss.backward()
        opt.step()
        return loss.detach()

    w.step = step
    return w
