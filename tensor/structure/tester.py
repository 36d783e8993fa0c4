"""Which units matter least: the bookkeeping of continual backprop, on arrays of [..., units]."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Tester"]


class Tester:
    """The test of generate-and-test (Dohare et al., Nature 632, 2024): which units are due to start anew.

    ``shape`` is [..., units]; leading axes are networks of their own, such as seeds side by side. A unit's utility is a running
    mean (``decay``) of what it contributes. At each `update`, ``rate`` times the number of units older than ``maturity`` updates
    fall due, fractions adding up; they are the mature units of least utility, and never all of a network.

    >>> import numpy as np
    >>> tester = Tester((2, 3), rate=0.5, maturity=0)  # two networks of three units
    >>> tester.update(np.array([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]]))
    array([[False,  True, False],
           [ True, False, False]])
    """

    def __init__(self, shape: tuple[int, ...], rate: float = 1e-4, maturity: int = 100, decay: float = 0.99) -> None:
        self.rate, self.maturity, self.decay = rate, maturity, decay
        self.age = np.zeros(shape)
        self.utility = np.zeros(shape)
        self.due = np.zeros(shape[:-1])

    @property
    def correction(self) -> Any:
        """What a running mean that started at zero with its unit has to be divided by."""
        return 1 - self.decay**self.age

    def blend(self, mean: Any, value: Any) -> None:
        """Let a running mean take in another value, in place."""
        mean += (1 - self.decay) * (value - mean)

    def update(self, contribution: Any) -> Any:
        """Take in what units [..., units] contributed; a mask of those that are due, or None where none is."""
        self.age += 1
        self.blend(self.utility, contribution)
        mature = self.age > self.maturity
        old = mature.sum(-1)
        self.due += self.rate * old
        if self.due.max(initial=0) < 1:
            return None
        count = np.minimum(np.minimum(self.due.astype(np.intp), old), self.age.shape[-1] - 1)
        self.due -= count
        worth = np.where(mature, self.utility / self.correction, np.inf)
        rank = worth.argsort(-1, kind="stable").argsort(-1)
        mask = rank < count[..., None]
        return mask if mask.any() else None

    def renewed(self, mask: Any) -> None:
        """Units that have started anew: of no age, and no utility yet."""
        self.age[mask] = 0
        self.utility[mask] = 0
