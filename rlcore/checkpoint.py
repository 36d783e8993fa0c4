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

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from rlcore.errors import CheckpointError, SaveError, nearest
from rlcore.types import State
from tensor.serialization.container import SerializationError, chunks, parse, replacing, to_json
from tensor.serialization.tree import decode, encode

__all__ = ["FILE_NAME", "find", "load", "save"]

#: The name of the checkpoint inside a run's directory.
FILE_NAME = "checkpoint.safetensors"

_FORMAT = "rlcore/1"
_UNSIGNED = "0" * 64


def find(path: Path | str) -> Path:
    """The checkpoint file of a run's directory, or the file itself.

    Raises:
        CheckpointError: there is none; the message names runs that lie near.
    """
    path = Path(path)
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        folder = path if path.is_dir() else path.parent
        runs = [str(found.parent) for found in folder.glob(f"*/{FILE_NAME}")]
        missing = f"no checkpoint {'in ' * path.is_dir()}{path}" + (f"; {nearest(str(path), runs)}" if runs else "")
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

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     save(directory + "/a.safetensors", {"w": np.arange(3), "lr": 0.1}, {"steps": 7})
    ...     load(directory + "/a.safetensors")
    ({'w': array([0, 1, 2]), 'lr': 0.1}, {'steps': 7})
    """
    path = Path(path)
    arrays: dict[str, NDArray[Any]] = {}
    texts = {"metadata": to_json(encode(metadata, "metadata", None)), "state": to_json(encode(state, "", arrays))}
    try:
        with replacing(path) as file:
            _write(file, arrays, texts)
    except OSError as error:
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
    try:
        arrays, _ = parse(data, str(path))
    except SerializationError as error:
        raise CheckpointError(str(error)) from None
    return decode(json.loads(texts["state"]), arrays), decode(json.loads(texts["metadata"]), {})


def _write(file: BinaryIO, arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, str]) -> None:
    """Write the file in one pass, then its checksum into the place kept for it."""
    digest, length, place = _digest(), 0, 0
    for i, chunk in enumerate(chunks(arrays, {"format": _FORMAT, "checksum": _UNSIGNED, **texts})):
        if i == 1:  # the header, behind its length
            place = length + bytes(chunk).index(_UNSIGNED.encode())
        digest.update(chunk)
        file.write(chunk)
        length += len(chunk)
    file.seek(place)
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
