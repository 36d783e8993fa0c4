"""Normalisation, embedding and other building blocks of layers, as functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor import dtypes
from tensor.autograd.tensor import Tensor
from tensor.ops.activation import dropout
from tensor.ops.matmul import matmul
from tensor.ops.record import composite

__all__ = [
    "batch_norm",
    "bilinear",
    "channel_shuffle",
    "embedding",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "normalize",
    "one_hot",
    "pixel_shuffle",
    "pixel_unshuffle",
    "rms_norm",
    "scaled_dot_product_attention",
]  # fmt: skip


def _nn(name: str) -> str:
    return f"nn.functional.{name}"


def _standardised(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred * ((centred * centred).mean(dims, keepdim=True) + eps).rsqrt()


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scale and shift by channel (dimension 1)."""
    shape = [-1 if i == 1 else 1 for i in range(x.ndim)]
    if weight is not None:
        x = x * weight.reshape(shape)
    return x if bias is None else x + bias.reshape(shape)


@composite(method=False, name=_nn("layer_norm"))
def layer_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Mean 0 and variance 1 over the last dimensions, then scaled and shifted (arXiv 1607.06450)."""
    n = len(normalized_shape)
    if tuple(x.shape[x.ndim - n :]) != tuple(normalized_shape):
        msg = f"layer_norm: expected an input of shape [..., {', '.join(map(str, normalized_shape))}], got {list(x.shape)}"
        raise RuntimeError(msg)
    y = _standardised(x, tuple(range(x.ndim - n, x.ndim)), eps)
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


@composite(method=False, name=_nn("rms_norm"))
def rms_norm(x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """Divided by the root mean square over the last dimensions (arXiv 1910.07467)."""
    dims = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    small = float(np.finfo(x._array.dtype).eps) if eps is None else eps
    y = x * ((x * x).mean(dims, keepdim=True) + small).rsqrt()
    return y if weight is None else y * weight


@composite(method=False, name=_nn("group_norm"))
def group_norm(x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Mean 0 and variance 1 over groups of channels (arXiv 1803.08494)."""
    if x.shape[1] % num_groups:
        msg = f"group_norm: expected channels divisible by {num_groups} groups, got {x.shape[1]}"
        raise RuntimeError(msg)
    grouped = x.reshape(x.shape[0], num_groups, -1)
    return _affine(_standardised(grouped, (2,), eps).reshape(x.shape), weight, bias)


@composite(method=False, name=_nn("batch_norm"))
def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 by channel: of the batch when training (running statistics follow), else by running statistics."""
    dims = (0, *range(2, x.ndim))
    if not training and running_mean is not None and running_var is not None:
        shape = [-1 if i == 1 else 1 for i in range(x.ndim)]
        return _affine((x - running_mean.reshape(shape)) * (running_var.reshape(shape) + eps).rsqrt(), weight, bias)
    if running_mean is not None and running_var is not None:
        seen = x.detach()
        running_mean.copy_(running_mean + momentum * (seen.mean(dims) - running_mean))
        running_var.copy_(running_var + momentum * (seen.var(dims) - running_var))
    return _affine(_standardised(x, dims, eps), weight, bias)


@composite(method=False, name=_nn("instance_norm"))
def instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 by example and channel (arXiv 1607.08022)."""
    dims = tuple(range(2, x.ndim))
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    if running_mean is not None and running_var is not None:
        seen = x.detach()
        running_mean.copy_(running_mean + momentum * (seen.mean(dims).mean(0) - running_mean))
        running_var.copy_(running_var + momentum * (seen.var(dims).mean(0) - running_var))
    return _affine(_standardised(x, dims, eps), weight, bias)


@composite(method=False, name=_nn("local_response_norm"))
def local_response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divided by a power of the squares summed over neighbouring channels."""
    squares = x * x
    before, after = size // 2, (size - 1) // 2
    shape = list(x.shape)
    shape[1] += before + after
    padded = squares.pad_back(shape, 1, before)
    total = padded.narrow(1, 0, x.shape[1])
    for i in range(1, size):
        total = total + padded.narrow(1, i, x.shape[1])
    return x / (total * (alpha / size) + k) ** beta


@composite(method=False, name=_nn("normalize"))
def normalize(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Divided by the p-norm along ``dim`` (at least ``eps``)."""
    return x / x.norm(p, dim=dim, keepdim=True).clamp_min(eps)


@composite(method=False, name=_nn("embedding"))
def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of ``weight`` at the indices; ``padding_idx`` gets no gradient."""
    if padding_idx is not None:
        padding_idx %= weight.shape[0]
        fixed = weight.new_zeros((weight.shape[0], 1), dtype=dtypes.bool_)
        fixed._array[padding_idx] = True
        weight = weight.detach().where(fixed, weight)
    if scale_grad_by_freq and weight.requires_grad:
        counts = np.bincount(input._array.reshape(-1), minlength=weight.shape[0]).clip(1)
        share = Tensor((1.0 / counts[input._array]).astype(weight._array.dtype)).unsqueeze(-1)
        rows = weight[input]
        return rows * share + (rows * (1 - share)).detach()
    return weight[input]


@composite(method=False, name=_nn("one_hot"))
def one_hot(x: Tensor, num_classes: int = -1) -> Tensor:
    """1 at each index, 0 elsewhere, in a new last dimension (int64)."""
    a = x._array
    n = (int(a.max()) + 1 if a.size else 0) if num_classes == -1 else num_classes
    if a.size and (a.min() < 0 or a.max() >= n):
        msg = f"one_hot: expected classes from 0 to {n - 1}, got {int(a.min())} to {int(a.max())}"
        raise RuntimeError(msg)
    return Tensor((a[..., None] == np.arange(n)).astype(np.int64))


@composite(method=False, name=_nn("bilinear"))
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input1 @ weight[k] @ input2`` for each output k."""
    lead = input1.shape[:-1]
    a, b = input1.reshape(-1, input1.shape[-1]), input2.reshape(-1, input2.shape[-1])
    y = ((a @ weight).movedim(0, 1) * b.unsqueeze(1)).sum(-1).reshape(*lead, weight.shape[0])
    return y if bias is None else y + bias


@composite(method=False, name=_nn("pixel_shuffle"))
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """[..., c*r*r, h, w] to [..., c, h*r, w*r] (arXiv 1609.05158)."""
    r = upscale_factor
    *lead, c, h, w = x.shape
    y = x.reshape(*lead, c // (r * r), r, r, h, w)
    n = len(lead)
    return y.permute(*range(n + 1), n + 3, n + 1, n + 4, n + 2).reshape(*lead, c // (r * r), h * r, w * r)


@composite(method=False, name=_nn("pixel_unshuffle"))
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """The reverse of `pixel_shuffle`."""
    r = downscale_factor
    *lead, c, h, w = x.shape
    y = x.reshape(*lead, c, h // r, r, w // r, r)
    n = len(lead)
    return y.permute(*range(n + 1), n + 2, n + 4, n + 1, n + 3).reshape(*lead, c * r * r, h // r, w // r)


@composite(method=False, name=_nn("channel_shuffle"))
def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Channels of the groups interleaved."""
    n, c, *rest = x.shape
    return x.reshape(n, groups, c // groups, *rest).transpose(1, 2).reshape(n, c, *rest)


@composite(method=False, name=_nn("scaled_dot_product_attention"))
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """softmax(query @ key.T * scale) @ value over the last two dimensions (arXiv 1706.03762)."""
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    scores = matmul(query, key.transpose(-2, -1)) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = Tensor(np.tril(np.ones((query.shape[-2], key.shape[-2]), bool)))
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype is dtypes.bool_ else scores + attn_mask
    weights = scores.softmax(-1)
    return matmul(dropout(weights, dropout_p), value)
