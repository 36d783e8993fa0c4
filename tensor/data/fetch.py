"""From indices, or from a stream, to one batch: the same in the main process and in a worker."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tensor.data.dataset import IterableDataset, samples_at

__all__ = ["END", "Fetcher", "Recipe"]

#: What a fetcher gives when its stream is through.
END = object()


class Fetcher(Protocol):
    """Gives batches; a stream's also skips some, and tells its state."""

    def fetch(self, indices: Any) -> Any:
        """The next batch, of the samples at ``indices`` where there are such; or END."""

    #: Whether a stream is known to be through: its last batch came short.
    through: bool

    def skip(self) -> None:
        """Take the samples of the next batch, and drop them."""

    def state(self) -> Any:
        """What the dataset calls its position; None where it has no name for it."""


@dataclass(frozen=True)
class Recipe:
    """What a batch is made of. ``batch_size`` None: no batches, single samples."""

    dataset: Any
    collate_fn: Callable[[Any], Any]
    batched: bool
    batch_size: int | None
    drop_last: bool

    def fetcher(self, collate_fn: Callable[[Any], Any], state: Any = None) -> Fetcher:
        """One epoch's source of batches; a stream begins at ``state``."""
        if isinstance(self.dataset, IterableDataset):
            return _FromStream(self, collate_fn, state)
        return _FromIndices(self.dataset, collate_fn, self.batched)


class _FromIndices:
    through = False

    def __init__(self, dataset: Any, collate_fn: Callable[[Any], Any], batched: bool) -> None:
        self._dataset, self._collate, self._batched = dataset, collate_fn, batched

    def fetch(self, indices: Any) -> Any:
        return self._collate(samples_at(self._dataset, indices) if self._batched else self._dataset[indices])

    def skip(self) -> None:
        """Nothing: where to go on is a matter of the indices."""

    def state(self) -> None:
        """None: a dataset with an index has no position."""


class _FromStream:
    def __init__(self, recipe: Recipe, collate_fn: Callable[[Any], Any], state: Any) -> None:
        dataset = recipe.dataset
        if state is not None and hasattr(dataset, "load_state_dict"):
            dataset.load_state_dict(state)
        self._iterator = iter(dataset)
        if state is not None and not hasattr(dataset, "load_state_dict"):
            self._iterator.load_state_dict(state)
        self._owner: Any = next((x for x in (dataset, self._iterator) if hasattr(x, "state_dict")), None)
        self._recipe, self._collate = recipe, collate_fn
        self.through = False

    def _samples(self) -> Any:
        if not self._recipe.batched:
            return next(self._iterator, END)
        size = self._recipe.batch_size or 1
        samples = list(itertools.islice(self._iterator, size))
        self.through = len(samples) < size
        return END if not samples or (self._recipe.drop_last and len(samples) < size) else samples

    def fetch(self, indices: Any) -> Any:
        samples = self._samples()
        return END if samples is END else self._collate(samples)

    def skip(self) -> None:
        self._samples()

    def state(self) -> Any:
        return None if self._owner is None else self._owner.state_dict()
