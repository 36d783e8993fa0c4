"""How a tensor prints: as people know it from PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor import cuda, dtypes
from tensor.naming import quoted

if TYPE_CHECKING:
    from tensor.autograd.tensor import Tensor

__all__ = ["format_tensor", "set_printoptions"]

_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": float("inf"), "edgeitems": 3, "linewidth": 80},
}

_options: dict[str, Any] = {**_PROFILES["default"], "sci_mode": None}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """How tensors print from now on.

    Args:
        precision: digits after the point.
        threshold: elements before a tensor is summarised; ``inf`` for never.
        edgeitems: items kept at each edge of a summarised dimension.
        linewidth: characters a line.
        profile: ``"default"``, ``"short"`` or ``"full"`` (never summarised), which the others then refine.
        sci_mode: scientific notation always or never; None: where magnitudes differ much.

    >>> import tensor as T
    >>> set_printoptions(precision=2)
    >>> T.tensor([0.125, 10.0])
    tensor([ 0.12, 10.00])
    >>> set_printoptions(profile="default")
    """
    if profile is not None:
        if profile not in _PROFILES:
            msg = f"set_printoptions: expected a profile of {quoted(_PROFILES)}, got {profile!r}"
            raise ValueError(msg)
        _options.update(_PROFILES[profile])
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _options.update({k: v for k, v in given.items() if v is not None}, sci_mode=sci_mode)


def _float_formatter(shown: np.ndarray[Any, Any]) -> Callable[[Any], str]:
    """One format for all elements: whole numbers as ``3.``, else fixed or scientific by the spread of magnitudes.

    As in PyTorch the width is that of the finite numbers other than 0.
    """
    values = shown[np.isfinite(shown) & (shown != 0)].astype(np.float64)
    precision = _options["precision"]
    low, high = (np.abs(values).min(), np.abs(values).max()) if values.size else (1.0, 1.0)
    whole = bool((values == np.ceil(values)).all())
    scientific = _options["sci_mode"]
    if scientific is None:
        scientific = high / low > 1000 or high > 1e8 or (low < 1e-4 and not whole)
    if scientific:
        spec, point = f".{precision}e", ""
    elif whole:
        spec, point = ".0f", "."
    else:
        spec, point = f".{precision}f", ""
    width = max((len(f"{v:{spec}}{point}") for v in values), default=1)
    return lambda x: (f"{x:{spec}}{point}" if np.isfinite(x) else str(float(x))).rjust(width)


def _formatter(shown: np.ndarray[Any, Any]) -> Callable[[Any], str]:
    """How to print one element, chosen by looking at all that are shown."""
    kind = shown.dtype.kind
    if kind == "f":
        return _float_formatter(shown)
    if kind == "c":
        real, imag = _float_formatter(shown.real), _float_formatter(np.abs(shown.imag))
        return lambda x: real(x.real) + ("-" if np.signbit(x.imag) else "+") + imag(abs(x.imag)).lstrip() + "j"
    width = max((len(str(x)) for x in shown.ravel().tolist()), default=1)
    return lambda x: str(x).rjust(width)


def _body(array: np.ndarray[Any, Any], one: Callable[[Any], str], indent: int, summarise: bool) -> str:
    """Nested brackets; long dimensions only at their edges."""
    if not array.ndim:
        return one(array.item() if array.dtype.kind in "biu" else array[()])
    n = _options["edgeitems"]
    cut = summarise and len(array) > 2 * n
    parts = [*array[:n], *array[-n:]] if cut else list(array)
    if array.ndim > 1:
        items = [_body(part, one, indent + 1, summarise) for part in parts]
        if cut:
            items.insert(n, "...")
        return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(items) + "]"
    items = [one(x.item() if array.dtype.kind in "biu" else x) for x in parts]
    per_line = max(1, (_options["linewidth"] - indent) // (max(map(len, items), default=0) + 2))
    if cut:
        items.insert(n, " ...")
    lines = [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def format_tensor(t: Tensor) -> str:
    """``repr`` of a tensor."""
    array = cuda.to_host(t._array)
    prefix = "Parameter containing:\ntensor(" if type(t).__name__ == "Parameter" else "tensor("
    indent = len("tensor(")
    notes = []
    if array.size == 0:
        body = "[]"
        if array.ndim > 1:
            notes.append(f"size={tuple(array.shape)}")
    else:
        summarise = array.size > _options["threshold"]
        body = _body(array, _formatter(_edges(array) if summarise else array), indent, summarise)
    default = {dtypes.get_default_dtype(), dtypes.default_complex(), dtypes.int64, dtypes.bool_}
    if t.dtype not in default or (array.size == 0 and t.dtype is not dtypes.get_default_dtype()):
        notes.append(f"dtype={t.dtype}")
    if t.is_cuda:
        notes.insert(0, f"device='{t.device}'")
    if t.grad_fn is not None:
        notes.append(f"grad_fn={t.grad_fn!r}")
    elif t.requires_grad:
        notes.append("requires_grad=True")
    text = prefix + body
    for note in notes:  # each on the last line while it fits
        used = len(text) - (text.rfind("\n") + 1)
        text += (",\n" + " " * indent if used + len(note) + 2 > _options["linewidth"] else ", ") + note
    return text + ")"


def _edges(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The corners that a summarised print shows, to choose the format from."""
    n = _options["edgeitems"]
    for axis, size in enumerate(array.shape):
        if size > 2 * n:
            array = np.take(array, [*range(n), *range(size - n, size)], axis=axis)
    return array
