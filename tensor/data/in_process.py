"""One epoch of a loader, made in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tensor.data.fetch import END, Recipe
from tensor.data.position import Position

__all__ = ["InProcess"]


class InProcess:
    """Makes a batch when it is asked for one."""

    def __init__(self, recipe: Recipe, tasks: Iterator[Any], position: Position) -> None:
        self._position = position
        self._tasks = iter(()) if position.ended[0] else tasks
        (state,) = position.datasets
        self._fetcher = recipe.fetcher(recipe.collate_fn, state)
        if state is None:
            for _ in range(position.total):
                self._fetcher.skip()
        position.ask = self._fetcher.state

    def __iter__(self) -> InProcess:
        return self

    def __next__(self) -> Any:
        position = self._position
        indices = next(self._tasks, END)
        if indices is not END and not position.over:
            position.taken[0] += 1
            batch = self._fetcher.fetch(indices)
            position.ended[0] = self._fetcher.through
            if batch is not END:
                return batch
        position.over = True
        raise StopIteration
