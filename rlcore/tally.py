"""What the runner counts while it trains; part of the checkpoint, so that a resumed run goes on counting."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from rlcore.logging.base import Record
from rlcore.types import EpisodeEnd, Metrics

__all__ = ["Tally"]

_WINDOW = 100


class Tally:
    """Steps, episodes, and the figures that wait for the next record.

    >>> tally = Tally()
    >>> tally.steps = 12
    >>> tally.add_episodes([EpisodeEnd(0, 20.0, 12)])
    >>> tally.add_metrics({"loss": 1.0}); tally.add_metrics({"loss": 3.0})
    >>> record = tally.take_record(seconds=0.5)
    >>> record.mean_return, record.lengths, record.metrics
    (20.0, [12], {'loss': 2.0})
    """

    def __init__(self) -> None:
        self.steps = 0  #: environment steps taken
        self.episodes = 0  #: episodes finished
        self.recorded = 0  #: the step of the last record
        self._window: deque[float] = deque(maxlen=_WINDOW)
        self._returns: list[float] = []
        self._lengths: list[int] = []
        self._metrics: dict[str, list[float]] = {}  # name -> [sum, count]
        self._edits: list[dict[str, Any]] = []
        self._outcomes: list[dict[str, Any]] = []

    @property
    def mean_return(self) -> float | None:
        """Mean return of the last 100 episodes; None before the first has finished."""
        return sum(self._window) / len(self._window) if self._window else None

    def add_episodes(self, episodes: Iterable[EpisodeEnd]) -> None:
        """Count finished episodes."""
        for episode in episodes:
            self.episodes += 1
            self._window.append(float(episode.total_reward))
            self._returns.append(float(episode.total_reward))
            self._lengths.append(int(episode.length))

    def add_metrics(self, metrics: Metrics) -> None:
        """Take in the metrics of one update."""
        for name, value in metrics.items():
            pair = self._metrics.setdefault(name, [0.0, 0])
            pair[0] += float(value)
            pair[1] += 1

    def add_edits(self, edits: Iterable[dict[str, Any]], outcomes: Iterable[dict[str, Any]]) -> None:
        """Take in edits of the agent's networks, and what became of earlier ones, each as it is now."""
        self._edits += [dict(edit) for edit in edits]
        self._outcomes += [dict(outcome) for outcome in outcomes]

    def take_record(self, seconds: float) -> Record:
        """The record of everything since the last one, which is then forgotten."""
        metrics = {name: total / count for name, (total, count) in self._metrics.items()}
        events = self._edits, self._outcomes
        record = Record(self.steps, seconds, self.episodes, self._returns, self._lengths, self.mean_return, metrics, *events)
        self._returns, self._lengths, self._metrics, self._edits, self._outcomes = [], [], {}, [], []
        self.recorded = self.steps
        return record

    def state_dict(self) -> dict[str, Any]:
        """Everything, for the checkpoint."""
        return {
            "steps": self.steps,
            "episodes": self.episodes,
            "recorded": self.recorded,
            "window": list(self._window),
            "returns": list(self._returns),
            "lengths": list(self._lengths),
            "metrics": {name: list(pair) for name, pair in self._metrics.items()},
            "events": [[dict(event) for event in events] for events in (self._edits, self._outcomes)],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.steps, self.episodes, self.recorded = state["steps"], state["episodes"], state["recorded"]
        self._window = deque(state["window"], maxlen=_WINDOW)
        self._returns, self._lengths = list(state["returns"]), list(state["lengths"])
        self._metrics = {name: list(pair) for name, pair in state["metrics"].items()}
        self._edits, self._outcomes = ([dict(event) for event in events] for events in state.get("events", ((), ())))
