"""How a tensor prints: as people know it from PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensor import cuda, dtypes

if TYPE_CHECKING:
    from tensor.autograd.tensor import Tensor

__all__ = ["format_tensor", "set_printoptions"]

_options: dict[str, Any] = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80}


def set_printoptions(
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
) -> None:
    """Digits after the point; elements before summarising; items kept at each edge; characters a line."""
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _options.update({k: v for k, v in given.items() if v is not None})


def _float_formatter(array: np.ndarray[Any, Any]) -> Any:
    """One format for all elements: whole numbers as ``3.``, else fixed or scientific by the spread of magnitudes."""
    finite = np.abs(array[np.isfinite(array)].astype(np.float64))
    precision = _options["precision"]
    if finite.size == 0 or ((finite == np.floor(finite)).all() and (finite.max(initial=0) < 1e8)):
        return lambda x: f"{x:.0f}." if np.isfinite(x) else str(x)
    nonzero = finite[finite > 0]
    low, high = (nonzero.min(), nonzero.max()) if nonzero.size else (1.0, 1.0)
    if high / low > 1000 or high > 1e8 or low < 1e-4:
        return lambda x: f"{x:.{precision}e}" if np.isfinite(x) else str(x)
    return lambda x: f"{x:.{precision}f}" if np.isfinite(x) else str(x)


def format_tensor(t: Tensor) -> str:
    """``repr`` of a tensor."""
    array = cuda.to_host(t._array)
    prefix = "Parameter containing:\ntensor(" if type(t).__name__ == "Parameter" else "tensor("
    indent = "tensor("
    notes = []
    if array.size == 0:
        body = "[]"
        if array.ndim > 1:
            notes.append(f"size={tuple(array.shape)}")
    else:
        shown = array if array.size <= _options["threshold"] else _edges(array)
        formatter: dict[str, Any] = {}
        if array.dtype.kind == "f":
            one = _float_formatter(shown)
            width = max(len(one(x)) for x in shown.ravel())
            formatter = {"float_kind": lambda x: one(x).rjust(width)}
        elif array.dtype.kind == "b":
            width = max(len(str(bool(x))) for x in shown.ravel())
            formatter = {"bool": lambda x: str(bool(x)).rjust(width)}
        body = (
            np.array2string(
                array,
                separator=", ",
                prefix=indent,
                formatter=formatter or None,  # type: ignore[arg-type]
                precision=_options["precision"],
                threshold=_options["threshold"],
                edgeitems=_options["edgeitems"],
                max_line_width=_options["linewidth"],
            )
            if array.ndim
            else (formatter.get("float_kind") or formatter.get("bool") or str)(array[()])
        )
    default = {dtypes.get_default_dtype(), dtypes.int64, dtypes.bool_}
    if t.dtype not in default or (array.size == 0 and t.dtype is not dtypes.get_default_dtype()):
        notes.append(f"dtype={t.dtype}")
    if t.is_cuda:
        notes.insert(0, f"device='{t.device}'")
    if t.grad_fn is not None:
        notes.append(f"grad_fn={t.grad_fn!r}")
    elif t.requires_grad:
        notes.append("requires_grad=True")
    return prefix + ", ".join([body, *notes]) + ")"


def _edges(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The corners that a summarised print shows, to choose the format from."""
    n = _options["edgeitems"]
    for axis, size in enumerate(array.shape):
        if size > 2 * n:
            array = np.take(array, [*range(n), *range(size - n, size)], axis=axis)
    return array
