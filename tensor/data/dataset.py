"""What samples come from: datasets with an index, datasets that are streams, and what is made of several of them."""

from __future__ import annotations

import bisect
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.random import Generator, randperm

__all__ = [
    "ChainDataset", "ConcatDataset", "Dataset", "IterableDataset", "Rows", "StackDataset", "Subset", "TensorDataset",
    "random_split", "samples_at",
]  # fmt: skip

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """Samples with an index. Subclasses write ``__getitem__`` and ``__len__``.

    One that can fetch many samples faster than one by one may offer ``__getitems__(indices)``, a sequence of samples;
    `DataLoader` calls it where it is offered.

    >>> class Squares(Dataset):
    ...     def __len__(self):
    ...         return 4
    ...
    ...     def __getitem__(self, i):
    ...         return i * i
    >>> (Squares() + Squares())[5]
    1
    """

    def __getitem__(self, index: Any) -> T_co:
        msg = f"{type(self).__name__}: a Dataset's subclass must write __getitem__"
        raise NotImplementedError(msg)

    def __add__(self, other: Dataset[T_co]) -> ConcatDataset[T_co]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """Samples one after the other: subclasses write ``__iter__``.

    With several workers each iterates over a copy; `get_worker_info` tells which part is its own. One that offers
    ``state_dict()`` and ``load_state_dict(state)`` (itself, or its iterator) is resumed by them, any other by skipping.

    >>> class Countdown(IterableDataset):
    ...     def __iter__(self):
    ...         return iter([3, 2, 1])
    >>> list(Countdown() + Countdown())
    [3, 2, 1, 3, 2, 1]
    """

    def __iter__(self) -> Iterator[T_co]:
        msg = f"{type(self).__name__}: an IterableDataset's subclass must write __iter__"
        raise NotImplementedError(msg)

    def __add__(self, other: Dataset[T_co]) -> ChainDataset[T_co]:  # type: ignore[override]  # a stream has no index
        return ChainDataset([self, other])


class Rows(Sequence[tuple[Tensor, ...]]):
    """The samples of some rows of tensors, gathered when they are asked for: what `TensorDataset.__getitems__` returns.

    It is a sequence of samples as any ``collate_fn`` expects; `default_collate` gathers each tensor's rows in one step.

    >>> Rows([Tensor(np.arange(6))], [5, 1])[0]
    (tensor(5),)
    """

    def __init__(self, tensors: Sequence[Tensor], indices: Sequence[int]) -> None:
        self._tensors = tensors
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: Any) -> Any:
        if isinstance(position, slice):
            return Rows(self._tensors, self._indices[position])
        return tuple(t[self._indices[position]] for t in self._tensors)

    def columns(self, empty: Callable[..., Any]) -> list[Tensor]:
        """Each tensor's rows as one tensor, written into memory from ``empty(shape, dtype)``."""
        rows = np.asarray(self._indices)
        return [Tensor(_gather(t._array, rows, empty)) for t in self._tensors]


def _gather(array: Any, rows: Any, empty: Callable[..., Any]) -> Any:
    length = len(array)
    if len(rows) and not (-length <= rows.min() and rows.max() < length):
        bad = rows.min() if rows.min() < -length else rows.max()
        msg = f"TensorDataset: index {bad} is out of range for {length} samples"
        raise IndexError(msg)
    out = empty((len(rows), *array.shape[1:]), array.dtype)
    # In bounds by now; "raise" would go through a buffer, for the sake of an `out` left whole.
    return np.take(array, rows, axis=0, out=out, mode="wrap")


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Samples that are rows: ``dataset[i]`` is the tuple of each tensor's row ``i``.

    Arrays are taken as tensors that share their memory. ValueError for tensors of different lengths.

    >>> import tensor as T
    >>> TensorDataset(T.arange(3), T.eye(3))[1]
    (tensor(1), tensor([0., 1., 0.]))
    """

    def __init__(self, *tensors: Any) -> None:
        self.tensors = tuple(t if isinstance(t, Tensor) else Tensor(np.asarray(t)) for t in tensors)
        lengths = [len(t) if t.ndim else None for t in self.tensors]
        if not lengths or None in lengths or len(set(lengths)) > 1:
            msg = f"TensorDataset: expected tensors of one length, got shapes {[list(t.shape) for t in self.tensors]}"
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def __getitems__(self, indices: Sequence[int]) -> Sequence[tuple[Tensor, ...]]:
        """The samples at ``indices``, gathered at once where nothing but the rows is wanted."""
        if all(t._node is None and t._array.__class__ is np.ndarray for t in self.tensors):
            return Rows(self.tensors, indices)
        return [self[i] for i in indices]


def _length(dataset: Any, who: str) -> int:
    try:
        return len(dataset)
    except TypeError:
        msg = f"{who}: expected datasets with a length, got {type(dataset).__name__}"
        raise TypeError(msg) from None


class ConcatDataset(Dataset[T_co]):
    """Datasets one behind the other.

    >>> ConcatDataset(["ab", "cd"])[-1]
    'd'
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            msg = "ConcatDataset: expected at least one dataset, got none"
            raise ValueError(msg)
        self.cumulative_sizes = list(itertools.accumulate(_length(d, "ConcatDataset") for d in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> T_co:
        length = len(self)
        position = operator.index(index) + length if index < 0 else index
        if not 0 <= position < length:
            msg = f"ConcatDataset: index {index} is out of range for {length} samples"
            raise IndexError(msg)
        which = bisect.bisect_right(self.cumulative_sizes, position)
        before = self.cumulative_sizes[which - 1] if which else 0
        item: T_co = self.datasets[which][position - before]
        return item


class ChainDataset(IterableDataset[T_co]):
    """Streams one behind the other.

    >>> list(ChainDataset([range(2), range(1)]))
    [0, 1, 0]
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = datasets

    def __iter__(self) -> Iterator[T_co]:
        return itertools.chain.from_iterable(self.datasets)

    def __len__(self) -> int:
        return sum(_length(d, "ChainDataset") for d in self.datasets)


class StackDataset(Dataset[Any]):
    """Datasets side by side: ``dataset[i]`` is the tuple, or with keywords the dict, of each one's sample ``i``.

    >>> StackDataset(image=[10, 20], label="ab")[1]
    {'image': 20, 'label': 'b'}
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            msg = f"StackDataset: expected datasets either by position or by name, got {len(args)} and {len(kwargs)}"
            raise ValueError(msg)
        self.datasets: Any = args or kwargs
        lengths = [_length(d, "StackDataset") for d in (args or kwargs.values())]
        if len(set(lengths)) > 1:
            msg = f"StackDataset: expected datasets of one length, got {lengths}"
            raise ValueError(msg)
        self._len = lengths[0]

    def __len__(self) -> int:
        return self._len

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: d[index] for name, d in self.datasets.items()}
        return tuple(d[index] for d in self.datasets)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The samples at ``indices``, each dataset asked once where it offers that."""
        columns = [samples_at(d, indices) for d in (self.datasets.values() if isinstance(self.datasets, dict) else self.datasets)]
        if isinstance(self.datasets, dict):
            return [dict(zip(self.datasets, sample, strict=True)) for sample in zip(*columns, strict=True)]
        return list(zip(*columns, strict=True))


class Subset(Dataset[T_co]):
    """The samples of a dataset at the given indices.

    >>> list(Subset("abcd", [2, 0]))
    ['c', 'a']
    """

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> T_co:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]  # type: ignore[no-any-return]
        item: T_co = self.dataset[self.indices[index]]
        return item

    def __getitems__(self, indices: Sequence[int]) -> Sequence[T_co]:
        """The samples at ``indices``, the dataset asked once where it offers that."""
        samples: Sequence[T_co] = samples_at(self.dataset, [self.indices[i] for i in indices])
        return samples


def samples_at(dataset: Any, indices: Sequence[int]) -> Any:
    """The samples at ``indices``: by ``__getitems__`` where the dataset offers it, else one by one."""
    together = getattr(dataset, "__getitems__", None)
    return [dataset[i] for i in indices] if together is None else together(indices)


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset[Any]]:
    """Disjoint random subsets of the given lengths, which add up to the dataset's; or fractions, which add up to 1.

    What fractions leave over after rounding down goes to the first subsets, one sample each. ValueError for other sums.

    >>> [len(part) for part in random_split(range(10), [0.5, 0.25, 0.25])]
    [6, 2, 2]
    """
    total = _length(dataset, "random_split")
    counts = _counts(total, lengths)
    order = randperm(total, generator=generator).tolist()
    ends = list(itertools.accumulate(counts))
    return [Subset(dataset, order[end - count : end]) for count, end in zip(counts, ends, strict=True)]


def _counts(total: int, lengths: Sequence[float]) -> list[int]:
    if math.isclose(sum(lengths), 1) and all(0 <= f <= 1 for f in lengths):
        counts = [math.floor(total * f) for f in lengths]
        for i in range(total - sum(counts)):
            counts[i % len(counts)] += 1
        return counts
    if sum(lengths) != total or any(n < 0 or n != int(n) for n in lengths):
        msg = f"random_split: expected lengths that add up to {total}, or fractions that add up to 1, got {list(lengths)}"
        raise ValueError(msg)
    return [int(n) for n in lengths]
