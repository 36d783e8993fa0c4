"""Results that are differentiated later, by the caller: what a recorded call has to keep for that, and how it is done.

Once the function has returned tensors with a history, the backward pass through it is recorded too (`record_history`), for
gradients of the results that are given at that time: of all, and of each alone. A replay makes the results and one `ReplayNode`,
which keeps the arrays that the backward scripts read, as the nodes of operators keep theirs. Whatever no script was made for,
gradients of gradients above all, is done by the function itself, run again from where the replay began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from tensor.autograd import engine, node
from tensor.autograd.inplace import ReplaceRegion
from tensor.autograd.modes import record_gradients
from tensor.autograd.node import Leaf, OpNode
from tensor.autograd.tensor import Tensor
from tensor.jit.instructions import Instruction
from tensor.jit.recorder import Recording
from tensor.jit.results import tensors_in
from tensor.jit.seams import slot
from tensor.jit.tape import foreign, nodes
from tensor.jit.traced import Traced, unwrap

__all__ = ["History", "Target", "Unfollowed", "Way", "record_history", "settle", "with_history"]

_new_node = node.new_node


class Unfollowed(Exception):
    """A history that a replay could not have; says why."""


def decline(why: str) -> NoReturn:
    """Leave a history to the function."""
    raise Unfollowed(why)


@dataclass(frozen=True, slots=True)
class Target:
    """What gradients go to: a tensor from outside, or an argument, which the expression gives at every call."""

    text: str
    tensor: Tensor

    @property
    def argument(self) -> bool:
        """Whether it is another tensor at every call."""
        return bool(self.text)


@dataclass(slots=True)
class Way:
    """The backward for gradients of some of the results: ``cotangents`` and ``grads`` are slots, by result and by target."""

    cotangents: dict[int, int]
    grads: list[int | None]
    instructions: list[Instruction]
    reads: list[int] = field(default_factory=list)  #: what it wants of the forward: slots


@dataclass(slots=True)
class History:
    """The backward of a recorded call."""

    targets: list[Target]
    places: list[int]  #: of the tensors returned, those with a history, by their number
    outputs: list[int]  #: their slots
    others: list[int]  #: the slots of the other tensors returned that the call made
    ways: dict[tuple[int, ...], Way]
    forward: list[Instruction]
    saved: list[int]  #: the slots that the forward has to keep
    loads: dict[int, Any]  #: by slot, the sources of those that lie in memory from outside


def with_history(found: Sequence[Tensor], known: Mapping[int, Any], outer: set[Any]) -> dict[int, int]:
    """Of the tensors returned, those whose history is yet to be used, by their ids: which they are.

    ``known``: by id, the tensors from outside; ``outer``: their nodes.
    """
    live: dict[int, int] = {}
    for i, t in enumerate(found):
        if t._node is not None and id(t) not in known and not _was_backward(t._node, outer):
            live.setdefault(id(t), i)
    return live


def record_history(
    recording: Recording, found: Sequence[Tensor], live: dict[int, int], known: Mapping[int, Any], targets: Sequence[Target]
) -> History:
    """Record the backward of what a function has just returned; raises `Unfollowed`.

    ``found``: the tensors returned, of which ``live`` have a history; ``known``: by id, the tensors from outside.
    """
    outer = {t.tensor._node for t in targets}
    recording.grads()
    count = len(recording.instructions)
    outputs = [found[i] for i in live.values()]
    slots = [_slot(t) for t in outputs]
    _check(recording, outputs, slots)
    refused = foreign([t._node for t in outputs], outer)
    if refused is not None:
        what = "a hook" if refused.hooks else f"a {refused.name()}, whose backward may do anything"
        decline(f"it returns a tensor whose history has {what}")
    if node.new_node is not _new_node or engine.watch.backward is not None:
        decline("nodes are watched as they are made")
    others = [a.slot for t in found if id(t) not in live and id(t) not in known and type(a := slot.__get__(t)) is Traced]
    every = tuple(range(len(outputs)))
    ways = {key: _record_way(recording, outputs, key, targets) for key in dict.fromkeys([every, *((i,) for i in every)])}
    used = [i for i in range(len(targets)) if any(way.grads[i] is not None for way in ways.values())]
    for way in ways.values():
        way.grads = [way.grads[i] for i in used]
    history = History([targets[i] for i in used], list(live.values()), slots, others, ways, [], [], {})
    return _split(recording, count, history)


def _slot(t: Tensor) -> int:
    array = slot.__get__(t)
    if type(array) is not Traced:
        decline("it returns a tensor of an unknown kind of array")
    return int(array.slot)


def _check(recording: Recording, outputs: list[Tensor], slots: list[int]) -> None:
    """That the results are new tensors over memory of their own."""
    owners = [recording.owner[s] for s in slots]
    if any(type(t) is not Tensor or type(t._node) is Leaf or t._extra for t in outputs):
        decline("it returns a leaf that it has made, or a tensor that keeps its gradient")
    if len(set(owners)) < len(owners) or any(recording.of_outside.get(o) == "load" for o in owners):
        decline("it returns tensors with a history that are views of each other, or of a tensor from outside")


def _was_backward(root: Any, ends: set[Any]) -> bool:
    """Whether a backward pass has used, and released, the history of this node."""
    seen, stack = {None, *ends}, [root]
    while stack:  # what `nodes` does, at every recording of a step
        n = stack.pop()
        if n not in seen:
            if isinstance(n, OpNode) and n.saved is node.FREED:
                return True
            seen.add(n)
            stack += n.edges
    return False


def settle(result: Any, known: Mapping[int, Any], ends: set[Any]) -> None:
    """Let a history that was recorded go on with plain arrays."""
    for n in nodes([t._node for t in tensors_in(result) if id(t) not in known], ends):
        if isinstance(n, OpNode) and n.saved is not node.FREED:
            n.saved = unwrap(n.saved)
        elif type(n) is ReplaceRegion:
            n.steps = unwrap(n.steps)


def _record_way(recording: Recording, outputs: list[Tensor], key: tuple[int, ...], targets: Sequence[Target]) -> Way:
    start = len(recording.instructions)
    cotangents, roots = {}, []
    for i in key:
        real = slot.__get__(outputs[i]).held
        g = recording._slot_for(np.ones(real.shape, real.dtype))
        recording.of_outside[recording.owner[g.slot]] = "load"
        recording.instructions.append(Instruction("given", "kwargs", (i,), out=g.slot))
        cotangents[i] = g.slot
        roots.append((outputs[i]._node, Tensor(g)))
    try:
        found = gradients(roots, [t.tensor._node for t in targets], create_graph=False, retain_graph=True)
    except Exception as e:
        msg = f"its backward fails: {e}"
        raise Unfollowed(msg) from e
    grads: list[int | None] = []
    for each in found:
        if each is None:
            grads.append(None)
            continue
        number = _slot(each)
        mine = {recording.owner[s] for made in recording.instructions[start:] for s in _outs(made)}
        if recording.owner[number] not in mine:  # the caller may write into it
            number = recording.run(np.ndarray.copy, (slot.__get__(each),), {}).slot
        grads.append(number)
    return Way(cotangents, grads, recording.instructions[start:])


def gradients(roots: Any, ends: Sequence[Any], *, create_graph: bool, retain_graph: bool) -> list[Tensor | None]:
    """The gradients that arrive at nodes, before any hook of theirs."""
    targets = set(ends)
    captured: dict[Any, Any] = {n: None for n in targets if type(n) is not Leaf}
    wanted = engine.nodes_between([n for n, _ in roots], targets)
    before = record_gradients(create_graph)
    try:
        leaves = engine.run(
            roots, create_graph=create_graph, retain_graph=retain_graph, wanted=wanted, captured=captured, ends=True
        )
    finally:
        record_gradients(before)
    return [leaves.get(n) if type(n) is Leaf else captured[n] for n in ends]


# --- who does what -------------------------------------------------------------------------------------------------------


def _split(recording: Recording, count: int, history: History) -> History:
    """Give each way what it needs of the forward: constants and views made again, all else kept by the forward."""
    instructions = recording.instructions
    forward = instructions[:count]
    makers: dict[int, Instruction] = {}
    for made in instructions:
        for s in _outs(made):
            makers.setdefault(s, made)
    mine = {id(made) for way in history.ways.values() for made in way.instructions}
    loads: dict[int, Any] = {made.out: made.function for made in forward if made.kind == "load"}
    saved: dict[int, None] = {}
    for way in history.ways.values():
        own = {id(made) for made in way.instructions}
        again: dict[int, None] = {}  # instructions of the forward, by id
        reads: dict[int, None] = {}
        wanted = [s for made in way.instructions for s in made.uses]
        wanted += [s for s in way.grads if s is not None]
        while wanted:
            s = wanted.pop()
            made = makers[s]
            if made.kind == "load":
                reads[s], loads[s] = None, made.function
            elif id(made) in own:
                continue
            elif recording.origin[s] != s and made.kind == "call":
                again[id(made)] = None
                wanted += made.uses
            elif made.kind == "create" and recording.owner[s] not in recording.written:
                again[id(made)] = None
            elif id(made) in mine:
                decline("the gradients of its results depend on each other")
            else:
                reads[s] = None
        _check_way(recording, way)
        early = [made for made in instructions if id(made) in again and id(made) not in own]
        way.instructions = [*early, *(made for made in way.instructions if made.kind != "load")]
        way.reads = list(reads)
        saved |= reads
    late = [made for made in instructions[count:] if made.kind == "load"]
    history.forward, history.saved, history.loads = [*forward, *late], list(saved), loads
    place = {s: i for i, s in enumerate(history.saved)}
    for way in history.ways.values():
        given = [Instruction("given", "args", (place[s],), out=s) for s in way.reads]
        way.instructions = [*given, *way.instructions]
    return history


def _check_way(recording: Recording, way: Way) -> None:
    """That a backward only computes: what it does besides would have happened while recording already."""
    own = {recording.owner[s] for made in way.instructions if made.kind in ("call", "create") for s in _outs(made)}
    for made in way.instructions:
        if made.kind in ("draw", "store", "grads", "step") or any(recording.owner[s] not in own for s in made.writes):
            decline("its backward does more than to compute gradients")


def _outs(made: Instruction) -> list[int]:
    return [] if made.out is None else made.out if isinstance(made.out, list) else [made.out]
