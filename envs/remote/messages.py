"""Requests and replies: one msgpack array each, in one part, which is what crosses a socket fastest. Nothing is ever unpickled.

``docs/worlds.md`` describes them for servers in other languages.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from envs import state
from rlcore.errors import WorldError

__all__ = ["VERSION", "Reply", "Request", "decode_reply", "decode_request", "encode", "from_plain", "to_plain"]

VERSION = 1
#: msgpack's extension type for an array: ``[dtype, shape, bytes]``.
ARRAY = 1


class Request(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """What a client asks. The same ``sequence`` again is the same request again: it is done once, and answered each time."""

    version: int
    sequence: int
    call: str
    body: Any = None
    raw: bytes = b""


class Reply(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """``outcome``: ``ok``, ``failed`` (body: what the environment raised), ``unknown`` (session) or ``refused`` (body: why)."""

    version: int
    sequence: int
    outcome: str
    body: Any = None
    raw: bytes = b""


def _pack(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufcSU":
        little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
        return msgspec.msgpack.Ext(ARRAY, msgspec.msgpack.encode([little.dtype.str, list(value.shape), little.tobytes()]))
    message = f"expected plain data, got a {type(value).__name__}"
    raise TypeError(message)


def _unpack(code: int, data: memoryview) -> Any:
    if code != ARRAY:
        message = f"expected extension {ARRAY}, got {code}"
        raise msgspec.ValidationError(message)
    text, shape, raw = msgspec.msgpack.decode(data, type=tuple[str, tuple[int, ...], bytes])
    dtype = np.dtype(text)
    if dtype.kind not in "biufcSU":
        message = f"expected an array of numbers or text, got {text[:20]!r}"
        raise msgspec.ValidationError(message)
    return np.frombuffer(raw, dtype).reshape(shape).astype(dtype.newbyteorder("="))


_encoder = msgspec.msgpack.Encoder(enc_hook=_pack)
_requests = msgspec.msgpack.Decoder(Request, ext_hook=_unpack)
_replies = msgspec.msgpack.Decoder(Reply, ext_hook=_unpack)


def encode(message: Request | Reply) -> bytes:
    """As msgpack.

    Raises:
        TypeError: a body of something but numbers, strings, bytes, arrays, and lists and dictionaries of them.
    """
    return _encoder.encode(message)


def decode_request(data: Any) -> Request:
    """Raises WorldError for what is none."""
    request: Request = _decode(_requests, data)
    return request


def decode_reply(data: Any) -> Reply:
    """Raises WorldError for what is none.

    >>> decode_reply(encode(Reply(VERSION, 3, "ok", {"at": np.zeros(2)}))).body
    {'at': array([0., 0.])}
    """
    reply: Reply = _decode(_replies, data)
    return reply


def _decode(decoder: Any, data: Any) -> Any:
    try:
        message = decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, TypeError, OverflowError, SyntaxError) as error:
        text = f"remote: expected a message of version {VERSION}, got {bytes(data[:16])!r}... ({type(error).__name__}: {error})"
        raise WorldError(" ".join(text.split())) from None
    if message.version != VERSION:
        text = f"remote: expected a message of version {VERSION}, got {message.version}"
        raise WorldError(text)
    return message


def to_plain(value: Any) -> Any:
    """A dictionary such as ``info`` as what msgpack carries; tuples, scalars and arrays come back as they were.

    What is no plain data is left out, and named under ``"~left out"``.

    >>> from_plain(to_plain({"at": (1, np.float32(2)), "call": len}))
    {'at': (1, np.float32(2.0)), '~left out': ['call']}
    """
    kept, left = {}, []
    for key, item in value.items():
        try:
            kept[str(key)] = state.encode(item)
        except TypeError:
            left.append(str(key))
    return {**kept, "~left out": left} if left else kept


def from_plain(value: Any) -> Any:
    """What `to_plain` was given."""
    return {key: state.decode(item) for key, item in value.items()}
