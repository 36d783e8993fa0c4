"""Which indices of which axes are one unit: labels that are united as a network is followed."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Units"]


class Units:
    """The outcome of following a network: ``labels`` of each parameter's and buffer's axes, and why some may not be edited."""

    def __init__(self) -> None:
        self._parent = np.arange(64)
        self._size = 0
        self._settled = False
        self.plain = False  #: whether this was read off a plain chain of layers, of which all is known
        self._blocked: list[tuple[Any, str]] = []
        self.there: Any = None  #: the network's `Listing`
        self.labels: dict[tuple[str, int], Any] = {}
        self.contracted: set[tuple[str, int]] = set()  #: axes of weights that are summed over: they consume units
        self.looked_up: set[tuple[str, int]] = set()  #: axes of tables whose rows are taken: they say what units are
        self.norms: dict[str, Any] = {}  #: labels of what norms without parameters take, by their paths

    def fresh(self, n: int) -> Any:
        """Labels for n new units."""
        start, self._size = self._size, self._size + n
        if self._size > self._parent.size:
            grown = np.arange(2 * self._size)
            grown[:start] = self._parent[:start]
            self._parent = grown
        return np.arange(start, self._size)

    def roots(self, labels: Any) -> Any:
        """For each label the one that stands for all that are one with it."""
        roots = self._parent[labels]
        while not self._settled:
            above = self._parent[roots]
            if (above == roots).all():
                break
            roots = above
        return roots

    def settle(self) -> Units:
        """No more will be united: from now on `roots` is one look."""
        self._parent = self.roots(np.arange(self._size))
        self._settled = True
        return self

    def unite(self, a: Any, b: Any, why: str) -> Any:
        """Make the units pairwise one, or where either is not followed, remember why; returns the labels that are known."""
        if a is None or b is None:
            self.block((a, b), why)
            return b if a is None else a
        while True:  # again, as one label may have had to go under several
            low, high = self.roots(a), self.roots(b)
            differ = low != high
            if not differ.any():
                return a
            low, high = low[differ], high[differ]
            self._parent[np.maximum(low, high)] = np.minimum(low, high)

    def block(self, axes: Any, why: str) -> None:
        """Remember why these units cannot be edited."""
        self._blocked += [(labels, why) for labels in axes if labels is not None]

    def mask(self, group: Any) -> Any:
        """Whether a root belongs to a group of roots, by its number."""
        mask = np.zeros(self._size, bool)
        mask[group] = True
        return mask

    def reasons(self, group: Any) -> set[str]:
        """Why the units of a group of roots cannot be edited; empty where they can."""
        mask = self.mask(group)
        return {why for labels, why in self._blocked if mask[self.roots(labels)].any()}
