"""What a recording consists of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Instruction", "Ref", "flat", "needed", "references"]


@dataclass(slots=True, unsafe_hash=True)  # not frozen: one is made for every array recorded, in a third of the time
class Ref:
    """The array in a slot, as an argument of an instruction. Nobody changes it."""

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
    _used: list[int] | None = None

    @property
    def uses(self) -> list[int]:
        """The slots among the arguments."""
        found = self._used
        if found is None:
            found = self._used = references(self.args)
            if self.kwargs:
                _collect(self.kwargs, found)
        return found


def flat(x: Any) -> Iterator[Any]:
    """What is in nested tuples and lists."""
    if isinstance(x, (tuple, list)):
        for v in x:
            yield from flat(v)
    else:
        yield x


def references(x: Any) -> list[int]:
    """The slots among the arguments of an instruction."""
    found: list[int] = []
    _collect(x, found)
    return found


def _collect(x: Any, found: list[int]) -> None:
    kind = type(x)
    if kind is Ref:
        found.append(x.slot)
    elif kind is tuple or kind is list:
        for value in x:
            if type(value) is Ref:  # most are, or are no more than themselves
                found.append(value.slot)
            elif type(value) not in _PLAIN:
                _collect(value, found)
    elif kind is slice:
        _collect((x.start, x.stop, x.step), found)
    elif isinstance(x, (tuple, list)):
        _collect(tuple(x), found)
    elif isinstance(x, dict):
        _collect(tuple(x.values()), found)


_PLAIN = frozenset((int, float, bool, str, type(None)))


def needed(instructions: Sequence[Instruction], wanted: Iterable[int]) -> list[Instruction]:
    """Without the numbers that nothing depends on."""
    wanted = set(wanted)
    kept = []
    for made in reversed(instructions):
        if made.kind == "number" and not made.used and made.out not in wanted:
            continue
        wanted.update(made.uses)
        kept.append(made)
    return kept[::-1]
