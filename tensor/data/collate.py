"""Samples into batches: a rule for each kind of value, in one table."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.data.dataset import Rows
from tensor.dtypes import get_default_dtype
from tensor.ops.join import stack

__all__ = ["collate", "convert", "default_collate", "default_convert"]

#: Makes an uninitialised array of a shape and a dtype; in a worker, in memory that is shared with the main process.
Empty = Callable[..., Any]


def default_collate(batch: Sequence[Any]) -> Any:
    """One batch of a sequence of samples: tensors, arrays and numbers are stacked along a new first dimension.

    Containers keep their structure: dicts and named tuples their type, tuples and lists become lists. Strings stay a list.
    Arrays keep their dtype, Python floats become float64 and ints int64. RuntimeError for samples of different shapes,
    TypeError for what is none of these.

    >>> default_collate([(1, {"x": 0.5}), (2, {"x": 1.5})])
    [tensor([1, 2]), {'x': tensor([0.5000, 1.5000], dtype=tensor.float64)}]
    """
    return collate(batch, np.empty)


def collate(batch: Sequence[Any], empty: Empty) -> Any:
    """`default_collate` into memory that ``empty(shape, dtype)`` makes."""
    if type(batch) is Rows:
        return batch.columns(empty)
    first = batch[0]
    rule = RULES.get(type(first))
    if rule is None:
        rule = next((rule for kinds, rule in KINDS if isinstance(first, kinds)), None)
    if rule is None:
        msg = f"default_collate: expected tensors, arrays, numbers, strings, dicts or sequences, got {type(first).__name__}"
        raise TypeError(msg)
    return rule(batch, empty)


def _tensors(batch: Sequence[Tensor], empty: Empty) -> Tensor:
    try:
        arrays = [t._array for t in batch]
    except AttributeError:
        raise _mixed(batch) from None
    if arrays[0].__class__ is not np.ndarray or [t._node for t in batch].count(None) < len(batch):
        whole: Tensor = stack(list(batch))  # on a CUDA device, or with a history
        return whole
    return Tensor(_stack(arrays, empty))


def _arrays(batch: Sequence[Any], empty: Empty) -> Tensor:
    if set(map(type, batch)) != {np.ndarray} and not all(isinstance(a, np.ndarray) for a in batch):
        raise _mixed(batch)
    if batch[0].dtype.kind not in "biufc":
        msg = f"default_collate: expected arrays of numbers, got one of {batch[0].dtype}"
        raise TypeError(msg)
    return Tensor(_stack(batch, empty))


def _stack(arrays: Sequence[Any], empty: Empty) -> Any:
    """`np.stack` into memory of our own: one call for all of the copying, where NumPy's takes several for each array."""
    first = arrays[0]
    shape, count = first.shape, len(arrays)
    if len({a.shape for a in arrays}) > 1:
        at, other = next((i, a.shape) for i, a in enumerate(arrays) if a.shape != shape)
        msg = f"default_collate: expected samples of one shape, got {list(shape)} first and {list(other)} at {at}"
        raise RuntimeError(msg)
    dtype = first.dtype.newbyteorder("=")
    if not shape:
        return _place(np.array(arrays), empty)
    out = empty((count, *shape), dtype)
    try:
        np.concatenate(arrays, out=out.reshape(count * shape[0], *shape[1:]), casting="equiv")
    except TypeError:  # of several dtypes: to what tensors of these promote to
        return _place(stack([Tensor(a) for a in arrays])._array, empty)
    return out


def _place(array: Any, empty: Empty) -> Any:
    out = empty(array.shape, array.dtype)
    out[...] = array
    return out


def _numbers(batch: Sequence[Any], empty: Empty) -> Tensor:
    try:
        array = np.array(batch)
    except ValueError:
        raise _mixed(batch) from None
    if array.dtype.kind not in "biufc" or array.ndim != 1:
        raise _mixed(batch)
    if array.dtype == np.float64 and isinstance(batch[0], int):  # an int first, and then floats
        array = array.astype(get_default_dtype().numpy)
    return Tensor(_place(array, empty))


def _floats(batch: Sequence[Any], empty: Empty) -> Tensor:
    try:
        array = np.array(batch, np.float64)
    except (TypeError, ValueError):
        raise _mixed(batch) from None
    return Tensor(_place(array, empty))


def _mixed(batch: Sequence[Any]) -> TypeError:
    kinds = sorted({type(x).__name__ for x in batch})
    return TypeError(f"default_collate: expected samples of one kind, and numbers that fit a dtype, got {', '.join(kinds)}")


def _strings(batch: Sequence[Any], empty: Empty) -> Any:
    return batch


def _columns(batch: Sequence[Any], empty: Empty) -> list[Any]:
    try:
        columns = list(zip(*batch, strict=True))
    except ValueError:
        msg = f"default_collate: expected samples of one length, got {sorted({len(x) for x in batch})}"
        raise RuntimeError(msg) from None
    except TypeError:
        raise _mixed(batch) from None
    return [collate(column, empty) for column in columns]


def _named(batch: Sequence[Any], empty: Empty) -> Any:
    kind = type(batch[0])
    return kind(*_columns(batch, empty)) if hasattr(kind, "_fields") else _columns(batch, empty)


def _mappings(batch: Sequence[Any], empty: Empty) -> Any:
    first = batch[0]
    try:
        values = {key: collate([sample[key] for sample in batch], empty) for key in first}
    except KeyError as e:
        msg = f"default_collate: expected every sample to have the first one's keys, {e} is missing in some"
        raise RuntimeError(msg) from None
    return values if type(first) is dict else _like(first, values)


def _like(mapping: Any, values: dict[Any, Any]) -> Any:
    """The values in a mapping of the same type; in a dict where it cannot be made."""
    try:
        if isinstance(mapping, MutableMapping):
            same = copy.copy(mapping)  # keeps what its constructor was given, such as a default
            same.update(values)
            return same
        return type(mapping)(values)
    except TypeError:
        return values


#: The rule by the first sample's own type: most samples end here.
RULES: dict[type, Callable[[Any, Empty], Any]] = {
    Tensor: _tensors, np.ndarray: _arrays, float: _floats, int: _numbers, bool: _numbers, complex: _numbers, str: _strings,
    bytes: _strings, tuple: _columns, list: _columns, dict: _mappings,
}  # fmt: skip

#: The rule by what the first sample is an instance of, in this order.
KINDS: tuple[tuple[Any, Callable[[Any, Empty], Any]], ...] = (
    (Tensor, _tensors), (np.ndarray, _arrays), ((str, bytes), _strings), (np.generic, _numbers), (float, _floats),
    (int, _numbers), (Mapping, _mappings), (Sequence, _named),
)  # fmt: skip


def default_convert(data: Any) -> Any:
    """Arrays, also those within containers, as tensors that share their memory; anything else as it is.

    What `DataLoader` does with each sample where ``batch_size`` is None.

    >>> default_convert({"x": np.arange(2), "name": "two"})
    {'x': tensor([0, 1]), 'name': 'two'}
    """
    return convert(data, _as_tensor)


def _as_tensor(leaf: Any) -> Any:
    if isinstance(leaf, (np.ndarray, np.generic)) and leaf.dtype.kind in "biufc":
        return Tensor(np.asarray(leaf))
    return leaf


def convert(data: Any, leaf: Callable[[Any], Any]) -> Any:
    """The same containers (tuples become lists) with ``leaf`` applied to what they hold."""
    if isinstance(data, Mapping):
        values = {key: convert(value, leaf) for key, value in data.items()}
        return values if type(data) is dict else _like(data, values)
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(convert(value, leaf) for value in data))
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return [convert(value, leaf) for value in data]
    return leaf(data)
