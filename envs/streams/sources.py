"""Where frames come from: live transports, MCAP files, arrays; tables and CAN are beside it. Each gives the same arrivals."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from mcap.exceptions import McapError
from mcap.reader import NonSeekingReader, SeekingReader

from envs.streams.errors import FrameError, StreamAddressError
from envs.streams.frames import encode, wire_topic
from envs.streams.transport import Receiver
from rlcore.errors import nearest

__all__ = ["ArraySource", "Arrival", "FileSource", "LiveSource", "McapSource", "Source", "pack", "unpack"]

SECOND = 1_000_000_000


class Arrival(NamedTuple):
    """The parts of a frame, and when they came (nanoseconds); or the error that tells why there is none."""

    parts: Any
    receive_time: int
    error: FrameError | None = None


class Source(Protocol):
    """Gives arrivals."""

    @property
    def disconnects(self) -> int:
        """How often a live one was cut off."""

    #: Whether it runs by the world's clock, not by the reader's.
    live: bool
    #: What it will speak of; empty where that is not known.
    topics: tuple[str, ...]

    def receive(self, timeout: float | None) -> Arrival | None:
        """The next; None where none came in time. EOFError at the end."""

    def close(self) -> None:
        """Let go of everything."""


class LiveSource:
    """A transport, with the time of arrival."""

    live = True

    def __init__(self, receiver: Receiver, topics: tuple[str, ...]) -> None:
        self._receiver, self.topics = receiver, topics

    @property
    def disconnects(self) -> int:
        return self._receiver.disconnects

    def receive(self, timeout: float | None) -> Arrival | None:
        parts = self._receiver.receive(timeout)
        return None if parts is None else Arrival(parts, time.time_ns())

    def close(self) -> None:
        self._receiver.close()


class FileSource:
    """What has an end, and waits for its reader."""

    live = False
    disconnects = 0
    topics: tuple[str, ...] = ()

    def __init__(self, arrivals: Iterator[Arrival]) -> None:
        self._arrivals = arrivals

    def receive(self, timeout: float | None) -> Arrival | None:
        arrival = next(self._arrivals, None)
        if arrival is None:
            raise EOFError
        return arrival

    def close(self) -> None:
        close = getattr(self._arrivals, "close", None)
        if close is not None:
            close()


class ArraySource(FileSource):
    """Arrays by topic, one sample a row; ``rates`` in Hz by topic, or ``times`` in seconds by topic."""

    def __init__(self, arrays: Any, *, rates: Any = 1.0, times: Mapping[str, Any] | None = None) -> None:
        named = dict(arrays) if isinstance(arrays, Mapping) else {"value": arrays}
        for given in (rates, times):
            for topic in given if isinstance(given, Mapping) else ():
                if topic not in named:
                    msg = f"open_stream: no array for the topic {topic!r} of rates or times; {nearest(topic, named)}"
                    raise StreamAddressError(msg)
        self._columns = {topic: np.asarray(rows) for topic, rows in named.items()}
        self._stamps = {}
        for topic, rows in self._columns.items():
            given = None if times is None else times.get(topic)
            rate = rates.get(topic, 1.0) if isinstance(rates, Mapping) else rates
            if rows.ndim == 0:
                msg = (
                    f"open_stream: expected an address, a file, or arrays of one sample a row, got {named[topic]!r} for {topic!r}"
                )
                raise StreamAddressError(msg)
            seconds = np.arange(len(rows)) / rate if given is None else np.asarray(given, np.float64)
            if seconds.shape != rows.shape[:1] or (len(seconds) and not seconds.min() >= 0):
                msg = f"open_stream: expected one time >= 0 for each row of {topic!r} {rows.shape}, got {seconds.shape}"
                raise StreamAddressError(msg)
            self._stamps[topic] = np.rint(seconds * SECOND).astype(np.int64)
        self.topics = tuple(named)
        super().__init__(self._all())

    def _all(self) -> Iterator[Arrival]:
        topics = [np.full(len(stamps), index) for index, stamps in enumerate(self._stamps.values())]
        rows = [np.arange(len(stamps)) for stamps in self._stamps.values()]
        if not topics:
            return
        which, row, when = np.concatenate(topics), np.concatenate(rows), np.concatenate(list(self._stamps.values()))
        columns = list(self._columns.items())
        for i in np.argsort(when, kind="stable").tolist():
            (topic, values), number, at = columns[which[i]], int(row[i]), int(when[i])
            yield Arrival(encode(topic, values[number], sequence=number, capture_time=at), at)


def pack(parts: Any) -> bytes:
    """Header and buffers as one: the number of parts, their lengths (little-endian, 8 bytes each), their bytes."""
    rest = parts[1:]
    return b"".join([struct.pack(f"<{len(rest) + 1}Q", len(rest), *map(len, rest)), *rest])


def unpack(topic: str, data: bytes) -> list[Any]:
    """The parts of a packed frame; `FrameError` for anything else."""
    view = memoryview(data)
    count = struct.unpack_from("<Q", view)[0] if len(view) >= 8 else 0
    if not 2 <= count <= 65 or len(view) < 8 * (count + 1):
        msg = f"recording: expected a packed frame, got {len(view)} bytes that say {count} parts"
        raise FrameError(msg)
    lengths = struct.unpack_from(f"<{count}Q", view, 8)
    at, parts = 8 * (count + 1), [wire_topic(topic)]
    if at + sum(lengths) != len(view):
        msg = f"recording: expected {at + sum(lengths)} bytes, got {len(view)}"
        raise FrameError(msg)
    for length in lengths:
        parts.append(view[at : at + length])  # type: ignore[arg-type]
        at += length
    return parts


def _messages(path: Path) -> Iterator[tuple[Any, Any]]:
    """Up to the last message that is whole: a file that was cut off has no end mark."""
    with path.open("rb") as file:
        try:
            for _, channel, message in NonSeekingReader(file, record_size_limit=1 << 30).iter_messages(log_time_order=False):
                yield channel, message
        except (McapError, EOFError, struct.error):
            return


def _topics(path: Path) -> tuple[str, ...]:
    """By the summary at the end of the file; one that was cut off is gone through."""
    with path.open("rb") as file:
        try:
            summary = SeekingReader(file, record_size_limit=1 << 30).get_summary()
        except (McapError, EOFError, struct.error, OSError):
            summary = None
    if summary is not None and summary.channels:
        return tuple(channel.topic for _, channel in sorted(summary.channels.items()))
    return tuple(dict.fromkeys(channel.topic for channel, _ in _messages(path)))


class McapSource(FileSource):
    """A recording, in the order it was made; a file that was cut off is read up to its last whole message."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            msg = f"open_stream: no such file: {path}"
            raise StreamAddressError(msg)
        self.topics = _topics(path)
        super().__init__(self._all(path))

    def _all(self, path: Path) -> Iterator[Arrival]:
        for channel, message in _messages(path):
            try:
                yield Arrival(unpack(channel.topic, message.data), message.log_time)
            except FrameError as error:
                yield Arrival((), message.log_time, error)
