"""Rows of a table looked up by their number."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from tensor import dtypes
from tensor.autograd.inplace import bump
from tensor.autograd.tensor import Tensor
from tensor.ops.record import composite

__all__ = ["embedding", "embedding_bag", "one_hot"]


def _indices(who: str, input: Tensor, weight: Tensor) -> None:
    if input._array.dtype.kind not in "iu" or weight.ndim != 2:
        msg = f"{who}: expected integers and a table [rows, columns], got {input.dtype} and {list(weight.shape)}"
        raise RuntimeError(msg)
    a = input._array
    if a.size and not 0 <= a.min() <= a.max() < weight.shape[0]:
        msg = f"{who}: expected indices below {weight.shape[0]}, got {int(a.min())} to {int(a.max())}"
        raise IndexError(msg)


def _renormalise(weight: Tensor, rows: Any, max_norm: float, norm_type: float) -> None:
    """Scale the rows that are looked up, in place, to a norm of at most ``max_norm``."""
    rows = np.unique(rows)
    norms = Tensor(weight._array[rows]).norm(norm_type, dim=1, keepdim=True)._array
    weight._array[rows] *= np.where(norms > max_norm, max_norm / (norms + 1e-7), 1).astype(weight._array.dtype)
    bump(weight)


def _share_by_frequency(rows: Tensor, index: Any, count: int) -> Tensor:
    """The same rows, with gradients divided by how often each is looked up."""
    counts = np.bincount(index.reshape(-1), minlength=count).clip(1)
    share = Tensor((1.0 / counts[index]).astype(rows._array.dtype)).unsqueeze(-1)
    return rows * share + (rows * (1 - share)).detach()


def _row(who: str, padding_idx: int, count: int) -> int:
    if not -count <= padding_idx < count:
        msg = f"{who}: expected a padding_idx within {count} rows, got {padding_idx}"
        raise RuntimeError(msg)
    return padding_idx % count


@composite(method=False, name="nn.functional.embedding")
def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of ``weight`` at the indices: integers [...] to [..., columns]. The row of ``padding_idx`` gets no gradient.

    ``max_norm`` first scales rows with a larger norm down, in the table itself; ``scale_grad_by_freq`` divides the gradient of a
    row by how often it is looked up. ``sparse`` is taken for PyTorch's sake: gradients are dense.
    """
    _indices("embedding", input, weight)
    if max_norm is not None:
        _renormalise(weight, input._array, max_norm, norm_type)
    if padding_idx is not None:
        fixed = weight.new_zeros((weight.shape[0], 1), dtype=dtypes.bool_)
        fixed._array[_row("embedding", padding_idx, weight.shape[0])] = True
        weight = weight.detach().where(fixed, weight)
    rows = weight[input]
    return _share_by_frequency(rows, input._array, weight.shape[0]) if scale_grad_by_freq and rows.requires_grad else rows


def _bags(input: Tensor, offsets: Tensor | None, include_last_offset: bool) -> tuple[Any, int]:
    """The bag of each index, and how many bags there are."""
    if input.ndim == 2:
        if offsets is not None:
            msg = "embedding_bag: expected no offsets for a matrix of indices, whose rows are the bags"
            raise ValueError(msg)
        return np.arange(input.numel(), like=input._array) // max(input.shape[1], 1), input.shape[0]
    if input.ndim != 1 or offsets is None or offsets.ndim != 1:
        msg = f"embedding_bag: expected a matrix of indices, or a vector with a vector of offsets, got {list(input.shape)}"
        raise ValueError(msg)
    starts = offsets._array
    if starts.size and (starts[0] != 0 or starts[-1] > input.numel() or (starts[1:] < starts[:-1]).any()):
        msg = f"embedding_bag: expected offsets that rise from 0 to at most {input.numel()}, got {starts.tolist()}"
        raise ValueError(msg)
    if include_last_offset:
        starts = starts[:-1]
    return np.searchsorted(starts, np.arange(input.numel(), like=starts), side="right") - 1, len(starts)


@composite(method=False, name="nn.functional.embedding_bag")
def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The "sum", "mean" or "max" of the rows of ``weight`` in each bag of indices: [bags, columns].

    Bags are the rows of a matrix of indices, or the parts of a vector that start at ``offsets`` (``include_last_offset``: whose
    last one is the vector's end). ``per_sample_weights`` (for "sum") multiply the rows; ``padding_idx`` does not count. The other
    options are those of `embedding`. An empty bag gives zeros.

    >>> import tensor as T
    >>> table = T.tensor([[1.0], [2.0], [4.0]])
    >>> embedding_bag(T.tensor([0, 1, 2]), table, T.tensor([0, 2]), mode="sum")
    tensor([[3.],
            [4.]])
    """
    if input.is_floating_point() and not weight.is_floating_point():
        warnings.warn("embedding_bag: expected (input, weight), got (weight, input), PyTorch's former order", stacklevel=2)
        input, weight = weight, input
    _indices("embedding_bag", input, weight)
    if mode not in ("sum", "mean", "max"):
        msg = f"embedding_bag: expected mode 'sum', 'mean' or 'max', got {mode!r}"
        raise ValueError(msg)
    if per_sample_weights is not None and (mode != "sum" or per_sample_weights.shape != input.shape):
        msg = f"embedding_bag: expected per_sample_weights of shape {list(input.shape)} with mode 'sum', got {list(per_sample_weights.shape)} with {mode!r}"
        raise ValueError(msg)
    bag, count = _bags(input, offsets, include_last_offset)
    index = input._array.reshape(-1)
    scale = None if per_sample_weights is None else per_sample_weights.reshape(-1)
    if padding_idx is not None:
        used = np.nonzero(index != _row("embedding_bag", padding_idx, weight.shape[0]))[0]
        index, bag = index[used], bag[used]
        scale = None if scale is None else scale[Tensor(used)]
    if max_norm is not None:
        _renormalise(weight, index, max_norm, norm_type)
    rows = weight[Tensor(index)]
    if scale_grad_by_freq and rows.requires_grad:
        rows = _share_by_frequency(rows, index, weight.shape[0])
    if scale is not None:
        rows = rows * scale.unsqueeze(-1)
    empty, into = weight.new_zeros((count, weight.shape[1])), Tensor(bag)
    if mode == "max":
        return empty.scatter_reduce(0, into.unsqueeze(1).expand(rows.shape), rows, "amax", include_self=False)
    total = empty.index_add(0, into, rows)
    if mode == "sum":
        return total
    return total / Tensor(np.bincount(bag, minlength=count).clip(1).astype(weight._array.dtype)).unsqueeze(-1)


@composite(method=False, name="nn.functional.one_hot")
def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """1 at each index, 0 elsewhere, in a new last dimension (int64); as many classes as needed for -1."""
    a = input._array
    if a.dtype.kind not in "iu" or (num_classes == -1 and not a.size):
        msg = f"one_hot: expected integers (some, to find the number of classes), got {input.dtype}{list(input.shape)}"
        raise RuntimeError(msg)
    n = int(a.max()) + 1 if num_classes == -1 else num_classes
    if a.size and (a.min() < 0 or a.max() >= n):
        msg = f"one_hot: expected classes from 0 to {n - 1}, got {int(a.min())} to {int(a.max())}"
        raise RuntimeError(msg)
    return Tensor((a[..., None] == np.arange(n, like=a)).astype(np.int64))
