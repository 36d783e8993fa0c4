"""`tensor` with every call recorded by `T.compile` and replayed on the same inputs: for replaying recorded cases.

A call gives what the replay gave: the value, its first gradients, its second ones. With ``CONFORMANCE_NATIVE=1`` replays run as
machine code. `statistics` says what was replayed, and why the rest was not.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import tensor as T
from tensor.jit import Compiled, codegen
from tensor.jit.results import tensors_in

NATIVE = bool(os.environ.get("CONFORMANCE_NATIVE"))

replayed: Counter[str] = Counter()  #: by operator, the calls that were replayed
refused: Counter[tuple[str, str]] = Counter()  #: by operator and reason, those that were not
native = 0  #: replays that ran machine code


def _item(t: T.Tensor, index: Any) -> Any:
    return Call("__getitem__", _getitem, (t, index), {}).value()


_getitem = T.Tensor.__getitem__


def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Inside of a call, indexing is that of tensors."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        T.Tensor.__getitem__ = _getitem  # type: ignore[method-assign]
        try:
            return function(*args, **kwargs)
        finally:
            T.Tensor.__getitem__ = _item  # type: ignore[method-assign, assignment]

    return call


def replay(name: str, function: Callable[[], Any], inputs: list[Any]) -> Any:
    """What a function gives when it is replayed on the inputs that it was recorded with."""
    global native
    before = [t._array.copy() for t in inputs]
    nodes = [t._node for t in inputs]
    compiled = Compiled(function, native=False)
    T.manual_seed(0)
    result = compiled()
    if not compiled.plans:
        for why in compiled.reasons:
            refused[name, why] += 1
        return result
    for t, array, node in zip(inputs, before, nodes, strict=True):
        if not same(t._array, array):
            t._array[...] = array
        t._node = node
    if NATIVE:
        plan = compiled.plans[0]
        plan.lower(codegen.compile_program, codegen.checker())
        native += plan.tier
    T.manual_seed(0)
    result = compiled()
    if compiled.hits:
        replayed[name] += 1
    else:
        refused[name, "its replay was refused"] += 1
    return result


def detached(x: Any) -> Any:
    """A result without its history."""
    if isinstance(x, T.Tensor):
        return x.detach()
    if isinstance(x, (tuple, list)):
        parts = [detached(v) for v in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    return {k: detached(v) for k, v in x.items()} if isinstance(x, dict) else x


class Call:
    """A call of an operator; its results are eager ones with the replay's values."""

    def __init__(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.name, self.function, self.args, self.kwargs = name, function, args, kwargs
        self.inputs = list({id(t): t for t in tensors_in([list(args), kwargs])}.values())

    def run(self) -> Any:
        """The function's result."""
        return self.function(*self.args, **self.kwargs)

    @plainly
    def value(self) -> Any:
        """The replayed result, with the history of an eager one, which says what has a gradient."""
        calls.clear()
        before = [t._array.copy() for t in self.inputs]
        versions = [(t._node, written(t)) for t in self.inputs]
        T.manual_seed(0)
        eager = self.run()
        self.order = list(tensors_in(eager if not isinstance(eager, list) else tuple(eager)))
        for t, array, (node, version) in zip(self.inputs, before, versions, strict=True):
            if t._node is not node or written(t) != version or not same(t._array, array):
                return eager  # a write in place; compared as it is
        got = replay(self.name, lambda: detached(self.run()), self.inputs)
        for t, g in zip(self.order, tensors_in(got), strict=True):
            if any(t is x for x in self.inputs):
                continue
            t._array = g._array
            calls[id(t)] = (self, t)
        return eager if self.order else got


def written(t: T.Tensor) -> int:
    """How often a tensor was written into."""
    return 0 if t._version is None else t._version.value


def same(a: Any, b: Any) -> bool:
    return bool(a.shape == b.shape and a.dtype == b.dtype and ((a == b) | ((a != a) & (b != b))).all())


#: By id of a tensor, the call that it comes from.
calls: dict[int, Any] = {}


class _Autograd:
    def __getattr__(self, name: str) -> Any:
        return getattr(T.autograd, name)

    @plainly
    def grad(self, outputs: Any, inputs: Any, cotangents: Any, create_graph: bool = False, allow_unused: bool = False) -> Any:
        """Gradients, from a function that does the call and the backward pass too."""
        if not outputs or id(outputs[0]) not in calls:
            return T.autograd.grad(outputs, inputs, cotangents, create_graph=create_graph, allow_unused=allow_unused)
        made = calls[id(outputs[0])][0]
        if isinstance(made, Second):
            return made.second(outputs, inputs, cotangents)
        numbers = [next(i for i, t in enumerate(made.order) if t is o) for o in outputs]
        second = Second(made, numbers, inputs, cotangents)
        eager = second.first(True)
        got = replay(made.name + " (gradient)", lambda: detached(second.first(create_graph)), made.inputs)
        for t, g in zip(eager, got, strict=True):
            if t is not None:
                t._array = g._array if t._array.shape == g._array.shape else t._array
                calls[id(t)] = (second, t)
        second.grads = eager
        return eager


class Second:
    """The gradients of a call, which can be differentiated again."""

    def __init__(self, call: Call, numbers: list[int], inputs: Any, cotangents: Any) -> None:
        self.call, self.numbers, self.inputs, self.cotangents = call, numbers, inputs, cotangents
        self.grads: Any = ()

    def first(self, create_graph: bool) -> Any:
        """The first gradients."""
        out = self.call.run()
        outs = list(tensors_in(tuple(out) if isinstance(out, list) else out))
        return T.autograd.grad([outs[i] for i in self.numbers], self.inputs, self.cotangents, create_graph=create_graph,
                               allow_unused=True)  # fmt: skip

    def second(self, outputs: Any, inputs: Any, cotangents: Any) -> Any:
        """The gradients of gradients."""
        numbers = [next(i for i, t in enumerate(self.grads) if t is o) for o in outputs]

        def both() -> Any:
            grads = self.first(True)
            return detached(T.autograd.grad([grads[i] for i in numbers], inputs, cotangents, allow_unused=True))

        return replay(self.call.name + " (second gradient)", both, self.call.inputs)


class _Name:
    """An operator by its public name, to be called."""

    def __init__(self, name: str, found: Any) -> None:
        self._name, self._found = name, found

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._found, name)
        return _Name(f"{self._name}.{name}", found) if callable(found) or isinstance(found, ModuleType) else found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return Call(self._name, self._found, args, kwargs).value()


T.Tensor.__getitem__ = _item  # type: ignore[method-assign, assignment]
_AS_THEY_ARE = {"tensor", "Tensor"}
autograd = _Autograd()


def _method(name: str) -> Callable[..., Any]:
    """A method or property of tensors as a function."""

    def call(t: T.Tensor, *args: Any, **kwargs: Any) -> Any:
        found = getattr(t, name)
        return found(*args, **kwargs) if callable(found) else found

    return call


def __getattr__(name: str) -> Any:
    if not hasattr(T, name) and hasattr(T.Tensor, name):
        return _Name(name, _method(name))
    found = getattr(T, name)
    if name in _AS_THEY_ARE or isinstance(found, (T.dtype, type)):
        return found
    return _Name(name, found) if callable(found) or isinstance(found, ModuleType) else found


def statistics() -> str:
    """What was replayed, and why not."""
    names = set(replayed) - {n for n, _ in refused}
    lines = [
        f"replayed {replayed.total()} calls, {native} of them with machine code; refused {refused.total()}; "
        f"never refused: {len(names)}"
    ]
    by_reason: dict[str, list[str]] = {}
    for (name, why), n in refused.items():
        by_reason.setdefault(why, []).append(f"{name} ({n})")
    lines += [f"  {why}: {', '.join(sorted(who))}" for why, who in sorted(by_reason.items(), key=lambda item: -len(item[1]))]
    return "\n".join(lines)


if os.environ.get("CONFORMANCE_STATISTICS"):
    atexit.register(lambda: sys.stdout.write(statistics() + "\n"))
