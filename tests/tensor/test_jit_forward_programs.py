"""Random programs, compiled and not, have the same results and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import strategies as st
from jit_worlds import TIER, agree, both, close, compiled_by_tier, mlp, pair, tier, values  # noqa: F401

import tensor as T
from tensor.jit import Compiled
from tensor.jit import compiled as engine

F = T.nn.functional
nn = T.nn


# --- random programs -----------------------------------------------------------------------------------------------------

UNARY: dict[str, Callable[[Any], Any]] = {
    "tanh": T.tanh, "exp": lambda a: (a * 0.3).exp(), "relu": T.relu, "t": lambda a: a.t(), "row": lambda a: a[0] + a * 0.5,
    "softmax": lambda a: a.softmax(0), "cumsum": lambda a: a.cumsum(1), "flip": lambda a: a.flip(0), "clone": lambda a: a.clone(),
    "detach": lambda a: a.detach(), "abs": T.abs, "sum": lambda a: a.sum(0, keepdim=True).expand_as(a), "max": lambda a: a.max(1)[0] * a,
    "dropout": lambda a: F.dropout(a, 0.4), "choose": lambda a: a[:, T.tensor([1, 0, 1])[: a.shape[1]]], "sort": lambda a: a.sort(1)[0],
    "inplace": lambda a: a.clone().mul_(2), "part": lambda a: _written(a), "std": lambda a: a / (1 + a.var()), "square": lambda a: a**2,
    "branch": lambda a: a * 2 if a.detach().sum() > 0 else a - 1,
}  # fmt: skip
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": T.add, "mul": T.mul, "sub": T.sub, "maximum": T.maximum, "matmul": lambda a, b: (a @ b) * 0.3,
    "where": lambda a, b: T.where(a > b, a, b), "cat": lambda a, b: T.cat([a, b])[1 : len(a) + 1], "div": lambda a, b: a / (b * b + 1),
    "stack": lambda a, b: T.stack([a, b]).mean(0), "outer": lambda a, b: a.sum(1, keepdim=True) * b.sum(0),
}  # fmt: skip


def _written(a: Any) -> Any:
    b = a.clone()
    b[0] = b[1] * 2
    return b


STEPS = st.lists(st.tuples(st.sampled_from([*UNARY, *BINARY]), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(STEPS, st.sets(st.integers(0, 5), min_size=1, max_size=3), st.booleans(), st.integers(1, 7))
def test_a_random_program_has_the_gradients_it_has_eagerly(program: Any, taken: set[int], history: bool, used: int) -> None:
    T.manual_seed(0)
    weights = [T.randn(3, 3, requires_grad=True) for _ in range(2)]

    def run(x: Any) -> Any:
        made = [x, *weights]
        for name, i, j in program:
            a, b = made[-1 - i % len(made)], made[-1 - j % len(made)]
            made.append(UNARY[name](a) if name in UNARY else BINARY[name](a, b))
        return [made[3:][-1 - k % (len(made) - 3)] for k in taken]

    f = Compiled(run, native=TIER[0] == "native")
    for n in range(4):
        found = []
        for function in (run, f):
            T.manual_seed(n)
            leaf = T.randn(3, 3, requires_grad=True)
            x = leaf * 2 if history else leaf.detach()
            out = function(x)
            chosen = [t for i, t in enumerate(out) if used >> i & 1 and t.requires_grad]
            loss = sum((t * t.detach().cos()).sum() for t in chosen)
            inputs = [*weights, *([leaf] if history else [])]
            g = T.autograd.grad(loss, inputs, allow_unused=True) if chosen else ()
            found.append((values(out), values(g), repr(T.get_rng_state())))
        if TIER[0] == "native":
            engine._queue.join()
        exact = TIER[0] == "numpy" and len(chosen) != 2  # the gradients of two of three results are added up at the end
        assert (agree if exact else close)(found[0], found[1]), f.explain()
    COUNTS[TIER[0]][0] += f.hits
    COUNTS[TIER[0]][1] += 4


COUNTS = {"numpy": [0, 0], "native": [0, 0]}


def test_many_of_the_random_programs_were_replayed() -> None:
    hits, calls = COUNTS[TIER[0]]
    assert hits > calls / 3, COUNTS
