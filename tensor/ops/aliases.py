"""NumPy's names of arguments, which PyTorch's operators take too: ``axis`` for ``dim`` and ``keepdims`` for ``keepdim``."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import Parameter as Kinds
from typing import Any

from tensor.ops.written import Parameter

__all__ = ["MISSING", "NUMPY_NAMES", "declared", "defaults_of", "numpy_names"]

NUMPY_NAMES = {"dim": "axis", "keepdim": "keepdims"}
#: The default of an argument that may come under either name.
MISSING = object()


def numpy_names(parameters: Sequence[Parameter], who: str) -> tuple[list[Parameter], list[str], list[str]]:
    """For a function that is written out: its parameters, keywords to declare besides, and lines that read these.

    An argument that others without a default follow keeps its one name.
    """
    changed, keywords, lines = list(parameters), [], []
    required = [p.name for p in parameters if p.required and p.kind is Kinds.POSITIONAL_OR_KEYWORD]
    for i, p in enumerate(parameters):
        other = NUMPY_NAMES.get(p.name)
        if other is None or p.kind is Kinds.VAR_POSITIONAL or any(q.name == other for q in parameters):
            continue
        if p.required:
            if p.name != required[-1]:
                continue
            changed[i] = p._replace(default=MISSING)
        keywords.append(f"{other}=None")
        lines += [f"    if {other} is not None:", f"        {p.name} = {other}"]
        if p.required:
            lines += [
                f"    elif {p.name} is _default_{p.name}:",
                f"        raise TypeError(\"{who}() missing 1 required positional argument: '{p.name}'\")",
            ]
    return changed, keywords, lines


def declared(p: Parameter) -> str:
    """A parameter as a function that is written out declares it; its default is in `defaults_of`."""
    return f"{p.name}=_default_{p.name}" if not p.required else p.name


def defaults_of(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """What a function that is written out needs to know for its defaults."""
    return {f"_default_{p.name}": MISSING if p.required else p.default for p in parameters}
