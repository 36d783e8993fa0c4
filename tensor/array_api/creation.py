"""Making arrays."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor import dtypes
from tensor.array_api.array import standard
from tensor.autograd import interop
from tensor.autograd.tensor import Tensor
from tensor.device import move
from tensor.ops import create, shape

__all__ = [
    "arange", "asarray", "empty", "empty_like", "eye", "from_dlpack", "full", "full_like", "linspace", "meshgrid", "ones",
    "ones_like", "tril", "triu", "zeros", "zeros_like",
]  # fmt: skip

Shape = int | Sequence[int]


@standard
def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
    """An array of a number, nested sequences, or another library's array, whose memory it shares unless ``copy``.

    Raises ValueError where ``copy=False`` cannot be kept.

    >>> asarray([[1, 2], [3, 4]], dtype=dtypes.float64)
    tensor([[1., 2.],
            [3., 4.]], dtype=tensor.float64)
    """
    return interop.asarray(obj, dtype=dtype, device=device, copy=copy)


@standard
def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """An array over the memory of another library's, by DLPack; see `tensor.from_dlpack`."""
    return interop.from_dlpack(x, device=device, copy=copy)


def _dtype(dtype: Any, *values: Any) -> np.dtype[Any]:
    """The dtype asked for, or the default of the values' kind: int64, float32, complex64."""
    if dtype is not None:
        return dtypes.numpy_dtype(dtype)
    if any(isinstance(v, complex) for v in values):
        return dtypes.default_complex().numpy
    return (dtypes.get_default_dtype() if any(isinstance(v, float) for v in values) else dtypes.int64).numpy


def _placed(array: Any, device: Any) -> Tensor:
    return Tensor(array if device is None else move(array, device))


def _number(x: Any) -> Any:
    return x.item() if isinstance(x, Tensor) else x


@standard
def arange(start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The numbers from ``start`` (0 when it is alone) up to ``stop``, without it, ``step`` apart.

    >>> arange(2, 8, 3)
    tensor([2, 5])
    """
    start, stop, step = (_number(v) for v in ((0, start, step) if stop is None else (start, stop, step)))
    d = _dtype(dtype, start, stop, step)
    if all(isinstance(v, builtins.int) for v in (start, stop, step)):
        count = len(range(start, stop, step))
        if d.kind in "iu":  # by their number and first one: `stop` itself need not fit in the dtype
            return _placed(_wrapped(start, step, np.arange(count, dtype=d)), device)
        return _placed((np.arange(count, dtype=np.float64) * step + start).astype(d), device)
    return _placed(np.arange(start, stop, step).astype(d), device)


def _wrapped(start: int, step: int, whole: Any) -> Any:
    """``start + step * whole`` in whole's integer dtype; a negative step of an unsigned dtype counts modulo its range."""
    modulus = 1 << 8 * whole.dtype.itemsize
    first, by = (np.asarray([v % modulus], dtype=f"u{whole.dtype.itemsize}").view(whole.dtype) for v in (start, step))
    return first + by * whole


@standard
def linspace(start: Any, stop: Any, /, num: int, *, dtype: Any = None, device: Any = None, endpoint: bool = True) -> Tensor:
    """``num`` numbers at equal distances from ``start`` to ``stop``, without the latter unless ``endpoint``.

    >>> linspace(0, 1, 5)
    tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """
    start, stop = _number(start), _number(stop)
    return _placed(np.linspace(start, stop, num, endpoint=endpoint).astype(_dtype(dtype, start, stop, 0.0)), device)


@standard
def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones on diagonal ``k`` (above the main one where positive), zeros elsewhere."""
    n_cols = n_rows if n_cols is None else n_cols
    k = builtins.max(builtins.min(k, n_cols), -n_rows)  # beyond the corners there is nothing, however large the number
    return _placed(np.eye(n_rows, n_cols, k, dtype=_dtype(dtype, 0.0)), device)


@standard
def full(shape: Shape, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """One value everywhere; without ``dtype`` the default of the value's kind."""
    size = (shape,) if isinstance(shape, builtins.int) else shape
    return create.full(size, fill_value, dtype=dtype, device=device)


@standard
def zeros(shape: Shape, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros, float32 unless told otherwise."""
    return create.zeros(shape, dtype=dtype, device=device)


@standard
def ones(shape: Shape, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones, float32 unless told otherwise."""
    return create.ones(shape, dtype=dtype, device=device)


@standard
def empty(shape: Shape, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Whatever the memory held, float32 unless told otherwise."""
    return create.empty(shape, dtype=dtype, device=device)


@standard
def full_like(x: Tensor, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """`full` with the shape, and unless told otherwise the dtype and device, of x."""
    return create.full_like(x, fill_value, dtype=dtype, device=device)  # type: ignore[no-any-return]


@standard
def zeros_like(x: Tensor, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros with the shape, and unless told otherwise the dtype and device, of x."""
    return create.zeros_like(x, dtype=dtype, device=device)  # type: ignore[no-any-return]


@standard
def ones_like(x: Tensor, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones with the shape, and unless told otherwise the dtype and device, of x."""
    return create.ones_like(x, dtype=dtype, device=device)  # type: ignore[no-any-return]


@standard
def empty_like(x: Tensor, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """`empty` with the shape, and unless told otherwise the dtype and device, of x."""
    return create.empty_like(x, dtype=dtype, device=device)  # type: ignore[no-any-return]


@standard
def meshgrid(*arrays: Tensor, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Grids of coordinates from vectors: columns first ("xy") or rows first ("ij")."""
    if indexing not in ("xy", "ij"):
        msg = f"meshgrid: expected indexing 'xy' or 'ij', got {indexing!r}"
        raise ValueError(msg)
    grids = shape.meshgrid(*arrays)
    return tuple(g.transpose(0, 1) for g in grids) if indexing == "xy" and len(grids) > 1 else grids


@standard
def tril(x: Tensor, /, *, k: int = 0) -> Tensor:
    """The lower triangle of matrices, up to diagonal ``k``; zeros above."""
    return shape.tril(x, k)


@standard
def triu(x: Tensor, /, *, k: int = 0) -> Tensor:
    """The upper triangle of matrices, from diagonal ``k``; zeros below."""
    return shape.triu(x, k)
