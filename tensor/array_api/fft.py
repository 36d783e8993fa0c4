"""The Fourier transform extension of the standard.

Every transform takes ``norm``: "backward" (the inverse is scaled by 1/n), "ortho" (both by 1/sqrt(n)) or "forward".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from tensor.array_api.array import Array, as_array, standard
from tensor.array_api.elementwise import FLOATS, check
from tensor.autograd.tensor import Tensor
from tensor.ops import fft as transforms

__all__ = [
    "fft", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifftn", "ifftshift", "ihfft", "irfft", "irfftn", "rfft", "rfftfreq",
    "rfftn",
]  # fmt: skip

Norm = Literal["backward", "ortho", "forward"]


class _AlongOne(Protocol):
    def __call__(self, x: Tensor, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array: ...


class _AlongSeveral(Protocol):
    def __call__(
        self, x: Tensor, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward"
    ) -> Array: ...


def _one(name: str, f: Callable[..., Tensor], kinds: Any, doc: str) -> _AlongOne:
    def function(x: Tensor, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
        check(name, kinds, x)
        return as_array(f(x, n, axis, norm), (x,))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _several(name: str, f: Callable[..., Tensor], kinds: Any, doc: str) -> _AlongSeveral:
    def function(
        x: Tensor, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward"
    ) -> Array:
        check(name, kinds, x)
        return as_array(f(x, s, axes, norm), (x,))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


# fmt: off
fft = _one("fft", transforms.fft, FLOATS, "The discrete Fourier transform along an axis, cut or padded to n.")
ifft = _one("ifft", transforms.ifft, FLOATS, "The inverse of `fft`.")
rfft = _one("rfft", transforms.rfft, "real floating", "`fft` of real numbers: the half that is not redundant, n // 2 + 1.")
irfft = _one("irfft", transforms.irfft, FLOATS, "The inverse of `rfft`: n real numbers, 2 * (m - 1) unless told otherwise.")
hfft = _one("hfft", transforms.hfft, FLOATS, "`fft` of a Hermitian signal, given by its half: real.")
ihfft = _one("ihfft", transforms.ihfft, "real floating", "The inverse of `hfft`.")
fftn = _several("fftn", transforms.fftn, FLOATS, "The discrete Fourier transform along several axes.")
ifftn = _several("ifftn", transforms.ifftn, FLOATS, "The inverse of `fftn`.")
rfftn = _several("rfftn", transforms.rfftn, "real floating", "`fftn` of real numbers, the last axis halved.")
irfftn = _several("irfftn", transforms.irfftn, FLOATS, "The inverse of `rfftn`.")
# fmt: on


@standard
def fftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies of `fft`'s n results, for samples ``d`` apart."""
    return transforms.fftfreq(n, d, dtype=dtype, device=device)


@standard
def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies of `rfft`'s n // 2 + 1 results, for samples ``d`` apart."""
    return transforms.rfftfreq(n, d, dtype=dtype, device=device)


@standard
def fftshift(x: Tensor, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """Frequency 0 in the middle."""
    check("fftshift", FLOATS, x)
    return transforms.fftshift(x, axes)


@standard
def ifftshift(x: Tensor, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """The inverse of `fftshift`."""
    check("ifftshift", FLOATS, x)
    return transforms.ifftshift(x, axes)
