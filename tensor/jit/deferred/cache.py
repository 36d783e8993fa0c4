"""Runs graphs of pending calls: by NumPy, or, where the same graph was seen before, by machine code.

A graph is known by its calls, the shapes, strides and dtypes of its arrays, its plain arguments, and which results anybody can
still look at. Machine code is made in the background when a graph comes for the second time.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from tensor.jit.deferred.form import without_holes
from tensor.jit.deferred.graph import Node, owner_of
from tensor.jit.instructions import Instruction, Ref
from tensor.jit.lower import Lowering, Segment

__all__ = ["KEPT", "clear", "run", "settle"]

log = logging.getLogger("tensor.jit")

#: Graphs that are remembered; the least recently used is forgotten first.
KEPT = 256
#: Shorter graphs are not worth a look, longer ones would take long to compile.
SHORTEST, LONGEST = 3, 2000


class Graph:
    """Pending calls as the compiler's front end wants a recording: what is known of each array, by its slot."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.arrays: list[Any] = []  #: by slot; numbers too
        self.shapes: list[tuple[Any, Any]] = []
        self.layout: list[tuple[int, tuple[int, ...]]] = []
        self.origin: list[int] = []
        self.owner: list[int] = []
        self.of_outside: dict[int, str] = {}
        self.uses: list[tuple[list[int], list[int], list[int]]] = []  #: slots of arguments, results, arrays written, by node
        self._slots: dict[int, int] = {}
        self._roots: dict[int, int] = {}
        rows: list[Any] = []
        for node in nodes:
            given = [self._slot(a) for a in node.arrays]
            made = [self._slot(out, True) for out in node.outs]
            written = [self._slot(a) for a in node.writes]
            self.uses.append((given, made, written))
            rows += (node.form, *given, *made, *written)
        self.wanted = self._wanted()
        described = [
            (shape, dtype, strides, self.origin[s], address - self.layout[self.origin[s]][0])
            for s, ((shape, dtype), (address, strides)) in enumerate(zip(self.shapes, self.layout, strict=True))
        ]
        self.key = (tuple(rows), tuple(described), tuple(self.wanted))

    def _slot(self, a: Any, made: bool = False) -> int:
        if type(a) is float:
            self.shapes.append(((), float))
            self.layout.append((0, ()))
            self.owner.append(-1)
            self.origin.append(len(self.arrays))
            self.arrays.append(a)
            return len(self.arrays) - 1
        slot = self._slots.get(id(a))
        if slot is not None:
            return slot
        slot = self._slots[id(a)] = len(self.arrays)
        owner = id(owner_of(a))
        if made:
            self._roots[owner] = slot
        root = self._roots.get(owner)
        self.origin.append(slot if root is None else root)
        # Only views of memory made here need an address; others are known by the arrays that are given.
        address = 0 if root is None else int(a.__array_interface__["data"][0])
        if root is None:
            self.of_outside[owner] = "load"
        self.shapes.append((a.shape, a.dtype))
        self.layout.append((address, a.strides))
        self.owner.append(owner)
        self.arrays.append(a)
        return slot

    def _wanted(self) -> list[int]:
        """The slots of results that anybody outside of this graph can still look at."""
        inside = set(self.nodes)
        found = []
        for node, (_, made, _) in zip(self.nodes, self.uses, strict=True):
            for slot, target in zip(made, node.targets, strict=False):
                m = target()
                if m is None:
                    continue
                later = m.last is not None and m.last not in inside
                if later or m.held() or any(n not in inside for n in m.pending_readers()):
                    found.append(slot)
        return found

    def instructions(self) -> list[Instruction]:
        """The calls, and the views that they take of what others made, for the compiler's front end."""
        seen: set[int] = set()
        found = []
        for node, (given, made, written) in zip(self.nodes, self.uses, strict=True):
            seen.update(made)
            for s in (*given, *written):
                if s not in seen and self.origin[s] != s:
                    found.append(Instruction("call", None, (Ref(self.origin[s]),), out=s))
                seen.add(s)
            args, kwargs = without_holes(node.form[1], iter([Ref(s) for s in given]))
            out: Any = None if not made else made[0] if len(made) == 1 else made
            found.append(_Call("call", node.function, args, kwargs, out, tuple(written)))
        return found


class _Call(Instruction):
    """An instruction that is a call, not only a view."""

    __slots__ = ()


class _Entry:
    """A graph that was seen; ``parts`` run it once they are made: a program's arrays and numbers by their slots, or a call."""

    def __init__(self) -> None:
        self.hits = 0
        self.parts: list[tuple[Any, list[int], list[int]] | int] | None = None
        self.lock = threading.Lock()

    def lower(self, graph: Graph, compile_program: Any) -> None:
        """Have machine code run what it can."""
        instructions = graph.instructions()
        calls = {id(made): n for n, made in enumerate(i for i in instructions if type(i) is _Call)}
        lowering = Lowering(graph, instructions, graph.wanted)  # type: ignore[arg-type]  # it has what is asked of a recording
        known = len(graph.arrays)
        slots = [s for segment in lowering.segments for s in (*segment.inputs, *segment.outputs, *segment.scalars)]
        own = {id(made) for made in instructions}
        added = [p for p in lowering.parts if not isinstance(p, Segment) and id(p) not in own]
        if not slots or added or max(slots) >= known:  # it wants checks or copies of its own, for which there is no place here
            return
        parts: list[Any] = []
        for part in lowering.parts:
            if isinstance(part, Segment):
                parts.append((compile_program(part.program).run, [*part.inputs, *part.outputs], part.scalars))
            elif id(part) in calls:
                parts.append(calls[id(part)])
        self.parts = parts

    def run(self, graph: Graph) -> None:
        assert self.parts is not None
        arrays = graph.arrays
        with self.lock:  # a program's temporaries serve one run at a time
            for part in self.parts:
                if isinstance(part, int):
                    graph.nodes[part].fill()
                else:
                    program, slots, numbers = part
                    program([arrays[s] for s in slots], [arrays[s] for s in numbers])


_entries: OrderedDict[Any, _Entry] = OrderedDict()
_lock = threading.Lock()


def run(nodes: Sequence[Node], native: bool) -> int:
    """Run calls in their order. Says whether by machine code (2), or else whether the graph was seen before (1)."""
    seen = 0
    if native and SHORTEST <= len(nodes) <= LONGEST:
        graph = Graph(nodes)
        try:
            entry = _find(graph.key)
        except TypeError:  # an argument that cannot be hashed
            entry = None
        if entry is not None:
            seen = 1
            if entry.parts is not None:
                entry.run(graph)
                for node in nodes:
                    node.finish()
                return 2
            if entry.hits == 1:
                _later(entry, graph)
        del graph
    for node in nodes:
        try:
            node.fill()
        except Exception as e:
            e.add_note(f"in {getattr(node.function, '__name__', node.function)}, which T.lazy had deferred")
            raise
        node.finish()
    return seen


def _find(key: Any) -> _Entry | None:
    """The entry of a graph that was seen before; else it is remembered."""
    with _lock:
        entry = _entries.get(key)
        if entry is None:
            _entries[key] = _Entry()
            if len(_entries) > KEPT:
                _entries.popitem(last=False)
            return None
        _entries.move_to_end(key)
        entry.hits += 1
        return entry


def clear() -> None:
    """Forget all graphs."""
    with _lock:
        _entries.clear()


# --- machine code, in the background ------------------------------------------------------------------------------------

_queue: queue.Queue[tuple[_Entry, Graph]] = queue.Queue()
_worker: threading.Thread | None = None


def settle() -> None:
    """Wait until what was asked for is compiled."""
    _queue.join()


def _later(entry: _Entry, graph: Graph) -> None:
    global _worker
    graph.nodes = [_kept(n) for n in graph.nodes]
    graph.arrays = []
    _queue.put((entry, graph))
    if _worker is None or not _worker.is_alive():
        _worker = threading.Thread(target=_work, name="tensor.jit.deferred", daemon=True)
        _worker.start()


def _kept(node: Node) -> Node:
    """What the compiler needs of a call, without its arrays."""
    return Node(node.function, list, node.form, (), ())


def _work() -> None:
    from tensor.jit import codegen  # here, since it takes a while

    while True:
        entry, graph = _queue.get()
        try:
            if codegen.available():
                entry.lower(graph, codegen.compile_program)
        except Exception:
            log.exception("lazy: no machine code for a graph; NumPy goes on running it")
        finally:
            del entry, graph
            _queue.task_done()
