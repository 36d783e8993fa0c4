"""Pending calls, the memory they read and write, and the order in which they have to run.

Memory for a result is set aside when the call is deferred, so a deferred array is a real one whose contents are not there yet:
its shape, strides and views are NumPy's own. What has to be kept track of is who wrote each piece of memory last, and who still
has to read it before the next write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any
from weakref import ref

__all__ = ["Memory", "Node", "needed_for", "owner_of"]

_next = count(1).__next__


class Memory:
    """One piece of memory. ``last``: the pending call that writes it last; ``readers``: pending calls that read it as that leaves
    it."""

    __slots__ = ("__weakref__", "exposed", "handles", "last", "owner", "readers", "root")

    def __init__(self, owner: Any) -> None:
        self.owner = owner
        self.last: Node | None = None
        self.readers: list[ref[Node]] = []
        self.handles: list[ref[Any]] = []  #: the deferred arrays over it
        self.root: ref[Any] | None = None  #: the deferred array that its views name as their base
        self.exposed = False  #: whether NumPy code outside of the library may write it, unseen

    def read_by(self, node: Node) -> None:
        """Note a pending reader."""
        _add(self.readers, ref(node), _is_pending)

    def seen_as(self, handle: Any) -> None:
        """Note a deferred array over this memory."""
        _add(self.handles, ref(handle), lambda r: r() is not None)

    def held(self) -> bool:
        """Whether anybody can still look at it."""
        return any(r() is not None for r in self.handles)

    def pending_readers(self) -> list[Node]:
        """The calls that must run before it is written again."""
        return [node for r in self.readers if (node := r()) is not None and not node.done]


class Node:
    """A pending call. ``fill`` runs it on its arrays, all of which exist."""

    __slots__ = (
        "__weakref__", "arrays", "before", "done", "fill", "form", "function", "number", "outs", "over", "reads", "targets",
        "writes",
    )  # fmt: skip

    def __init__(self, function: Any, fill: Callable[[], Any], form: Any, arrays: Sequence[Any], outs: tuple[Any, ...]) -> None:
        self.number = _next()
        self.function = function
        self.fill = fill
        self.form = form  #: the arguments, hashable, with `Hole`s for the arrays; None where they cannot be told apart
        self.arrays = arrays  #: the arrays (and numbers given at run time) in the holes
        self.outs = outs  #: the new arrays that it fills
        self.writes: tuple[Any, ...] = ()  #: older arrays that it writes into
        self.reads: tuple[Memory, ...] = ()
        self.targets: tuple[ref[Memory], ...] = ()
        self.before: tuple[Node, ...] = ()  #: calls whose results it needs
        self.over: tuple[list[ref[Node]], ...] = ()  #: readers of what it writes over
        self.done = False

    def depend(self, reads: Iterable[Memory], writes: Sequence[Memory]) -> None:
        """Enter this call into the memory's order."""
        before = []
        read = []
        for m in reads:
            if m in writes or m in read:
                continue
            read.append(m)
            if m.last is not None:
                before.append(m.last)
            m.read_by(self)
        over = []
        for m in writes:
            if m.last is not None:
                before.append(m.last)
            if m.readers:
                over.append(m.readers)
                m.readers = []
            m.last = self
        self.reads, self.before, self.over = tuple(read), tuple(before), tuple(over)
        self.targets = tuple(map(ref, writes))

    def finish(self) -> None:
        """It has run: let go of all it needed."""
        self.done = True
        for target in self.targets:
            m = target()
            if m is not None and m.last is self:
                m.last = None
        self.reads, self.before, self.over, self.arrays, self.outs, self.writes = (), (), (), (), (), ()
        self.fill, self.form = _nothing, None


def needed_for(nodes: Iterable[Node]) -> list[Node]:
    """The pending calls that must run so that these have run, in their order."""
    found: set[Node] = set()
    stack = [n for n in nodes if not n.done]
    while stack:
        node = stack.pop()
        if node in found:
            continue
        found.add(node)
        stack += [n for n in node.before if not n.done]
        for readers in node.over:
            stack += [n for r in readers if (n := r()) is not None and not n.done]
    return sorted(found, key=lambda n: n.number)


def owner_of(array: Any) -> Any:
    """The object that owns an array's memory."""
    while (base := getattr(array, "base", None)) is not None:
        array = base
    return array


def _add(refs: list[ref[Any]], new: ref[Any], alive: Callable[[ref[Any]], bool]) -> None:
    refs.append(new)
    size = len(refs)
    if size >= 32 and not size & (size - 1):  # at each power of two, drop those that are gone
        refs[:] = [r for r in refs if alive(r)]


def _is_pending(r: ref[Node]) -> bool:
    node = r()
    return node is not None and not node.done


def _nothing() -> None:
    return None
