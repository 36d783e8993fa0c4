"""What is logged, and the protocol of those who write it down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Logger", "Record"]


@dataclass(frozen=True, slots=True)
class Record:
    """The figures of the steps since the record before.

    >>> Record(step=1000, seconds=0.4, episodes=2, returns=[20.0, 30.0], lengths=[20, 30], mean_return=25.0).step
    1000
    """

    step: int  #: environment steps so far
    seconds: float  #: of training so far, over all sessions of the run
    episodes: int  #: finished so far
    returns: Sequence[float]  #: of the episodes that finished since the last record, unnormalised
    lengths: Sequence[int]  #: of the same episodes
    mean_return: float | None  #: mean return of the last 100 episodes; None before the first has finished
    metrics: Mapping[str, float] = field(default_factory=dict)  #: means over the updates since the last record
    edits: Sequence[Mapping[str, Any]] = ()  #: of the agent's networks since the last record; see `rlcore.living`
    outcomes: Sequence[Mapping[str, Any]] = ()  #: of earlier edits: the reward before and after, once the latter is known


class Logger(Protocol):
    """A place where records go."""

    def log(self, record: Record) -> None:
        """Write one record; it must have left the process when this returns."""
        ...

    def close(self) -> None:
        """Release files."""
        ...
