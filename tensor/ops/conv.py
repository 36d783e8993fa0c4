"""Windows over the last dimensions: padding, convolution, pooling.

Everything here rests on two operators that are each other's gradient: `windows` (a view of all patches) and `windows_back`
(patches added up where they came from). A convolution is windows, then one matrix product; a transposed one the reverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.record import Array, attach, composite, operator

__all__ = [
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "constant_pad_nd", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "max_pool1d", "max_pool2d", "max_pool3d", "pad", "unfold", "unfold_dim",
]  # fmt: skip

Ints = int | Sequence[int]


def _tuple(x: Any, n: int) -> tuple[int, ...]:
    values = (int(x),) * n if isinstance(x, int) else tuple(int(i) for i in x)
    return values * n if len(values) == 1 else values


@operator({"x": lambda g, x_shape, kernel, stride, dilation: g.windows_back(x_shape, kernel, stride, dilation)}, view=True)
def windows(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Array:
    """All patches of the last n dimensions, [..., *places, *kernel], a view."""
    n = len(kernel)
    lead, size = x.shape[: x.ndim - n], x.shape[x.ndim - n :]
    places = tuple((s - d * (k - 1) - 1) // t + 1 for s, k, t, d in zip(size, kernel, stride, dilation, strict=True))
    if any(p < 1 for p in places):
        msg = f"kernel {kernel} with dilation {dilation} is larger than the (padded) input {tuple(size)}"
        raise RuntimeError(msg)
    steps = x.strides[x.ndim - n :]
    strides = (*x.strides[: x.ndim - n], *(s * t for s, t in zip(steps, stride, strict=True)), *(s * d for s, d in zip(steps, dilation, strict=True)))  # fmt: skip
    return np.lib.stride_tricks.as_strided(x, (*lead, *places, *kernel), strides)


@operator({"g": lambda gg, kernel, stride, dilation: gg.windows(kernel, stride, dilation)})
def windows_back(
    g: Array, shape: Sequence[int], kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Array:
    """Patches added up where `windows` took them from."""
    n = len(kernel)
    r: Array = np.zeros_like(g, shape=tuple(shape))
    places = g.shape[g.ndim - 2 * n : g.ndim - n]
    for offset in np.ndindex(*kernel):  # one strided addition for each place in the kernel
        where = tuple(
            slice(o * d, o * d + (p - 1) * t + 1, t) for o, d, p, t in zip(offset, dilation, places, stride, strict=True)
        )
        region = r[(..., *where)]
        region += g[(..., *offset)]
    return r


@operator({"x": lambda g, pad: g.constant_pad_nd([-p for p in pad])}, name="constant_pad_nd", onnx="Pad")
def constant_pad_nd(x: Array, pad: Sequence[int], value: float = 0) -> Array:
    """The last dimensions padded with a constant: (before, after) pairs, the last dimension first; negative numbers cut."""
    widths = [(0, 0)] * (x.ndim - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    cut = x[tuple(slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(widths, x.shape, strict=True))]
    return np.pad(cut, [(max(a, 0), max(b, 0)) for a, b in widths], constant_values=value)


def _take_pad(x: Tensor, padding: Sequence[int], mode: str) -> Tensor:
    """Padding that repeats elements: an index along each dimension."""
    for k in range(len(padding) // 2):
        d = x.ndim - 1 - k
        before, after = padding[2 * k], padding[2 * k + 1]
        n = x.shape[d]
        places = np.arange(-before, n + after)
        if mode == "replicate":
            places = places.clip(0, n - 1)
        elif mode == "circular":
            places %= n
        else:
            if max(before, after) >= n:
                msg = f"pad: reflection by {max(before, after)} needs more than {n} elements along dimension {d}"
                raise RuntimeError(msg)
            places = np.abs(places)
            places = np.where(places >= n, 2 * (n - 1) - places, places)
        x = x.index_select(d, Tensor(places))
    return x


@composite(method=False, name="nn.functional.pad")
def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """The last dimensions padded, (before, after) pairs with the last dimension first: "constant", "reflect", "replicate", "circular"."""
    if mode == "constant":
        return constant_pad_nd(x, list(pad), 0 if value is None else value)
    return _take_pad(x, pad, mode)


def _pairs(padding: tuple[int, ...]) -> list[int]:
    return [p for n in reversed(padding) for p in (n, n)]


def _convolve(
    name: str, n: int, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Ints, padding: Any, dilation: Ints, groups: int
) -> Tensor:
    single = x.ndim == n + 1
    if single:
        x = x.unsqueeze(0)
    if x.ndim != n + 2 or x.shape[1] != weight.shape[1] * groups:
        msg = f"{name}: expected an input of shape [batch, {weight.shape[1] * groups}, {n} more dimensions], got {list(x.shape)}"
        raise RuntimeError(msg)
    kernel = tuple(weight.shape[2:])
    stride, dilation = _tuple(stride, n), _tuple(dilation, n)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        x = constant_pad_nd(x, [p for t in reversed(total) for p in (t // 2, t - t // 2)])
    elif padding != "valid" and any(_tuple(padding, n)):
        x = constant_pad_nd(x, _pairs(_tuple(padding, n)))
    patches = windows(x, kernel, stride, dilation)
    batch, places, out = x.shape[0], tuple(patches.shape[2 : 2 + n]), weight.shape[0]
    order = (0, *range(2, 2 + n), 1, *range(2 + n, 2 + 2 * n))
    columns = patches.permute(*order)  # [batch, *places, channels, *kernel]
    depth = int(np.prod(kernel)) * weight.shape[1]
    if groups == 1:
        y = columns.reshape(-1, depth) @ weight.reshape(out, depth).T
    else:
        flat = columns.reshape(-1, groups, depth).transpose(0, 1)
        y = (flat @ weight.reshape(groups, out // groups, depth).mT).transpose(0, 1).reshape(-1, out)
    if bias is not None:
        y = y + bias
    y = y.reshape(batch, *places, out).movedim(-1, 1)
    return y.squeeze(0) if single else y


def _convolve_back(
    n: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints,
    output_padding: Ints,
    groups: int,
    dilation: Ints,
) -> Tensor:
    single = x.ndim == n + 1
    if single:
        x = x.unsqueeze(0)
    kernel = tuple(weight.shape[2:])
    stride, dilation, padding, extra = (
        _tuple(stride, n),
        _tuple(dilation, n),
        _tuple(padding, n),
        _tuple(output_padding, n),
    )
    batch, channels, *places = x.shape
    out = weight.shape[1]
    depth = out * int(np.prod(kernel))
    rows = x.movedim(1, -1).reshape(-1, groups, channels // groups).transpose(0, 1)
    patches = rows @ weight.reshape(groups, channels // groups, depth)  # [groups, batch*places, out*kernel]
    patches = patches.reshape(groups, batch, *places, out, *kernel).movedim(0, 1 + n)  # [batch, *places, groups, out, *kernel]
    patches = patches.reshape(batch, *places, groups * out, *kernel).movedim(1 + n, 1)
    full = [(p - 1) * s + d * (k - 1) + 1 for p, s, d, k in zip(places, stride, dilation, kernel, strict=True)]
    y = windows_back(patches, (batch, groups * out, *full), kernel, stride, dilation)
    crop = [c for p, e in zip(reversed(padding), reversed(extra), strict=True) for c in (-p, e - p)]
    y = constant_pad_nd(y, crop) if any(crop) else y
    if bias is not None:
        y = y + bias.reshape([-1 if i == 1 else 1 for i in range(n + 2)])
    return y.squeeze(0) if single else y


def _conv(n: int) -> Any:
    def function(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Ints = 1,
        padding: Any = 0,
        dilation: Ints = 1,
        groups: int = 1,
    ) -> Tensor:
        return _convolve(f"conv{n}d", n, input, weight, bias, stride, padding, dilation, groups)

    function.__doc__ = (
        f"Cross-correlation over the last {n} dimensions; weight [out, in / groups, *kernel]; padding may be 'same'."
    )
    return composite(method=False, name=f"nn.functional.conv{n}d")(function)


def _conv_transpose(n: int) -> Any:
    def function(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Ints = 1,
        padding: Ints = 0,
        output_padding: Ints = 0,
        groups: int = 1,
        dilation: Ints = 1,
    ) -> Tensor:
        return _convolve_back(n, input, weight, bias, stride, padding, output_padding, groups, dilation)

    function.__doc__ = f"The gradient of conv{n}d by its input, as an operator; weight [in, out / groups, *kernel]."
    return composite(method=False, name=f"nn.functional.conv_transpose{n}d")(function)


def _pool_windows(
    x: Tensor, n: int, kernel: Ints, stride: Any, padding: Ints, dilation: Ints, ceil_mode: bool, fill: float
) -> tuple[Tensor, list[int]]:
    k = _tuple(kernel, n)
    s = _tuple(stride, n) if stride is not None and stride != [] else k
    p, d = _tuple(padding, n), _tuple(dilation, n)
    size = x.shape[x.ndim - n :]
    widths = []
    for i in reversed(range(n)):
        after = p[i]
        if ceil_mode:
            span = size[i] + 2 * p[i] - d[i] * (k[i] - 1) - 1
            places = -(-span // s[i]) + 1
            if (places - 1) * s[i] >= size[i] + p[i]:  # the last window must start inside
                places -= 1
            after += max((places - 1) * s[i] - span, 0)
        widths += [p[i], after]
    if any(widths):
        x = constant_pad_nd(x, widths, fill)
    return windows(x, k, s, d), widths


def _avg_pool(n: int) -> Any:
    def function(
        input: Tensor,
        kernel_size: Ints,
        stride: Any = None,
        padding: Ints = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Tensor:
        dims = tuple(range(-n, 0))
        total = _pool_windows(input, n, kernel_size, stride, padding, 1, ceil_mode, 0.0)[0].sum(dims)
        if divisor_override is not None:
            return total / divisor_override
        ones = input.new_ones((1,) * (input.ndim - n) + tuple(input.shape[input.ndim - n :]))
        if count_include_pad:  # the padding counts, but not what ceil_mode added after it
            ones = constant_pad_nd(ones, _pairs(_tuple(padding, n)), 1.0)
            counts = _pool_windows(ones, n, kernel_size, stride, 0, 1, ceil_mode, 0.0)[0].sum(dims)
            counts = counts[tuple(slice(0, m) for m in (*counts.shape[: input.ndim - n], *total.shape[input.ndim - n :]))]
        else:
            counts = _pool_windows(ones, n, kernel_size, stride, padding, 1, ceil_mode, 0.0)[0].sum(dims)
        return total / counts

    function.__doc__ = f"The mean of each window of the last {n} dimensions."
    return composite(method=False, name=f"nn.functional.avg_pool{n}d")(function)


def _max_pool(n: int) -> Any:
    def function(
        input: Tensor,
        kernel_size: Ints,
        stride: Any = None,
        padding: Ints = 0,
        dilation: Ints = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        lowest = -np.inf if input.is_floating_point() else int(np.iinfo(input._array.dtype).min)
        patches, widths = _pool_windows(input, n, kernel_size, stride, padding, dilation, ceil_mode, lowest)
        flat = patches.reshape(*patches.shape[: patches.ndim - n], -1)
        which = flat.argmax(-1, keepdim=True)
        values = flat.gather(-1, which).squeeze(-1)
        if not return_indices:
            return values
        size = input.shape[input.ndim - n :]
        padded = [s + widths[2 * (n - 1 - i)] + widths[2 * (n - 1 - i) + 1] for i, s in enumerate(size)]
        index = np.arange(int(np.prod(size))).reshape(size)
        index = np.pad(index, [(widths[2 * (n - 1 - i)], widths[2 * (n - 1 - i) + 1]) for i in range(n)])
        assert index.shape == tuple(padded)
        k, s = (
            _tuple(kernel_size, n),
            _tuple(stride, n) if stride is not None and stride != [] else _tuple(kernel_size, n),
        )
        places = windows(Tensor(index), k, s, _tuple(dilation, n)).reshape(*values.shape[values.ndim - n :], -1)
        return values, places.expand(flat.shape).gather(-1, which).squeeze(-1)

    function.__doc__ = f"The maximum of each window of the last {n} dimensions, and on request its index in the flattened input."
    return composite(method=False, name=f"nn.functional.max_pool{n}d")(function)


conv1d, conv2d, conv3d = _conv(1), _conv(2), _conv(3)
conv_transpose1d, conv_transpose2d, conv_transpose3d = _conv_transpose(1), _conv_transpose(2), _conv_transpose(3)
avg_pool1d, avg_pool2d, avg_pool3d = _avg_pool(1), _avg_pool(2), _avg_pool(3)
max_pool1d, max_pool2d, max_pool3d = _max_pool(1), _max_pool(2), _max_pool(3)


@composite(method=False, name="nn.functional.unfold")
def unfold(input: Tensor, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1) -> Tensor:
    """The patches of images as columns: [n, c, h, w] to [n, c * kernel, places]."""
    single = input.ndim == 3
    x = input.unsqueeze(0) if single else input
    x = constant_pad_nd(x, _pairs(_tuple(padding, 2)))
    p = windows(x, _tuple(kernel_size, 2), _tuple(stride, 2), _tuple(dilation, 2))
    n, c, h, w, a, b = p.shape
    y = p.permute(0, 1, 4, 5, 2, 3).reshape(n, c * a * b, h * w)
    return y.squeeze(0) if single else y


def unfold_dim(x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """All slices of ``size`` along one dimension, ``step`` apart, in a new last dimension."""
    if not x.ndim:
        return x.reshape(1)[:size] if size else x.reshape(1)[:0]
    d = dimension % x.ndim
    return windows(x.movedim(d, -1), (size,), (step,), (1,)).movedim(-2, d)


attach(unfold=unfold_dim)
