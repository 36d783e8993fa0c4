"""Networks, and how a compiled one is compared with the plain one, where the caller differentiates."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from jit_worlds import TIER, agree, compiled_by_tier, tier, values  # noqa: F401

import tensor as T
from tensor.jit import Compiled
from tensor.jit import compiled as engine

F = T.nn.functional
nn = T.nn


def pair(module: Any) -> tuple[Any, Compiled, Any]:
    """A module, a compiled equal one, and the module inside of that."""
    twin = copy.deepcopy(module)
    return module, compiled_by_tier(twin), twin


def grads(module: Any) -> Any:
    return values([p.grad for p in module.parameters()])


def state(module: Any) -> Any:
    return values(module.state_dict())


def both(work: Callable[..., Any], module: Any, calls: int = 4, hits: int = 2, like: Any = agree) -> Compiled:
    """``work(f, net, n)`` with the module and with the compiled one gives the same, and leaves the same, several times.

    Where a leaf's gradient is the sum over several calls, or of gradients of two orders, its terms come in another order:
    ``like=close``.
    """
    plain, f, twin = pair(module)
    for n in range(calls):
        results = []
        for function, net in ((plain, plain), (f, twin)):
            T.manual_seed(n)
            seen = [values(r) for r in work(function, net, n)], grads(net), state(net)
            results.append((seen, repr(T.get_rng_state())))
        engine._queue.join()
        assert like(results[0][0], results[1][0]), n
        assert results[0][1] == results[1][1]
    assert f.hits >= hits, f.explain()
    return f


def close(a: Any, b: Any) -> bool:
    """But for rounding, by whatever means."""
    if isinstance(a, float):
        return bool(np.isclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(close, a, b))
    return bool(a == b)


def mlp() -> Any:
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


class Recurrent(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.cells = kind(3, 4, batch_first=True)

    def forward(self, x: T.Tensor) -> Any:
        return self.cells(x.unsqueeze(1).expand(-1, 3, -1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.front, self.layer = nn.Linear(3, 4), nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: T.Tensor) -> Any:
        h = self.front(x).unsqueeze(0)
        return self.layer(h, h, h)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(7, 4), nn.Linear(4, 2)

    def forward(self, x: T.Tensor) -> Any:
        return self.head(self.table((x.abs() * 3).long() % 7).mean(1))


class Heads(nn.Module):
    """Several results: two with a history, one without, and the argument itself."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.pi, self.v = nn.Linear(3, 6), nn.Linear(6, 2), nn.Linear(6, 1)

    def forward(self, x: T.Tensor) -> Any:
        h = self.body(x).tanh()
        return {"pi": self.pi(h), "v": self.v(h).squeeze(-1), "largest": h.detach().max(), "x": x}


NETWORKS: dict[str, Callable[[], Any]] = {
    "mlp": mlp,
    "dropout": lambda: nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2)),
    "batch norm": lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.SiLU(), nn.Linear(8, 2)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(4, 2)
    ),
    "embedding": Words,
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "attention": Attention,
    "heads": Heads,
}


def first(x: Any) -> Any:
    while not isinstance(x, T.Tensor):
        x = next(iter(x.values())) if isinstance(x, dict) else x[0]
    return x
