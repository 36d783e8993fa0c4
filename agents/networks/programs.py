"""Networks put together from modules by a program, another one for each example."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agents.networks.batching import DynamicBatch, Later
from rlcore.errors import UnknownNameError
from tensor import Tensor, nn

__all__ = ["ProgramNetwork", "parse"]


def parse(tokens: Sequence[str], arities: Mapping[str, int]) -> Any:
    """A program from its tokens in prefix order: a name alone for a module of no inputs, else a tuple (name, *inputs).

    Raises ValueError for tokens that are missing or left over, and UnknownNameError for a name that is not known.

    >>> parse("add square x x".split(), {"add": 2, "square": 1, "x": 0})
    ('add', ('square', 'x'), 'x')
    """
    left = iter(tokens)
    program = _parse(left, arities)
    rest = list(left)
    if rest:
        msg = f"parse: expected the program to end, got {' '.join(rest)!r} after it"
        raise ValueError(msg)
    return program


def _parse(tokens: Iterator[str], arities: Mapping[str, int]) -> Any:
    token = next(tokens, None)
    if token is None:
        msg = "parse: expected a module, got the end of the program"
        raise ValueError(msg)
    if token not in arities:
        raise UnknownNameError("module", token, arities)  # noqa: EM101
    inputs = tuple(_parse(tokens, arities) for _ in range(arities[token]))
    return (token, *inputs) if inputs else token


class ProgramNetwork(nn.Module):
    """Runs a program of named modules for each example, in the spirit of Johnson et al. 2017 (arXiv 1705.03633).

    A module takes the values of its inputs, ``[n, ...]`` each, and gives a value. A program is a nested tuple
    ``(name, *inputs)``; where it names one of the examples' own inputs it gets that. Modules of the same name run together over
    all programs of a batch, wherever they stand in them. Programs may be the output of another network: they are plain data.
    Raises UnknownNameError for a name that is neither a module nor an input.

    >>> import tensor as T
    >>> class Add(nn.Module):
    ...     def forward(self, a, b):
    ...         return a + b
    >>> class Double(nn.Module):
    ...     def forward(self, a):
    ...         return 2 * a
    >>> net = ProgramNetwork({"add": Add(), "double": Double()})
    >>> net([("add", ("double", "x"), "x"), ("double", "x")], x=T.tensor([[1.0], [10.0]]))
    tensor([[ 3.],
            [20.]])
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names = list(modules)  # free names, also those that a Module has for itself
        self.parts = nn.ModuleList(modules.values())

    def forward(self, programs: Sequence[Any], **inputs: Tensor) -> Tensor:
        """The value of each program, ``[n, ...]``; input ``x`` ``[n, ...]`` holds a row for each."""
        for name, x in inputs.items():
            if len(x) != len(programs):
                msg = f"ProgramNetwork: expected a row of {name} for each of {len(programs)} programs, got {len(x)}"
                raise ValueError(msg)
        batch = DynamicBatch()
        rows = {name: x.unbind(0) for name, x in inputs.items()}
        parts = dict(zip(self.names, self.parts, strict=True))
        values = []
        for number, program in enumerate(programs):
            given = {name: x[number] for name, x in rows.items()}
            values.append(_note(batch, program, parts, given))
        return batch.run(values)

    def extra_repr(self) -> str:
        return ", ".join(self.names)


def _note(batch: DynamicBatch, program: Any, parts: Mapping[str, nn.Module], given: Mapping[str, Tensor]) -> Later | Tensor:
    name, *inputs = program if isinstance(program, tuple) else (program,)
    if name in parts:
        return batch(parts[name], *[_note(batch, p, parts, given) for p in inputs])
    if inputs or name not in given:
        raise UnknownNameError("module", name, [*parts] if inputs else [*parts, *given])  # noqa: EM101
    return given[name]
