"""What instructions do to memory: whether one may pass by others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tensor.jit.instructions import Instruction, references
from tensor.jit.recorder import Recording
from tensor.jit.slots import slots_of

__all__ = ["Touched", "used"]


def used(made: Instruction) -> Iterator[int]:
    """The slots that an instruction names."""
    yield from references(made.args)
    yield from references(made.kwargs)


class Touched:
    """The memory that some instructions read, make and write, by owner, and the numbers that they make."""

    def __init__(self, recording: Recording) -> None:
        self._owner = recording.owner
        self._made: set[int] = set()
        self._written: set[int] = set()
        self._read: set[int] = set()

    def _memory(self, slots: Iterable[int]) -> Iterator[int]:
        for slot in slots:
            owner = self._owner[slot]
            yield -2 - slot if owner == -1 else owner  # a number has no memory

    def note(self, made: Instruction) -> None:
        """One more instruction."""
        if made.kind in ("grads", "store"):
            return  # they name arrays, whatever is in them
        self._made.update(self._memory(s for s in slots_of(made.out)))
        self._written.update(self._memory(made.writes))
        self._read.update(self._memory(used(made)))

    def feeds(self, made: Instruction) -> bool:
        """Whether an instruction reads what these make or write."""
        return any(m in self._made or m in self._written for m in self._memory(used(made)))

    def disturbed_by(self, made: Instruction) -> bool:
        """Whether an instruction writes what these read."""
        return any(m in self._read for m in self._memory(made.writes))
