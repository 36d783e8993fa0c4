"""Sequences of different lengths in one batch: padded to one length, or packed without padding.

Packed data is time-major: all first elements, then all second ones, ...; longer sequences come first, so the batch only shrinks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tensor import dtypes
from tensor.autograd.tensor import Tensor
from tensor.device import move
from tensor.ops.join import cat, stack

__all__ = [
    "PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence", "pad_sequence",
    "unpack_sequence", "unpad_sequence",
]  # fmt: skip


class _Packed(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Packed):
    """Sequences without padding: ``data`` [elements, ...] and ``batch_sizes``, how many sequences have an element at each step.

    ``sorted_indices`` brings the batch from the caller's order into that of decreasing length, ``unsorted_indices`` back. Made by
    `pack_padded_sequence` or `pack_sequence`; recurrent layers take and return it.
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Tensor,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        if batch_sizes is None:
            msg = "PackedSequence: expected batch_sizes, got None; use pack_sequence or pack_padded_sequence"
            raise ValueError(msg)
        if batch_sizes.is_cuda:
            msg = f"PackedSequence: expected batch_sizes on the CPU, got {batch_sizes.device}"
            raise ValueError(msg)
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The same with the data converted, and the indices on the same device; arguments as for `Tensor.to`."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        orders = (None if i is None else i.to(data.device) for i in (self.sorted_indices, self.unsorted_indices))
        return PackedSequence(data, self.batch_sizes, *orders)

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The same on a CUDA device."""
        return self if self.is_cuda else self.to("cuda", *args, **kwargs)

    def cpu(self) -> PackedSequence:
        """The same on the CPU."""
        return self.to("cpu")

    def double(self) -> PackedSequence:
        """The same with float64 data."""
        return self.to(dtype=dtypes.float64)

    def float(self) -> PackedSequence:
        """The same with float32 data."""
        return self.to(dtype=dtypes.float32)

    def half(self) -> PackedSequence:
        """The same with float16 data."""
        return self.to(dtype=dtypes.float16)

    def long(self) -> PackedSequence:
        """The same with int64 data."""
        return self.to(dtype=dtypes.int64)

    @property
    def is_cuda(self) -> bool:
        """Whether the data lives on a CUDA device."""
        return self.data.is_cuda


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that takes another back; None for None.

    >>> import tensor as T
    >>> invert_permutation(T.tensor([2, 0, 1]))
    tensor([1, 2, 0])
    """
    return None if permutation is None else permutation.argsort()


def _lengths(lengths: Any) -> Any:
    """Lengths as a NumPy array, from a tensor or numbers."""
    return np.asarray(lengths.cpu().numpy() if isinstance(lengths, Tensor) else list(lengths), np.int64)


def _on(array: Any, like: Tensor) -> Tensor:
    return Tensor(move(array, like.device))


def _time_major(lengths: Any, steps: int) -> Any:
    """Where the elements are in a padded [steps * batch], those of step 0 first."""
    return np.flatnonzero(np.arange(steps)[:, None] < lengths)


def pack_padded_sequence(input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> PackedSequence:
    """Pack padded sequences [steps, batch, ...] ([batch, steps, ...] with ``batch_first``) of the given lengths.

    Lengths must not increase along the batch, unless ``enforce_sorted`` is False: then the batch is sorted, and whoever takes the
    result sorts back. Raises RuntimeError for lengths that are no positive numbers up to ``steps``, or not one for each sequence.

    >>> import tensor as T
    >>> pack_padded_sequence(T.tensor([[1, 4], [2, 5], [3, 0]]), [3, 2]).data
    tensor([1, 4, 2, 5, 3])
    """
    x = input.transpose(0, 1) if batch_first else input
    n = _lengths(lengths)
    steps, batch = x.shape[:2]
    if n.shape != (batch,):
        msg = f"pack_padded_sequence: expected {batch} lengths, one for each sequence, got {list(n.shape)}"
        raise RuntimeError(msg)
    if not batch or n.min() <= 0 or n.max() > steps:
        msg = f"pack_padded_sequence: expected lengths from 1 to {steps}, got {n.tolist()}"
        raise RuntimeError(msg)
    order = None
    if not enforce_sorted:
        by_length = np.argsort(-n, kind="stable")
        order, n = _on(by_length, x), n[by_length]
        x = x.index_select(1, order)
    elif (n[1:] > n[:-1]).any():
        msg = f"pack_padded_sequence: expected lengths that do not increase, got {n.tolist()}, or enforce_sorted=False"
        raise RuntimeError(msg)
    longest = int(n[0])
    flat = x.reshape(steps * batch, *x.shape[2:])
    data = flat if n[-1] == steps else flat.index_select(0, _on(_time_major(n, longest), x))
    return PackedSequence(data, Tensor((np.arange(longest)[:, None] < n).sum(1)), order)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Undo `pack_padded_sequence`: the padded tensor and the lengths, in the caller's order.

    ``total_length`` pads further than the longest sequence; ValueError when it is shorter.

    >>> import tensor as T
    >>> packed = pack_sequence([T.tensor([1, 2, 3]), T.tensor([4])])
    >>> padded, lengths = pad_packed_sequence(packed, batch_first=True)
    >>> padded
    tensor([[1, 2, 3],
            [4, 0, 0]])
    >>> lengths
    tensor([3, 1])
    """
    data, batch_sizes, _, unsorted = sequence
    sizes = batch_sizes.numpy()
    steps, batch = len(sizes), int(sizes[0])
    if total_length is not None:
        if total_length < steps:
            msg = f"pad_packed_sequence: expected total_length of at least the longest sequence's {steps}, got {total_length}"
            raise ValueError(msg)
        steps = total_length
    lengths = (sizes[:, None] > np.arange(batch)).sum(0)
    padding = data.new_full((steps * batch, *data.shape[1:]), padding_value)
    padded = padding.index_copy(0, _on(_time_major(lengths, steps), data), data).reshape(steps, batch, *data.shape[1:])
    found = Tensor(lengths)
    if unsorted is not None:
        padded, found = padded.index_select(1, unsorted), found[unsorted.cpu()]
    return (padded.transpose(0, 1) if batch_first else padded), found


def pad_sequence(
    sequences: Iterable[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Sequences [length, ...] stacked to [longest, batch, ...] ([batch, longest, ...] with ``batch_first``).

    Padding comes after the elements, or before them (``padding_side="left"``). Raises RuntimeError without sequences.

    >>> import tensor as T
    >>> pad_sequence([T.tensor([1, 2, 3]), T.tensor([4])], batch_first=True)
    tensor([[1, 2, 3],
            [4, 0, 0]])
    """
    if padding_side not in ("left", "right"):
        msg = f"pad_sequence: expected padding_side 'left' or 'right', got {padding_side!r}"
        raise ValueError(msg)
    rows = list(sequences)
    if not rows:
        msg = "pad_sequence: expected at least one sequence, got none"
        raise RuntimeError(msg)
    longest = max(len(s) for s in rows)

    def padded(s: Tensor) -> Tensor:
        if len(s) == longest:
            return s
        filling = s.new_full((longest - len(s), *s.shape[1:]), padding_value)
        return cat([s, filling] if padding_side == "right" else [filling, s])

    return stack([padded(s) for s in rows], 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The sequences of a padded batch, each of its own length: `pad_sequence` undone.

    >>> import tensor as T
    >>> unpad_sequence(T.tensor([[1, 2, 3], [4, 0, 0]]), [3, 1], batch_first=True)
    [tensor([1, 2, 3]), tensor([4])]
    """
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[: int(n)] for row, n in zip(rows, _lengths(lengths), strict=True)]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences [length, ...]; from the longest to the shortest, unless ``enforce_sorted`` is False.

    >>> import tensor as T
    >>> pack_sequence([T.tensor([1]), T.tensor([2, 3])], enforce_sorted=False).data
    tensor([2, 1, 3])
    """
    return pack_padded_sequence(pad_sequence(sequences), [len(s) for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a packed batch, in the caller's order: `pack_sequence` undone.

    >>> import tensor as T
    >>> unpack_sequence(pack_sequence([T.tensor([1]), T.tensor([2, 3])], enforce_sorted=False))
    [tensor([1]), tensor([2, 3])]
    """
    padded, lengths = pad_packed_sequence(packed_sequences)
    return unpad_sequence(padded, lengths)
