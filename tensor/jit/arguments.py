"""Conditions on a function's arguments: that they are of the kind that a recording was made with.

Tensors without history may hold other values, of the same dtype, shape and strides; plain values have to be equal; anything
else has to be the same object, and is followed like what the function closes over.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

from tensor.autograd.node import Leaf
from tensor.autograd.tensor import Tensor
from tensor.jit import watch
from tensor.jit.places import PLAIN, same
from tensor.jit.recorder import Recording
from tensor.jit.results import Source
from tensor.jit.written import function

__all__ = ["Arguments", "argument_rows"]


class Arguments:
    """The conditions, as source text over `args` and `kwargs`; `scope` has what it names."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.checks: list[str] = []
        self.scope: dict[str, Any] = {"same": same}
        self.sources: dict[int, Source] = {}  #: by id, how the tensors among the arguments are found
        self.histories: dict[str, Tensor] = {}  #: those of them that require gradients, by how they are found
        self.roots: list[Any] = []  #: the objects to follow
        self.reasons: list[str] = []
        self._match(args, "args")
        self._match(kwargs, "kwargs")

    def name(self, x: Any) -> str:
        """The name of an object in the conditions."""
        name = f"k{len(self.scope)}"
        self.scope[name] = x
        return name

    def condition(self) -> Callable[[tuple[Any, ...], dict[str, Any]], bool]:
        """All conditions as one function."""
        made: Callable[..., bool] = function(f"lambda args, kwargs: {' and '.join(self.checks) or True}", self.scope)
        return made

    def same_layout(self, a: Any, text: str) -> str:
        """That an array is laid out like this one."""
        k = self.name((a.shape, a.strides))
        kind, dtype = self.name(type(a)), self.name(a.dtype)
        return f"{text}.__class__ is {kind} and ({text}.shape, {text}.strides) == {k} and {text}.dtype == {dtype}"

    def demand_same(self, text: str, x: Tensor) -> None:
        """That an argument is the very tensor that it is now."""
        self.checks.append(f"{text} is {self.name(x)}")

    def demand_grad(self, leaf: Tensor, grad: Tensor | None, recording: Recording) -> None:
        """That the gradient of a leaf, where the recording has seen it, is what it was, or there is one as there was."""
        if id(leaf._node) not in recording.grads_seen:
            return
        text = f"{self.name(leaf._node)}.grad"
        if grad is None:
            self.checks.append(f"{text} is None")
        elif id(grad) in recording.external:
            self.checks.append(f"{text} is {self.name(grad)} and {self.same_layout(grad._array, f'{text}._array')}")
        else:
            self.checks.append(f"{text} is not None")

    def _match(self, x: Any, text: str) -> None:
        if isinstance(x, Tensor):
            self._tensor(x, text)
        elif isinstance(x, PLAIN) or (type(x) is slice and all(isinstance(v, PLAIN) for v in (x.start, x.stop, x.step))):
            self.checks.append(f"same({text}, {self.name(x)})")
        elif type(x) in (tuple, list, dict) or _named(x):
            self.checks.append(f"{text}.__class__ is {self.name(type(x))} and len({text}) == {len(x)}")
            if type(x) is dict:
                self.checks.append(f"tuple({text}) == {self.name(tuple(x))}")
                if not all(isinstance(k, str | int) for k in x):
                    self.reasons.append("a dictionary argument has keys other than strings and integers")
            for key, value in x.items() if type(x) is dict else enumerate(x):
                self._match(value, f"{text}[{key!r}]")
        else:
            self.checks.append(f"{text} is {self.name(x)}")
            self.roots.append(x)

    def _tensor(self, x: Tensor, text: str) -> None:
        first = self.sources.get(id(x))
        if type(x) is not Tensor:
            self.checks.append(f"{text} is {self.name(x)}")
            self.roots.append(x)
        elif first is not None:
            self.checks.append(f"{text} is {first.text}")
        else:
            history = "is None"
            if x._node is not None:
                self.histories[text] = x
                history = f"is not None and ({text}._node.__class__ is {self.name(Leaf)}) is {type(x._node) is Leaf}"
            others = "".join(f" and {text} is not {other.text}" for other in self.sources.values())
            self.checks.append(
                f"{text}.__class__ is {self.name(type(x))} and {text}._node {history}{others}"
                f" and {self.same_layout(x._array, f'{text}._array')}"
            )
            self.sources[id(x)] = Source(text)


def _named(x: Any) -> bool:
    """Whether this is a named tuple."""
    return isinstance(x, tuple) and hasattr(x, "_fields")


def argument_rows(args: tuple[Any, ...], kwargs: dict[str, Any], captured: Iterable[Any]) -> list[watch.Row] | None:
    """The same conditions for `tensor.jit.watch`, from arguments that fulfil them: register 0 has `args`, register 1 `kwargs`.

    None where they cannot be written that way. ``captured`` are the tensors that the function sees besides, and no argument is.
    """
    if len(kwargs) > 1:  # whose order counts
        return None
    rows: list[watch.Row] = [(watch.FIELD, 0, watch.SIZE, len(args)), (watch.FIELD, 1, watch.USED, len(kwargs))]
    writer = _Rows(rows, {id(t) for t in captured})
    try:
        for i, x in enumerate(args):
            writer.put(x, writer.follow(0, watch.FIRST + 8 * i))
        for key, x in kwargs.items():
            register = writer.new()
            rows.append((watch.FIND, 1, id(key), register))
            writer.put(x, register)
    except _Unwritten:
        return None
    return rows


class _Unwritten(Exception):
    """A condition that only Python can check."""


class _Rows:
    def __init__(self, rows: list[watch.Row], captured: set[int]) -> None:
        self.rows, self.captured = rows, captured
        self.tensors: dict[int, int] = {}
        self.used = 2

    def new(self) -> int:
        self.used += 1
        if self.used > watch.REGISTERS - 2:
            raise _Unwritten
        return self.used - 1

    def follow(self, register: int, offset: int) -> int:
        target = self.new()
        self.rows.append((watch.FOLLOW, register, offset, target))
        return target

    def put(self, x: Any, register: int) -> None:
        kind = type(x)
        if kind is Tensor:
            self.tensor(x, register)
        elif kind is float:
            self.field(register, watch.TYPE, id(float))
            self.field(register, watch.CONTENT, struct.unpack("<q", struct.pack("<d", x))[0])
        elif kind is tuple or kind is list or _named(x):
            self.field(register, watch.TYPE, id(kind))
            self.field(register, watch.SIZE, len(x))
            items = self.follow(register, watch.ITEMS) if kind is list and x else register
            for i, value in enumerate(x):
                self.put(value, self.follow(items, 8 * i + (0 if kind is list else watch.FIRST)))
        elif kind is dict or (kind is int and not -5 <= x <= 256):
            raise _Unwritten
        else:  # the plain values that are not one object may miss here, and are compared by Python then
            self.rows.append((watch.IS, register, id(x), 0))

    def field(self, register: int, offset: int, value: int) -> None:
        self.rows.append((watch.FIELD, register, offset, value))

    def tensor(self, x: Any, register: int) -> None:
        if id(x) in self.captured:
            self.rows.append((watch.IS, register, id(x), 0))
        elif id(x) in self.tensors:
            self.rows.append((watch.SAME, register, self.tensors[id(x)], 0))
        else:
            self.rows += [(watch.APART, register, other, 0) for other in self.tensors.values()]
            self.tensors[id(x)] = register
            free = self.new()
            self.new()  # of the two registers that these rows want
            self.rows += watch.tensor_rows(register, free, x, self.captured)
