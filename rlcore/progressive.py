"""Progressive validation: each sample is predicted first and learnt from afterwards, so that a whole stream is a test set."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rlcore.types import Learner
from tensor.structure import Adwin

__all__ = ["Progress", "progressive"]


@dataclass
class Progress:
    """How good predictions were so far. A figure that makes no sense for the target (of a name, of a number) is NaN.

    >>> progress = Progress()
    >>> for wanted, got in ((True, True), (False, True)): progress.add(wanted, got)
    >>> progress.accuracy
    0.5
    """

    samples: int = 0  #: whose answer is known
    waiting: int = 0  #: whose answer is not known yet
    right: int = 0
    absolute: float = 0.0  #: sum of absolute errors
    squared: float = 0.0  #: sum of squared errors
    drifts: list[int] = field(default_factory=list)  #: numbers of the samples at which the error has changed, by ADWIN
    _adwin: Adwin = field(default_factory=Adwin, repr=False)
    _numbers: bool = field(default=False, repr=False)

    @property
    def accuracy(self) -> float:
        """The part of all predictions that was right."""
        return self.right / self.samples if self.samples and not self._numbers else math.nan

    @property
    def mean_absolute_error(self) -> float:
        """In the target's units."""
        return self.absolute / self.samples if self._numbers else math.nan

    @property
    def root_mean_squared_error(self) -> float:
        """In the target's units."""
        return math.sqrt(self.squared / self.samples) if self._numbers else math.nan

    def add(self, wanted: Any, got: Any) -> None:
        """Compare a prediction with what came."""
        self.samples += 1
        self._numbers = isinstance(wanted, float)
        if self._numbers:
            error = abs(float(got) - wanted)
            self.absolute += error
            self.squared += error * error
        else:
            error = float(got != wanted)
            self.right += not error
        if self._adwin.update(error):
            self.drifts.append(self.samples)


def progressive(
    learner: Learner,
    samples: Iterable[tuple[Any, Any]],
    *,
    delay: float | Callable[[Any, Any], float] = 0,
    moment: Callable[[Any], float] | None = None,
    every: int | None = None,
) -> Iterator[Progress]:
    """Predict each sample, learn from it when its answer comes, and tell how it goes.

    Args:
        learner: what predicts and learns.
        samples: pairs of sample and answer, in the order of the samples. Answers that are floats are numbers to be met as nearly
            as possible; all others are classes.
        delay: how long after a sample its answer comes, in the unit of ``moment``, or a function of both that says so. Until then
            the learner predicts without it. Answers come in order of the time at which they come.
        moment: of a sample; by default its number in the stream.
        every: how many answers to learn from between two reports; None reports once, at the end.

    Yields:
        The same `Progress`, which grows: every ``every`` answers, and at the end.

    Raises:
        ValueError: a negative delay.

    >>> from agents.supervised import OnlineClassifier
    >>> stream = [({"x": k % 2}, bool(k % 2)) for k in range(400)]
    >>> (end,) = progressive(OnlineClassifier(), stream, delay=10)
    >>> end.samples, end.waiting, end.accuracy > 0.9
    (400, 0, True)
    """
    progress, order = Progress(), itertools.count()
    waiting: list[tuple[float, int, Any, Any, Any]] = []  # when the answer comes, a number, sample, answer, prediction

    def answer() -> bool:
        _, _, x, y, predicted = heapq.heappop(waiting)
        progress.add(y, predicted)
        learner.learn_one(x, y)
        progress.waiting = len(waiting)
        return every is not None and progress.samples % every == 0

    for number, (x, y) in enumerate(samples):
        now = float(number) if moment is None else moment(x)
        while waiting and waiting[0][0] <= now:
            if answer():
                yield progress
        later = delay(x, y) if callable(delay) else delay
        if later < 0:
            msg = f"progressive: expected a delay of at least 0, got {later} for sample {number}"
            raise ValueError(msg)
        heapq.heappush(waiting, (now + later, next(order), x, y, learner.predict_one(x)))
        if later == 0 and answer():
            yield progress
        progress.waiting = len(waiting)
    while waiting:
        if answer():
            yield progress
    if every is None or progress.samples % every or not progress.samples:
        yield progress
