"""Elements moved between channels and places, or from group to group."""

from __future__ import annotations

from tensor.autograd.tensor import Tensor
from tensor.ops.record import composite

__all__ = ["channel_shuffle", "native_channel_shuffle", "pixel_shuffle", "pixel_unshuffle"]


def _nn(name: str) -> str:
    return f"nn.functional.{name}"


@composite(method=False, name=_nn("pixel_shuffle"))
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """[..., c*r*r, h, w] to [..., c, h*r, w*r] (arXiv 1609.05158).

    >>> import tensor as T
    >>> pixel_shuffle(T.arange(4.0).reshape(4, 1, 1), 2)
    tensor([[[0., 1.],
             [2., 3.]]])
    """
    r = upscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-3] % (r * r):
        msg = f"pixel_shuffle: expected [..., channels, h, w] with channels divisible by {r * r}, got {list(input.shape)}"
        raise RuntimeError(msg)
    *lead, c, h, w = input.shape
    n = len(lead)
    y = input.reshape(*lead, c // (r * r), r, r, h, w)
    return y.permute(*range(n + 1), n + 3, n + 1, n + 4, n + 2).reshape(*lead, c // (r * r), h * r, w * r)


@composite(method=False, name=_nn("pixel_unshuffle"))
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """The reverse of `pixel_shuffle`."""
    r = downscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-2] % r or input.shape[-1] % r:
        msg = f"pixel_unshuffle: expected [..., channels, h, w] with h and w divisible by {r}, got {list(input.shape)}"
        raise RuntimeError(msg)
    *lead, c, h, w = input.shape
    n = len(lead)
    y = input.reshape(*lead, c, h // r, r, w // r, r)
    return y.permute(*range(n + 1), n + 2, n + 4, n + 1, n + 3).reshape(*lead, c * r * r, h // r, w // r)


@composite(method=False, name=_nn("channel_shuffle"), aliases=[_nn("native_channel_shuffle")])
def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels [n, c, ...] of the groups interleaved (arXiv 1707.01083).

    >>> import tensor as T
    >>> channel_shuffle(T.arange(4.0).reshape(1, 4, 1), 2).flatten()
    tensor([0., 2., 1., 3.])
    """
    if input.ndim < 3 or groups < 1 or input.shape[1] % groups:
        msg = f"channel_shuffle: expected [n, channels, ...] with channels divisible by {groups} groups, got {list(input.shape)}"
        raise RuntimeError(msg)
    n, c, *rest = input.shape
    return input.reshape(n, groups, c // groups, *rest).transpose(1, 2).reshape(n, c, *rest)


native_channel_shuffle = channel_shuffle
