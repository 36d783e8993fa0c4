"""What instructions do to memory: whether one may pass by others."""

from __future__ import annotations

from collections.abc import Iterable

from tensor.jit.instructions import Instruction
from tensor.jit.recorder import Recording
from tensor.jit.slots import slots_of

__all__ = ["Touched"]


class Touched:
    """The memory that some instructions read, make and write, by owner, and the numbers that they make."""

    def __init__(self, recording: Recording) -> None:
        self._owner = recording.owner
        self._made: set[int] = set()
        self._written: set[int] = set()
        self._read: set[int] = set()

    def _memory(self, slots: Iterable[int]) -> list[int]:
        owners = self._owner
        return [-2 - slot if owners[slot] == -1 else owners[slot] for slot in slots]  # a number has no memory

    def note(self, made: Instruction) -> None:
        """One more instruction."""
        if made.kind in ("grads", "store"):
            return  # they name arrays, whatever is in them
        self._made.update(self._memory(s for s in slots_of(made.out)))
        self._written.update(self._memory(made.writes))
        self._read.update(self._memory(made.uses))

    def feeds(self, made: Instruction) -> bool:
        """Whether an instruction reads what these make or write."""
        memory = self._memory(made.uses)
        return not (self._made.isdisjoint(memory) and self._written.isdisjoint(memory))

    def disturbed_by(self, made: Instruction) -> bool:
        """Whether an instruction writes what these read."""
        return bool(made.writes) and not self._read.isdisjoint(self._memory(made.writes))
