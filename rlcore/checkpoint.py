"""Checkpoints: a tree of state as one safetensors file, written atomically and checked to the last bit.

The file is plain safetensors, so any tool can read its arrays. Everything else lies as JSON in the header's
``__metadata__``; nothing in it can run code:

========== =====================================================================================================
format     ``"rlcore/1"``
metadata   JSON of the caller's description (configuration, steps, ...)
state      JSON of the tree; an array is ``{"$array": name}``, or with its own dtype where safetensors has none for it
checksum   BLAKE2b of the whole file, these 64 characters read as zeros
========== =====================================================================================================
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors
from numpy.typing import NDArray

from rlcore.errors import CheckpointError, SaveError
from rlcore.types import State

__all__ = ["FILE_NAME", "find", "load", "save"]

#: The name of the checkpoint inside a run's directory.
FILE_NAME = "checkpoint.safetensors"

_FORMAT = "rlcore/1"
_UNSIGNED = "0" * 64
_DTYPES = {
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}
_FROM_FILE = {file_name: np.dtype(name) for name, file_name in _DTYPES.items()}


def find(path: Path | str) -> Path:
    """The checkpoint file of a run's directory, or the file itself.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(path)
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        missing = f"no checkpoint in {path}" if path.is_dir() else f"no checkpoint {path}"
        raise CheckpointError(missing)
    return file


def save(path: Path | str, state: State, metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint; the file at ``path`` is at every moment either the old one, whole, or the new one, whole.

    Args:
        path: where to; its directory must exist.
        state: nested dicts (keys are strings), lists and tuples of arrays, None, bool, int, float and str.
        metadata: the same without arrays.

    Raises:
        SaveError: the disk is full, or the file cannot be written for another reason.
        TypeError: the state holds something else; the message says where.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     save(directory + "/a.safetensors", {"w": np.arange(3), "lr": 0.1}, {"steps": 7})
    ...     load(directory + "/a.safetensors")
    ({'w': array([0, 1, 2]), 'lr': 0.1}, {'steps': 7})
    """
    path = Path(path)
    arrays: dict[str, NDArray[Any]] = {}
    texts = {"metadata": _to_json(_encode(metadata, "metadata", None)), "state": _to_json(_encode(state, "", arrays))}
    # One name per checkpoint, so that a process killed while writing leaves one stray file at most.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            _write(file, arrays, texts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        whole = "the previous checkpoint is whole" if path.exists() else "there is no earlier checkpoint"
        message = f"{path}: cannot save the checkpoint: {error.strerror or error}; {whole}"
        raise SaveError(message) from error


def load(path: Path | str) -> tuple[State, dict[str, Any]]:
    """Read and check a checkpoint; returns (state, metadata), arrays writable and each with memory of its own.

    Args:
        path: the file, or the run's directory.

    Raises:
        CheckpointError: missing, cut short, damaged, or not a checkpoint of this version.
    """
    path = find(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror or error}"
        raise CheckpointError(message) from error
    texts = _read_texts(data, path)
    arrays = {name: _from_file(entry) for name, entry in safetensors.deserialize(data)}  # type: ignore[no-untyped-call]
    return _decode(json.loads(texts["state"]), arrays), _decode(json.loads(texts["metadata"]), {})


def _write(file: BinaryIO, arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, str]) -> None:
    """Write the file in one pass, without a second copy of the arrays (`safetensors.serialize` makes two)."""
    header: dict[str, Any] = {"__metadata__": {"format": _FORMAT, "checksum": _UNSIGNED, **texts}}
    # Wide elements first, so that every array is aligned for its dtype, as the format's own writer does.
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0]))
    offset = 0
    for name, array in ordered:
        span = [offset, offset + array.nbytes]
        header[name] = {"dtype": _DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": span}
        offset = span[1]
    head = _to_json(header).encode()
    head += b" " * (-len(head) % 8)
    digest = _digest()
    for chunk in (len(head).to_bytes(8, "little"), head, *(_bytes_of(array) for _, array in ordered)):
        digest.update(chunk)
        file.write(chunk)
    file.seek(8 + head.index(_UNSIGNED.encode()))
    file.write(digest.hexdigest().encode())


def _read_texts(data: bytes, path: Path) -> dict[str, str]:
    """The header's JSON texts, after checking every byte of the file."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        texts: dict[str, str] = header.pop("__metadata__")
        version, checksum = texts["format"], texts["checksum"].encode()
        start = data.index(checksum)
        expected = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(_damaged(path, "its header cannot be read")) from None
    if len(data) < expected:
        raise CheckpointError(_damaged(path, f"{len(data):,} of {expected:,} bytes"))
    digest, view = _digest(), memoryview(data)
    for chunk in (view[:start], _UNSIGNED.encode(), view[start + len(checksum) :]):
        digest.update(chunk)
    if digest.hexdigest().encode() != checksum:
        raise CheckpointError(_damaged(path, "its checksum does not match"))
    if version != _FORMAT:
        message = f"{path}: expected a checkpoint of format {_FORMAT}, got {version}"
        raise CheckpointError(message)
    return texts


def _damaged(path: Path, what: str) -> str:
    return f"{path}: not a whole checkpoint: {what}"


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=len(_UNSIGNED) // 2)


def _bytes_of(array: NDArray[Any]) -> memoryview | bytes:
    # An empty array cannot be viewed as bytes.
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def _sync_directory(directory: Path) -> None:
    if os.name == "nt":  # Windows cannot open directories, and its rename is durable by itself
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _to_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


# The tree as JSON. What JSON cannot say is a dict with one key that begins with "$"; a caller's own key that begins
# with "$" gets a second one.


def _encode(value: Any, where: str, arrays: dict[str, NDArray[Any]] | None) -> Any:
    """``value`` as JSON values, its arrays put aside in ``arrays`` under their path in the tree."""
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:  # beyond 64 bits other readers lose digits, and Python itself refuses above 4,300 of them
        return value if -(2**63) <= value < 2**64 else {"$int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, Mapping):
        encoded = {}
        for key, item in value.items():
            if type(key) is not str:
                message = f"{where or 'state'}: a key must be a string, got {key!r}"
                raise TypeError(message)
            escaped = key.replace("%", "%25").replace(".", "%2E") or "%"
            encoded["$" + key if key.startswith("$") else key] = _encode(item, _join(where, escaped), arrays)
        return encoded
    if kind in (list, tuple):
        items = [_encode(item, _join(where, str(i)), arrays) for i, item in enumerate(value)]
        return items if kind is list else {"$tuple": items}
    if arrays is not None and isinstance(value, np.generic):
        return {"$scalar": _put(np.asarray(value), where, arrays)}
    if arrays is not None and isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return _put(value, where, arrays)
    message = f"{where or 'state'}: a checkpoint cannot hold a {kind.__module__}.{kind.__qualname__}"
    raise TypeError(message)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _put(array: NDArray[Any], where: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    # An array at the root has no path, and the header keeps "__metadata__" for itself.
    name = where if where and where != "__metadata__" else f"%{where}"
    plain = np.ascontiguousarray(array).reshape(array.shape)
    if array.dtype.name in _DTYPES and array.dtype.isnative:
        arrays[name] = plain
        return {"$array": name}
    arrays[name] = np.frombuffer(plain.tobytes(), np.uint8)  # complex, text, dates, other byte orders
    return {"$array": name, "dtype": array.dtype.str, "shape": list(array.shape)}


def _from_file(entry: Mapping[str, Any]) -> NDArray[Any]:
    return np.frombuffer(entry["data"], _FROM_FILE[entry["dtype"]]).reshape(entry["shape"])


def _decode(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "$int" in value:
        return int(value["$int"], 16)
    if "$float" in value:
        return float(value["$float"])
    if "$tuple" in value:
        return tuple(_decode(item, arrays) for item in value["$tuple"])
    if "$scalar" in value:
        return _decode(value["$scalar"], arrays)[()]
    if "$array" in value:
        array = arrays[value["$array"]]
        return array.view(value["dtype"]).reshape(value["shape"]) if "dtype" in value else array
    return {key[1:] if key.startswith("$") else key: _decode(item, arrays) for key, item in value.items()}
