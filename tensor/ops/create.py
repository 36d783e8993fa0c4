"""Making tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor import dtypes
from tensor.autograd.data import tensor
from tensor.autograd.tensor import Tensor
from tensor.device import move
from tensor.ops.convert import as_tensor
from tensor.ops.record import Array, attach, composite, operator

__all__ = [
    "arange", "as_tensor", "empty", "empty_like", "empty_strided", "eye", "fill", "from_numpy", "frombuffer", "full", "full_like", "linspace", "logspace",
    "ones", "ones_like", "scalar_tensor", "tril_indices", "triu_indices", "vander", "zeros",
    "zeros_like",
]  # fmt: skip


def _finish(array: Any, device: Any, requires_grad: bool) -> Tensor:
    t = Tensor(array if device is None else move(array, device))
    return t.requires_grad_() if requires_grad else t


def _shape(size: tuple[Any, ...]) -> tuple[int, ...]:
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = tuple(size[0])
    return tuple([int(n) for n in size])


def _dtype(dtype: Any) -> Any:
    return dtypes.get_default_dtype().numpy if dtype is None else dtypes.numpy_dtype(dtype)


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of a shape, float32 unless told otherwise."""
    return _finish(np.zeros(_shape(size), _dtype(dtype)), device, requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of a shape, float32 unless told otherwise."""
    return _finish(np.ones(_shape(size), _dtype(dtype)), device, requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor whose elements are whatever the memory held."""
    return _finish(np.empty(_shape(size), _dtype(dtype)), device, requires_grad)


def _fill_dtype(value: Any, dtype: Any) -> Any:
    if dtype is not None:
        return dtypes.numpy_dtype(dtype)
    return dtypes.result_dtype((value._array if isinstance(value, Tensor) else value,))


def full(size: Sequence[int], fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A shape filled with one value; the dtype follows the value."""
    value = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    return _finish(np.full(_shape((tuple(size),)), value, _fill_dtype(value, dtype)), device, requires_grad)


def scalar_tensor(value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A 0-d tensor."""
    return full((), value, dtype=dtype or dtypes.get_default_dtype(), device=device, requires_grad=requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The identity matrix, n x m."""
    return _finish(np.eye(n, n if m is None else m, dtype=_dtype(dtype)), device, requires_grad)


def arange(
    *bounds: Any,
    start: Any = None,
    end: Any = None,
    step: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``arange(end)``, ``arange(start, end)``, ``arange(start, end, step)``: int64 for integers, else float32."""
    values = [b.item() if isinstance(b, Tensor) else b for b in (*bounds, *(b for b in (start, end, step) if b is not None))]
    if not 1 <= len(values) <= 3 or (len(values) == 3 and not values[2]):
        msg = f"arange: expected end, or start and end, or start, end and a step other than 0, got {values}"
        raise RuntimeError(msg)
    if dtype is not None and dtypes.as_dtype(dtype).kind <= 1:
        values = [int(v) for v in values]  # as in PyTorch, before the length is computed
    d = _dtype(dtype) if dtype is not None or any(isinstance(b, float) for b in values) else np.dtype(np.int64)
    first, last, by = (0, values[0], 1) if len(values) == 1 else (*values, 1)[:3]
    count = max(math.ceil((last - first) / by), 0)
    array = first + np.arange(count) * by if d.kind in "fc" else np.arange(first, last, by)[:count]
    return _finish(np.asarray(array).astype(d), device, requires_grad)


def _number(x: Any) -> Any:
    return x.item() if isinstance(x, Tensor) else x


def _equidistant(start: Any, end: Any, steps: int, d: Any) -> Any:
    """Floats from ``start`` to ``end``, which are cut to whole numbers first for an integer dtype."""
    if steps < 0:
        msg = f"linspace: expected a number of steps of at least 0, got {steps}"
        raise RuntimeError(msg)
    if d.kind not in "iu":
        return np.linspace(start, end, steps)
    first, last, i = int(start), int(end), np.arange(steps)
    step = (last - first) / max(steps - 1, 1)
    # From both ends, so that rounding does not carry a whole number below itself.
    return np.where(i < (steps + 1) // 2, first + step * i, last - step * (steps - 1 - i))


def linspace(start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """``steps`` numbers from ``start`` to ``end``, both included, at equal distances."""
    d = _dtype(dtype)
    return _finish(_equidistant(_number(start), _number(end), steps, d).astype(d), device, requires_grad)


def logspace(
    start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``base`` to the powers of `linspace`."""
    d = _dtype(dtype)
    powers = _equidistant(_number(start), _number(end), steps, d)
    return _finish(np.power(base if d.kind == "c" else float(base), powers.astype(np.result_type(powers, np.float64))).astype(d), device, requires_grad)  # fmt: skip


def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor over a NumPy array's own memory: writes on either side are seen on the other."""
    if not isinstance(array, np.ndarray):
        msg = f"from_numpy: expected a numpy.ndarray, got {type(array).__name__}"
        raise TypeError(msg)
    if array.dtype not in dtypes.DTYPES:
        msg = f"from_numpy: no tensor dtype for {array.dtype}"
        raise TypeError(msg)
    return Tensor(array)


def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A vector over the memory of an object with the buffer protocol: ``count`` elements (-1: all) from byte ``offset``.

    >>> frombuffer(bytearray([1, 0, 2, 0]), dtype=dtypes.int16)
    tensor([1, 2], dtype=tensor.int16)
    """
    try:
        array = np.frombuffer(buffer, dtypes.numpy_dtype(dtype), count, offset)
    except ValueError as e:
        msg = f"frombuffer: {e}"
        raise ValueError(msg) from None
    return _finish(array, None, requires_grad)


def empty_strided(
    size: Sequence[int], stride: Sequence[int], *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Memory of a shape whose neighbours along each dimension lie ``stride`` elements apart."""
    if len(size) != len(stride) or min(stride, default=0) < 0:
        msg = f"empty_strided: expected a stride >= 0 for each dimension, got size {list(size)} and stride {list(stride)}"
        raise RuntimeError(msg)
    needed = 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if 0 not in size else 0
    flat = np.empty(needed, _dtype(dtype))
    strides = tuple(s * flat.itemsize for s in stride)
    return _finish(np.lib.stride_tricks.as_strided(flat, tuple(size), strides), device, requires_grad)


def _like(make: Any) -> Any:
    def function(x: Tensor, *args: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        t: Tensor = make(tuple(x.shape), *args, dtype=dtype or x.dtype, device=device or x.device)
        return t.requires_grad_() if requires_grad else t

    function.__name__ = f"{make.__name__}_like"
    function.__doc__ = f"`{make.__name__}` with another tensor's shape, dtype and device."
    return function


zeros_like, ones_like, empty_like, full_like = _like(zeros), _like(ones), _like(empty), _like(full)


def _new(make: Any) -> Any:
    def method(self: Tensor, size: Any, *args: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        if isinstance(size, int) and make is not full:
            size, args = (size, *args), ()
        t: Tensor = make(tuple(size), *args, dtype=dtype or self.dtype, device=device or self.device)
        return t.requires_grad_() if requires_grad else t

    method.__name__ = f"new_{make.__name__}"
    method.__doc__ = f"`{make.__name__}` with this tensor's dtype and device."
    return method


for _make in (zeros, ones, empty, full):
    setattr(Tensor, f"new_{_make.__name__}", _new(_make))


def _new_tensor(self: Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`tensor` with this tensor's device, and its dtype unless told otherwise."""
    if dtype is None and isinstance(data, (float, int, bool)) is False:
        dtype = self.dtype if not isinstance(data, (Tensor, np.ndarray)) else None
    return tensor(data, dtype=dtype if dtype is not None else self.dtype if isinstance(data, float) and self.is_floating_point() else None, device=device or self.device, requires_grad=requires_grad)  # fmt: skip


attach(new_tensor=_new_tensor)


@operator({"x": lambda g: g * 0}, name="fill", inplace=True)
def _fill(x: Array, value: Any) -> Array:
    """The shape filled with one value; no gradient passes."""
    return np.full_like(x, value._array if isinstance(value, Tensor) else value)


fill = _fill


@operator({"x": lambda g: g * 0}, name="zero", inplace=True)
def _zero(x: Array) -> Array:
    """The shape filled with zeros; no gradient passes."""
    return np.zeros_like(x)


@operator({"x": lambda g: g * 0, "source": lambda g: g}, name="copy", inplace=True)
def _copy(x: Array, source: Array, non_blocking: bool = False) -> Array:
    """The values of another tensor, broadcast and cast to this one's shape and dtype."""
    return np.broadcast_to(source, x.shape).astype(x.dtype)


def _indices(make: Any, row: int, col: int, offset: int, dtype: Any) -> Tensor:
    return Tensor(np.stack(np.nonzero(make(np.ones((row, col), bool), offset))).astype(dtypes.numpy_dtype(dtype)))


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = dtypes.int64, device: Any = None) -> Tensor:
    """The indices [2, n] of a lower triangle."""
    return _indices(np.tril, row, col, offset, dtype)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = dtypes.int64, device: Any = None) -> Tensor:
    """The indices [2, n] of an upper triangle."""
    return _indices(np.triu, row, col, offset, dtype)


@composite(method=False)
def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """Rows of powers of each element."""
    n = x.shape[-1] if N is None else N
    powers = np.arange(n) if increasing else np.arange(n)[::-1].copy()
    return x.unsqueeze(-1) ** Tensor(powers)
