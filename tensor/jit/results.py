"""What a function returns, in a form that a run can make again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tensor.autograd.tensor import Tensor
from tensor.jit.places import PLAIN
from tensor.jit.traced import ReadNumber

__all__ = ["Made", "Source", "Unreturnable", "numbers_in", "returned", "slots_in", "tensors_in"]


class Unreturnable(Exception):
    """The function returns something that a run cannot make again."""


@dataclass(frozen=True, slots=True)
class Source:
    """How a tensor is found at every call: an expression of the arguments, or the object itself; its gradient where ``grad``."""

    text: str
    tensor: Tensor | None = None
    grad: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """In the place of a tensor that was returned: its slot, and its number among those with a history, -1 where it has none."""

    slot: int
    live: int = -1


def tensors_in(x: Any) -> Iterator[Tensor]:
    """The tensors of a result."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, (tuple, list)):
        for v in x:
            yield from tensors_in(v)
    elif isinstance(x, dict):
        yield from tensors_in(list(x.values()))


def returned(x: Any, slots: Mapping[int, Made], sources: Mapping[int, Source]) -> Any:
    """What a function returned, with slots in place of the tensors that were made, which need not be kept.

    ``slots``: by id of the tensors. Raises `Unreturnable` where a run could not make it again.
    """
    if isinstance(x, Tensor):
        if id(x) in slots:
            return slots[id(x)]
        if id(x) not in sources:
            msg = "it returns a tensor that was not found"
            raise Unreturnable(msg)
        return x
    if isinstance(x, tuple) and (type(x) is tuple or hasattr(x, "_fields")):
        parts = [returned(v, slots, sources) for v in x]
        return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)
    if type(x) is list:
        return [returned(v, slots, sources) for v in x]
    if type(x) is dict:
        return {k: returned(v, slots, sources) for k, v in x.items()}
    if not isinstance(x, PLAIN):
        msg = f"it returns a {type(x).__name__}"
        raise Unreturnable(msg)
    return x


def slots_in(x: Any) -> Iterator[int]:
    """The slots of the tensors that are returned."""
    if type(x) is Made:
        yield x.slot
    elif isinstance(x, (tuple, list)):
        for v in x:
            yield from slots_in(v)
    elif isinstance(x, dict):
        yield from slots_in(list(x.values()))


def numbers_in(x: Any) -> Iterator[int]:
    """The slots of the numbers that are returned."""
    if type(x) is ReadNumber:
        yield x.made.out
    elif isinstance(x, (tuple, list)):
        for v in x:
            yield from numbers_in(v)
    elif isinstance(x, dict):
        yield from numbers_in(list(x.values()))
