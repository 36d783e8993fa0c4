"""Edits on trial: the returns before and after, what is shown by them, and where to go back to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rlcore.living.plan import TrialOptions
from rlcore.types import State

__all__ = ["Returns", "Trial", "Trials", "interval"]

#: Where the returns leave it open, a trial takes twice as many episodes, and again; then the means decide.
DOUBLINGS = 2
#: How many of the edits that were kept last can still be taken back.
DEPTH = 3


def interval(before: Sequence[float], after: Sequence[float], confidence: float) -> tuple[float, float]:
    """Between what bounds the difference of two means lies (Welch's t interval); everything, of a single return.

    >>> low, high = interval([100.0, 90.0, 110.0], [120.0, 100.0, 110.0], 0.95)
    >>> round(low, 1), round(high, 1)
    (-12.7, 32.7)
    >>> interval([500.0] * 3, [480.0] * 3, 0.95)
    (-20.0, -20.0)
    """
    from scipy.special import stdtrit  # slow to import, and most runs have no trials

    n, m = len(before), len(after)
    if min(n, m) < 2:
        return -math.inf, math.inf
    difference = statistics.fmean(after) - statistics.fmean(before)
    a, b = statistics.variance(before) / n, statistics.variance(after) / m
    if a + b == 0:
        return difference, difference
    freedom = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1))
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * math.sqrt(a + b)
    return difference - half, difference + half


class Returns:
    """Returns of the episodes that began after a moment: what was under way then counts for neither side."""

    def __init__(self, under_way: Sequence[int], values: Sequence[float] = ()) -> None:
        self.under_way = set(under_way)  #: environments whose next episode to end began before
        self.values = list(values)

    def add(self, index: int, reward: float) -> bool:
        """The end of an environment's episode; whether it counts."""
        if index in self.under_way:
            self.under_way.remove(index)
            return False
        self.values.append(reward)
        return True

    def state_dict(self) -> State:
        """Everything."""
        return {"under_way": sorted(self.under_way), "values": list(self.values)}


@dataclass
class Trial:
    """Edits of one look that have yet to prove themselves; or, with ``again``, the network from before such edits.

    >>> trial = Trial(0, [0], 0, [100.0, 98.0, 102.0], {}, episodes=3, tolerance=0.05, confidence=0.95)
    >>> for reward in (93.0, 91.0, 86.0):  # lower by 10, with an interval from 3 to 17: left open
    ...     trial.add(0, reward)
    >>> trial.kept
    >>> for reward in (90.0, 88.0, 91.0):
    ...     trial.add(0, reward)
    >>> trial.kept, trial.verdict
    (False, 'mean return 89.83 of 6 episodes, 100 before')
    """

    rule: int  #: its number, from 0
    numbers: list[int]  #: of the edits on trial
    first: int  #: the number of the first edit that a rollback takes back
    before: list[float]  #: the returns to hold
    snapshot: State  #: of the agent right before
    episodes: int
    tolerance: float
    confidence: float
    again: bool = False
    after: Returns = field(default_factory=lambda: Returns(()))
    kept: bool | None = None  #: None while it is open

    def add(self, index: int, reward: float) -> None:
        """The end of an environment's episode; those after the decision are left out."""
        if self.kept is None and self.after.add(index, reward):
            doublings, rest = divmod(len(self.after.values), self.episodes)
            if rest == 0 and doublings in (2**n for n in range(DOUBLINGS + 1)):
                self.kept = self._decide(self.after.values, last=doublings == 2**DOUBLINGS)

    def _decide(self, after: Sequence[float], *, last: bool) -> bool | None:
        margin = self.tolerance * abs(statistics.fmean(self.before))
        low, high = interval(self.before, after, self.confidence)
        if low + margin >= 0 or high + margin < 0:
            return low + margin >= 0
        return statistics.fmean(after) - statistics.fmean(self.before) + margin >= 0 if last else None

    def close(self) -> None:
        """No more episodes will end: the means decide, and without any an edit has proved nothing."""
        if self.kept is None:
            self.kept = bool(self.after.values) and self._decide(self.after.values, last=True)

    def lost(self, returns: Sequence[float]) -> bool:
        """Whether the last of other returns are shown to be lower than those to hold, by more than is tolerated."""
        return len(returns) >= self.episodes and self._decide(returns[-self.episodes :], last=False) is False

    @property
    def mean(self) -> float | None:
        """The mean return so far."""
        return statistics.fmean(self.after.values) if self.after.values else None

    @property
    def verdict(self) -> str:
        """The figures, for people."""
        return said(self.after.values, self.before)

    def state_dict(self) -> State:
        """Everything."""
        plain = {name: value for name, value in vars(self).items() if name != "after"}
        return {**plain, "after": self.after.state_dict()}

    @classmethod
    def of(cls, state: State) -> Trial:
        """What `state_dict` told of."""
        return cls(**{**state, "after": Returns(**state["after"])})


def said(after: Sequence[float], before: Sequence[float]) -> str:
    """Two means, for people."""
    if not after:
        return "no episode ended while it was on trial"
    return f"mean return {statistics.fmean(after):.4g} of {len(after)} episodes, {statistics.fmean(before):.4g} before"


class Trials:
    """What is on trial, what was kept last and may still go back, and the returns of the networks as they are.

    Harm may show later than a trial lasts, and what a rollback restores may be harmed already. So the edits kept last can go
    back, too: where the return has fallen since, and where it does not come back after a rollback, which is on trial itself.
    """

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.now: Trial | None = None
        self.kept: list[Trial] = []
        self.returns = Returns(())

    def add(self, index: int, reward: float) -> None:
        """The end of an environment's episode."""
        self.returns.add(index, reward)
        if self.now is not None:
            self.now.add(index, reward)

    def changed(self) -> None:
        """The networks have another structure: earlier returns are not theirs."""
        self.returns = Returns(range(self.num_envs))

    def forget(self) -> None:
        """What was kept can no longer go back."""
        self.kept.clear()

    def ready(self, options: TrialOptions) -> bool:
        """Whether enough episodes of the networks as they are have ended to compare with."""
        return len(self.returns.values) >= options.episodes

    def begin(self, options: TrialOptions, **given: Any) -> None:
        """An edit was just made, under a rule's options."""
        named = {key: value for key, value in asdict(options).items() if key != "rest"}
        before = self.returns.values[-options.episodes :]
        self.changed()
        self.now = Trial(before=before, after=Returns(range(self.num_envs)), **named, **given)

    def end(self) -> Trial | None:
        """Take the trial off that is decided, if any; what is kept counts on."""
        trial = self.now
        if trial is None or trial.kept is None:
            return None
        self.now = None
        if trial.kept and not trial.again:
            self.kept = [*self.kept, trial][-DEPTH:]
        return trial

    def harmed(self, rule: int) -> Trial | None:
        """`fallen`, of the networks as they are, where the edit kept last is a rule's and nothing is on trial."""
        if self.now is not None or not self.kept or self.kept[-1].rule != rule:
            return None
        return self.fallen(self.returns.values)

    def fallen(self, returns: Sequence[float]) -> Trial | None:
        """The edit kept last, where returns are shown to be lower than those before it; it is no longer kept."""
        return self.kept.pop() if self.kept and self.kept[-1].lost(returns) else None

    def gone_back(self, to: Trial) -> None:
        """The networks are again those from before an edit, which have to prove that."""
        self.changed()
        self.now = replace(to, again=True, kept=None, after=Returns(range(self.num_envs)))

    def state_dict(self) -> State:
        """Everything."""
        now = None if self.now is None else self.now.state_dict()
        return {"now": now, "kept": [trial.state_dict() for trial in self.kept], "returns": self.returns.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` gave."""
        self.now = None if state["now"] is None else Trial.of(state["now"])
        self.kept = [Trial.of(trial) for trial in state["kept"]]
        self.returns = Returns(**state["returns"])
