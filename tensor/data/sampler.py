"""In which order samples are taken, and how they are put into batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.random import Generator, default_generator

__all__ = [
    "BatchSampler", "DistributedSampler", "RandomSampler", "Sampler", "SequentialSampler", "SubsetRandomSampler",
    "WeightedRandomSampler",
]  # fmt: skip

T_co = TypeVar("T_co", covariant=True)


class Stream:
    """A generator that was given; or else one of our own, seeded from the default generator.

    Its own is seeded anew after each ``manual_seed``, so that the same seed gives the same epochs; and it stays apart from the
    default generator otherwise, so that what a training loop draws between two epochs has no part in their order. That is what
    lets a position be saved and taken up again.
    """

    def __init__(self, generator: Generator | None) -> None:
        self._given = generator
        self._own = Generator()
        self._seeded_from: Any = None

    def generator(self) -> Generator:
        """The generator to draw from now."""
        if self._given is not None:
            return self._given
        if self._seeded_from is not default_generator.numpy:  # `manual_seed` replaces it
            self._seeded_from = default_generator.numpy
            self._own.manual_seed(self.draw_seed(default_generator))
        return self._own

    @staticmethod
    def draw_seed(generator: Generator) -> int:
        """A seed for another generator."""
        return int(generator.numpy.integers(2**63))


class Sampler(Generic[T_co]):
    """An order: subclasses write ``__iter__`` over indices, and ``__len__`` where the number is known.

    One with a random order offers ``state_dict()`` and ``load_state_dict(state)``: what the next ``__iter__`` depends on.
    """

    def __iter__(self) -> Iterator[T_co]:
        msg = f"{type(self).__name__}: a Sampler's subclass must write __iter__"
        raise NotImplementedError(msg)


class _RandomOrder(Sampler[int]):
    """What samplers that draw have in common: the generator, and its state as theirs."""

    def __init__(self, generator: Generator | None) -> None:
        self.generator = generator
        self._stream = Stream(generator)

    def _numpy(self) -> np.random.Generator:
        return self._stream.generator().numpy

    def state_dict(self) -> dict[str, Any]:
        """The position of the generator: what the next order depends on."""
        return {"generator": self._stream.generator().get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a position given by `state_dict`."""
        self._stream.generator().set_state(state["generator"])


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ...

    >>> list(SequentialSampler("abc"))
    [0, 1, 2]
    """

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(_RandomOrder):
    """A random order of all indices; with ``replacement``, ``num_samples`` independent draws.

    Without replacement, more samples than there are begin a new order. ValueError for ``num_samples`` below 1.

    >>> sorted(RandomSampler("abc"))
    [0, 1, 2]
    """

    def __init__(
        self, data_source: Sized, replacement: bool = False, num_samples: int | None = None, generator: Generator | None = None
    ) -> None:
        super().__init__(generator)
        self.data_source = data_source
        self.replacement = _boolean("RandomSampler", "replacement", replacement)
        self._num_samples = None if num_samples is None else _positive("RandomSampler", "num_samples", num_samples)

    @property
    def num_samples(self) -> int:
        """How many indices an epoch has."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        n, wanted, rng = len(self.data_source), self.num_samples, self._numpy()
        if not n:
            return iter(())
        if self.replacement:
            return iter(rng.integers(n, size=wanted).tolist())
        orders = [rng.permutation(n) for _ in range(math.ceil(wanted / n))]
        return iter((orders[0] if len(orders) == 1 else np.concatenate(orders))[:wanted].tolist())

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(_RandomOrder):
    """The given indices in random order.

    >>> sorted(SubsetRandomSampler([7, 3, 5]))
    [3, 5, 7]
    """

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        super().__init__(generator)
        self.indices = indices

    def __iter__(self) -> Iterator[int]:
        return iter([self.indices[i] for i in self._numpy().permutation(len(self.indices)).tolist()])

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(_RandomOrder):
    """``num_samples`` indices below ``len(weights)``, drawn in proportion to the weights, which need not add up to 1.

    ValueError for weights that are negative, not finite or all zero, and, without replacement, too few above zero.

    >>> list(WeightedRandomSampler([0.0, 1.0], 3))
    [1, 1, 1]
    """

    def __init__(
        self, weights: Sequence[float], num_samples: int, replacement: bool = True, generator: Generator | None = None
    ) -> None:
        super().__init__(generator)
        self.replacement = _boolean("WeightedRandomSampler", "replacement", replacement)
        self.num_samples = _positive("WeightedRandomSampler", "num_samples", num_samples)
        w = np.asarray(weights.numpy() if isinstance(weights, Tensor) else weights, np.float64)
        if w.ndim != 1 or not np.isfinite(w).all() or (w < 0).any() or not w.any():
            msg = f"WeightedRandomSampler: expected a vector of finite weights >= 0 with a positive sum, got {weights!r}"
            raise ValueError(msg[:200])
        if not replacement and np.count_nonzero(w) < num_samples:
            msg = f"WeightedRandomSampler: cannot draw {num_samples} different indices, {np.count_nonzero(w)} have a weight"
            raise ValueError(msg)
        self.weights = w

    def __iter__(self) -> Iterator[int]:
        w = self.weights
        return iter(self._numpy().choice(len(w), self.num_samples, self.replacement, w / w.sum()).tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of ``batch_size`` indices of another sampler; the last may be shorter, or is left out with ``drop_last``.

    >>> list(BatchSampler(range(5), 2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        self.sampler = sampler
        self.batch_size = _positive("BatchSampler", "batch_size", batch_size)
        self.drop_last = _boolean("BatchSampler", "drop_last", drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.batch_size)  # type: ignore[arg-type]
        return whole + (rest > 0 and not self.drop_last)

    def state_dict(self) -> Any:
        """The state of the sampler below; None where it has none."""
        return state_of(self.sampler)

    def load_state_dict(self, state: Any) -> None:
        """Give the sampler below its state back."""
        restore(self.sampler, state)


class DistributedSampler(Sampler[int]):
    """Every ``num_replicas``-th index of an order that all replicas share, beginning at ``rank``.

    The order depends on ``seed`` and on the epoch: call `set_epoch` before each. So that all replicas take the same number of
    samples, some are taken twice, or with ``drop_last`` some are left out.

    >>> list(DistributedSampler(range(5), num_replicas=2, rank=1, shuffle=False))
    [1, 3, 0]
    """

    def __init__(
        self, dataset: Sized, num_replicas: int, rank: int, shuffle: bool = True, seed: int = 0, drop_last: bool = False
    ) -> None:
        self.num_replicas = _positive("DistributedSampler", "num_replicas", num_replicas)
        if not 0 <= rank < num_replicas:
            msg = f"DistributedSampler: expected a rank from 0 to {num_replicas - 1}, got {rank}"
            raise ValueError(msg)
        self.dataset, self.rank, self.shuffle, self.seed, self.drop_last = dataset, rank, shuffle, seed, drop_last
        self.epoch = 0
        share = len(dataset) / num_replicas
        self.num_samples = math.floor(share) if drop_last else math.ceil(share)
        self.total_size = self.num_samples * num_replicas

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, whose order differs from those of the others."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        n = len(self.dataset)
        order = np.random.default_rng([self.seed, self.epoch]).permutation(n) if self.shuffle else np.arange(n)
        return iter(np.resize(order, self.total_size)[self.rank :: self.num_replicas].tolist() if n else [])

    def __len__(self) -> int:
        return self.num_samples

    def state_dict(self) -> dict[str, int]:
        """The epoch."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go back to an epoch."""
        self.epoch = state["epoch"]


def state_of(sampler: Any) -> Any:
    """What the sampler's next order depends on: its ``state_dict()``, or that of its ``generator``; None where it has neither."""
    if hasattr(sampler, "state_dict"):
        return sampler.state_dict()
    generator = getattr(sampler, "generator", None)
    return {"generator": generator.get_state()} if isinstance(generator, Generator) else None


def restore(sampler: Any, state: Any) -> None:
    """Give a sampler back what `state_of` took."""
    if state is None:
        return
    if hasattr(sampler, "load_state_dict"):
        sampler.load_state_dict(state)
    else:
        sampler.generator.set_state(state["generator"])


def _positive(who: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value <= 0:
        msg = f"{who}: expected {name} to be a positive integer, got {value!r}"
        raise ValueError(msg)
    return int(value)


def _boolean(who: str, name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        msg = f"{who}: expected {name} to be True or False, got {value!r}"
        raise ValueError(msg)
    return value
