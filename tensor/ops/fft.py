"""Discrete Fourier transforms, by `numpy.fft`: three operators, and the eighteen public functions as cases of them.

A transform has a direction, and a norm that says which direction divides by the number of points. Its gradient is the transform of the other
direction with the same factor, which is what `OTHER` turns a norm's name into. float32 stays single precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from tensor import dtypes
from tensor.autograd.tensor import Tensor
from tensor.device import move
from tensor.naming import quoted
from tensor.ops.padding import constant_pad_nd
from tensor.ops.record import Array, composite, operator

__all__ = [
    "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "hfft2", "hfftn", "ifft", "ifft2", "ifftn", "ifftshift", "ihfft", "ihfft2", "ihfftn", "irfft",
    "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn",
]  # fmt: skip

Norm: TypeAlias = Literal["backward", "ortho", "forward"]

#: The norm with which the other direction has the same factor.
OTHER: dict[Norm, Norm] = {"backward": "forward", "ortho": "ortho", "forward": "backward"}

Dims = tuple[int, ...]

# --- the three operators ---------------------------------------------------------------------------------------------


def _complex_rule(g: Tensor, dims: Dims, forward: bool, norm: Norm) -> Tensor:
    return fft_complex(g, dims, not forward, OTHER[norm])


@operator({"x": _complex_rule}, method=False, name="fft._complex")
def fft_complex(x: Array, dims: Dims, forward: bool, norm: Norm) -> Array:
    """Complex (or real) to complex."""
    return (np.fft.fftn if forward else np.fft.ifftn)(x, axes=dims, norm=norm)


def _real_rule(g: Tensor, x_shape: Any, dims: Dims, forward: bool, norm: Norm) -> Tensor:
    """The half that was not computed gets no gradient; the engine takes the real part."""
    missing = x_shape[dims[-1]] - g.shape[dims[-1]]
    return fft_complex(_resized(g, dims[-1], g.shape[dims[-1]] + missing), dims, not forward, OTHER[norm])


@operator({"x": _real_rule}, method=False, name="fft._real")
def fft_real(x: Array, dims: Dims, forward: bool, norm: Norm) -> Array:
    """Real to complex, of which the last dimension keeps the half that decides the other."""
    if forward:
        return np.fft.rfftn(x, axes=dims, norm=norm)
    return np.conj(np.fft.rfftn(x, axes=dims, norm=OTHER[norm]))


def _to_real_rule(g: Tensor, x_shape: Any, dims: Dims, forward: bool, norm: Norm) -> Tensor:
    """What stands for its mirror image too counts twice."""
    half, n = x_shape[dims[-1]], g.shape[dims[-1]]
    twice = np.ones_like(g._array, shape=half)
    twice[1 : (n + 1) // 2] = 2
    weights = Tensor(twice.reshape([half if d == dims[-1] else 1 for d in range(g.ndim)]))
    return fft_real(g, dims, not forward, OTHER[norm]) * weights


@operator({"x": _to_real_rule}, method=False, name="fft._to_real")
def fft_to_real(x: Array, n: int, dims: Dims, forward: bool, norm: Norm) -> Array:
    """Complex to real, of ``n`` points in the last of the dimensions, from the half that decides the other."""
    sizes = [*(x.shape[d] for d in dims[:-1]), n]
    if forward:
        return np.fft.irfftn(np.conj(x), sizes, axes=dims, norm=OTHER[norm])
    return np.fft.irfftn(x, sizes, axes=dims, norm=norm)


# --- sizes and dimensions --------------------------------------------------------------------------------------------


def _resized(x: Tensor, dim: int, n: int) -> Tensor:
    """Cut off, or filled up with zeros, at the end of a dimension."""
    have = x.shape[dim]
    if n == have:
        return x
    if n < have:
        return x.narrow(dim, 0, n)
    return constant_pad_nd(x, [0, 0] * (x.ndim - 1 - dim % x.ndim) + [0, n - have])


def _norm(who: str, norm: Any) -> Norm:
    if norm is None:
        return "backward"
    if norm not in OTHER:
        msg = f"{who}: expected norm to be one of {quoted(OTHER)}, got {norm!r}"
        raise RuntimeError(msg)
    found: Norm = norm
    return found


def _floating(who: str, x: Any, real: bool = False) -> Tensor:
    """Integers become the default float; half precision has no transforms."""
    if not isinstance(x, Tensor):
        msg = f"{who}: expected a tensor, got {type(x).__name__}"
        raise TypeError(msg)
    kind = x._array.dtype.kind
    if (real and kind == "c") or x.dtype is dtypes.float16:
        msg = f"{who}: expected {'a real' if real else 'a'} tensor of single or double precision, got {x.dtype}"
        raise RuntimeError(msg)
    return x if kind in "fc" else x.to(dtypes.get_default_dtype())


def _dimensions(who: str, x: Tensor, s: Any, dim: Any) -> tuple[Dims, list[int | None]]:
    """Which dimensions are transformed, and the number of points of each: None where it is the tensor's."""
    s = [s] if isinstance(s, int) else s
    if dim is None:
        dim = range(x.ndim) if s is None else range(x.ndim - len(s), x.ndim)
    given = [dim] if isinstance(dim, int) else list(dim)
    sizes: list[int | None] = [None] * len(given) if s is None else [None if n == -1 else int(n) for n in s]
    for d in given:
        if not -x.ndim <= d < x.ndim:
            msg = f"{who}: expected dimensions of a tensor of shape {tuple(x.shape)}, got dim {d}"
            raise IndexError(msg)
    dims = tuple(d % x.ndim for d in given)
    if len(set(dims)) < len(dims) or len(sizes) != len(dims):
        msg = f"{who}: expected different dimensions, and one size for each, got dim {tuple(given)} and s {s}"
        raise RuntimeError(msg)
    for d, n in zip(dims, sizes, strict=True):
        if (x.shape[d] if n is None else n) < 1:
            msg = f"{who}: expected at least one point in each dimension, got {x.shape[d] if n is None else n} in dim {d}"
            raise RuntimeError(msg)
    return dims, sizes


def _complex_to_complex(who: str, x: Any, s: Any, dim: Any, norm: str | None, forward: bool) -> Tensor:
    x = _floating(who, x)
    dims, sizes = _dimensions(who, x, s, dim)
    if not dims:
        same: Tensor = x.to(x.dtype.to_complex())
        return same
    for d, n in zip(dims, sizes, strict=True):
        x = x if n is None else _resized(x, d, n)
    return fft_complex(x, dims, forward, _norm(who, norm))


def _real_to_complex(who: str, x: Any, s: Any, dim: Any, norm: str | None, forward: bool) -> Tensor:
    x = _floating(who, x, real=True)
    dims, sizes = _dimensions(who, x, s, dim)
    _at_least_one(who, dims)
    for d, n in zip(dims, sizes, strict=True):
        x = x if n is None else _resized(x, d, n)
    return fft_real(x, dims, forward, _norm(who, norm))


def _complex_to_real(who: str, x: Any, s: Any, dim: Any, norm: str | None, forward: bool) -> Tensor:
    x = _floating(who, x)
    dims, sizes = _dimensions(who, x, s, dim)
    _at_least_one(who, dims)
    last = sizes[-1] if sizes[-1] is not None else 2 * (x.shape[dims[-1]] - 1)
    if last < 1:
        msg = f"{who}: expected at least one point in each dimension, got {last} in dim {dims[-1]}"
        raise RuntimeError(msg)
    for d, n in zip(dims[:-1], sizes[:-1], strict=True):
        x = x if n is None else _resized(x, d, n)
    x = _resized(x, dims[-1], last // 2 + 1)
    return fft_to_real(x.to(x.dtype.to_complex()), last, dims, forward, _norm(who, norm))


def _at_least_one(who: str, dims: Dims) -> None:
    if not dims:
        msg = f"{who}: expected at least one dimension to transform"
        raise RuntimeError(msg)


# --- the public functions --------------------------------------------------------------------------------------------

Transform = Callable[..., Tensor]


def _example(name: str, shape: str) -> str:
    return f"\n\n>>> import tensor as T\n>>> tuple(T.fft.{name}(T.ones(4, 4)).shape)\n{shape}\n"


def _family(
    kind: Callable[..., Tensor], letters: str, inverse: str, forward: bool, doc: str, last: Callable[[int], int]
) -> list[Transform]:
    """The transforms over one, two and any number of dimensions."""
    base = f"{inverse}{letters}fft"
    size = last(4)

    def one(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
        return kind(f"fft.{base}", input, None if n is None else [n], [dim], norm, forward)

    def two(input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: str | None = None) -> Tensor:
        return kind(f"fft.{base}2", input, s, dim, norm, forward)

    def many(input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] | None = None, norm: str | None = None) -> Tensor:
        return kind(f"fft.{base}n", input, s, dim, norm, forward)

    made = []
    for function, suffix, over in (
        (one, "", "one dimension, of ``n`` points"),
        (two, "2", "two dimensions, of ``s`` points"),
        (many, "n", "the dimensions ``dim`` (all, or the last ones that ``s`` gives sizes for)"),
    ):
        function.__name__ = function.__qualname__ = base + suffix
        function.__doc__ = (
            f"{doc}, over {over}; what is longer is cut off, what is shorter filled up with zeros.\n\n"
            f'``norm``: "backward" (default; the inverse divides by the number of points), "forward" or "ortho".'
            + _example(base + suffix, f"(4, {size})")
        )
        made.append(composite(method=False, name=f"fft.{base}{suffix}")(function))
    return made


def _same(n: int) -> int:
    return n


# fmt: off
fft, fft2, fftn = _family(_complex_to_complex, "", "", True, "The Fourier transform", _same)
ifft, ifft2, ifftn = _family(_complex_to_complex, "", "i", False, "The inverse Fourier transform", _same)
rfft, rfft2, rfftn = _family(_real_to_complex, "r", "", True, "The Fourier transform of real numbers: the half that decides the other", lambda n: n // 2 + 1)
irfft, irfft2, irfftn = _family(_complex_to_real, "r", "i", False, "The inverse of `rfft`, by default of an even number of points", lambda n: 2 * (n - 1))
hfft, hfft2, hfftn = _family(_complex_to_real, "h", "", True, "The Fourier transform of half of a Hermitian signal, by default of an even number of points", lambda n: 2 * (n - 1))
ihfft, ihfft2, ihfftn = _family(_real_to_complex, "h", "i", False, "The inverse of `hfft`", lambda n: n // 2 + 1)
# fmt: on


# --- frequencies -----------------------------------------------------------------------------------------------------


def _shifts(x: Tensor, dim: Any) -> tuple[list[int], list[int]]:
    dims = list(range(x.ndim)) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    return dims, [x.shape[d] for d in dims]


@composite(method=False, name="fft.fftshift")
def fftshift(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Move frequency 0 from the start to the middle of the dimensions (all of them).

    >>> import tensor as T
    >>> T.fft.fftshift(T.tensor([0.0, 1.0, -2.0, -1.0]))
    tensor([-2., -1.,  0.,  1.])
    """
    dims, sizes = _shifts(input, dim)
    return input.roll([n // 2 for n in sizes], dims) if dims else input.clone()


@composite(method=False, name="fft.ifftshift")
def ifftshift(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """The inverse of `fftshift`.

    >>> import tensor as T
    >>> T.fft.ifftshift(T.tensor([-2.0, -1.0, 0.0, 1.0]))
    tensor([ 0.,  1., -2., -1.])
    """
    dims, sizes = _shifts(input, dim)
    return input.roll([(n + 1) // 2 for n in sizes], dims) if dims else input.clone()


def _frequencies(steps: Any, n: int, d: float, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    real = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    array = (steps / (n * d)).astype(real.numpy)
    y = Tensor(array if device is None else move(array, device))
    return y.requires_grad_() if requires_grad else y


def fftfreq(n: int, d: float = 1.0, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The frequencies of `fft`'s results, in cycles a unit of the distance ``d`` of two samples.

    >>> import tensor as T
    >>> T.fft.fftfreq(4)
    tensor([ 0.0000,  0.2500, -0.5000, -0.2500])
    """
    return _frequencies(np.fft.ifftshift(np.arange(-(n // 2), (n + 1) // 2)), n, d, dtype, device, requires_grad)


def rfftfreq(n: int, d: float = 1.0, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The frequencies of `rfft`'s results: those of `fftfreq` that are not negative, and the highest.

    >>> import tensor as T
    >>> T.fft.rfftfreq(4)
    tensor([0.0000, 0.2500, 0.5000])
    """
    return _frequencies(np.arange(n // 2 + 1), n, d, dtype, device, requires_grad)
