"""The node of a replayed call: its backward is a script that was recorded with the forward, or the function itself, run again.

The scripts serve gradients of all results and of each alone; the gradients of some of several are added up. They compute numbers
only, so a gradient that is to be differentiated again comes from the function, run from the state in which the replay found
generators and buffers, which are then put back. A recording for which that was needed once is not replayed any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tensor.autograd import node as nodes
from tensor.autograd.modes import enable_grad, is_grad_enabled
from tensor.autograd.node import FREED, Node, OutputNode, Version, new_version, version_of
from tensor.autograd.tensor import Tensor
from tensor.jit.forward import History, Way, gradients
from tensor.jit.plan import Plan
from tensor.jit.recorder import Recording
from tensor.jit.results import Made, Source, tensors_in
from tensor.jit.script import MISS, Script
from tensor.jit.written import function

__all__ = ["ReplayNode", "Replays"]


class ReplayNode(Node):
    """A replayed call, with the arrays that its backward reads, and the call itself."""

    __slots__ = ("call", "counters", "replays", "saved", "states", "versions")

    call: Any  #: the arguments
    counters: tuple[Version, ...]  #: of results whose memory the backward reads
    replays: Replays
    saved: Any
    states: Any  #: what the call found and changed: random states, arrays
    versions: tuple[int, ...]  #: of the tensors from outside

    def backward(self, g: Any) -> tuple[Any, ...]:
        if self.saved is FREED:
            msg = (
                f"{self.replays.name}: trying to backward through the graph a second time, but its saved values were freed; "
                "pass retain_graph=True to the first backward"
            )
            raise RuntimeError(msg)
        given = g if type(g) is dict else {0: g}
        return self.replays.backward(self, given)

    def release(self) -> None:
        if self.replays.saved:
            self.saved = FREED
            self.call = self.states = None

    def name(self) -> str:
        return "CompiledBackward"

    def _as_outputs(self, g: Any) -> tuple[Any, ...]:
        return tuple(g.get(i) for i in range(len(self.replays.history.outputs))) if type(g) is dict else (g,)


class Replays:
    """What the replays of one recording share: the `tensor.jit.script.Later` of its script."""

    def __init__(self, function: Callable[..., Any], recording: Recording, history: History) -> None:
        self.function, self.recording, self.history = function, recording, history
        self.name = f"compiled {getattr(function, '__name__', type(function).__name__)}"
        self.saved: Sequence[int] = history.saved
        self.plan: Plan | None = None
        self._lock = threading.RLock()
        self._scripts: dict[tuple[int, ...], Script] = {}
        self._asked = False  # whether machine code was made for the scripts used so far
        self._retired = False
        self._scope: dict[str, Any] = {"count": _count}
        owner = recording.owner
        results = [*history.outputs, *history.others]
        kept = {owner[s] for s in history.saved}
        owners = [owner[s] for s in results]
        #: by owner of memory, the number of the counter that results over it share
        self.counters = {o: i for i, o in enumerate(dict.fromkeys(o for o in owners if o in kept or owners.count(o) > 1))}
        self.loads: dict[str, tuple[Source, set[int]]] = {}  # tensors from outside, with the slots that they are loaded into
        for s, source in history.loads.items():
            self.loads.setdefault(self._source(source), (source, set()))[1].add(s)
        if self.loads:
            self._scope |= {
                f"v{i}": version_of(x.tensor)
                for i, (x, _) in enumerate(self.loads.values())
                if x.tensor is not None and not x.grad
            }
        self._versions = self._over_call(
            ", ".join(
                f"count({text})" if x.tensor is None or x.grad else f"v{i}.value"
                for i, (text, (x, _)) in enumerate(self.loads.items())
            )
        )
        self._find_effects()

    def _over_call(self, items: str) -> Callable[..., Any]:
        made: Callable[..., Any] = function(f"lambda args, kwargs: ({items}{',' if items else ''})", self._scope)
        return made

    def _source(self, source: Source) -> str:
        text = source.text
        if not text:
            text = f"t{id(source.tensor)}"
            self._scope[text] = source.tensor
        return f"{text}._node.grad" if source.grad else text

    def _find_effects(self) -> None:
        """What a run changes besides its results, and has to be put back to run the function again."""
        made = self.history.forward
        written = {self.recording.owner[s] for i in made for s in i.writes}
        self.generators = list(dict.fromkeys(i.function[0] for i in made if i.kind == "draw"))
        texts = [text for text, (_, slots) in self.loads.items() if any(self.recording.owner[s] in written for s in slots)]
        self._written = self._over_call(", ".join(texts))
        self.effects = bool(self.generators or texts)
        self.changed = set(texts)
        self.once = any(i.kind in ("store", "grads", "step") for i in made) or any(x.grad for x, _ in self.loads.values())

    # --- what a script does for it --------------------------------------------------------------------------------------

    def first(self) -> Iterator[str]:
        """Before the forward: the state that it will change."""
        if self.effects and not self.once:
            yield "states = found(args, kwargs)"

    def result(self, w: Any, made: Made) -> str:
        """A tensor returned."""
        if made.live >= 0:
            return f"o{made.live}"
        counter = self.counters.get(self.recording.owner[made.slot])
        v = w.variables[made.slot]
        return f"wrap({v})" if counter is None else f"counted({v}, c{counter})"

    def last(self, w: Any) -> Iterator[str]:
        """After the forward: the results with a history, and the node that they share."""
        w.scope |= {
            "link": self._link, "found": self._found, "counted": _counted, "new_version": new_version, "replays": self,
        }  # fmt: skip
        for i in self.counters.values():
            yield f"c{i} = new_version()"
        for i, s in enumerate(self.history.outputs):
            counter = self.counters.get(self.recording.owner[s])
            v = w.variables[s]
            yield f"o{i} = wrap({v})" if counter is None else f"o{i} = counted({v}, c{counter})"
        edges = "".join(f"{w.bind(t.tensor._node, 'n') if t.text == '' else f'{t.text}._node'}, " for t in self.history.targets)
        counters = "".join(f"c{i}, " for i in self.counters.values())
        saved = "".join(f"{w.variables[s]}, " for s in self.saved)
        outputs = "".join(f"o{i}, " for i in range(len(self.history.outputs)))
        states = "states" if self.effects and not self.once else "None"
        yield f"link(args, kwargs, ({edges}), ({saved}), ({outputs}), ({counters}), {states})"

    def _link(self, args: Any, kwargs: Any, edges: Any, saved: Any, outputs: Any, counters: Any, states: Any) -> None:
        """Give the results of a run their history."""
        n = ReplayNode()
        n.edges, n.saved, n.counters, n.states = edges, saved, counters, states
        n.call, n.versions, n.replays = (args, kwargs), self._versions(args, kwargs), self
        n.hooks, n.number = None, nodes.next_number()
        if len(outputs) == 1:
            (y,) = outputs
            n.shape, n.dtype = y._array.shape, y._array.dtype
            y._node = n
            return
        n.shape, n.dtype = (), None
        for i, y in enumerate(outputs):
            y._node = OutputNode(n, i, y._array.shape, y._array.dtype)

    def _found(self, args: Any, kwargs: Any) -> Any:
        return (
            [g.numpy.bit_generator.state for g in self.generators],
            [t._array.copy() for t in self._written(args, kwargs)],
        )

    def lower(self, compile_program: Callable[[Any], Any], make_check: Callable[..., Any]) -> bool:
        """Have machine code run the backward, as far as it has been used; of one result it surely will be."""
        with self._lock:
            self._asked = True
            if len(self.history.outputs) == 1:
                self._script((0,))
            scripts = [script for script in self._scripts.values() if script.lowering is None]
        lowered = [script.lower(compile_program, make_check) for script in scripts]
        return any(lowered)

    def swap(self, use: Callable[[], None]) -> bool:
        """Let another script take over, unless the function is not replayed any more."""
        with self._lock:
            if not self._retired:
                use()
            return not self._retired

    # --- backward -------------------------------------------------------------------------------------------------------

    def backward(self, n: ReplayNode, given: Mapping[int, Tensor]) -> tuple[Any, ...]:
        """The gradients for the node's edges, given those of some results."""
        history = self.history
        if is_grad_enabled():
            self._retire()
            return self._again(n, given)
        if any(type(g._array) is not np.ndarray for g in given.values()):  # from inside of a `vmap`
            return self._again(n, given)
        key = tuple(sorted(given))
        keys = [key] if key in history.ways else [(i,) for i in key]
        total: list[Any] = [None] * len(history.targets)
        for k in keys:
            way = history.ways[k]
            self._check(n, way)
            cotangents = {i: self._laid_out(given[i]._array, way.cotangents[i]) for i in k}
            with self._lock:
                grads = self._script(k).run(n.saved, cotangents)
            if grads is MISS:
                return self._again(n, given)
            total = list(grads) if len(keys) == 1 else [_sum(a, b) for a, b in zip(total, grads, strict=True)]
        return tuple(total)

    def _script(self, key: tuple[int, ...]) -> Script:
        script = self._scripts.get(key)
        if script is None:
            way = self.history.ways[key]
            result = tuple(None if s is None else Made(s) for s in way.grads)
            script = self._scripts[key] = Script(self.recording, result, {}, (), way.instructions)
            if self._asked and self.plan is not None and not self._retired:
                self.plan.ask_again()
        return script

    def _laid_out(self, g: Any, slot: int) -> Any:
        """A gradient as the scripts want it: in C order, in the element type of the result."""
        dtype = self.recording.shapes[slot][1]
        return g if g.flags.c_contiguous and g.dtype == dtype else np.ascontiguousarray(g, dtype).reshape(g.shape)

    def _check(self, n: ReplayNode, way: Way) -> None:
        """That nobody has written into what this backward reads."""
        now = self._versions(*n.call)
        if now != n.versions:
            reads = set(way.reads)
            for (_, slots), version, expected in zip(self.loads.values(), now, n.versions, strict=True):
                if version != expected and not reads.isdisjoint(slots):
                    self._changed("an input", self.recording.shapes[min(reads & slots)][0], version, expected)
        if n.counters:
            owners = {self.recording.owner[s]: s for s in way.reads}
            for owner, i in self.counters.items():
                if n.counters[i].value and owner in owners:
                    self._changed("an output", self.recording.shapes[owners[owner]][0], n.counters[i].value, 0)

    def _changed(self, what: str, shape: Any, version: int, expected: int) -> None:
        msg = (
            f"{self.name}: {what} of shape {tuple(shape)}, needed for its gradient, was changed by an in-place operation "
            f"(version {version}, expected {expected}); clone it before writing"
        )
        raise RuntimeError(msg)

    # --- the function itself --------------------------------------------------------------------------------------------

    def _retire(self) -> None:
        """From now on run the function as it is where this recording would be replayed."""
        with self._lock:
            self._retired = True
            if self.plan is not None:
                function = self.function
                run: Callable[..., Any] = lambda args, kwargs: function(*args, **kwargs)  # noqa: E731
                self.plan.script.run = self.plan.run = run
                self.plan.script.text = "as it is, since a gradient of its gradient was wanted"
                self.plan.tier = 0

    def _again(self, n: ReplayNode, given: Mapping[int, Tensor]) -> tuple[Any, ...]:
        """The gradients, with a history where one is wanted, by running the function as it was run."""
        args, kwargs = n.call
        self._see_unchanged(n)
        changed = self._written(args, kwargs)
        now = [t._array.copy() for t in changed], [version_of(t).value for t in changed]
        drawn = [g.numpy.bit_generator.state for g in self.generators]
        if n.states is not None:
            self._put_back(changed, n.states[1], n.states[0])
        try:
            with enable_grad():
                result = self.function(*args, **kwargs)
        finally:
            self._put_back(changed, now[0], drawn)
            for t, version in zip(changed, now[1], strict=True):
                version_of(t).value = version
        found = list(tensors_in(result))
        roots = [(found[self.history.places[i]]._node, g) for i, g in given.items()]
        create = is_grad_enabled()
        return tuple(gradients(roots, n.edges, create_graph=create, retain_graph=create))

    def _put_back(self, tensors: Sequence[Tensor], arrays: Sequence[Any], states: Sequence[Any]) -> None:
        for t, array in zip(tensors, arrays, strict=True):
            t._array[...] = array
        for generator, state in zip(self.generators, states, strict=True):
            generator.numpy.bit_generator.state = state

    def _see_unchanged(self, n: ReplayNode) -> None:
        """That running the function again gives what it gave."""
        plan = self.plan
        what = None
        if self.once or plan is None:
            what = "it changes gradients or takes a step"
        elif not plan.guard(*n.call) or not plan.surroundings.unchanged():
            what = "something that it depends on has changed since it was called"
        else:
            for text, version, expected in zip(self.loads, self._versions(*n.call), n.versions, strict=True):
                if version != expected and text not in self.changed:
                    what = f"a tensor that it reads was changed by an in-place operation (version {version}, expected {expected})"
        if what is not None:
            msg = f"{self.name}: this gradient needs the function run again, and {what}; call the function uncompiled"
            raise RuntimeError(msg)


def _count(t: Tensor) -> int:
    """How often a tensor's memory was written."""
    return 0 if t._version is None else int(t._version.value)


def _counted(array: Any, version: Version) -> Tensor:
    """A tensor with a counter that it shares."""
    t = Tensor(array)
    t._version = version
    return t


def _sum(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else Tensor(a._array + b._array)
