"""What a recording consists of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Instruction", "Ref", "needed", "references"]


@dataclass(frozen=True, slots=True)
class Ref:
    """The array in a slot, as an argument of an instruction."""

    slot: int


@dataclass(slots=True, eq=False)
class Instruction:
    """``kind``: call, read (compared with ``value``), number, draw, load, create, store, grads, step."""

    kind: str
    function: Any = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    out: Any = None  #: the slot of the result, nested as the result is
    writes: tuple[int, ...] = ()
    value: Any = None
    scalar: bool = False  #: the result was a NumPy scalar, kept as a 0-d array
    shape: Any = None  #: to be checked, where values decide it
    errors: dict[str, Any] | None = None  #: NumPy's error handling, where it was not the usual
    used: bool = False  #: of a number: whether what was done depends on it in ways that are not recorded
    late: bool = False  #: whether something that cannot be taken back was done before


def references(x: Any) -> Iterator[int]:
    """The slots among the arguments of an instruction."""
    kind = type(x)
    if kind is Ref:
        yield x.slot
    elif kind is slice:
        yield from references((x.start, x.stop, x.step))
    elif isinstance(x, (tuple, list)):
        for v in x:
            yield from references(v)
    elif isinstance(x, dict):
        yield from references(list(x.values()))


def needed(instructions: Sequence[Instruction], wanted: Iterable[int]) -> list[Instruction]:
    """Without the numbers that nothing depends on."""
    wanted = set(wanted)
    kept = []
    for made in reversed(instructions):
        if made.kind == "number" and not made.used and made.out not in wanted:
            continue
        wanted.update(references(made.args), references(made.kwargs))
        kept.append(made)
    return kept[::-1]
