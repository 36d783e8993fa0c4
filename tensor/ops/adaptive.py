"""Pooling to a given size: the windows follow from the sizes before and after, or are drawn at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops import pooling, random
from tensor.ops.record import Array, composite
from tensor.ops.resample import bins, resample
from tensor.ops.windows import Ints, sizes

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "fractional_max_pool2d", "fractional_max_pool3d",
]  # fmt: skip


def _targets(who: str, x: Tensor, output_size: Any, n: int) -> tuple[int, ...]:
    """The size asked for; None keeps a dimension as it is."""
    if x.ndim not in (n + 1, n + 2):
        msg = f"{who}: expected an input of {n + 1} or {n + 2} dimensions, got {list(x.shape)}"
        raise RuntimeError(msg)
    wanted = [output_size] * n if output_size is None or isinstance(output_size, (int, np.integer)) else list(output_size)
    wanted = wanted * n if len(wanted) == 1 else wanted
    now = x.shape[x.ndim - n :]
    if len(wanted) != n or 0 in now:
        msg = f"{who}: expected an output size of {n} numbers for a filled input {list(x.shape)}, got {output_size!r}"
        raise RuntimeError(msg)
    return tuple(m if w is None else int(w) for w, m in zip(wanted, now, strict=True))


def _even(now: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...] | None:
    """The kernel when windows of one size tile the input: then it is plain pooling."""
    fits = all(w and m % w == 0 for m, w in zip(now, wanted, strict=True))
    return tuple(m // w for m, w in zip(now, wanted, strict=True)) if fits else None


def _adaptive_avg_pool(n: int, plain: Any) -> Any:
    who = f"adaptive_avg_pool{n}d"

    def function(input: Tensor, output_size: Any) -> Tensor:
        wanted = _targets(who, input, output_size, n)
        now = input.shape[input.ndim - n :]
        if input.is_floating_point() and all(w == 1 for w in wanted):
            whole: Tensor = input.mean(tuple(range(-n, 0)), keepdim=True)
            return whole
        kernel = _even(now, wanted)
        if kernel is not None and input.is_floating_point():
            averaged: Tensor = plain(input, kernel)
            return averaged
        for i, (m, count) in enumerate(zip(now, wanted, strict=True)):
            input = resample(input, i - n, bins(m, count)) if m != count else input
        return input

    function.__doc__ = (
        f"The mean of each of ``output_size`` windows that cover the last {n} dimensions evenly; None keeps a dimension."
    )
    return composite(method=False, name=f"nn.functional.adaptive_avg_pool{n}d")(function)


def _largest(x: Tensor, windows: Sequence[Array], return_indices: bool) -> Any:
    """The maximum of each window, given for each dimension by the elements [windows, members] that it has."""
    n = len(windows)
    size, lead = x.shape[x.ndim - n :], x.ndim - n
    flat: Any = 0
    for i, (m, members) in enumerate(zip(size, windows, strict=True)):
        shape = [1] * (2 * n)
        shape[i], shape[n + i] = members.shape
        flat = flat * m + members.reshape(shape)
    counts = tuple(len(w) for w in windows)
    table = np.asarray(flat.reshape(*counts, -1), like=x._array)  # [*windows, members], places in the flattened input
    rows = x.reshape(*x.shape[:lead], math.prod(size))
    found = np.argmax(rows._array[..., table], -1)
    index = Tensor(np.take_along_axis(np.broadcast_to(table, (*found.shape, table.shape[-1])), found[..., None], -1)[..., 0])
    values = rows.gather(-1, index.reshape(*x.shape[:lead], -1)).reshape(*x.shape[:lead], *counts)
    return (values, index) if return_indices else values


def _adaptive_max_pool(n: int, plain: Any) -> Any:
    who = f"adaptive_max_pool{n}d"

    def function(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        wanted = _targets(who, input, output_size, n)
        now = input.shape[input.ndim - n :]
        kernel = _even(now, wanted)
        if kernel is not None:
            return plain(input, kernel, return_indices=return_indices)
        return _largest(input, [bins(m, count).index for m, count in zip(now, wanted, strict=True)], return_indices)

    function.__doc__ = (
        f"The maximum of each of ``output_size`` windows that cover the last {n} dimensions evenly; None keeps a dimension.\n\n"
        "    ``return_indices``: also where it is (int64), in those dimensions flattened.\n    "
    )
    return composite(method=False, name=f"nn.functional.adaptive_max_pool{n}d")(function)


adaptive_avg_pool1d = _adaptive_avg_pool(1, pooling.avg_pool1d)
adaptive_avg_pool2d = _adaptive_avg_pool(2, pooling.avg_pool2d)
adaptive_avg_pool3d = _adaptive_avg_pool(3, pooling.avg_pool3d)
adaptive_max_pool1d = _adaptive_max_pool(1, pooling.max_pool1d)
adaptive_max_pool2d = _adaptive_max_pool(2, pooling.max_pool2d)
adaptive_max_pool3d = _adaptive_max_pool(3, pooling.max_pool3d)


def _intervals(m: int, count: int, kernel: int, sample: float) -> Array:
    """Windows of ``kernel`` elements at pseudo-random distances that average to m / count (arXiv 1412.6071)."""
    start = np.full(count, m - kernel)
    if count > 1:
        step = (m - kernel) / (count - 1)
        start[:-1] = ((np.arange(count - 1) + sample) * step).astype(np.int64) - int(sample * step)
    return start[:, None] + np.arange(kernel)


def _fractional_max_pool(n: int) -> Any:
    who = f"fractional_max_pool{n}d"

    def function(
        input: Tensor,
        kernel_size: Ints,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> Any:
        now = input.shape[input.ndim - n :]
        if (output_size is None) == (output_ratio is None):
            msg = f"{who}: expected either output_size or output_ratio, got {output_size!r} and {output_ratio!r}"
            raise ValueError(msg)
        if output_ratio is not None:
            ratios = [output_ratio] * n if isinstance(output_ratio, (int, float)) else list(output_ratio)
            output_size = [int(m * r) for m, r in zip(now, ratios, strict=True)]
        kernel, wanted = sizes(who, "kernel_size", kernel_size, n), _targets(who, input, output_size, n)
        if any(w < 1 or w + k - 1 > m for m, w, k in zip(now, wanted, kernel, strict=True)):
            msg = f"{who}: expected an output of at most {[m - k + 1 for m, k in zip(now, kernel, strict=True)]}, got {list(wanted)}"
            raise RuntimeError(msg)
        single = input.ndim == n + 1
        x = input.unsqueeze(0) if single else input
        drawn = random.rand(*x.shape[:2], n) if _random_samples is None else _random_samples
        rows = []
        for image, samples in zip(x.reshape(-1, 1, *now).unbind(0), drawn._array.reshape(-1, n), strict=True):
            # As in PyTorch, an image's samples come with the last dimension first, a volume's with the first.
            drawn_for = samples[::-1] if n == 2 else samples
            tables = [_intervals(m, w, k, float(s)) for m, w, k, s in zip(now, wanted, kernel, drawn_for, strict=True)]
            rows.append(_largest(image, tables, True))
        shape = (*(input.shape[: input.ndim - n]), *wanted)
        values, index = (rows[0][i].cat_with(*(r[i] for r in rows[1:]), 0).reshape(shape) for i in range(2))
        return (values, index) if return_indices else values

    function.__doc__ = (
        f"The maximum of windows of the last {n} dimensions, at distances drawn at random (arXiv 1412.6071).\n\n"
        "    The result has ``output_size``, or ``output_ratio`` times the input's size; ``_random_samples`` are uniform numbers\n"
        f"    [batch, channels, {n}] to draw them with.\n    "
    )
    return composite(method=False, name=f"nn.functional.fractional_max_pool{n}d")(function)


fractional_max_pool2d, fractional_max_pool3d = _fractional_max_pool(2), _fractional_max_pool(3)
