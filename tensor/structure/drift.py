"""ADWIN: a window over a stream that forgets what no longer holds (Bifet and Gavaldà, SDM 2007)."""

from __future__ import annotations

from math import log, sqrt

__all__ = ["Adwin"]


class Adwin:
    """The mean of the recent past, over as many values as seem to come from one distribution.

    `update` takes the next value and says whether the mean has changed: whether the window can be cut into two whose means differ
    by more than chance allows with a confidence of 1 - ``delta``; the older part is then dropped, and ``shift`` is by how much
    the newer is larger. Values are kept in buckets of 1, 2, 4, ... values, ``buckets`` of each size: memory and time grow with
    the logarithm of the window. Raises ValueError for a ``delta`` outside (0, 1).

    >>> detector = Adwin()
    >>> [i for i in range(400) if detector.update(0.0 if i < 200 else 1.0)][0] < 232
    True
    >>> round(detector.mean)
    1
    """

    def __init__(self, delta: float = 0.002, buckets: int = 5, every: int = 16, least: int = 5) -> None:
        if not 0 < delta < 1:
            msg = f"Adwin: expected 0 < delta < 1, got {delta}"
            raise ValueError(msg)
        self.delta, self.buckets, self.every, self.least = delta, buckets, every, least
        # For each size 2**k, the newest last: (sum, sum of squared distances from the bucket's mean).
        self._rows: list[list[tuple[float, float]]] = [[]]
        self.width = 0
        self._total = self._spread = 0.0
        self._seen = 0
        self.shift = 0.0

    @property
    def mean(self) -> float:
        """The mean over the window; 0 while it is empty."""
        return self._total / self.width if self.width else 0.0

    def update(self, value: float) -> bool:
        """Take a value in; True where the mean has changed."""
        value = float(value)
        if self.width:
            self._spread += self.width / (self.width + 1) * (value - self.mean) ** 2
        self._total += value
        self.width += 1
        self._rows[0].append((value, 0.0))
        self._merge()
        self._seen += 1
        changed = False
        while self._seen % self.every == 0 and self.width > 2 * self.least and self._differs():
            self._drop()
            changed = True
        return changed

    def _merge(self) -> None:
        """Two of the oldest of a size become one of the next."""
        for k, row in enumerate(self._rows):
            if len(row) <= self.buckets:
                return
            (a, v), (b, w) = row.pop(0), row.pop(0)
            n = 2**k
            if k + 1 == len(self._rows):
                self._rows.append([])
            self._rows[k + 1].append((a + b, v + w + (a - b) ** 2 / (2 * n)))

    def _differs(self) -> bool:
        """Whether some cut has means too far apart (Hoeffding's bound with the window's variance)."""
        variance = self._spread / self.width
        confidence = log(2 * log(max(self.width, 3)) / self.delta)
        n, total = 0, 0.0
        for k in range(len(self._rows) - 1, -1, -1):
            for bucket, _ in self._rows[k]:  # from the oldest
                n, total = n + 2**k, total + bucket
                rest = self.width - n
                if rest < self.least:
                    return False
                if n < self.least:
                    continue
                m = 1 / (1 / n + 1 / rest)
                bound = sqrt(2 / m * variance * confidence) + 2 / (3 * m) * confidence
                shift = (self._total - total) / rest - total / n
                if abs(shift) > bound:
                    self.shift = shift
                    return True
        return False

    def _drop(self) -> None:
        """Forget the oldest bucket."""
        k = len(self._rows) - 1
        total, spread = self._rows[k].pop(0)
        n = 2**k
        self.width -= n
        self._total -= total
        apart = total / n - self.mean
        self._spread = max(self._spread - spread - n * self.width / (n + self.width) * apart**2, 0.0) if self.width else 0.0
        while len(self._rows) > 1 and not self._rows[-1]:
            self._rows.pop()
