"""Pooling: the maximum, the mean or a norm of each window of the last one to three dimensions.

Windows are combined as strided slices, one for each offset within the kernel, and dimension after dimension where that is the same.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor import cuda
from tensor.autograd.tensor import Tensor
from tensor.ops.padding import constant_pad_nd
from tensor.ops.record import Array, composite, operator
from tensor.ops.reduce import constant
from tensor.ops.shortcut import perhaps_any
from tensor.ops.windows import Ints, fixed, places_of, regions, sizes

__all__ = [
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "lp_pool1d", "lp_pool2d", "lp_pool3d", "max_pool1d", "max_pool2d", "max_pool3d",
    "max_unpool1d", "max_unpool2d", "max_unpool3d",
]  # fmt: skip

Numbers = tuple[int, ...]


def _along(axis: int, start: int, count: int, step: int) -> tuple[Any, ...]:
    return (*(slice(None),) * axis, slice(start, start + (count - 1) * step + 1, step))


@functools.lru_cache(maxsize=1024)
def _parts(lead: int, size: Sequence[int], kernel: Numbers, stride: Numbers, dilation: Numbers) -> list[list[tuple[Any, ...]]]:
    """For each dimension the indices of what all windows have at each offset along it."""
    places = places_of(size, kernel, stride, dilation)
    if min(places) < 1:
        msg = f"kernel {kernel} with dilation {dilation} is larger than the (padded) input {tuple(size)}"
        raise RuntimeError(msg)
    return [
        [_along(axis, o * d, count, s) for o in range(k)]
        for axis, (k, s, d, count) in enumerate(zip(kernel, stride, dilation, places, strict=True), lead)
    ]


def _combine(ufunc: Any, x: Array, kernel: Numbers, stride: Numbers, dilation: Numbers) -> Array:
    """An associative ufunc over each window, one dimension after the other."""
    lead = x.ndim - len(kernel)
    for first, *rest in _parts(lead, x.shape[lead:], kernel, stride, dilation):
        if not rest:
            x = x[first].copy()
            continue
        r = ufunc(x[first], x[rest[0]])
        for part in rest[1:]:
            ufunc(r, x[part], out=r)
        x = r
    return x


def _first(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x if tuple(x.shape) == tuple(shape) else x[tuple(slice(0, n) for n in shape)]


# --- the maximum -----------------------------------------------------------------------------------------------------


def _flat_index(which: Array, shape: Sequence[int], kernel: Numbers, stride: Numbers, dilation: Numbers) -> Array:
    """Where one element of each window is, by its number within the kernel: in a flattened array of ``shape``."""
    n = len(kernel)
    size = shape[len(shape) - n :]
    steps = [math.prod(size[i + 1 :]) for i in range(n)]
    offsets = [o * d * t for o, d, t in zip(np.indices(kernel), dilation, steps, strict=True)]
    index: Array = np.asarray(sum(offsets).reshape(-1), like=which)[which]
    for i, (s, t) in enumerate(zip(stride, steps, strict=True)):
        index += np.arange(which.shape[i - n], like=which).reshape(-1, *(1,) * (n - 1 - i)) * (s * t)
    lead = which.shape[: which.ndim - n]
    index += (np.arange(math.prod(lead), like=which) * math.prod(size)).reshape(*lead, *(1,) * n)
    return index


def _pick_rule(g: Tensor, which: Tensor, x_shape: Sequence[int], kernel: Numbers, stride: Numbers, dilation: Numbers) -> Tensor:
    return window_put(g, which, tuple(x_shape), kernel, stride, dilation)


@operator({"x": _pick_rule}, method=False)
def window_pick(x: Array, which: Array, kernel: Numbers, stride: Numbers, dilation: Numbers) -> Array:
    """One element of each window, by its number within the kernel."""
    return x.reshape(-1)[_flat_index(which, x.shape, kernel, stride, dilation)]


@operator({"g": lambda gg, which, kernel, stride, dilation: window_pick(gg, which, kernel, stride, dilation)}, method=False)
def window_put(g: Array, which: Array, shape: Sequence[int], kernel: Numbers, stride: Numbers, dilation: Numbers) -> Array:
    """Zeros of ``shape`` with g added where `window_pick` read."""
    r = np.zeros_like(g, shape=math.prod(shape))
    index = _flat_index(which, shape, kernel, stride, dilation).reshape(-1)
    if all((k - 1) * d < s for k, s, d in zip(kernel, stride, dilation, strict=True)):
        r[index] = g.reshape(-1)  # no element is in two windows, and writing is faster than adding
    else:
        cuda.native(np.add, r).at(r, index, g.reshape(-1))
    return r.reshape(shape)


@operator(method=False)
def window_argmax(x: Array, largest: Array, kernel: Numbers, stride: Numbers, dilation: Numbers) -> Array:
    """The number within the kernel of the first element of each window that is its maximum (or nan)."""
    where = regions(kernel, largest.shape[x.ndim - len(kernel) :], stride, dilation)
    which = np.zeros_like(largest, dtype=np.int8 if len(where) <= 128 else np.int64, order="C")
    missing, differs = (np.ones_like(largest, dtype=np.bool_, order="C") for _ in range(2))
    undefined = largest.dtype.kind == "f" and perhaps_any(np.isnan(largest))
    for _, region in where[:-1]:  # what is nowhere before is the last
        element = x[region]
        np.not_equal(element, largest, out=differs)
        if undefined:
            differs &= element == element  # only nan differs from itself
        np.logical_and(missing, differs, out=missing)
        np.add(which, missing, out=which)
    return which


def _max_rule(g: Tensor, x: Tensor, y: Tensor, kernel: Numbers, stride: Numbers, dilation: Numbers) -> Tensor:
    return window_max_back(g, x, y, kernel, stride, dilation)


def _max_back_rule(gg: Tensor, x: Tensor, largest: Tensor, kernel: Numbers, stride: Numbers, dilation: Numbers) -> Tensor:
    return window_pick(gg, window_argmax(x, largest, kernel, stride, dilation), kernel, stride, dilation)


def _none(g: Tensor) -> None:
    """Piecewise constant: nothing passes."""


@operator({"g": _max_back_rule, "x": _none, "largest": _none}, method=False)
def window_max_back(g: Array, x: Array, largest: Array, kernel: Numbers, stride: Numbers, dilation: Numbers) -> Array:
    """Zeros of x's shape with g added at the first element of each window that is its maximum (or nan)."""
    r = constant(g, x.shape, 0)
    where = _regions(kernel, largest.shape[x.ndim - len(kernel) :], stride, dilation)
    undefined = np.isnan(largest)
    if not perhaps_any(undefined):
        undefined = None
    missing = None
    for region in where:
        element = x[region]
        found = element == largest
        if undefined is not None:
            found |= undefined & (element != element)
        if missing is None:
            missing = ~found
        else:
            found &= missing
            missing ^= found
        reached = r[region]
        reached += g * found
    return r


@functools.lru_cache(maxsize=1024)
def _regions(kernel: Numbers, places: Numbers, stride: Numbers, dilation: Numbers) -> list[Any]:
    """The index of what all windows have at each offset within the kernel."""
    return [region for _, region in regions(kernel, places, stride, dilation)]


@operator({"x": _max_rule}, method=False, onnx="MaxPool")
def window_max(x: Array, kernel: Numbers, stride: Numbers, dilation: Numbers) -> Array:
    """The maximum of each window; its gradient goes to the first element that has it."""
    return _combine(np.maximum, x, kernel, stride, dilation)


# --- the sum ---------------------------------------------------------------------------------------------------------


def _sum_rule(g: Tensor, x_shape: Sequence[int], kernel: Numbers, stride: Numbers) -> Tensor:
    return window_spread(g, tuple(x_shape), kernel, stride)


@operator({"x": _sum_rule}, method=False)
def window_sum(x: Array, kernel: Numbers, stride: Numbers) -> Array:
    """The sum of each window."""
    return _combine(np.add, x, kernel, stride, (1,) * len(kernel))


@operator({"g": lambda gg, g_shape, kernel, stride: _first(window_sum(gg, kernel, stride), g_shape)}, method=False)
def window_spread(g: Array, shape: Numbers, kernel: Numbers, stride: Numbers) -> Array:
    """Zeros of ``shape`` with each element of g added everywhere in its window."""
    lead = g.ndim - len(kernel)
    for axis, (k, s) in reversed(list(enumerate(zip(kernel, stride, strict=True), lead))):
        r = np.zeros_like(g, shape=(*g.shape[:axis], shape[axis], *g.shape[axis + 1 :]), order="C")
        for o in range(k):
            reached = r[_along(axis, o, g.shape[axis], s)]
            reached += g
        g = r
    return g


# --- the public functions --------------------------------------------------------------------------------------------


def _geometry(
    who: str, x: Tensor, n: int, kernel_size: Ints, stride: Any, padding: Ints, dilation: Ints, ceil_mode: bool
) -> tuple[Numbers, Numbers, Numbers, Numbers, Numbers]:
    """Kernel, stride, padding and dilation, and the widths to pad with, the last dimension first."""
    shape = x._array.shape
    if len(shape) not in (n + 1, n + 2):
        msg = f"{who}: expected an input of {n + 1} or {n + 2} dimensions, got {list(shape)}"
        raise RuntimeError(msg)
    return _geometry_of(
        who, shape[len(shape) - n :], fixed(kernel_size), fixed(stride), fixed(padding), fixed(dilation), ceil_mode
    )


@functools.lru_cache(maxsize=1024)
def _geometry_of(
    who: str, size: Numbers, kernel_size: Ints, stride: Any, padding: Ints, dilation: Ints, ceil_mode: bool
) -> tuple[Numbers, Numbers, Numbers, Numbers, Numbers]:
    n = len(size)
    k = sizes(who, "kernel_size", kernel_size, n)
    s = k if stride is None or (not isinstance(stride, int) and not len(stride)) else sizes(who, "stride", stride, n)
    p, d = sizes(who, "padding", padding, n), sizes(who, "dilation", dilation, n)
    if min(s) < 1 or min(k) < 1:
        msg = f"{who}: expected a kernel and a stride of at least 1, got {k} and {s}"
        raise RuntimeError(msg)
    if min(p) < 0 or any(2 * a > b for a, b in zip(p, k, strict=True)):
        msg = f"{who}: expected a padding from 0 to half of the kernel {k}, got {p}"
        raise RuntimeError(msg)
    widths: list[int] = []
    for i in reversed(range(n)):
        after = p[i]
        if ceil_mode:
            span = size[i] + 2 * p[i] - d[i] * (k[i] - 1) - 1
            places = -(-span // s[i]) + 1
            if (places - 1) * s[i] >= size[i] + p[i]:  # the last window must start inside
                places -= 1
            after += max((places - 1) * s[i] - span, 0)
        widths += [p[i], after]
    return k, s, p, d, tuple(widths)


def _counts(size: Sequence[int], places: Sequence[int], kernel: Numbers, stride: Numbers, padding: Numbers, all: bool) -> Array:
    """How many elements each window has: of the input, or also of its padding (not of what ceil_mode added after it)."""
    total: Array = np.ones((), np.int64)
    for n, count, k, s, p in zip(size, places, kernel, stride, padding, strict=True):
        start = np.arange(count) * s - p
        end = np.minimum(start + k, n + p)
        inside = end - start if all else np.minimum(end, n) - np.maximum(start, 0)
        total = total[..., None] * inside
    return total


def _avg_pool(n: int) -> Any:
    who = f"avg_pool{n}d"

    def function(
        input: Tensor,
        kernel_size: Ints,
        stride: Any = None,
        padding: Ints = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Tensor:
        k, s, p, _, widths = _geometry(who, input, n, kernel_size, stride, padding, 1, ceil_mode)
        total = window_sum(constant_pad_nd(input, widths, 0) if any(widths) else input, k, s)
        if divisor_override == 0:
            msg = f"{who}: expected a divisor other than 0"
            raise RuntimeError(msg)
        if divisor_override is not None:
            divisor: Any = divisor_override
        elif not any(widths):
            divisor = math.prod(k)
        else:
            lead = input.ndim - n
            counts = _counts(input.shape[lead:], total.shape[lead:], k, s, p, count_include_pad)
            divisor = Tensor(np.asarray(counts, dtype=total._array.dtype, like=total._array))
        return total / divisor if total._array.dtype.kind in "fc" else total.div(divisor, rounding_mode="trunc")

    function.__doc__ = (
        f"The mean of each window of the last {n} dimensions.\n\n"
        "    ``stride`` is the kernel's size unless given; ``ceil_mode`` takes windows that reach over the end; the padding counts\n"
        "    unless ``count_include_pad`` is False; ``divisor_override`` divides the sum instead of the window's size.\n    "
    )
    return composite(method=False, name=f"nn.functional.avg_pool{n}d")(function)


def _unpadded_index(
    which: Array, size: Sequence[int], widths: Sequence[int], kernel: Numbers, stride: Numbers, dilation: Numbers
) -> Array:
    """Where the chosen element of each window is in the flattened last dimensions, without their padding."""
    n = len(kernel)
    index: Any = 0
    for i, offset in enumerate(np.unravel_index(which.astype(np.int64), kernel)):
        starts = np.arange(which.shape[i - n], like=which).reshape(-1, *(1,) * (n - 1 - i)) * stride[i]
        index = index * size[i] + starts + offset * dilation[i] - widths[2 * (n - 1 - i)]
    found: Array = index.astype(np.int64, copy=False)
    return found


def _max_pool(n: int) -> Any:
    who = f"max_pool{n}d"

    def function(
        input: Tensor,
        kernel_size: Ints,
        stride: Any = None,
        padding: Ints = 0,
        dilation: Ints = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        k, s, _, d, widths = _geometry(who, input, n, kernel_size, stride, padding, dilation, ceil_mode)
        lowest = -np.inf if input.is_floating_point() else int(np.iinfo(input._array.dtype).min)
        x = constant_pad_nd(input, widths, lowest) if any(widths) else input
        values = window_max(x, k, s, d)
        if not return_indices:
            return values
        which = window_argmax(x.detach(), values.detach(), k, s, d)._array
        return values, Tensor(_unpadded_index(which, input.shape[input.ndim - n :], widths, k, s, d))

    function.__doc__ = (
        f"The maximum of each window of the last {n} dimensions.\n\n"
        "    ``return_indices``: also where it is (int64), in those dimensions flattened.\n    "
    )
    return composite(method=False, name=f"nn.functional.max_pool{n}d")(function)


avg_pool1d, avg_pool2d, avg_pool3d = _avg_pool(1), _avg_pool(2), _avg_pool(3)
max_pool1d, max_pool2d, max_pool3d = _max_pool(1), _max_pool(2), _max_pool(3)


def _lp_pool(n: int, average: Any) -> Any:
    who = f"lp_pool{n}d"

    def function(input: Tensor, norm_type: float, kernel_size: Ints, stride: Any = None, ceil_mode: bool = False) -> Tensor:
        mean = average(input**norm_type, kernel_size, stride, 0, ceil_mode)
        count = math.prod(sizes(who, "kernel_size", kernel_size, n))
        result: Tensor = (mean.sign() * mean.abs().relu() * count) ** (1 / norm_type)
        return result

    function.__doc__ = f"``sum(x ** norm_type) ** (1 / norm_type)`` of each window of the last {n} dimensions."
    return composite(method=False, name=f"nn.functional.lp_pool{n}d")(function)


lp_pool1d, lp_pool2d, lp_pool3d = _lp_pool(1, avg_pool1d), _lp_pool(2, avg_pool2d), _lp_pool(3, avg_pool3d)


def _max_unpool(n: int) -> Any:
    who = f"max_unpool{n}d"

    def function(
        input: Tensor, indices: Tensor, kernel_size: Ints, stride: Any = None, padding: Ints = 0, output_size: Any = None
    ) -> Tensor:
        k = sizes(who, "kernel_size", kernel_size, n)
        s = k if stride is None or (not isinstance(stride, int) and not len(stride)) else sizes(who, "stride", stride, n)
        p = sizes(who, "padding", padding, n)
        lead = input.ndim - n
        usual = tuple((m - 1) * b - 2 * c + a for m, a, b, c in zip(input.shape[lead:], k, s, p, strict=True))
        size = usual if output_size is None else tuple(int(m) for m in output_size[len(output_size) - n :])
        if output_size is not None and any(not a - b < m < a + b for m, a, b in zip(size, usual, s, strict=True)):
            msg = f"{who}: expected an output_size less than a stride {s} away from {usual}, got {size}"
            raise ValueError(msg)
        if tuple(indices.shape) != tuple(input.shape):
            msg = f"{who}: expected indices of the input's shape {list(input.shape)}, got {list(indices.shape)}"
            raise RuntimeError(msg)
        flat = indices.reshape(*input.shape[:lead], -1)
        if flat.numel() and not 0 <= int(flat.min()) <= int(flat.max()) < math.prod(size):
            msg = f"{who}: expected indices below {math.prod(size)}, got {int(flat.min())} to {int(flat.max())}"
            raise RuntimeError(msg)
        empty = input.new_zeros((*input.shape[:lead], math.prod(size)))
        return empty.scatter(-1, flat, input.reshape(flat.shape)).reshape(*input.shape[:lead], *size)

    function.__doc__ = f"Zeros with the elements where `max_pool{n}d` found them, as its indices say."
    return composite(method=False, name=f"nn.functional.max_unpool{n}d")(function)


max_unpool1d, max_unpool2d, max_unpool3d = _max_unpool(1), _max_unpool(2), _max_unpool(3)
