"""Edits on trial: the return before and after, and what goes back where it has fallen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rlcore.living.plan import TrialOptions
from rlcore.types import State

__all__ = ["Trial"]


@dataclass
class Trial:
    """Edits of one look that have yet to prove themselves.

    >>> trial = Trial(0, [0], 0, 100.0, {}, episodes=2, tolerance=0.05)
    >>> for reward in (80.0, 100.0):
    ...     trial.add(reward)
    >>> trial.over, trial.failed, trial.verdict
    (True, True, 'mean return 90 of 2 episodes, 100 before')
    """

    rule: int  #: its number, from 0
    numbers: list[int]  #: of the edits on trial
    first: int  #: the number of the first edit that a rollback takes back
    before: float  #: the mean return of as many episodes before
    snapshot: State  #: of the agent right before
    episodes: int
    tolerance: float
    total: float = 0.0
    count: int = 0

    @classmethod
    def of(cls, options: TrialOptions, **given: Any) -> Trial:
        """A trial that begins, under a rule's options."""
        return cls(episodes=options.episodes, tolerance=options.tolerance, **given)

    def add(self, reward: float) -> None:
        """An episode's return; those beyond the last one that counts are left out."""
        if not self.over:
            self.total += reward
            self.count += 1

    @property
    def over(self) -> bool:
        """Whether enough episodes have ended."""
        return self.count >= self.episodes

    @property
    def mean(self) -> float | None:
        """The mean return so far."""
        return self.total / self.count if self.count else None

    @property
    def failed(self) -> bool:
        """Whether the return has fallen by more than is tolerated."""
        return self.mean is not None and self.mean < self.before - self.tolerance * abs(self.before)

    @property
    def verdict(self) -> str:
        """The figures, for people."""
        return f"mean return {self.mean or 0.0:.4g} of {self.count} episodes, {self.before:.4g} before"

    def state_dict(self) -> State:
        """Everything."""
        return {**asdict(self), "snapshot": self.snapshot, "numbers": list(self.numbers)}
