"""Lost, repeated and reordered samples, told by their sequence numbers."""

from __future__ import annotations

__all__ = ["Tracker"]

#: How far back a late sample is still known from a repeated one.
WINDOW = 4096
#: Epochs of one topic that are remembered: publishers that live side by side, and the one before a restart.
EPOCHS = 8


class _Epoch:
    def __init__(self, first: int, lost: int) -> None:
        self.high = self.swept = first
        self.missing = set(range(max(first - WINDOW, first - lost), first))
        #: Before a late joiner's first sample: not lost, as nobody listened, but welcome.
        self.early = set() if lost else set(range(max(0, first - 64), first))


class Tracker:
    """Counts of one topic: ``lost``, ``duplicates``, ``reordered``, ``restarts``.

    >>> tracker = Tracker()
    >>> [tracker.admit(7, sequence) for sequence in (0, 1, 4, 3, 3)]
    [0, 0, 2, -1, None]
    >>> tracker.lost, tracker.reordered, tracker.duplicates
    (1, 1, 1)
    """

    def __init__(self) -> None:
        self.lost = self.duplicates = self.reordered = self.restarts = 0
        self._epochs: dict[int, _Epoch] = {}

    def admit(self, epoch: int, sequence: int) -> int | None:
        """By how much ``lost`` changed; None for a repeated sample, which is to be dropped."""
        known = self._epochs.get(epoch)
        if known is None:
            return self._begin(epoch, sequence)
        if sequence == known.high + 1:
            known.high = sequence
            return 0
        if sequence > known.high:
            gap = sequence - known.high - 1
            known.missing.update(range(max(known.high + 1, sequence - WINDOW), sequence))
            known.high = sequence
            if sequence - known.swept > WINDOW:
                known.missing = {number for number in known.missing if number >= sequence - WINDOW}
                known.swept = sequence
            self.lost += gap
            return gap
        if sequence in known.missing:
            known.missing.discard(sequence)
            self.reordered += 1
            self.lost -= 1
            return -1
        if sequence in known.early:
            known.early.discard(sequence)
            self.reordered += 1
            return 0
        self.duplicates += 1
        return None

    def _begin(self, epoch: int, sequence: int) -> int:
        """A publisher's first sample here. Of one that began while we listened, those before it are lost."""
        lost = sequence if self._epochs else 0
        self.restarts += bool(self._epochs)
        self._epochs[epoch] = _Epoch(sequence, lost)
        if len(self._epochs) > EPOCHS:
            del self._epochs[next(iter(self._epochs))]
        self.lost += lost
        return lost
