"""Anomaly mode: find the line of the program whose gradient is nan, or whose backward fails.

While it is on, the numbering of nodes notes where in the user's program each node was made, and the engine looks at every
gradient. While it is off neither is there.
"""

from __future__ import annotations

import linecache
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tensor.autograd.engine import watch
from tensor.autograd.node import MAKERS, Node, next_number, settled

__all__ = ["detect_anomaly", "is_anomaly_enabled", "set_detect_anomaly"]

_PACKAGE = str(Path(__file__).parents[1]) + "/"
#: Notes are kept of so many nodes, the latest.
_MOST = 1_000_000

_made_at: dict[int, tuple[str, int]] = {}
_check_nan = True


def _numbered_and_noted() -> int:
    """The next number, with a note of the line outside of this package that led here."""
    number = next_number()
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_PACKAGE, "<string>")):
        frame = frame.f_back
    _made_at[number] = (frame.f_code.co_filename, frame.f_lineno)
    if len(_made_at) > _MOST:
        del _made_at[next(iter(_made_at))]
    return number


def _where(node: Node) -> str:
    """The line that made a node, as text."""
    if node.number not in _made_at:
        return "recorded before anomaly detection was on"
    file, line = _made_at[node.number]
    return f"made at {file}:{line}: {linecache.getline(file, line).strip()}"


def _watched(node: Node, g: Any) -> tuple[Any, ...]:
    try:
        grads = settled(node, node.backward(g))
    except Exception as e:
        e.add_note(f"in the backward of {node.name()}, {_where(node)}")
        raise
    if _check_nan:
        for i, ge in enumerate(grads):
            if ge is not None and ge._array.dtype.kind in "fc" and bool(np.isnan(ge._array).any()):
                msg = f"anomaly: {node.name()} gave nan as the gradient of its input {i}; {_where(node)}"
                raise RuntimeError(msg)
    return grads


def is_anomaly_enabled() -> bool:
    """Whether anomaly mode is on."""
    return watch.backward is not None


class set_detect_anomaly:
    """Turn anomaly mode on or off: at once, or for a ``with`` block.

    A backward that gives nan then raises RuntimeError with the line of the program that made the operation (unless ``check_nan``
    is False), and an error in a backward gets that line as a note. Forward and backward become slower.

    >>> import tensor as T
    >>> x = T.tensor([0.0], requires_grad=True)
    >>> with set_detect_anomaly(True):
    ...     y = (x * 0).sqrt()
    ...     try:
    ...         (y * 0).backward()
    ...     except RuntimeError as e:
    ...         print(str(e).partition(";")[0])
    anomaly: SqrtBackward gave nan as the gradient of its input 0
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = (is_anomaly_enabled(), _check_nan)
        self._wanted = (mode, check_nan)
        _switch(*self._wanted)

    def __enter__(self) -> None:
        _switch(*self._wanted)

    def __exit__(self, *exc: object) -> None:
        _switch(*self._before)


class detect_anomaly(set_detect_anomaly):
    """Anomaly mode for a ``with`` block: see `set_detect_anomaly`."""

    def __init__(self, check_nan: bool = True) -> None:
        self._before = (is_anomaly_enabled(), _check_nan)
        self._wanted = (True, check_nan)

    def __enter__(self) -> None:
        self._before = (is_anomaly_enabled(), _check_nan)
        _switch(*self._wanted)


def _switch(on: bool, check_nan: bool) -> None:
    global _check_nan
    _check_nan = check_nan
    watch.backward = _watched if on else None
    for namespace in MAKERS:
        if "next_number" in namespace:
            namespace["next_number"] = _numbered_and_noted if on else next_number
    if not on:
        _made_at.clear()
