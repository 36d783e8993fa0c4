"""NumPy's names of arguments, which PyTorch's operators take too: ``axis`` for ``dim`` and ``keepdims`` for ``keepdim``."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

__all__ = ["MISSING", "NUMPY_NAMES", "numpy_names"]

NUMPY_NAMES = {"dim": "axis", "keepdim": "keepdims"}
#: The default of an argument that may come under either name.
MISSING = object()


def numpy_names(parameters: Sequence[inspect.Parameter], who: str) -> tuple[list[inspect.Parameter], list[str], list[str]]:
    """For a function that is written out: its parameters, keywords to declare besides, and lines that read these.

    An argument that others without a default follow keeps its one name.
    """
    changed, keywords, lines = list(parameters), [], []
    required = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    for i, p in enumerate(parameters):
        other = NUMPY_NAMES.get(p.name)
        if other is None or p.kind is p.VAR_POSITIONAL or any(q.name == other for q in parameters):
            continue
        if p.default is p.empty:
            if p.name != required[-1]:
                continue
            changed[i] = p.replace(default=MISSING)
        keywords.append(f"{other}=None")
        lines += [f"    if {other} is not None:", f"        {p.name} = {other}"]
        if p.default is p.empty:
            lines += [
                f"    elif {p.name} is _default_{p.name}:",
                f"        raise TypeError(\"{who}() missing 1 required positional argument: '{p.name}'\")",
            ]
    return changed, keywords, lines
