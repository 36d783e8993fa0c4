"""One call of a function that is recorded, and the plan that comes of it, or the reasons why none does."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import get_ident
from typing import Any

import numpy as np

from tensor.autograd.modes import rerun
from tensor.autograd.node import Leaf
from tensor.autograd.tensor import Tensor
from tensor.jit.arguments import Arguments
from tensor.jit.calls import Calls
from tensor.jit.forward import History, Target, Unfollowed, record_history, settle, with_history
from tensor.jit.guards import Surroundings
from tensor.jit.places import Reader, attribute, settings
from tensor.jit.plan import Plan
from tensor.jit.recorder import Recording, grad_of
from tensor.jit.replay import Replays
from tensor.jit.results import Made, Source, Unreturnable, returned, tensors_in
from tensor.jit.script import Script
from tensor.jit.seams import slot
from tensor.jit.traced import Traced, plain

__all__ = ["Attempt"]


class Attempt:
    """One call that is recorded."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.function, self.args, self.kwargs = function, args, kwargs
        self.plan: Plan | None = None
        self.arguments = Arguments(args, kwargs)
        self.checks, self.sources, self.reasons = self.arguments.checks, self.arguments.sources, self.arguments.reasons

    def run(self) -> Any:
        """Call the function; afterwards there is a plan, or reasons for none."""
        self.surroundings = around = Surroundings([self.function, *self.arguments.roots])
        self.reasons += around.reasons
        if rerun and get_ident() in rerun:
            self.reasons.append("a checkpoint runs it, which is to record the same operations when it runs it again")
        if self.reasons:
            return self.function(*self.args, **self.kwargs)
        self._find_tensors()
        if self.reasons:
            return self.function(*self.args, **self.kwargs)
        self.recording = recording = Recording(self.sources, self.leaves)
        switches = settings()
        with recording.on():
            collects = gc.isenabled()
            gc.disable()  # what a collection calls is no part of the function
            try:
                with Calls(recording, around.codes):
                    result = self.function(*self.args, **self.kwargs)
                    self._record_history(result)
            finally:
                if collects:
                    gc.enable()
            recording.finish()
            self._find_results(result)
        settle(result, self.sources, {t._node for t in self.histories.values()})
        recording.forget()
        self.reasons += recording.reasons
        if switches != settings():
            self.reasons.append("it changes a setting of the library")
        changed = around.changed()
        if changed is not None:
            self.reasons.append(f"it changes {changed.name}")
        self._compare_tensors()
        if not self.reasons:
            try:
                self.plan = self._build(result)
            except Unreturnable as e:
                self.reasons.append(str(e))
        return plain(result)

    # --- tensors from outside -------------------------------------------------------------------------------------------

    def _find_tensors(self) -> None:
        found = self.surroundings.tensors
        for key, source in list(self.sources.items()):
            if key in found:  # an argument that is captured too
                self.checks.append(f"{source.text} is {self.arguments.name(found[key])}")
            elif found:
                self.checks.append(f"id({source.text}) not in {self.arguments.name(frozenset(found))}")
        self.histories = {text: t for text, t in self.arguments.histories.items() if id(t) not in found}
        self.leaves = [t for t in (*found.values(), *self.histories.values()) if type(t._node) is Leaf]
        for t in found.values():
            node: Any = t._node
            if node is not None and type(node) is not Leaf:
                self.reasons.append("a tensor from outside has a history")
                return
            self.sources[id(t)] = Source("", t)
        for t in self.leaves:
            if t.grad is not None:
                self.sources[id(t.grad)] = Source("", t, grad=True)
                if t.grad._node is not None:
                    self.reasons.append("a gradient has a history")
        self.before: dict[int, tuple[Tensor, Any, dict[str, Any], int]] = {}
        self.hooks: dict[int, Any] = {}
        self.arrays: dict[int, Any] = {}  # an optimizer may replace them
        for t in self._outside():
            node, key, array = t._node, id(t), t._array
            self.before[key] = t, node, dict(t._extra) if t._extra else {}, 0 if t._version is None else t._version.value
            self.hooks[key] = _hooks(node)
            self.arrays[key] = array
            if type(array) is not np.ndarray:
                self.reasons.append(f"a tensor on {t.device}")
                return

    def _outside(self) -> Iterator[Tensor]:
        for t in self.surroundings.tensors.values():
            yield t
            if type(t._node) is Leaf and t._node.grad is not None:
                yield t._node.grad
        for x in (*_tensors(self.args), *_tensors(self.kwargs)):
            if id(x) not in self.surroundings.tensors:
                yield x
                if type(x._node) is Leaf and x._node.grad is not None:
                    yield x._node.grad

    def _compare_tensors(self) -> None:
        """See that only arrays, gradients and versions of tensors from outside have changed."""
        for t, node, extra, _ in self.before.values():
            if t._node is not node or (dict(t._extra) if t._extra else {}) != extra:
                self.reasons.append("it changes whether a tensor from outside requires a gradient, or its history")
            hooks = _hooks(node)
            if hooks != self.hooks[id(t)]:
                self.reasons.append("it hooks a tensor from outside")
            if self.passes and hooks is not None:
                self.reasons.append("the gradient of a tensor from outside has hooks")
        for x, _ in self.surroundings.arrays:
            if any(np.may_share_memory(x, t._array) for t, *_ in self.before.values()):
                self.reasons.append("a tensor shares the memory of a NumPy array that the function can see")

        for text, t in self.histories.items():
            if id(t._node) in self.recording.grads_seen | self.recording.grads_set:  # its gradient is found by the tensor
                self.arguments.demand_same(text, t)
                self.surroundings.tensors[id(t)] = t
            elif "grad_fn" in self.surroundings.names:
                self.reasons.append("it may look at the history of an argument")

    # --- results --------------------------------------------------------------------------------------------------------

    def _record_history(self, result: Any) -> None:
        """Record the backward of what was returned."""
        self.history: History | None = None
        self.passes = self.recording.passes
        found = list(tensors_in(result))
        if self.recording.reasons or all(t._node is None for t in found):
            return
        leaves = [t for t in self.surroundings.tensors.values() if type(t._node) is Leaf]
        live = with_history(found, self.sources, {t._node for t in (*leaves, *self.histories.values())})
        if not live:
            return
        targets = [Target("", t) for t in leaves]
        targets += [Target(text, t) for text, t in self.histories.items()]
        bumped = self._versions()
        try:
            self.history = record_history(self.recording, found, live, self.sources, targets)
        except Unfollowed as why:
            self.recording.refuse(str(why))
        if self._versions() != bumped:
            self.recording.refuse("its backward writes into tensors from outside")

    def _versions(self) -> list[int]:
        return [0 if t._version is None else t._version.value for t, *_ in self.before.values()]

    def _find_results(self, result: Any) -> None:
        """The slots of the tensors returned; while the recording is on, since it is in them."""
        self.slots: dict[int, Made] = {}
        if any(isinstance(x, (str, np.generic, complex)) for x in _values(result)):
            self.recording.use_numbers()  # which may be written in them
        grads = {id(g): leaf for leaf in self.leaves if (g := grad_of(leaf)) is not None}
        found = list(tensors_in(result))
        live = {} if self.history is None else {id(found[place]): i for i, place in enumerate(self.history.places)}
        for t in found:
            if id(t) in grads:  # the very tensor that is the gradient
                self.sources[id(t)] = Source("", grads[id(t)], grad=True)
            array = slot.__get__(t)
            if type(array) is Traced and id(t) not in self.sources:
                self.slots[id(t)] = Made(array.slot, live.get(id(t), -1))

    def _build(self, result: Any) -> Plan:
        recording = self.recording
        bumps = []
        for key, (t, _, _, version) in self.before.items():
            by = (0 if t._version is None else t._version.value) - version - recording.stepped.get(key, 0)
            if by:
                bumps.append((self.sources[key], by))
        result = returned(result, self.slots, self.sources)
        around, leaves = self.surroundings, self.leaves
        watched: list[tuple[str, Any, Reader]] = []
        for t in around.tensors.values():
            watched.append(("a tensor", t, attribute("_node", certain=True)))
            if t._node is not None and self.passes:
                watched += [("a gradient", t._node, attribute(hooks, certain=True)) for hooks in ("hooks", "post_hooks")]
            if id(t) in recording.external:
                watched.append(("a tensor", t, attribute("_array", certain=True)))
        outside = Outside(
            [(t, t._node, self.arrays[id(t)] if id(t) in recording.external else None) for t in around.tensors.values()],
            hooked=not self.passes,
        )
        around.seal(watched, outside.unchanged)
        for leaf, grad in zip(leaves, recording.entry_grads, strict=True):
            self.arguments.demand_grad(leaf, grad, recording)
        captured = None if recording.grads_seen else set(around.tensors)
        sources = self.sources
        replays = None if self.history is None else Replays(self.function, recording, self.history)
        instructions = None if self.history is None else self.history.forward
        plan = Plan(
            around,
            self.arguments.condition,
            lambda: Script(recording, result, sources, bumps, instructions, replays),
            captured,
            outside.resized,
        )
        if replays is not None:
            replays.plan = plan
        return plan


@dataclass(frozen=True, slots=True)
class Outside:
    """Tensors from outside, with the nodes they had, and the arrays that the function used, as far as their layout goes."""

    tensors: list[tuple[Tensor, Any, Any]]
    hooked: bool  #: whether their gradients may have hooks: those are the caller's, where no backward pass is in the function

    def unchanged(self) -> bool:
        """Whether they require gradients as they did, and their arrays are laid out as they were."""
        return all(
            t._node is node
            and (self.hooked or type(node) is not Leaf or _unhooked(node))
            and (array is None or _alike(t._array, array))
            for t, node, array in self.tensors
        )

    def resized(self) -> bool:
        """Whether an array has another shape than the one that the function used: an edit of the network."""
        return any(array is not None and t._array.shape != array.shape for t, _, array in self.tensors)


def _hooks(node: Any) -> tuple[list[Any], list[Any]] | None:
    """The hooks of a gradient, and those after it has been added up; None where there are none."""
    before, after = getattr(node, "hooks", None), getattr(node, "post_hooks", None)
    return (list(before or ()), list(after or ())) if before or after else None


def _unhooked(leaf: Leaf) -> bool:
    return leaf.hooks is None and leaf.post_hooks is None


def _alike(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype)


def _values(x: Any) -> Iterator[Any]:
    if isinstance(x, (tuple, list, dict)):
        for v in x.values() if isinstance(x, dict) else x:
            yield from _values(v)
    else:
        yield x


def _tensors(x: Any) -> Iterator[Tensor]:
    return tensors_in(x)
