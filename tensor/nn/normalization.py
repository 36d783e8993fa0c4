"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tensor import dtypes
from tensor.autograd.inplace import bump
from tensor.autograd.tensor import Tensor
from tensor.nn.module import Module
from tensor.nn.parameter import Parameter
from tensor.ops import normalization as ops
from tensor.ops.create import ones, zeros

__all__ = [
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LayerNorm",
    "LocalResponseNorm", "RMSNorm",
]  # fmt: skip


def _shape(n: int | Sequence[int]) -> tuple[int, ...]:
    return (n,) if isinstance(n, int) else tuple(n)


def _affine(module: Module, shape: tuple[int, ...], weight: bool, bias: bool, device: Any, dtype: Any) -> None:
    """Register a scale of ones and a shift of zeros, or None for what is left out."""
    module.register_parameter("weight", Parameter(ones(shape, device=device, dtype=dtype)) if weight else None)
    module.register_parameter("bias", Parameter(zeros(shape, device=device, dtype=dtype)) if bias else None)


class LayerNorm(Module):
    """Mean 0 and variance 1 over the last dimensions, then scaled and shifted, any leading shape (arXiv 1607.06450).

    Calling it raises RuntimeError unless the input's shape ends with ``normalized_shape``.

    >>> import tensor as T
    >>> LayerNorm(2)(T.tensor([[1.0, 3.0]])).detach()
    tensor([[-1.0000,  1.0000]])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        _affine(self, self.normalized_shape, elementwise_affine, elementwise_affine and bias, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        affine = f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        return f"{self.normalized_shape}, eps={self.eps}, {affine}"


class RMSNorm(Module):
    """Divided by the root mean square over the last dimensions, then scaled, any leading shape (arXiv 1910.07467)."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        weight = Parameter(ones(self.normalized_shape, device=device, dtype=dtype)) if elementwise_affine else None
        self.register_parameter("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Mean 0 and variance 1 over groups of channels, [n, channels, ...] (arXiv 1803.08494).

    Raises ValueError unless ``num_groups`` divides ``num_channels``.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_channels % num_groups:
            msg = f"GroupNorm: expected channels divisible by {num_groups} groups, got {num_channels}"
            raise ValueError(msg)
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        _affine(self, (num_channels,), affine, affine and bias, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        bias = self.bias is not None
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={bias}"


class _Tracked(Module):
    """Normalisation by channel, with running statistics; for inputs with the numbers of dimensions in ``_ndims``."""

    _ndims: ClassVar[tuple[int, ...]]

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: Any,
        dtype: Any,
        bias: bool,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        _affine(self, (num_features,), affine, affine and bias, device, dtype)
        tracked = track_running_stats
        self.register_buffer("running_mean", zeros(num_features, device=device, dtype=dtype) if tracked else None)
        self.register_buffer("running_var", ones(num_features, device=device, dtype=dtype) if tracked else None)
        count = zeros((), device=device, dtype=dtypes.int64) if tracked else None
        self.register_buffer("num_batches_tracked", count)

    def reset_running_stats(self) -> None:
        """Forget the batches seen: mean 0, variance 1."""
        for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer is not None:
                buffer._array[...] = value
                bump(buffer)

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, and the batches seen forgotten."""
        self.reset_running_stats()
        for parameter, value in ((self.weight, 1), (self.bias, 0)):
            if parameter is not None:
                parameter._array[...] = value
                bump(parameter)

    def _check(self, x: Tensor, channel: int) -> None:
        if x.ndim not in self._ndims or x.shape[channel] != self.num_features:
            dims = " or ".join(str(n) for n in self._ndims)
            expected = f"[n, {self.num_features}, ...] with {dims} dimensions"
            msg = f"{type(self).__name__}: expected {expected}, got {list(x.shape)}"
            raise ValueError(msg)

    def extra_repr(self) -> str:
        options = f"eps={self.eps}, momentum={self.momentum}, affine={self.affine}, bias={self.bias is not None}"
        return f"{self.num_features}, {options}, track_running_stats={self.track_running_stats}"


class _BatchNorm(_Tracked):
    """Batch normalisation (arXiv 1502.03167)."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x, 1)
        batch = self.training or self.running_mean is None
        if batch and x.numel() == self.num_features:
            msg = f"{type(self).__name__}: expected more than one value per channel when training, got {list(x.shape)}"
            raise ValueError(msg)
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked._array[...] += 1
            bump(self.num_batches_tracked)
            if self.momentum is None:  # the plain average of all batches so far
                momentum = 1.0 / self.num_batches_tracked.item()
        return ops.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, batch, momentum, self.eps)


class BatchNorm1d(_BatchNorm):
    """Mean 0 and variance 1 by feature, [n, features] or [n, features, length]: of the batch while training, else
    running.

    Raises ValueError for another shape, and while training for a batch with one value per feature.

    >>> import tensor as T
    >>> layer = BatchNorm1d(1)
    >>> layer(T.tensor([[1.0], [3.0]])).detach().flatten()
    tensor([-1.0000,  1.0000])
    >>> layer.running_mean
    tensor([0.2000])
    """

    _ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Mean 0 and variance 1 by channel, [n, channels, height, width]: of the batch while training, else running.

    Raises ValueError for another shape, and while training for a batch with one value per channel.
    """

    _ndims = (4,)


class BatchNorm3d(_BatchNorm):
    """`BatchNorm2d` for volumes, [n, channels, depth, height, width]."""

    _ndims = (5,)


class _InstanceNorm(_Tracked):
    """Instance normalisation (arXiv 1607.08022)."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, x: Tensor) -> Tensor:
        single = x.ndim == self._ndims[0]
        self._check(x, 0 if single else 1)
        own = self.training or not self.track_running_stats
        options = (self.running_mean, self.running_var, self.weight, self.bias, own, self.momentum or 0.0, self.eps)
        y = ops.instance_norm(x.unsqueeze(0) if single else x, *options)
        return y.squeeze(0) if single else y


class InstanceNorm1d(_InstanceNorm):
    """Mean 0 and variance 1 by example and channel, [n, channels, length] or [channels, length].

    With ``track_running_stats``, running statistics instead while not training. Raises ValueError for another shape.

    >>> import tensor as T
    >>> InstanceNorm1d(1)(T.tensor([[[1.0, 3.0]]]))
    tensor([[[-1.0000,  1.0000]]])
    """

    _ndims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """`InstanceNorm1d` for images, [n, channels, height, width] or [channels, height, width]."""

    _ndims = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """`InstanceNorm1d` for volumes, [n, channels, depth, height, width] or without n."""

    _ndims = (4, 5)


class LocalResponseNorm(Module):
    """Divided by a power of the mean square over ``size`` neighbouring channels, [n, channels, ...] (Krizhevsky et al. 2012)."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        return ops.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
