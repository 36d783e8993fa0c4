"""`open_stream` and `publish`: samples in, samples out, the same for sockets, files and arrays."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from envs.streams.align import Aligned
from envs.streams.errors import FrameError, StreamAddressError
from envs.streams.frames import MAX_BYTES, Frame, Value, decode, encode
from envs.streams.keys import Curve
from envs.streams.pipeline import Pipeline
from envs.streams.sockets import ZmqReceiver, ZmqSender
from envs.streams.sources import ArraySource, Arrival, LiveSource, McapSource, Source
from envs.streams.tables import CsvSource, ParquetSource
from envs.streams.tracking import Tracker
from envs.streams.transport import MemoryReceiver, MemorySender, Sender
from rlcore.errors import nearest

__all__ = ["Publisher", "Sample", "Stream", "open_stream", "publish"]

#: A stranger's new topics must not fill our memory.
MAX_TOPICS = 1024


class Sample(NamedTuple):
    """One value of one sensor. Times in nanoseconds: the publisher's clock when captured, ours when received.

    ``lost``: samples missing just before this one; -1 for one that was counted as lost and came late.
    """

    topic: str
    value: Value
    capture_time: int
    receive_time: int
    sequence: int
    epoch: int
    lost: int


class Stream(Pipeline[Sample]):
    """An iterator of `Sample`. What is no frame is counted in ``rejected``, and ``last_error`` says why."""

    def __init__(
        self, source: Source, *, topics: Sequence[str] = (), timeout: float | None = None, max_bytes: int = MAX_BYTES
    ) -> None:
        self.source, self.timeout = source, timeout
        self.topics = tuple(topics) or source.topics
        self.trackers: dict[str, Tracker] = {}
        self.rejected = 0
        self.last_error: FrameError | None = None
        self._chosen = frozenset(topics)
        self._max_bytes = max_bytes

    def arrivals(self) -> Iterator[Arrival]:
        """The raw frames, until the end or ``timeout`` seconds of silence."""
        while (arrival := self._next()) is not None:
            yield arrival

    def _next(self) -> Arrival | None:
        try:
            return self.source.receive(self.timeout)
        except EOFError:
            return None

    def reject(self, error: FrameError) -> None:
        """Count what is no frame."""
        self.rejected += 1
        self.last_error = error

    def frame(self, arrival: Arrival) -> Frame | None:
        """The frame of an arrival; None for garbage, which is counted, and for topics of a file that were not asked for."""
        if arrival.error is not None:
            self.reject(arrival.error)
            return None
        try:
            frame = decode(arrival.parts, self._max_bytes)
            if self._chosen and frame.topic not in self._chosen:
                if not self.source.live:
                    return None
                msg = f"stream: expected one of the topics {sorted(self._chosen)}, got {frame.topic!r}"
                raise FrameError(msg)
        except FrameError as error:
            self.reject(error)
            return None
        return frame

    def admit(self, frame: Frame) -> int | None:
        """Samples of its topic lost just before a frame; None for a repeated one, which is counted."""
        tracker = self.trackers.get(frame.topic)
        if tracker is None:
            if len(self.trackers) >= MAX_TOPICS:
                self.reject(FrameError(f"stream: expected at most {MAX_TOPICS} topics, got {frame.topic!r} too"))
                return None
            tracker = self.trackers[frame.topic] = Tracker()
        return tracker.admit(frame.header.epoch, frame.header.sequence)

    def read(self, arrival: Arrival) -> Sample | None:
        """The sample of an arrival; None for garbage and repeated ones, which are counted."""
        frame = self.frame(arrival)
        lost = None if frame is None else self.admit(frame)
        if frame is None or lost is None:
            return None
        topic, header, value = frame
        return Sample(topic, value, header.capture_time, arrival.receive_time, header.sequence, header.epoch, lost)

    def poll(self, timeout: float) -> Sample | None:
        """The next sample; None where none came within ``timeout`` seconds. EOFError at the end of a file."""
        end = time.monotonic() + timeout
        while (arrival := self.source.receive(max(end - time.monotonic(), 0))) is not None:
            sample = self.read(arrival)
            if sample is not None:
                return sample
        return None

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        while (arrival := self._next()) is not None:
            sample = self.read(arrival)
            if sample is not None:
                return sample
        raise StopIteration

    @property
    def disconnects(self) -> int:
        """How often the publisher went or was cut off; what it had not sent by then is known to nobody."""
        return self.source.disconnects

    def align(self, rate: float, **options: Any) -> Aligned:
        """Samples at one rate from sensors of many: `envs.streams.Aligned`, which lists the options."""
        return Aligned(self, rate, **options)

    def close(self) -> None:
        """Let go of the source; a second call does nothing."""
        self.source.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


#: Opens an address, for these topics, with the options that follow.
Opener = Callable[..., Source]


def _lazily(module: str, name: str) -> Opener:
    """Rooms that need an extra are imported when they are asked for."""
    return lambda *arguments, **options: getattr(importlib.import_module(module), name)(*arguments, **options)


_SCHEMES: dict[str, Opener] = {
    "zmq+tcp": lambda uri, topics, **options: LiveSource(ZmqReceiver(uri, topics, **options), topics),
    "zmq+ipc": lambda uri, topics, **options: LiveSource(ZmqReceiver(uri, topics, **options), topics),
    "memory": lambda uri, topics, **options: LiveSource(MemoryReceiver(urlsplit(uri).netloc, topics, **options), topics),
    "can": _lazily("envs.streams.can", "CanBusSource"),
}
_FILES: dict[str, Opener] = {
    ".mcap": McapSource,
    ".csv": CsvSource,
    ".parquet": ParquetSource,
    ".blf": _lazily("envs.streams.can", "CanLogSource"),
    ".asc": _lazily("envs.streams.can", "CanLogSource"),
}


def _source(where: Any, topics: tuple[str, ...], options: dict[str, Any]) -> Source:
    if not isinstance(where, (str, Path)):
        return ArraySource(where, **options)
    scheme, suffix = urlsplit(str(where)).scheme, Path(where).suffix.lower()
    try:
        if scheme in _SCHEMES:
            return _SCHEMES[scheme](str(where), topics, **options)
        if suffix in _FILES and "://" not in str(where):
            return _FILES[suffix](Path(where), **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        msg = f"open_stream: {where} takes no such option: {str(error).rpartition(' ')[2]}"
        raise StreamAddressError(msg) from None
    known = ", ".join([f"{name}://" for name in _SCHEMES] + [f"*{name}" for name in _FILES])
    msg = f"open_stream: expected {known} or arrays, got {str(where)!r}{_meant(str(where))}"
    raise StreamAddressError(msg)


def _meant(address: str) -> str:
    """A hint for addresses as ZeroMQ has them."""
    return f"; did you mean 'zmq+{address}'?" if address.startswith(("tcp://", "ipc://")) else ""


def open_stream(
    where: str | Path | Mapping[str, Any] | Any, *, topics: str | Sequence[str] = (), timeout: float | None = None, **options: Any
) -> Stream:
    """The samples of an address, a file or arrays.

    ``where``: ``zmq+tcp://host:port``, ``zmq+ipc:///path`` (both with ``?pattern=push`` too), ``memory://name``,
    ``can://interface/channel``; a ``.mcap``, ``.csv``, ``.parquet``, ``.blf`` or ``.asc`` file; arrays by topic.

    ``topics``: which ones (one name or several), all by default. ``timeout``: seconds of silence that end a live stream (None:
    it never ends).
    Arrays take ``rates`` (Hz, one or by topic) or ``times`` (seconds by topic), tables ``rates``, CAN ``dbc``; sockets ``curve``,
    ``insecure``, ``high_water`` (messages that may wait), ``max_bytes``.

    Raises:
        StreamAddressError: the address cannot be opened, or not safely; a file has no such topic.
        PeerRefusedError: (while iterating) the publisher is there and refuses our key.

    >>> import numpy as np
    >>> [float(sample.value) for sample in open_stream({"speed": np.array([1.0, 2.0])}, rates=10)]
    [1.0, 2.0]
    """
    topics = (topics,) if isinstance(topics, str) else tuple(topics)
    source = _source(where, topics, options)
    for topic in topics:
        if source.topics and not source.live and topic not in source.topics:
            source.close()
            name = where if isinstance(where, (str, Path)) else "arrays"
            msg = f"open_stream: {name}: no topic {topic!r}; {nearest(topic, source.topics)}"
            raise StreamAddressError(msg)
    return Stream(source, topics=topics, timeout=timeout)


class Publisher:
    """Sends samples; each topic counts its own, and ``epoch`` tells this publisher from the one before a restart."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self.epoch = time.time_ns()
        self._sequences: dict[str, int] = {}

    @property
    def uri(self) -> str:
        """Where it can be reached, with the port that the system chose."""
        return self._sender.uri

    @property
    def refused(self) -> int:
        """Handshakes that failed: peers with an unlisted key, a wrong one, or none."""
        return self._sender.refused

    def send(self, topic: str, value: Any, capture_time: int | None = None) -> None:
        """Send one value, captured at ``capture_time`` nanoseconds (None: now). Its memory may be used again at once."""
        if not isinstance(topic, str):
            msg = f"send: expected a topic and a value, such as send('imu', array), got {type(topic).__name__} for the topic"
            raise FrameError(msg)
        if isinstance(capture_time, float):
            msg = f"send: expected capture_time in whole nanoseconds, as time.time_ns() gives, got {capture_time}"
            raise FrameError(msg)
        now = time.time_ns()
        sequence = self._sequences.get(topic, 0)
        captured = now if capture_time is None else capture_time
        parts = encode(topic, value, epoch=self.epoch, sequence=sequence, capture_time=captured, publish_time=now)
        self._sequences[topic] = sequence + 1
        self._sender.send(parts)

    def send_parts(self, parts: Sequence[Any]) -> None:
        """Send a frame as it is: a recorded one keeps its epoch, sequence and times."""
        self._sender.send(parts)

    def wait_for_subscriber(self, timeout: float = 5.0) -> bool:
        """Whether somebody listens, after ``timeout`` seconds at most: what is sent before that is lost."""
        return self._sender.wait(timeout)

    def drain(self, timeout: float | None = None) -> None:
        """Wait, ``timeout`` seconds at most, until what was sent has left, and close; `close` alone drops the rest."""
        self._sender.drain(timeout)

    def close(self) -> None:
        """Let go of the socket, and of what has not left yet; a second call does nothing."""
        self._sender.close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def publish(uri: str, *, block: bool = False, curve: Curve | None = None, insecure: bool = False, **options: Any) -> Publisher:
    """A publisher at ``memory://name``, ``zmq+tcp://127.0.0.1:0`` (0: a free port) or ``zmq+ipc:///path``.

    ``block``: wait for slow subscribers; otherwise they lose samples, and count them. `StreamAddressError` for another machine's
    reach without ``curve`` keys, unless ``insecure``.
    """
    url = urlsplit(uri)
    if url.scheme == "memory":
        return Publisher(MemorySender(url.netloc, block))
    if url.scheme.startswith("zmq+"):
        return Publisher(ZmqSender(uri, block=block, curve=curve, insecure=insecure, **options))
    msg = f"publish: expected zmq+tcp://, zmq+ipc:// or memory://, got {uri!r}{_meant(uri)}"
    raise StreamAddressError(msg)
