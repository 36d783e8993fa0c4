"""The safetensors file: a JSON header and the arrays behind it. Reading checks every bound; nothing in a file can run code."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors
from numpy.typing import NDArray

__all__ = ["FILE_DTYPES", "SerializationError", "chunks", "parse", "replacing", "to_json"]

#: NumPy's names of dtypes to safetensors' own.
FILE_DTYPES = {
    "bool": "BOOL", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64", "uint8": "U8", "uint16": "U16", "uint32": "U32",
    "uint64": "U64", "float16": "F16", "float32": "F32", "float64": "F64", "complex64": "C64",
}  # fmt: skip

_FROM_FILE = {file_name: np.dtype(name) for name, file_name in FILE_DTYPES.items()}


class SerializationError(RuntimeError):
    """A file that cannot be read: missing, cut short, damaged, of another kind, or a pickle."""


def to_json(value: Any) -> str:
    """JSON without spaces; nan and infinity are an error."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def chunks(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """The file's bytes, piece by piece, without a second copy of the arrays: its length, the header, each array."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    # Wide elements first, so that every array is aligned for its dtype, as the format's own writer does.
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0]))
    offset = 0
    for name, array in ordered:
        span = [offset, offset + array.nbytes]
        header[name] = {"dtype": FILE_DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": span}
        offset = span[1]
    head = to_json(header).encode()
    head += b" " * (-len(head) % 8)
    yield len(head).to_bytes(8, "little")
    yield head
    for _, array in ordered:  # an empty array cannot be viewed as bytes
        yield array.reshape(-1).view(np.uint8).data if array.size else b""


def parse(data: bytes, where: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays, writable and each with memory of its own, and the header's metadata.

    Raises SerializationError for what is not a whole safetensors file; ``where`` names it.
    """
    try:
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
        length = int.from_bytes(data[:8], "little")
        metadata: dict[str, str] = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
        return {name: _array(entry) for name, entry in entries}, metadata
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        message = f"{where}: not a whole safetensors file: {str(error).splitlines()[0]}"
        raise SerializationError(message) from None


def _array(entry: Mapping[str, Any]) -> NDArray[Any]:
    if entry["dtype"] == "BF16":  # NumPy has none: its bits are the upper half of a float32's
        bits = np.frombuffer(entry["data"], np.uint16).astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32).reshape(entry["shape"])
    if entry["dtype"] not in _FROM_FILE:
        message = f"dtype {entry['dtype']} has no equal here"
        raise ValueError(message)
    return np.frombuffer(entry["data"], _FROM_FILE[entry["dtype"]]).reshape(entry["shape"])


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write into that takes the place of ``path`` at the end: whoever looks sees the old file whole, or the new one.

    Raises OSError as the file system does; the old file stays.
    """
    # One name per file, so that a process killed while writing leaves one stray file at most.
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _sync_directory(directory: Path) -> None:
    if os.name == "nt":  # Windows cannot open directories, and its rename is durable by itself
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
