"""Convolution over the last one to three dimensions, and its transpose."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from tensor.autograd.tensor import Tensor
from tensor.ops.convolve import Geometry, convolve, convolve_back
from tensor.ops.padding import constant_pad_nd
from tensor.ops.record import composite
from tensor.ops.windows import Ints, fixed, sizes

__all__ = ["conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


def _batched(who: str, x: Tensor, weight: Tensor, channels: int, n: int) -> Tensor:
    """The input with a batch dimension, if its shape fits the weight."""
    ndim, shape = x._array.ndim, x._array.shape
    if ndim == n + 2 == weight._array.ndim and shape[1] == channels:
        return x
    if weight.ndim != n + 2:
        msg = f"{who}: expected a weight of {n + 2} dimensions, got {list(weight.shape)}"
        raise RuntimeError(msg)
    if ndim not in (n + 1, n + 2) or shape[-1 - n] != channels:
        dims = ", ".join("length" if n == 1 else f"size {i + 1}" for i in range(n))
        expected = f"an input of shape [batch, {channels}, {dims}] or [{channels}, {dims}]"
        msg = f"{who}: expected {expected}, got {list(x.shape)} with a weight {list(weight.shape)}"
        raise RuntimeError(msg)
    return x.unsqueeze(0) if ndim == n + 1 else x


def _same(kernel: Sequence[int], stride: tuple[int, ...], dilation: tuple[int, ...], who: str) -> tuple[list[int], list[int]]:
    """The padding before and after that keeps the size: what is odd goes to the end."""
    if max(stride) != 1:
        msg = f"{who}: padding='same' needs stride 1, got {stride}"
        raise RuntimeError(msg)
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return [t // 2 for t in total], [t % 2 for t in total]


@functools.lru_cache(maxsize=1024)
def _geometry(
    who: str, kernel: tuple[int, ...], stride: Ints, padding: Any, dilation: Ints, groups: int
) -> tuple[Geometry, tuple[int, ...]]:
    """How the kernel moves, and what is to be padded at the end beyond that, the last dimension first."""
    n = len(kernel)
    step, spread = sizes(who, "stride", stride, n), sizes(who, "dilation", dilation, n)
    if padding == "same":
        around, odd = _same(kernel, step, spread, who)
        return Geometry(step, tuple(around), spread, groups), tuple(w for extra in reversed(odd) for w in (0, extra))
    return Geometry(step, sizes(who, "padding", 0 if padding == "valid" else padding, n), spread, groups), ()


def _conv(n: int) -> Any:
    who = f"conv{n}d"

    def function(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Ints = 1,
        padding: Any = 0,
        dilation: Ints = 1,
        groups: int = 1,
    ) -> Tensor:
        x = _batched(who, input, weight, weight._array.shape[1] * groups, n)
        if weight._array.shape[0] % groups:
            msg = f"{who}: expected output channels divisible by {groups} groups, got a weight {list(weight.shape)}"
            raise RuntimeError(msg)
        a, w = x._array, weight._array
        how, odd = _geometry(who, w.shape[2:], fixed(stride), fixed(padding), fixed(dilation), groups)
        if any(odd):
            x = constant_pad_nd(x, odd)
            a = x._array
        way = how.way(a.shape, w.shape[0], w.shape[2:], a.itemsize)
        if min(way.places) < 1:
            msg = f"{who}: kernel {w.shape[2:]} with dilation {how.dilation} is larger than the padded input {way.padded}"
            raise RuntimeError(msg)
        y = convolve(x, weight, bias, how)
        return y.squeeze(0) if input._array.ndim == n + 1 else y

    function.__doc__ = (
        f"Cross-correlation over the last {n} dimensions: [batch, in, *size] with weight [out, in / groups, *kernel].\n\n"
        "    ``padding`` may be 'same' (for stride 1) or 'valid'; the batch dimension may be missing.\n    "
    )
    return composite(method=False, name=f"nn.functional.conv{n}d")(function)


def _conv_transpose(n: int) -> Any:
    who = f"conv_transpose{n}d"

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
        x = _batched(who, input, weight, weight.shape[0], n)
        named = {"stride": stride, "padding": padding, "dilation": dilation, "output_padding": output_padding}
        step, around, spread, extra = (sizes(who, what, value, n) for what, value in named.items())
        if weight.shape[0] % groups:
            msg = f"{who}: expected input channels divisible by {groups} groups, got a weight {list(weight.shape)}"
            raise RuntimeError(msg)
        if any(e >= max(s, d) for e, s, d in zip(extra, step, spread, strict=True)):
            msg = f"{who}: expected output_padding smaller than stride {step} or dilation {spread}, got {extra}"
            raise RuntimeError(msg)
        size = tuple(
            (m - 1) * s - 2 * p + d * (k - 1) + e + 1
            for m, s, p, d, e, k in zip(x.shape[2:], step, around, spread, extra, weight.shape[2:], strict=True)
        )
        if min(size) < 1:
            msg = f"{who}: expected an output with places, got size {size} from an input {list(input.shape)}"
            raise RuntimeError(msg)
        y = convolve_back(x, weight, bias, size, Geometry(step, around, spread, groups))
        return y.squeeze(0) if input.ndim == n + 1 else y

    function.__doc__ = (
        f"The gradient of `conv{n}d` by its input, as an operator: [batch, in, *size] with weight [in, out / groups, *kernel].\n\n"
        "    ``output_padding`` lengthens the output at its end, where several sizes lead to the same input.\n    "
    )
    return composite(method=False, name=f"nn.functional.conv_transpose{n}d")(function)


conv1d, conv2d, conv3d = _conv(1), _conv(2), _conv(3)
conv_transpose1d, conv_transpose2d, conv_transpose3d = _conv_transpose(1), _conv_transpose(2), _conv_transpose(3)


@composite(method=False, name="conv_tbc")
def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """`conv1d` of [time, batch, channels] with a weight [kernel, channels, out]."""
    y: Tensor = conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad)
    return y.permute(2, 0, 1)
