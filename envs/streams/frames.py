"""The wire format: ``[topic][header][buffer ...]``; docs/streams.md says how to write it in another language.

The header is a msgpack array, the buffers are the raw C-ordered bytes of arrays. Nothing is ever unpickled.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from envs.streams.errors import FrameError

__all__ = ["MAX_BYTES", "VERSION", "Frame", "Header", "Value", "decode", "encode", "schema_id"]

VERSION = 1
MAX_BYTES = 1 << 28
MAX_TOPIC, MAX_HEADER, MAX_BUFFERS, MAX_DIMENSIONS = 256, 1 << 14, 64, 16
KINDS = frozenset("biufc")

#: One array, or several by name.
Value = NDArray[Any] | dict[str, NDArray[Any]]
Layout = tuple[tuple[str, str, int], ...]


class Header(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Second part of a frame. Times are nanoseconds of the publisher's clock."""

    version: int
    schema: int
    epoch: int
    sequence: int
    capture_time: int
    publish_time: int
    buffers: tuple[tuple[str, str, tuple[int, ...]], ...]


class Frame(NamedTuple):
    """A decoded frame; its arrays are read-only views of the bytes that came."""

    topic: str
    header: Header
    value: Value


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Header)


@lru_cache(maxsize=1024)
def schema_id(layout: Layout) -> int:
    """CRC-32 of ``name:dtype:dimensions`` of each buffer, joined by newlines."""
    return zlib.crc32("\n".join(f"{name}:{dtype}:{ndim}" for name, dtype, ndim in layout).encode())


@lru_cache(maxsize=256)
def _dtype(text: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(text)
    except (TypeError, ValueError, SyntaxError):
        dtype = np.dtype(object)
    if dtype.kind not in KINDS or dtype.str != text:
        msg = f"frame: expected a dtype such as '<f4' or '|u1', got {text[:40]!r}"
        raise FrameError(msg)
    return dtype


def _array(value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.kind not in KINDS:
        msg = f"frame: expected an array of numbers or booleans, got dtype {array.dtype}"
        raise FrameError(msg)
    return array if array.flags.c_contiguous else array.copy(order="C")


def encode(
    topic: str, value: Any, *, epoch: int = 0, sequence: int = 0, capture_time: int = 0, publish_time: int | None = None
) -> list[Any]:
    """The parts of one frame. ``value``: an array, a number, or a dict of them. `FrameError` for what has no place in one.

    >>> decode(encode("imu", [1.0, 2.0], sequence=3)).value
    array([1., 2.])
    """
    named = {str(name): _array(item) for name, item in value.items()} if isinstance(value, Mapping) else {"": _array(value)}
    buffers = tuple([(name, array.dtype.str, array.shape) for name, array in named.items()])
    schema = schema_id(tuple([(name, dtype, len(shape)) for name, dtype, shape in buffers]))
    published = capture_time if publish_time is None else publish_time
    header = _encoder.encode(Header(VERSION, schema, epoch, sequence, capture_time, published, buffers))
    name = topic.encode()
    total = sum(array.nbytes for array in named.values())
    if not 0 < len(name) <= MAX_TOPIC or len(header) > MAX_HEADER or len(named) > MAX_BUFFERS or total > MAX_BYTES or not named:
        msg = (
            f"frame: expected a topic of 1 to {MAX_TOPIC} bytes and 1 to {MAX_BUFFERS} arrays of {MAX_BYTES} bytes together, "
            f"got a topic of {len(name)} bytes and {len(named)} arrays of {total} bytes"
        )
        raise FrameError(msg)
    return [name, header, *[array.reshape(-1).view(np.uint8).data if array.size else b"" for array in named.values()]]


def _header(part: Any) -> Header:
    if len(part) > MAX_HEADER:
        msg = f"frame: expected a header of at most {MAX_HEADER} bytes, got {len(part)}"
        raise FrameError(msg)
    try:
        header = _decoder.decode(part)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        msg = f"frame: expected a msgpack header, got {bytes(part[:16])!r}... ({error})"
        raise FrameError(msg) from None
    if header.version != VERSION:
        msg = f"frame: expected version {VERSION}, got {header.version}"
        raise FrameError(msg)
    whole = (header.epoch, header.sequence, header.capture_time, header.publish_time)
    if min(whole) < 0 or max(whole) >= 1 << 63:
        msg = f"frame: expected epoch, sequence and times from 0 to 2^63 - 1, got {whole}"
        raise FrameError(msg)
    return header


def decode(parts: Sequence[Any], max_bytes: int = MAX_BYTES) -> Frame:
    """The frame of these parts, without a copy; `FrameError` for anything else."""
    if not 3 <= len(parts) <= 2 + MAX_BUFFERS:
        msg = f"frame: expected 3 to {2 + MAX_BUFFERS} parts, got {len(parts)}"
        raise FrameError(msg)
    try:
        topic = str(parts[0], "utf-8")
    except UnicodeDecodeError:
        topic = ""
    if not topic or len(parts[0]) > MAX_TOPIC:
        msg = f"frame: expected a topic of 1 to {MAX_TOPIC} bytes of UTF-8, got {bytes(parts[0][:16])!r}"
        raise FrameError(msg)
    header = _header(parts[1])
    described = header.buffers
    if len(described) != len(parts) - 2 or sum(map(len, parts[2:])) > max_bytes:
        msg = f"frame: expected {len(described)} buffers of {max_bytes} bytes together, got {[len(part) for part in parts[2:]]}"
        raise FrameError(msg)
    if schema_id(tuple([(name, dtype, len(shape)) for name, dtype, shape in described])) != header.schema:
        msg = f"frame: expected the schema of {described}, got {header.schema:#x}"
        raise FrameError(msg)
    arrays = {}
    for (name, text, shape), part in zip(described, parts[2:], strict=True):
        dtype = _dtype(text)
        if len(shape) > MAX_DIMENSIONS or (shape and min(shape) < 0) or math.prod(shape) * dtype.itemsize != len(part):
            msg = f"frame: expected {text} of shape {shape} in {name!r}, got {len(part)} bytes"
            raise FrameError(msg)
        try:
            array = np.frombuffer(part, dtype).reshape(shape) if len(part) else np.empty(shape, dtype)
        except (ValueError, OverflowError):  # a dimension that no array can have, beside one of zero
            msg = f"frame: expected a shape that an array can have, got {shape}"
            raise FrameError(msg) from None
        array.flags.writeable = False
        arrays[name] = array
    if len(arrays) != len(described):
        msg = f"frame: expected names that differ, got {[name for name, _, _ in described]}"
        raise FrameError(msg)
    return Frame(topic, header, arrays[""] if len(arrays) == 1 and "" in arrays else arrays)
