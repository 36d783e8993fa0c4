"""Random programs, called, changed, called again: compiled and eager agree to the last bit in everything that can be seen."""

from __future__ import annotations

from typing import Any

import hypothesis
import numpy as np
from hypothesis import strategies as st

import tensor as T
from tensor.jit import Compiled

UNARY = ["tanh", "exp", "abs", "neg", "sin", "relu", "sigmoid", "t", "clone", "contiguous", "detach", "softmax", "cumsum", "flip"]
BINARY = ["add", "mul", "sub", "maximum", "matmul", "where", "minimum", "cat"]
EFFECTS = ["add_", "mul_", "copy_", "row", "fill", "data", "dropout", "draw", "branch", "number", "backward", "scale"]

operations = st.tuples(st.sampled_from(UNARY + BINARY + EFFECTS * 2), st.integers(0, 7), st.integers(0, 7))
programs = st.lists(operations, min_size=2, max_size=10)
changes = st.sampled_from(
    ["nothing", "argument", "state", "data", "scalar", "program", "shape", "seed", "mode", "replace", "dtype", "grad"]
)


class Machine:
    """Runs a program over tensors of its own, an argument, and what it has computed so far."""

    def __init__(self, program: list[Any], size: int) -> None:
        random = np.random.default_rng(0)
        self.program = list(program)
        self.state = [T.tensor(random.normal(size=(size, size)).astype("f")) for _ in range(2)]
        self.weight = T.tensor(random.normal(size=(size, size)).astype("f"), requires_grad=True)
        self.scalars = {"a": 0.5, "b": 2.0}

    def run(self, x: T.Tensor) -> Any:
        values, notes = [x, *self.state, self.weight], []
        for name, i, j in self.program:
            a, b = values[i % len(values)], values[j % len(values)]
            state = self.state[i % 2]
            if name in UNARY:
                result = UNARY_OPS[name](a)
            elif name in BINARY:
                result = BINARY_OPS[name](a, b)
            elif name in ("add_", "mul_", "copy_"):
                result = getattr(state, name)(b.detach().tanh())
            elif name == "row":
                state[j % len(state)] = b.detach()[0].tanh()
                result = state[:, j % len(state)].unsqueeze(1) * a
            elif name == "fill":
                result = T.full((len(state), len(state)), self.scalars["b"])
                result[0].mul_(a.detach()[0].tanh())
            elif name == "data":
                state.data = b.detach().clone().to(state.dtype)
                result = state * 1
            elif name == "dropout":
                result = T.nn.functional.dropout(a, 0.3)
            elif name == "draw":
                result = T.rand(len(x), len(x)) + a
            elif name == "branch":
                result = a * 2 if b.detach().sum() > 0 else a - 1
            elif name == "number":
                number = b.detach().mean().item()
                notes.append(number * self.scalars["a"])
                result = a * (1 / (1 + number * number))
            elif name == "backward":
                loss = (a.detach().tanh() * self.weight).sum()
                loss.backward()
                result = loss.detach() * a
            else:
                result = a * self.scalars["a"] + self.scalars["b"]
            values.append(result)
        return [v.detach() for v in values[4:]], notes, {"last": values[-1].detach().sum()}


UNARY_OPS: dict[str, Any] = {
    **{name: (lambda a, name=name: getattr(a, name)()) for name in UNARY if name not in ("softmax", "cumsum", "flip")},
    "softmax": lambda a: a.softmax(0),
    "cumsum": lambda a: a.cumsum(1),
    "flip": lambda a: a.flip(0),
}
BINARY_OPS: dict[str, Any] = {
    **{name: getattr(T, name) for name in BINARY if name not in ("where", "cat")},
    "where": lambda a, b: T.where(a > b, a, b),
    "cat": lambda a, b: T.cat([a, b])[: len(a)],
}


def change(machine: Machine, what: str, k: int) -> None:
    state = machine.state[k % 2]
    if what == "state":
        state.mul_(-1)
    elif what == "data":
        state.data = state.data + 1
    elif what == "scalar":
        machine.scalars["a"] += 1
    elif what == "program":
        machine.program[k % len(machine.program)] = ("neg", k, k)
    elif what == "mode":
        T.set_grad_enabled(not T.is_grad_enabled())
    elif what == "replace":
        machine.state[k % 2] = T.zeros_like(state)
    elif what == "dtype":
        machine.state[k % 2].data = state.data.double()
    elif what == "grad":
        machine.weight.grad = None
    elif what == "seed":
        T.manual_seed(k)


def outcome(machine: Machine, function: Any, x: Any) -> Any:
    def shown(t: T.Tensor | None) -> Any:
        return None if t is None else (t.dtype, t.shape, t.detach().numpy().tobytes())

    try:
        tensors, notes, last = function(T.tensor(x))
        result: Any = [shown(t) for t in tensors], notes, shown(last["last"])
    except RuntimeError as e:  # shapes or dtypes that do not fit, a backward pass with gradients off
        result = str(e)
    return repr((result, [shown(t) for t in [*machine.state, machine.weight, machine.weight.grad]], T.get_rng_state()))


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(programs, st.lists(st.tuples(changes, st.integers(0, 9)), min_size=1, max_size=3), st.integers(2, 3))
def test_a_random_program_is_never_stale(program: list[Any], history: list[tuple[str, int]], size: int) -> None:
    T.set_grad_enabled(True)
    eager, compiled = Machine(program, size), Machine(program, size)
    f = Compiled(compiled.run, native=False)
    random = np.random.default_rng(1)
    modes = [True, True]
    with np.errstate(all="ignore"):
        for what, k in [("nothing", 0), *history]:
            for n in range(3):
                x = random.normal(size=(size + (what == "shape"), size + (what == "shape"))).astype("f")
                results = []
                for i, (machine, function) in enumerate(((eager, eager.run), (compiled, f))):
                    T.set_grad_enabled(modes[i])
                    T.manual_seed(n)
                    if not n:
                        change(machine, what, k)
                    results.append(outcome(machine, function, x))
                    modes[i] = T.is_grad_enabled()
                assert results[0] == results[1], f.explain()
    COUNTS["hits"] += f.hits
    COUNTS["all"] += f.hits + f.recorded + f.eager


COUNTS = {"hits": 0, "all": 0}


def test_many_of_the_random_programs_were_replayed() -> None:
    assert COUNTS["hits"] > COUNTS["all"] / 4, COUNTS
