"""Nested state as JSON values and arrays put aside, and back. Nothing in it can run code.

What JSON cannot say is a dict with one key that begins with ``$``; a caller's own key that begins with ``$`` gets a second one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensor import cuda
from tensor.autograd.tensor import Tensor
from tensor.serialization.container import FILE_DTYPES

__all__ = ["decode", "encode"]

Arrays = dict[str, NDArray[Any]]


def encode(value: Any, where: str, arrays: Arrays | None, what: str = "state") -> Any:
    """``value`` as JSON values, its arrays put aside in ``arrays`` under their path in the tree.

    Takes None, bool, int, float, complex, str, lists, tuples, mappings, and, unless ``arrays`` is None, tensors, NumPy arrays and
    scalars. Raises TypeError for anything else, with its path; ``what`` names the whole in it.
    """
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:  # beyond 64 bits other readers lose digits, and Python itself refuses above 4,300 of them
        return value if -(2**63) <= value < 2**64 else {"$int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is complex:
        return {"$complex": [encode(part, where, None) for part in (value.real, value.imag)]}
    if isinstance(value, Mapping):
        return _encode_mapping(value, where, arrays, what)
    if kind is list or isinstance(value, tuple):
        items = [encode(item, _join(where, str(i)), arrays, what) for i, item in enumerate(value)]
        return items if kind is list else {"$tuple": items}
    if arrays is not None:
        if isinstance(value, Tensor):
            return {"$tensor": _put(cuda.to_host(value._array), where, arrays)}
        if isinstance(value, np.generic):
            return {"$scalar": _put(np.asarray(value), where, arrays)}
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return _put(value, where, arrays)
    known = "tensors, arrays, numbers, strings, lists, tuples and dicts"
    hint = "; save its state_dict()" if hasattr(value, "state_dict") else ""
    message = f"{where or what}: cannot save a {kind.__module__}.{kind.__qualname__}; expected {known}{hint}"
    raise TypeError(message)


def _encode_mapping(value: Mapping[Any, Any], where: str, arrays: Arrays | None, what: str) -> Any:
    if all(type(key) is str for key in value):
        encoded = {}
        for key, item in value.items():
            escaped = key.replace("%", "%25").replace(".", "%2E") or "%"
            encoded["$" + key if key.startswith("$") else key] = encode(item, _join(where, escaped), arrays, what)
        return encoded
    pairs = []
    for key, item in value.items():  # as in an optimizer's state, whose keys are numbers
        if type(key) not in (str, int, bool):
            message = f"{where or what}: a key must be a string or an int, got {key!r}"
            raise TypeError(message)
        pairs.append([key, encode(item, _join(where, str(key).replace(".", "%2E")), arrays, what)])
    return {"$dict": pairs}


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _put(array: NDArray[Any], where: str, arrays: Arrays) -> dict[str, Any]:
    # An array at the root has no path, and the header keeps "__metadata__" for itself.
    name = where if where and where != "__metadata__" else f"%{where}"
    plain = np.ascontiguousarray(array).reshape(array.shape)
    if array.dtype.name in FILE_DTYPES and array.dtype.isnative:
        arrays[name] = plain
        return {"$array": name}
    arrays[name] = np.frombuffer(plain.tobytes(), np.uint8)  # complex, text, dates, other byte orders
    return {"$array": name, "dtype": array.dtype.str, "shape": list(array.shape)}


def decode(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """What `encode` was given; mappings come back as dicts, tensors as tensors that require no grad."""
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    for mark, restore in _MARKS.items():
        if mark in value:
            return restore(value, arrays)
    return {key[1:] if key.startswith("$") else key: decode(item, arrays) for key, item in value.items()}


def _decode_array(value: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    array = arrays[value["$array"]]
    return array.view(value["dtype"]).reshape(value["shape"]) if "dtype" in value else array


#: Each mark with how it is read.
_MARKS: dict[str, Any] = {
    "$int": lambda value, arrays: int(value["$int"], 16),
    "$float": lambda value, arrays: float(value["$float"]),
    "$complex": lambda value, arrays: complex(*(decode(part, arrays) for part in value["$complex"])),
    "$tuple": lambda value, arrays: tuple(decode(item, arrays) for item in value["$tuple"]),
    "$dict": lambda value, arrays: {key: decode(item, arrays) for key, item in value["$dict"]},
    "$tensor": lambda value, arrays: Tensor(np.asarray(decode(value["$tensor"], arrays))),
    "$scalar": lambda value, arrays: decode(value["$scalar"], arrays)[()],
    "$array": _decode_array,
}
