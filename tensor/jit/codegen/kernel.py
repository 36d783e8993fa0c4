"""A finished kernel: a function's text, what its caller passes to it, and its machine code."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from tensor.jit.codegen.text import Function


@dataclass(frozen=True, slots=True)
class Address:
    """The address of an element of a buffer."""

    buffer: int
    offset: int


@dataclass(frozen=True, slots=True)
class Number:
    """A runtime scalar, as a double."""

    slot: int


@dataclass(frozen=True, slots=True)
class Count:
    """A number of elements, as an i64."""

    value: int


@dataclass(frozen=True, slots=True)
class Foreign:
    """The address of a function outside, by its name in `host.foreign`."""

    name: str


Argument = Address | Number | Count | Foreign
TYPES = {Address: "ptr", Number: "double", Count: "i64", Foreign: "ptr"}


@dataclass(frozen=True, slots=True)
class Code:
    """`name` is a digest of the text, so equal kernels are one; `arguments` are what differs between two calls."""

    name: str
    text: str
    declared: tuple[str, ...]
    arguments: tuple[Argument, ...]

    @property
    def needs(self) -> list[str]:
        """The C functions that it calls by name."""
        names = [line.partition("@")[2].partition("(")[0] for line in self.declared]
        return [name for name in names if not name.startswith("llvm.")]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Finished:
    """Machine code of a function, which may be called as long as somebody has hold of this; ``size``: its share of the memory."""

    address: int
    size: int
    memory: object


def finish(function: Function, arguments: Sequence[Argument], parameters: str | None = None, result: str = "void") -> Code:
    """The parameters are `%a0`, `%a1`, ... in the order of the arguments, unless spelt out."""
    if parameters is None:
        parameters = ", ".join(f"{TYPES[type(argument)]} %a{i}" for i, argument in enumerate(arguments))
    text = "\n".join([f"define {result} @NAME({parameters}) {{", "entry:", *function.lines, "}"])
    name = "k" + hashlib.sha256(text.encode()).hexdigest()[:24]
    return Code(name, text.replace("@NAME(", f"@{name}(", 1), tuple(sorted(function.declared)), tuple(arguments))
