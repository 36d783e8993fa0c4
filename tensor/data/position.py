"""Where in an epoch a loader is: what it takes to be there again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Position"]

_FIELDS = ("start", "taken", "ended", "datasets", "turn")


@dataclass
class Position:
    """How the epoch began, and for each worker (or for the main process alone) how far its part has been taken.

    An epoch's order and seeds are functions of ``start``; so the position is that, and numbers of batches.
    """

    start: dict[str, Any]
    #: Batches taken from each worker.
    taken: list[int]
    #: Whether its stream is through.
    ended: list[bool]
    #: The dataset's own state after the last batch taken from it; None where it has none.
    datasets: list[Any]
    #: Whose batch is next.
    turn: int = 0
    base_seed: int = 0
    over: bool = False
    #: In the main process nothing is made ahead: the dataset's state is asked for when it is wanted.
    ask: Callable[[], Any] | None = None

    @classmethod
    def begin(cls, start: dict[str, Any], workers: int, resumed: Position | None) -> Position:
        """The beginning of an epoch; or a resumed position, for this number of workers."""
        if resumed is None:
            return cls(start, [0] * workers, [False] * workers, [None] * workers)
        if len(resumed.taken) == workers:
            return cls(start, list(resumed.taken), list(resumed.ended), list(resumed.datasets), resumed.turn)
        # Batch n is made by worker n % workers.
        done, more = divmod(resumed.total, workers)
        return cls(start, [done + (w < more) for w in range(workers)], [False] * workers, [None] * workers, more)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Position:
        """The position that `state_dict` wrote down. ValueError for anything else."""
        missing = [name for name in _FIELDS if name not in state]
        if missing:
            msg = f"load_state_dict: expected the state of a DataLoader, got one without {', '.join(missing)}"
            raise ValueError(msg)
        return cls(**{name: state[name] for name in _FIELDS})

    @property
    def total(self) -> int:
        """Batches taken from all workers."""
        return sum(self.taken)

    def state_dict(self) -> dict[str, Any]:
        """The position as plain values."""
        if self.ask is not None:
            self.datasets = [self.ask()]
        state = {name: getattr(self, name) for name in _FIELDS}
        return {name: list(value) if isinstance(value, list) else value for name, value in state.items()}
