"""The wire format: ``[topic][header][buffer ...]``; docs/streams.md says how to write it in another language.

The header is a msgpack array, the buffers are the raw C-ordered bytes of arrays. Nothing is ever unpickled.
Sensors repeat themselves: what follows from names, dtypes and shapes alone is worked out once and remembered.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from envs.streams.errors import FrameError

__all__ = [
    "MAX_BUFFERS",
    "MAX_BYTES",
    "MAX_TOPIC",
    "VERSION",
    "Frame",
    "Header",
    "Value",
    "decode",
    "encode",
    "schema_id",
    "wire_topic",
]

VERSION = 1
MAX_BYTES = 1 << 28
MAX_TOPIC, MAX_HEADER, MAX_BUFFERS, MAX_DIMENSIONS = 256, 1 << 14, 64, 16
KINDS = frozenset("biufc")

#: One array, or several by name.
Value = NDArray[Any] | dict[str, NDArray[Any]]
#: Of each buffer: its name, dtype and shape.
Described = tuple[tuple[str, str, tuple[int, ...]], ...]
_Whole = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Header(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Second part of a frame. Times are nanoseconds of the publisher's clock; ``buffers`` is msgpack still: `Described`."""

    version: int
    schema: _Whole
    epoch: _Whole
    sequence: _Whole
    capture_time: _Whole
    publish_time: _Whole
    buffers: msgspec.Raw


class Frame(NamedTuple):
    """A decoded frame; its arrays are read-only views of the bytes that came."""

    topic: str
    header: Header
    value: Value


_encode = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(Header).decode
_decode_buffers = msgspec.msgpack.Decoder(Described).decode


def schema_id(described: Described) -> int:
    """CRC-32 of ``name:dtype:dimensions`` of each buffer, joined by newlines.

    >>> hex(schema_id((("", "<f8", (3,)),)))
    '0x30b0125b'
    """
    return zlib.crc32("\n".join(f"{name}:{dtype}:{len(shape)}" for name, dtype, shape in described).encode())


@lru_cache(maxsize=1024)
def wire_topic(topic: str) -> bytes:
    """A topic as it is sent: UTF-8 with a zero byte after it, so that a subscription to ``cam`` is not one to ``camera``.

    >>> wire_topic("cam")
    b'cam\\x00'
    """
    name = topic.encode()
    if not 0 < len(name) <= MAX_TOPIC or 0 in name:
        msg = f"frame: expected a topic of 1 to {MAX_TOPIC} bytes of UTF-8, none zero, got {topic[:40]!r} ({len(name)} bytes)"
        raise FrameError(msg)
    return name + b"\0"


@lru_cache(maxsize=1024)
def _topic(name: bytes) -> str:
    try:
        topic = name[:-1].decode() if name[-1:] == b"\0" and b"\0" not in name[:-1] else ""
    except UnicodeDecodeError:
        topic = ""
    if not topic or len(name) > MAX_TOPIC + 1:
        msg = f"frame: expected a topic of 1 to {MAX_TOPIC} bytes of UTF-8 with a zero byte after it, got {name[:40]!r}"
        raise FrameError(msg)
    return topic


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
    try:
        array = value if type(value) is np.ndarray else np.asarray(value)
    except ValueError:
        msg = "frame: expected an array of numbers or booleans, got rows of different lengths"
        raise FrameError(msg) from None
    if array.dtype.kind not in KINDS:
        msg = f"frame: expected an array of numbers or booleans, got dtype {array.dtype}"
        raise FrameError(msg)
    return array if array.flags.c_contiguous else array.copy(order="C")


@lru_cache(maxsize=1024)
def _layout(
    names: tuple[str, ...], dtypes: tuple[np.dtype[Any], ...], shapes: tuple[tuple[int, ...], ...]
) -> tuple[int, msgspec.Raw]:
    """Schema and msgpack of the buffers' description."""
    described = tuple([(name, dtype.str, shape) for name, dtype, shape in zip(names, dtypes, shapes, strict=True)])
    packed = _encode(described)
    total = sum(dtype.itemsize * math.prod(shape) for dtype, shape in zip(dtypes, shapes, strict=True))
    if (
        not 1 <= len(names) <= MAX_BUFFERS
        or len(packed) > MAX_HEADER - 64
        or total > MAX_BYTES
        or max(map(len, shapes)) > MAX_DIMENSIONS
    ):
        msg = (
            f"frame: expected 1 to {MAX_BUFFERS} arrays of {MAX_BYTES} bytes together, of at most {MAX_DIMENSIONS} dimensions, "
            f"got {len(names)} arrays of {total} bytes"
        )
        raise FrameError(msg)
    return schema_id(described), msgspec.Raw(packed)


def encode(
    topic: str, value: Any, *, epoch: int = 0, sequence: int = 0, capture_time: int = 0, publish_time: int | None = None
) -> list[Any]:
    """The parts of one frame. ``value``: an array, a number, or a dict of them. `FrameError` for what has no place in one.

    >>> decode(encode("imu", [1.0, 2.0], sequence=3)).value
    array([1., 2.])
    """
    if type(value) is not np.ndarray and isinstance(value, Mapping):
        names, arrays = tuple(map(str, value)), [_array(item) for item in value.values()]
    else:
        names, arrays = ("",), [_array(value)]
    schema, buffers = _layout(names, tuple([array.dtype for array in arrays]), tuple([array.shape for array in arrays]))
    published = capture_time if publish_time is None else publish_time
    header = _encode(Header(VERSION, schema, epoch, sequence, capture_time, published, buffers))
    # A small copy is cheaper than a view of bytes.
    return [
        wire_topic(topic),
        header,
        *[array.tobytes() if array.nbytes < 4096 else array.reshape(-1).view(np.uint8).data for array in arrays],
    ]


class _Layout(NamedTuple):
    schema: int
    total: int
    lengths: list[int]
    buffers: list[tuple[str, np.dtype[Any], tuple[int, ...]]]
    plain: bool


@lru_cache(maxsize=1024)
def _read_layout(packed: bytes) -> _Layout:
    """What a description of buffers says; `FrameError` for what cannot be."""
    try:
        described = _decode_buffers(packed)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        msg = f"frame: expected a msgpack header, got buffers {packed[:40]!r} ({error})"
        raise FrameError(msg) from None
    if len({name for name, *_ in described}) != len(described) or not 1 <= len(described) <= MAX_BUFFERS:
        msg = f"frame: expected 1 to {MAX_BUFFERS} names that differ, got {[name for name, *_ in described][:8]}"
        raise FrameError(msg)
    buffers = [(name, _dtype(text), shape) for name, text, shape in described]
    for _, dtype, shape in buffers:
        try:
            if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0:
                raise ValueError
            if not math.prod(shape):
                np.empty(shape, dtype)  # beside a dimension of zero, one that no array can have
        except (ValueError, OverflowError):
            msg = f"frame: expected a shape that an array can have, got {str(shape)[:80]}"
            raise FrameError(msg) from None
    lengths = [math.prod(shape) * dtype.itemsize for _, dtype, shape in buffers]
    return _Layout(schema_id(described), sum(lengths), lengths, buffers, len(buffers) == 1 and buffers[0][0] == "")


def _header(part: Any) -> Header:
    if len(part) > MAX_HEADER:
        msg = f"frame: expected a header of at most {MAX_HEADER} bytes, got {len(part)}"
        raise FrameError(msg)
    try:
        header = _decode_header(part)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        msg = f"frame: expected a msgpack header, got {bytes(part[:16])!r}... ({error})"
        raise FrameError(msg) from None
    if header.version != VERSION:
        msg = f"frame: expected version {VERSION}, got {header.version}"
        raise FrameError(msg)
    return header


def _view(shape: tuple[int, ...], dtype: np.dtype[Any], part: Any) -> NDArray[Any]:
    array: NDArray[Any] = np.ndarray(shape, dtype, part) if len(part) else np.empty(shape, dtype)
    array.setflags(write=False)
    return array


def decode(parts: Sequence[Any], max_bytes: int = MAX_BYTES) -> Frame:
    """The frame of these parts, without a copy; `FrameError` for anything else."""
    if not 3 <= len(parts) <= 2 + MAX_BUFFERS:
        msg = f"frame: expected 3 to {2 + MAX_BUFFERS} parts, got {len(parts)}"
        raise FrameError(msg)
    topic = _topic(bytes(parts[0] if len(parts[0]) <= MAX_TOPIC else parts[0][: MAX_TOPIC + 2]))
    header = _header(parts[1])
    layout = _read_layout(bytes(header.buffers))
    if layout.schema != header.schema:
        msg = f"frame: expected the schema {layout.schema:#x} of {bytes(header.buffers)[:80]!r}, got {header.schema:#x}"
        raise FrameError(msg)
    lengths = [len(part) for part in parts[2:]]
    if lengths != layout.lengths or layout.total > max_bytes:
        msg = f"frame: expected buffers of {layout.lengths} bytes, {max_bytes} together at most, got {lengths} bytes"
        raise FrameError(msg)
    if layout.plain:
        _, dtype, shape = layout.buffers[0]
        return Frame(topic, header, _view(shape, dtype, parts[2]))
    named = zip(layout.buffers, parts[2:], strict=True)
    return Frame(topic, header, {name: _view(shape, dtype, part) for (name, dtype, shape), part in named})
