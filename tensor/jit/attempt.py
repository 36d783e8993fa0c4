"""One call of a function that is recorded, and the plan that comes of it, or the reasons why none does."""

from __future__ import annotations

import builtins
import gc
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np

from tensor.autograd.node import FREED, Leaf, OpNode
from tensor.autograd.tensor import Tensor
from tensor.jit import watch
from tensor.jit.arguments import Arguments, argument_rows
from tensor.jit.guards import Reader, Surroundings, attribute, settings, trusted_file
from tensor.jit.plan import Script, Source, Unreturnable, tensors_in
from tensor.jit.recorder import Recording, grad_of
from tensor.jit.seams import slot
from tensor.jit.traced import ReadNumber, Traced, plain
from tensor.nn.module import Module
from tensor.ops.random import Generator
from tensor.optim.optimizer import Optimizer

__all__ = ["Attempt", "Plan"]

#: Library functions that change or tell what a replay would not.
_REFUSED = {
    f.__code__: f"{f.__qualname__} is called"
    for f in (
        Optimizer.state_dict, Optimizer.load_state_dict, Optimizer.add_param_group, Optimizer.__init__, Generator.get_state,
        Generator.set_state, Generator.manual_seed, Generator.seed, Generator.__init__, Module.__init__, Module.load_state_dict,
    )
}  # fmt: skip
_trusted: set[types.CodeType] = set()
#: How often a plan watches memory anew; where addresses are others at every call, Python compares.
MOST_RENEWALS = 32
_HERE = str(Path(__file__).parent)


class Plan:
    """One recording, ready to be repeated; `check(args, kwargs)` says whether it may be."""

    def __init__(self, surroundings: Surroundings, guard: Any, script: Script, captured: set[int] | None) -> None:
        """``captured``: the ids of the tensors that the function sees besides its arguments, None where the check needs Python."""
        self.surroundings, self.guard, self.script, self._captured = surroundings, guard, script, captured
        self.run = script.run
        self.check: Callable[..., Any] = _never  #: what is tried first; at its first use a plan is told of it
        self.hits = 0
        self.tier = 0
        self._make_check: Callable[..., Any] | None = None
        self._rows: list[watch.Row] = []
        self._armed = 0

    def holds(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether everything that the recording depends on is as it was."""
        return bool(self.guard(args, kwargs)) and self.surroundings.holds()

    def watch_memory(self, make_check: Callable[..., Any]) -> None:
        """From its next use on, have machine code made by ``make_check`` do most of the check."""
        self._make_check, self.check = make_check, _never

    def renew(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Watch memory as it is now, at a call for which `holds` has said yes."""
        self.check = self.holds
        if self._make_check is None or self._armed > MOST_RENEWALS:
            return
        self._armed += 1
        around = self.surroundings
        if self._rows:
            around.disturbed(self._rows)
        self._rows, left = around.rows()
        mine = None
        if self._captured is not None and self._armed < MOST_RENEWALS:
            mine = argument_rows(args, kwargs, self._captured)
        check = self._make_check([*(mine or ()), *self._rows], self)
        # What was read as the rows were made may have been of another moment than the values that were compared.
        if check is None or not self.holds(args, kwargs):
            return
        if mine is None:
            self.check = lambda args, kwargs: check(args, kwargs) and self.guard(args, kwargs) and all(each() for each in left)
        elif left:
            self.check = lambda args, kwargs: check(args, kwargs) and all(each() for each in left)
        else:
            self.check = check


def _never(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """For a plan that has something else to do before it is checked."""
    return False


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
        if self.reasons:
            return self.function(*self.args, **self.kwargs)
        self._find_tensors()
        if self.reasons:
            return self.function(*self.args, **self.kwargs)
        self.recording = recording = Recording(self.sources, self.leaves)
        switches = settings()
        before = sys.getprofile()
        collects = gc.isenabled()
        with recording.on():
            gc.disable()  # what a collection calls is no part of the function
            sys.setprofile(self._watch())
            try:
                result = self.function(*self.args, **self.kwargs)
            finally:
                sys.setprofile(before)
                if collects:
                    gc.enable()
            recording.finish()
            self._find_results(result)
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

    def _watch(self) -> Callable[..., None]:
        codes, recording = self.surroundings.codes, self.recording
        unseen: set[types.CodeType] = set()

        def watch(frame: types.FrameType, event: str, arg: Any) -> None:
            if event == "call":
                recording.fresh = False
                code = frame.f_code
                if code in _trusted or code in codes or code in unseen:
                    return
                if code in _REFUSED:
                    recording.refuse(_REFUSED[code])
                elif trusted_file(code.co_filename):
                    _trusted.add(code)
                else:
                    unseen.add(code)
                    recording.refuse(f"{code.co_qualname} is called, which was not found from the function")
            elif event == "c_call" and recording.numbers and recording.active and not _blind(arg):
                if frame.f_code in codes:  # it might be given any of the numbers
                    recording.use_numbers()
                elif not frame.f_code.co_filename.startswith(_HERE):
                    for number in _numbers(frame.f_locals.values()):
                        number.use()
                    if recording.fresh:
                        recording.numbers[-1].used = True
                recording.fresh = False

        return watch

    # --- tensors from outside -------------------------------------------------------------------------------------------

    def _find_tensors(self) -> None:
        found = self.surroundings.tensors
        for key, source in list(self.sources.items()):
            if key in found:  # an argument that is captured too
                self.checks.append(f"{source.text} is {self.arguments.name(found[key])}")
            elif found:
                self.checks.append(f"id({source.text}) not in {self.arguments.name(frozenset(found))}")
        self.leaves = [t for t in found.values() if type(t._node) is Leaf]
        for t in found.values():
            node: Any = t._node
            if node is not None and (type(node) is not Leaf or node.hooks or node.post_hooks):
                self.reasons.append("a tensor from outside has a history, or hooks of its gradient")
                return
            self.sources[id(t)] = Source("", t)
        for t in self.leaves:
            if t.grad is not None:
                self.sources[id(t.grad)] = Source("", t, grad=True)
                if t.grad._node is not None:
                    self.reasons.append("a gradient has a history")
        self.before = {
            id(t): (t, t._node, dict(t._extra or {}), 0 if t._version is None else t._version.value) for t in self._outside()
        }
        self.arrays = {id(t): t._array for t in self._outside()}  # an optimizer may replace them
        for t, array in ((t, t._array) for t in self._outside()):
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

    def _compare_tensors(self) -> None:
        """See that only arrays, gradients and versions of tensors from outside have changed."""
        for t, node, extra, _ in self.before.values():
            if t._node is not node or dict(t._extra or {}) != extra:
                self.reasons.append("it changes whether a tensor from outside requires a gradient, or its history")
            if type(node) is Leaf and (node.hooks or node.post_hooks):
                self.reasons.append("it hooks a tensor from outside")
        for x, _ in self.surroundings.arrays:
            if any(np.may_share_memory(x, t._array) for t, *_ in self.before.values()):
                self.reasons.append("a tensor shares the memory of a NumPy array that the function can see")

    # --- results --------------------------------------------------------------------------------------------------------

    def _find_results(self, result: Any) -> None:
        """The slots of the tensors returned; while the recording is on, since it is in them."""
        self.slots: dict[int, int] = {}
        if any(isinstance(x, (str, np.generic, complex)) for x in _values(result)):
            self.recording.use_numbers()  # which may be written in them
        grads = {id(g): leaf for leaf in self.leaves if (g := grad_of(leaf)) is not None}
        for t in tensors_in(result):
            if id(t) in grads:  # the very tensor that is the gradient
                self.sources[id(t)] = Source("", grads[id(t)], grad=True)
            array = slot.__get__(t)
            if type(array) is Traced and id(t) not in self.sources:
                self.slots[id(t)] = array.slot
            if t._node is not None and id(t) not in self.sources and not _was_backward(t._node):
                self.recording.refuse(
                    "it returns a tensor with a history that no backward pass has used; call it under no_grad()"
                )

    def _build(self, result: Any) -> Plan:
        recording = self.recording
        bumps = []
        for key, (t, _, _, version) in self.before.items():
            by = (0 if t._version is None else t._version.value) - version - recording.stepped.get(key, 0)
            if by:
                bumps.append((self.sources[key], by))
        script = Script(recording, result, self.slots, self.sources, bumps)
        watched: list[tuple[str, Any, Reader]] = []
        layouts = []
        name = self.arguments.name
        for t in self.surroundings.tensors.values():
            text, node = name(t), t._node
            watched.append(("a tensor", t, attribute("_node", certain=True)))
            layouts.append(f"{text}._node is {name(node)}")
            if node is not None:
                watched += [("a gradient", node, attribute(hooks, certain=True)) for hooks in ("hooks", "post_hooks")]
                layouts.append(f"{name(node)}.hooks is None and {name(node)}.post_hooks is None")
            if id(t) in recording.external:
                watched.append(("a tensor", t, attribute("_array", certain=True)))
                layouts.append(self.arguments.same_layout(self.arrays[id(t)], f"{text}._array"))
        captured = set(self.surroundings.tensors)
        for t, grad in zip(self.leaves, recording.entry_grads, strict=True):
            node_name = name(t._node)
            if id(t._node) not in recording.grads_seen:
                continue
            if grad is None:
                self.checks.append(f"{node_name}.grad is None")
            elif id(grad) in recording.external:
                layout = self.arguments.same_layout(grad._array, f"{node_name}.grad._array")
                self.checks.append(f"{node_name}.grad is {name(grad)} and {layout}")
            else:
                self.checks.append(f"{node_name}.grad is not None")
        watchable = not recording.grads_seen
        self.surroundings.seal(watched, eval(f"lambda: {' and '.join(layouts) or True}", self.arguments.scope))
        return Plan(self.surroundings, self.arguments.condition(), script, captured if watchable else None)


def _blind(function: Any) -> bool:
    """Whether a C function looks at numbers only by their own methods, which tell, or not at all."""
    owner = function.__self__ if isinstance(function, types.BuiltinFunctionType) else getattr(function, "__objclass__", None)
    home: Any = owner if isinstance(owner, type) else type(owner)
    return owner is builtins or home in (list, dict, set, tuple, str, type, object) or function in (get_ident, sys.setprofile)


def _numbers(values: Iterable[Any]) -> Iterator[ReadNumber]:
    for x in values:
        if type(x) is ReadNumber:
            yield x
        elif type(x) is tuple or type(x) is list:
            yield from _numbers(x)
        elif type(x) is dict:
            yield from _numbers(x.values())


def _values(x: Any) -> Iterator[Any]:
    if isinstance(x, (tuple, list, dict)):
        for v in x.values() if isinstance(x, dict) else x:
            yield from _values(v)
    else:
        yield x


def _was_backward(node: Any) -> bool:
    """Whether a backward pass has used, and released, the history of this node."""
    seen, stack = set(), [node]
    while stack:
        n = stack.pop()
        if n is None or n in seen:
            continue
        seen.add(n)
        if isinstance(n, OpNode) and n.saved is FREED:
            return True
        stack += n.edges
    return False


def _tensors(x: Any) -> Iterator[Tensor]:
    return tensors_in(x)
