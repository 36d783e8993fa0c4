"""Normalisation, and the bilinear product, as functions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tensor import cuda
from tensor.autograd.inplace import bump
from tensor.autograd.tensor import Tensor
from tensor.ops.matmul import row_sum, sum_rows
from tensor.ops.record import Array, composite, operator
from tensor.ops.reduce import constant, reduce_sum

__all__ = [
    "batch_norm", "bilinear", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "normalize", "rms_norm",
]  # fmt: skip


#: Rows of about this many bytes are worked on at a time.
_CACHE = 1 << 18
#: Up to so many elements a reduction is faster than a product with ones.
_FEW = 256


def _nn(name: str) -> str:
    return f"nn.functional.{name}"


def _mean(x: Array, dims: tuple[int, ...]) -> Array:
    """The mean over ``dims``, which stay with length 1."""
    if x.size > _FEW and dims == (x.ndim - 1,) and x.dtype.kind == "f" and x.ndim > 1:
        total = x.dot(constant(x, x.shape[-1:], 1))[..., None]  # which BLAS does three times as fast
    else:
        total = reduce_sum(x, dims, True)
    return total / max(x.size // max(total.size, 1), 1)


def _blocks(x: Array, dims: tuple[int, ...]) -> Iterator[slice]:
    """The first dimension a few rows at a time, if they are independent: a block stays in the processor's cache between passes."""
    n = len(x)
    step = n if 0 in dims or cuda.device_of(x) is not None else max(1, min(n, _CACHE * n // max(x.nbytes, 1)))
    return (slice(start, start + step) for start in range(0, n, max(step, 1)))


def _back_scaled(gg: Tensor, g: Tensor, scaled: Tensor, scale: Tensor, dims: tuple[int, ...]) -> Tensor:
    gr = gg * scale
    return -gr * (g * scaled).mean(dims, keepdim=True) - g * (gr * scaled).mean(dims, keepdim=True)


def _back_g(gg: Tensor, scaled: Tensor, scale: Tensor, dims: tuple[int, ...]) -> Tensor:
    return standardise_back(gg, scaled, scale, dims)  # it is symmetric


def _back_scale(gg: Tensor, g: Tensor, scaled: Tensor, scale: Tensor, dims: tuple[int, ...]) -> Tensor:
    return (gg * standardise_back(g, scaled, scale, dims)).sum(dims, keepdim=True) / scale


@operator({"g": _back_g, "scaled": _back_scaled, "scale": _back_scale}, method=False)
def standardise_back(g: Array, scaled: Array, scale: Array, dims: tuple[int, ...]) -> Array:
    """What is left of a gradient along neither the mean nor the scale of what was standardised, times its scale."""
    if g.nbytes <= _CACHE and g.flags.c_contiguous:
        r = scaled * g
        np.multiply(scaled, _mean(r, dims), out=r)
        np.subtract(g, r, out=r)
        r -= _mean(g, dims)
        r *= scale
        return r
    r = np.empty_like(g, order="C")
    for part in _blocks(g, dims):
        left = np.multiply(scaled[part], g[part], out=r[part])
        np.multiply(scaled[part], _mean(left, dims), out=left)
        np.subtract(g[part], left, out=left)
        left -= _mean(g[part], dims)
        left *= scale[part]
    return r


def _standardise_rule(g: tuple[Tensor | None, Tensor | None], y: tuple[Tensor, Tensor], dims: tuple[int, ...]) -> Tensor:
    (gy, gr), (scaled, r) = g, y
    gx: Any = 0 if gy is None else standardise_back(gy, scaled, r, dims)
    if gr is not None:
        gx = gx - scaled * (gr * r * r / math.prod(scaled.shape[d] for d in dims))
    result: Tensor = gx
    return result


@operator({"x": _standardise_rule}, outputs=2, method=False)
def standardise(x: Array, dims: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """x with mean 0 and variance 1 over ``dims`` (which stay, with length 1), and what it was scaled by."""
    if x.nbytes <= _CACHE and x.flags.c_contiguous:
        scaled = x - _mean(x, dims)
        r = _mean(scaled * scaled, dims)
        r += eps
        np.sqrt(r, out=r)
        np.reciprocal(r, out=r)
        scaled *= r
        return scaled, r
    scaled = np.empty_like(x, order="C")
    r = np.empty_like(x, shape=tuple(1 if d in dims else n for d, n in enumerate(x.shape)), order="C")
    for part in _blocks(x, dims):
        centred = np.subtract(x[part], _mean(x[part], dims), out=scaled[part])
        r[part] = 1 / np.sqrt(_mean(centred * centred, dims) + x.dtype.type(eps))
        centred *= r[part]
    return scaled, r


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None, channel: int = 1) -> Tensor:
    """Scale and shift by channel."""
    n = x._array.shape[channel]
    return scale_and_shift(x, weight, bias, (n,) + (1,) * (x.ndim - 1 - channel))


def scale_and_shift(x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """``x * weight + bias``, both given the shape, if they are there."""
    weight, bias = (t if t is None or t._array.shape == shape else t.reshape(shape) for t in (weight, bias))
    if weight is None:
        return x if bias is None else x + bias
    if bias is None or not weight._array.dtype == bias._array.dtype == x._array.dtype:
        return x * weight if bias is None else x * weight + bias
    return affine(x, weight, bias)


def _shift_rule(g: Tensor, bias_shape: tuple[int, ...]) -> Tensor:
    return row_sum(g.reshape(-1, *bias_shape)) if len(bias_shape) == 1 else g.sum_to_size(bias_shape)


def _scale_rule(g: Tensor, x: Tensor, weight_shape: tuple[int, ...]) -> Tensor:
    return product_to(g, x, weight_shape)


@operator({"x": lambda g, weight: g * weight, "weight": _scale_rule, "bias": _shift_rule}, method=False)
def affine(x: Array, weight: Array, bias: Array) -> Array:
    """``x * weight + bias``, in shapes that broadcast to x's."""
    r = x * weight
    r += bias
    return r


@operator({"a": lambda g, b, shape: g.reshape(shape) * b, "b": lambda g, a, shape: g.reshape(shape) * a}, method=False)
def product_to(a: Array, b: Array, shape: tuple[int, ...]) -> Array:
    """``a * b`` summed over what broadcasting the shape would repeat."""
    r = a * b
    if len(shape) == 1:
        return sum_rows(r.reshape(-1, *shape))
    lead = r.ndim - len(shape)
    gone = (*range(lead), *(i + lead for i, n in enumerate(shape) if n == 1))
    return reduce_sum(r, gone, False).reshape(shape)


def _last(who: str, x: Tensor, shape: Sequence[int]) -> tuple[int, ...]:
    """The last dimensions, which must have the given shape."""
    n, ndim = len(shape), x._array.ndim
    if not n or n > ndim or x._array.shape[ndim - n :] != tuple(shape):
        msg = f"{who}: expected an input of shape [..., {', '.join(map(str, shape))}], got {list(x.shape)}"
        raise RuntimeError(msg)
    return tuple(range(ndim - n, ndim))


@composite(method=False, name=_nn("layer_norm"))
def layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Mean 0 and variance 1 over the last dimensions, then scaled and shifted (arXiv 1607.06450)."""
    y = standardise(input, _last("layer_norm", input, normalized_shape), eps)[0]
    return y if weight is bias is None else scale_and_shift(y, weight, bias, tuple(normalized_shape))


@composite(method=False, name=_nn("rms_norm"))
def rms_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """Divided by the root mean square over the last dimensions, then scaled (arXiv 1910.07467)."""
    dims = _last("rms_norm", input, normalized_shape)
    small = float(np.finfo(input._array.dtype).eps) if eps is None else eps
    y = input * ((input * input).mean(dims, keepdim=True) + small).rsqrt()
    return y if weight is None else y * weight


@composite(method=False, name=_nn("group_norm"))
def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Mean 0 and variance 1 over groups of channels, [n, channels, ...] (arXiv 1803.08494)."""
    if input.ndim < 2 or num_groups < 1 or input.shape[1] % num_groups:
        msg = f"group_norm: expected channels divisible by {num_groups} groups, got {list(input.shape)}"
        raise RuntimeError(msg)
    grouped = input.reshape(input.shape[0], num_groups, math.prod(input.shape[1:]) // num_groups)
    return _affine(standardise(grouped, (2,), eps)[0].reshape(input.shape), weight, bias)


def _follow(running: Tensor, seen: Any, momentum: float) -> None:
    """Move running statistics towards those of the batch."""
    array = running._array
    array += (momentum * (seen - array)).astype(array.dtype)
    bump(running)


def _over(x: Array, dims: tuple[int, ...]) -> Array:
    return x.mean(dims) if dims else x


def _track(
    x: Tensor, dims: tuple[int, ...], r: Tensor, eps: float, mean: Tensor | None, var: Tensor | None, momentum: float
) -> None:
    """Let running mean and (unbiased) variance, by channel, follow a batch that was scaled by r."""
    a = x._array
    count = math.prod(a.shape[d] for d in dims)
    others = tuple(d for d in range(a.ndim) if d not in dims and d != 1)  # an example's own statistics count as one of the batch
    if mean is not None:
        _follow(mean, _over(reduce_sum(a, dims, True) / count, others).reshape(-1), momentum)
    if var is not None:
        spread = (1 / (r._array * r._array) - eps) * (count / max(count - 1, 1))
        _follow(var, _over(spread, others).reshape(-1), momentum)


@composite(method=False, name=_nn("batch_norm"))
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 by channel, [n, channels, ...] (arXiv 1502.03167).

    Of the batch when ``training`` (running statistics follow it, in place), else by the running statistics.
    """
    if not input.numel():
        return input * 1
    if training:
        if math.prod((*input.shape[:1], *input.shape[2:])) == 1:
            msg = f"batch_norm: expected more than one value per channel when training, got {list(input.shape)}"
            raise ValueError(msg)
        dims = (0, *range(2, input.ndim))
        y, r = standardise(input, dims, eps)
        _track(input, dims, r, eps, running_mean, running_var, momentum)
        return _affine(y, weight, bias)
    if running_mean is None or running_var is None:
        msg = "batch_norm: expected running_mean and running_var when not training"
        raise RuntimeError(msg)
    channel = min(1, input.ndim - 1)
    shape = [-1 if i == channel else 1 for i in range(input.ndim)]
    scale = (running_var + eps).rsqrt()
    if input.requires_grad or running_mean.requires_grad or running_var.requires_grad:
        return _affine((input - running_mean.reshape(shape)) * scale.reshape(shape), weight, bias, channel)
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale if bias is None else bias - running_mean * scale
    return input * scale.reshape(shape) + shift.reshape(shape)


@composite(method=False, name=_nn("instance_norm"))
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 by example and channel, [n, channels, ...] (arXiv 1607.08022).

    Running statistics follow in place, or are used instead when ``use_input_stats`` is False.
    """
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if input.ndim < 3 or math.prod(input.shape[2:]) == 1:
        msg = f"instance_norm: expected more than one element per channel [n, channels, ...], got {list(input.shape)}"
        raise ValueError(msg)
    dims = tuple(range(2, input.ndim))
    y, r = standardise(input, dims, eps)
    _track(input, dims, r, eps, running_mean, running_var, momentum)
    return _affine(y, weight, bias)


@composite(method=False, name=_nn("local_response_norm"))
def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divided by a power of the mean square over ``size`` neighbouring channels, [n, channels, ...]."""
    if input.ndim < 3:
        msg = f"local_response_norm: expected an input of at least 3 dimensions, got {list(input.shape)}"
        raise ValueError(msg)
    if not input.numel():
        return input
    channels = input.shape[1]
    before = size // 2
    padded = (input * input).pad_back([n + (size - 1) * (i == 1) for i, n in enumerate(input.shape)], 1, before)
    total = padded.narrow(1, 0, channels)
    for i in range(1, size):
        total = total + padded.narrow(1, i, channels)
    return input / (total * (alpha / size) + k) ** beta


@composite(method=False, name=_nn("normalize"))
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Divided by the p-norm along ``dim`` (at least ``eps``)."""
    return input / input.norm(p, dim=dim, keepdim=True).clamp_min(eps)


@composite(method=False, name=_nn("bilinear"))
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input1 @ weight[k] @ input2`` for each output k."""
    lead = input1.shape[:-1]
    a, b = input1.reshape(-1, input1.shape[-1]), input2.reshape(-1, input2.shape[-1])
    y = ((a @ weight).movedim(0, 1) * b.unsqueeze(1)).sum(-1).reshape(*lead, weight.shape[0])
    return y if bias is None else y + bias
