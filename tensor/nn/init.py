"""Filling parameters, in place and unrecorded; each function returns the tensor it was given.

Draws come from ``generator``, or the default one. Shapes are read as layers use them: [out, in, *kernel].
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from tensor.autograd.inplace import bump
from tensor.autograd.tensor import Tensor
from tensor.device import move
from tensor.naming import quoted
from tensor.ops.random import Generator, default_generator

__all__ = [
    "calculate_gain", "constant", "constant_", "dirac", "dirac_", "eye", "eye_", "kaiming_normal", "kaiming_normal_",
    "kaiming_uniform", "kaiming_uniform_", "normal", "normal_", "ones_", "orthogonal", "orthogonal_", "skipped", "sparse",
    "sparse_", "trunc_normal_", "uniform", "uniform_", "xavier_normal", "xavier_normal_", "xavier_uniform",
    "xavier_uniform_", "zeros_",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Tensor])

_CONVOLUTIONS = [f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)]
_GAINS = dict.fromkeys(("linear", *_CONVOLUTIONS, "sigmoid"), 1.0)
_GAINS |= {"tanh": 5.0 / 3, "relu": math.sqrt(2), "selu": 0.75}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights before a nonlinearity should be larger; ``param``: the slope of "leaky_relu" (0.01).

    >>> calculate_gain("relu") ** 2
    2.0000000000000004
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        msg = f"calculate_gain: expected one of {quoted([*_GAINS, 'leaky_relu'])}, got {nonlinearity!r}"
        raise ValueError(msg)
    return _GAINS[nonlinearity]


_here = threading.local()  # whether this thread skips filling


@contextmanager
def skipped() -> Iterator[None]:
    """In this block the functions of this module fill nothing: for parameters that are loaded right after."""
    before = getattr(_here, "skipping", False)
    _here.skipping = True
    try:
        yield
    finally:
        _here.skipping = before


def _filler(fill: F) -> F:
    """Let `skipped` keep a function from drawing and writing."""

    @functools.wraps(fill)
    def call(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor if getattr(_here, "skipping", False) else fill(tensor, *args, **kwargs)

    return call  # type: ignore[return-value]


def _fill(t: Tensor, values: Any) -> Tensor:
    """Write numbers or a host array into the tensor's own memory."""
    t._array[...] = move(values, t.device) if isinstance(values, np.ndarray) else values
    bump(t)
    return t


def _rng(generator: Generator | None) -> np.random.Generator:
    return (generator or default_generator).numpy


def _single(t: Tensor) -> Any:
    """The dtype to draw in: NumPy draws in single or double precision only."""
    return np.float64 if t._array.dtype == np.float64 else np.float32


@_filler
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in [a, b)."""
    return _fill(tensor, _rng(generator).random(tuple(tensor.shape), dtype=_single(tensor)) * (b - a) + a)


@_filler
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with a mean and a standard deviation."""
    return _fill(tensor, _rng(generator).standard_normal(tuple(tensor.shape), dtype=_single(tensor)) * std + mean)


@_filler
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal, with draws outside [a, b] drawn again by inverting the distribution on the interval."""
    from scipy.special import ndtr, ndtri  # SciPy is slow to import and rarely needed here

    low, high = ndtr((a - mean) / std), ndtr((b - mean) / std)
    drawn = ndtri(low + _rng(generator).random(tuple(tensor.shape)) * (high - low))
    return _fill(tensor, np.clip(np.asarray(drawn) * std + mean, a, b))


@_filler
def constant_(tensor: Tensor, val: float) -> Tensor:
    """One value everywhere.

    >>> import tensor as T
    >>> constant_(T.empty(2), 0.5)
    tensor([0.5000, 0.5000])
    """
    return _fill(tensor, val)


@_filler
def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return _fill(tensor, 0)


@_filler
def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return _fill(tensor, 1)


@_filler
def eye_(tensor: Tensor) -> Tensor:
    """Ones on the diagonal of a matrix, zeros elsewhere. Raises ValueError for other than two dimensions."""
    _matrix(tensor, "eye_")
    return _fill(tensor, np.eye(*tensor.shape))


@_filler
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution's weight [out, in / groups, *kernel] that passes its input on, as far as there are channels, by group.

    Raises ValueError for other than 3 to 5 dimensions, or outputs that the groups do not divide.

    >>> import tensor as T
    >>> dirac_(T.empty(1, 1, 3))
    tensor([[[0., 1., 0.]]])
    """
    if not 3 <= tensor.ndim <= 5:
        msg = f"dirac_: expected 3 to 5 dimensions, got shape {list(tensor.shape)}"
        raise ValueError(msg)
    out = tensor.shape[0]
    if out % groups:
        msg = f"dirac_: expected {groups} groups to divide the outputs, got {out}"
        raise ValueError(msg)
    values = np.zeros(tuple(tensor.shape))
    centre = tuple(n // 2 for n in tensor.shape[2:])
    for group in range(groups):
        for channel in range(min(out // groups, tensor.shape[1])):
            values[(group * (out // groups) + channel, channel, *centre)] = 1
    return _fill(tensor, values)


def _matrix(t: Tensor, who: str) -> None:
    if t.ndim != 2:
        msg = f"{who}: expected a matrix, got shape {list(t.shape)}"
        raise ValueError(msg)


def _fans(t: Tensor, who: str) -> tuple[int, int]:
    """How many inputs each output sums, and how many outputs each input reaches."""
    if t.ndim < 2:
        msg = f"{who}: expected at least two dimensions, got shape {list(t.shape)}"
        raise ValueError(msg)
    window = math.prod(t.shape[2:])
    return t.shape[1] * window, t.shape[0] * window


@_filler
def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform with variance ``2 gain^2 / (fan_in + fan_out)`` (Glorot & Bengio, 2010)."""
    bound = gain * math.sqrt(6 / sum(_fans(tensor, "xavier_uniform_")))
    return uniform_(tensor, -bound, bound, generator)


@_filler
def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance ``2 gain^2 / (fan_in + fan_out)`` (Glorot & Bengio, 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(_fans(tensor, "xavier_normal_"))), generator)


def _kaiming_std(t: Tensor, a: float, mode: str, nonlinearity: str, who: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        msg = f"{who}: expected mode 'fan_in' or 'fan_out', got {mode!r}"
        raise ValueError(msg)
    fan = _fans(t, who)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan) if fan else 0.0


@_filler
def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform with variance ``gain^2 / fan`` (arXiv 1502.01852); ``a`` is the slope below 0 of "leaky_relu"."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity, "kaiming_uniform_")
    return uniform_(tensor, -bound, bound, generator)


@_filler
def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with variance ``gain^2 / fan`` (arXiv 1502.01852); ``a`` is the slope below 0 of "leaky_relu"."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity, "kaiming_normal_"), generator)


@_filler
def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """``gain`` times a random matrix with orthonormal rows or columns, [out, the rest] (arXiv 1312.6120).

    >>> import tensor as T
    >>> w = orthogonal_(T.empty(2, 3))
    >>> bool((w @ w.T).allclose(T.eye(2), atol=1e-6))
    True
    """
    _fans(tensor, "orthogonal_")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    drawn = _rng(generator).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(drawn)
    # The signs of the diagonal make the factorisation unique, and so the distribution uniform (arXiv math-ph/0609050).
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return _fill(tensor, gain * (q.T if rows < columns else q).reshape(tensor.shape))


@_filler
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Normal, with the fraction ``sparsity`` of each column zero (Martens, 2010). For matrices only: ValueError."""
    _matrix(tensor, "sparse_")
    rng = _rng(generator)
    rows, columns = tensor.shape
    values = rng.standard_normal((rows, columns)) * std
    zeros = math.ceil(sparsity * rows)
    for j in range(columns):
        values[rng.permutation(rows)[:zeros], j] = 0.0
    return _fill(tensor, values)


# The names before 2018.
constant, dirac, eye, normal, sparse, uniform = constant_, dirac_, eye_, normal_, sparse_, uniform_
kaiming_normal, kaiming_uniform, orthogonal = kaiming_normal_, kaiming_uniform_, orthogonal_
xavier_normal, xavier_uniform = xavier_normal_, xavier_uniform_
