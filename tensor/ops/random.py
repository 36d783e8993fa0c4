"""Random numbers: generators whose state can be saved, and what draws from them.

The streams are NumPy's PCG64: reproducible across machines, not PyTorch's numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tensor import dtypes
from tensor.autograd.modes import no_grad
from tensor.autograd.samples import draws
from tensor.autograd.tensor import Tensor
from tensor.device import as_device, move
from tensor.ops.dispatch import as_array

__all__ = [
    "Generator", "bernoulli", "binomial", "default_generator", "get_rng_state", "initial_seed", "manual_seed", "multinomial", "normal", "poisson", "rand",
    "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm", "seed", "set_rng_state",
]  # fmt: skip


class Generator:
    """A stream of random numbers.

    >>> g = Generator().manual_seed(0)
    >>> state = g.get_state()
    >>> a = rand(3, generator=g)
    >>> g.set_state(state)
    >>> bool((rand(3, generator=g) == a).all())
    True
    """

    def __init__(self, device: Any = "cpu") -> None:
        self.device = as_device(device)
        self.manual_seed(int(np.random.SeedSequence().entropy) % 2**63)  # type: ignore[arg-type]

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of ``seed`` anew."""
        self._seed = int(seed)
        self.numpy = np.random.Generator(np.random.PCG64(self._seed % 2**64))
        return self

    def seed(self) -> int:
        """Start an unforeseeable stream; returns its seed."""
        self.manual_seed(int(np.random.SeedSequence().entropy) % 2**63)  # type: ignore[arg-type]
        return self._seed

    def initial_seed(self) -> int:
        """The seed that the stream started from."""
        return self._seed

    def get_state(self) -> dict[str, Any]:
        """The exact position in the stream, as plain numbers: what a checkpoint keeps."""
        return {"seed": self._seed, "bits": self.numpy.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to a position given by `get_state`."""
        self._seed = int(state["seed"])
        self.numpy.bit_generator.state = state["bits"]


#: The generator that draws use when none is given.
default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Start the default generator's stream of ``seed`` anew."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Start the default generator on an unforeseeable stream; returns its seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed that the default generator started from."""
    return default_generator.initial_seed()


def get_rng_state() -> dict[str, Any]:
    """The position of the default generator."""
    return default_generator.get_state()


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the default generator back to a position."""
    default_generator.set_state(state)


def _source(generator: Generator | None) -> np.random.Generator:
    return draws((generator or default_generator).numpy)  # type: ignore[no-any-return]


def _shape(size: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else tuple(size)


def _finish(array: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    d = dtypes.get_default_dtype().numpy if dtype is None else dtypes.numpy_dtype(dtype)
    array = as_array(array).astype(d, copy=False)
    t = Tensor(array if device is None else move(array, device))
    return t.requires_grad_() if requires_grad else t


def _draw_dtype(dtype: Any) -> Any:
    d = dtypes.get_default_dtype().numpy if dtype is None else dtypes.numpy_dtype(dtype)
    return d if d in (np.float32, np.float64) else np.dtype(np.float32)


def rand(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uniform in [0, 1)."""
    return _finish(_source(generator).random(_shape(size), dtype=_draw_dtype(dtype)), dtype, device, requires_grad)


def randn(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Normal with mean 0 and variance 1."""
    return _finish(_source(generator).standard_normal(_shape(size), dtype=_draw_dtype(dtype)), dtype, device, requires_grad)


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = dtypes.int64,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Integers from ``low`` (0 when left out) to ``high - 1``: ``randint(high, size)`` or ``randint(low, high, size)``."""
    if size is None or not isinstance(high, (int, np.integer)):
        low, high, size = 0, low, high if high is not None else size
    if not isinstance(size, Iterable):
        msg = f"randint: expected a size such as (3,) after the bounds, got {size!r}"
        raise TypeError(msg)
    return _finish(_source(generator).integers(low, high, tuple(size)), dtype, device, requires_grad)


def randperm(n: int, *, generator: Generator | None = None, dtype: Any = dtypes.int64, device: Any = None) -> Tensor:
    """The integers below ``n`` in random order."""
    return _finish(_source(generator).permutation(n), dtype, device, False)


def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None, dtype: Any = None) -> Tensor:
    """Normal with the given mean and standard deviation, numbers or tensors."""
    shape = (
        tuple(size)
        if size is not None
        else np.broadcast_shapes(*(tuple(x.shape) if isinstance(x, Tensor) else () for x in (mean, std)))
    )
    drawn: Tensor = randn(shape, generator=generator, dtype=dtype) * std + mean
    return drawn


def bernoulli(p: Tensor, *, generator: Generator | None = None) -> Tensor:
    """1 with probability ``p`` of each element, else 0."""
    return Tensor(as_array(_source(generator).random(tuple(p.shape)) < p._array).astype(p._array.dtype))


def poisson(rate: Tensor, generator: Generator | None = None) -> Tensor:
    """Counts of events that occur at ``rate`` (>= 0) each, in its dtype."""
    if (rate._array < 0).any():
        msg = "poisson: expected rates >= 0"
        raise RuntimeError(msg)
    return Tensor(as_array(_source(generator).poisson(rate._array)).astype(rate._array.dtype))


def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """How many of ``count`` trials succeed, each with probability ``prob``; broadcast, in ``prob``'s dtype."""
    drawn = _source(generator).binomial(count._array.astype(np.int64), prob._array)
    return Tensor(as_array(drawn).astype(prob._array.dtype))


def multinomial(weights: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None) -> Tensor:
    """Indices drawn with probabilities proportional to ``weights`` ([categories] or [rows, categories])."""
    w = weights.detach()._array.astype(np.float64)
    rows = np.atleast_2d(w)
    if (rows < 0).any() or not np.isfinite(rows).all() or (rows.sum(1) <= 0).any():
        msg = "multinomial: expected finite weights >= 0 with a positive sum in each row"
        raise RuntimeError(msg)
    if not replacement and ((rows > 0).sum(1) < num_samples).any():
        msg = f"multinomial: cannot draw {num_samples} different categories, fewer have a positive weight"
        raise RuntimeError(msg)
    rng = _source(generator)
    p = rows / rows.sum(1, keepdims=True)
    if replacement or num_samples == 1:  # as `choice` does it, for all rows at once
        ends = np.cumsum(p, 1)
        ends = ends / ends[:, -1:]
        at = rng.random((len(rows), num_samples))
        if num_samples * rows.size <= 1 << 20:  # which is one operation, for which the memory of all comparisons is small
            drawn = (ends[:, None, :] <= at[:, :, None]).sum(-1)
        else:
            drawn = np.stack([e.searchsorted(x, side="right") for e, x in zip(ends, at, strict=True)])
    else:
        drawn = np.stack([rng.choice(len(r), num_samples, replace=False, p=r) for r in p])
    return Tensor(drawn[0] if w.ndim == 1 else drawn)


def rand_like(x: Tensor, *, dtype: Any = None, generator: Generator | None = None) -> Tensor:
    """`rand` with another tensor's shape and dtype."""
    return rand(tuple(x.shape), dtype=dtype or x.dtype, generator=generator, device=x.device)


def randn_like(x: Tensor, *, dtype: Any = None, generator: Generator | None = None) -> Tensor:
    """`randn` with another tensor's shape and dtype."""
    return randn(tuple(x.shape), dtype=dtype or x.dtype, generator=generator, device=x.device)


def randint_like(x: Tensor, low: int, high: int | None = None, *, dtype: Any = None) -> Tensor:
    """`randint` with another tensor's shape and dtype."""
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, tuple(x.shape), dtype=dtype or x.dtype)


def _fill_with(draw: Any) -> Any:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with no_grad():
            return self.copy_(draw(tuple(self.shape), *args, **kwargs))

    return method


def _uniform(shape: Any, a: float = 0.0, b: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    return rand(shape, generator=generator) * (b - a) + a


def _normal(shape: Any, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    return randn(shape, generator=generator) * std + mean


def _coin(shape: Any, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    return Tensor(_source(generator).random(shape) < (p._array if isinstance(p, Tensor) else p))


def _exponential(shape: Any, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    return Tensor(_source(generator).standard_exponential(shape, dtype=np.float32) / np.float32(lambd))


def _check_positive(who: str, name: str, value: float) -> None:
    if not value > 0:
        msg = f"{who}: expected {name} > 0, got {value}"
        raise RuntimeError(msg)


def _cauchy(shape: Any, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    _check_positive("cauchy_", "sigma", sigma)
    return Tensor(_source(generator).standard_cauchy(shape) * sigma + median)


def _log_normal(shape: Any, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Tensor:
    _check_positive("log_normal_", "std", std)
    return Tensor(_source(generator).lognormal(mean, std, shape))


def _geometric(shape: Any, p: float, *, generator: Generator | None = None) -> Tensor:
    if not 0 < p < 1:
        msg = f"geometric_: expected 0 < p < 1, got {p}"
        raise RuntimeError(msg)
    return Tensor(_source(generator).geometric(p, shape))


def _random(self: Tensor, low: int = 0, high: int | None = None, *, generator: Generator | None = None) -> Tensor:
    """Filled with integers from ``low`` to ``high - 1`` (``random_(high)``: from 0); by default all that the dtype can tell apart."""
    kind = self._array.dtype
    if high is None:
        most = {"f": 2 ** (np.finfo(kind).nmant + 1) if kind.kind == "f" else 0, "b": 2}.get(kind.kind) or int(np.iinfo(kind).max)
        low, high = (0, low) if low else (0, most)
    if high <= low:
        msg = f"random_: expected low < high, got {low} and {high}"
        raise RuntimeError(msg)
    with no_grad():
        return self.copy_(Tensor(as_array(_source(generator).integers(low, high, tuple(self.shape))).astype(kind)))


def _bernoulli_method(self: Tensor, p: Any = None, *, generator: Generator | None = None) -> Tensor:
    """1 with probability ``p`` (that of each element of this tensor when none is given), else 0."""
    if p is None:
        return bernoulli(self, generator=generator)
    return _coin(tuple(self.shape), p, generator=generator).to(self.dtype)


setattr(Tensor, "random_", _random)  # noqa: B010
setattr(Tensor, "bernoulli", _bernoulli_method)  # noqa: B010
setattr(Tensor, "multinomial", multinomial)  # noqa: B010
for _name, _draw in {
    "uniform_": _uniform,
    "cauchy_": _cauchy,
    "log_normal_": _log_normal,
    "geometric_": _geometric,
    "normal_": _normal,
    "bernoulli_": _coin,
    "exponential_": _exponential,
}.items():
    setattr(Tensor, _name, _fill_with(_draw))
