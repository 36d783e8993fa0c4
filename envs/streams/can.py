"""CAN: a bus (``can://interface/channel``) or a log (``.blf``, ``.asc``), its signals told apart by a DBC file. Extra ``can``.

The only importer of python-can and cantools.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from envs.streams.errors import FrameError, StreamAddressError
from envs.streams.frames import Value, encode
from envs.streams.sources import SECOND, Arrival, FileSource
from rlcore.errors import MissingExtraError

__all__ = ["CanBusSource", "CanLogSource"]


def _packages() -> tuple[Any, Any]:
    try:
        return importlib.import_module("can"), importlib.import_module("cantools")
    except ImportError:
        package = "python-can and cantools"
        raise MissingExtraError(package, needed_for="CAN", extra="can") from None


class _Decoder:
    """Messages to arrivals. CAN numbers no messages, so what the bus itself lost cannot be told."""

    def __init__(self, database: Any, epoch: int) -> None:
        _, cantools = _packages()
        self._database = None
        if database is not None:
            try:
                known = isinstance(database, (str, Path))
                self._database = cantools.database.load_file(database) if known else database
            except (OSError, cantools.database.UnsupportedDatabaseFormatError) as error:
                msg = f"{database}: expected a CAN database such as a .dbc file, got {' '.join(str(error).split())[:200]}"
                raise StreamAddressError(msg) from None
        self._failed = cantools.database.errors.Error
        self._epoch = epoch
        self._sequences: dict[str, int] = {}

    def read(self, message: Any, receive_time: int) -> Arrival:
        """Topic and signals by the database; a message that it does not know is ``0x1a0`` and its bytes."""
        value: Value
        topic, value = f"{message.arbitration_id:#x}", np.frombuffer(bytes(message.data), np.uint8)
        if message.is_error_frame:
            return Arrival((), receive_time, FrameError("can: an error frame, expected data"))
        described = None if self._database is None else self._described(message.arbitration_id)
        if described is not None:
            topic = described.name
            try:
                value = {name: np.asarray(v) for name, v in described.decode(bytes(message.data), decode_choices=False).items()}
            except (self._failed, ValueError) as error:
                msg = f"can: expected {described.length} bytes of {topic}, got {bytes(message.data).hex()} ({error})"
                return Arrival((), receive_time, FrameError(msg))
        if message.is_remote_frame or not len(value):
            return Arrival((), receive_time, FrameError(f"can: {topic} without data"))
        number = self._sequences.get(topic, 0)
        self._sequences[topic] = number + 1
        at = round(message.timestamp * SECOND)
        return Arrival(encode(topic, value, epoch=self._epoch, sequence=number, capture_time=max(at, 0)), receive_time)

    def _described(self, number: int) -> Any:
        assert self._database is not None
        try:
            return self._database.get_message_by_frame_id(number)
        except KeyError:
            return None


class CanLogSource(FileSource):
    """A log that python-can reads. ``dbc``: a database, or its file."""

    def __init__(self, path: Path, *, dbc: Any = None) -> None:
        if not path.is_file():
            msg = f"open_stream: no such file: {path}"
            raise StreamAddressError(msg)
        self._decoder = _Decoder(dbc, 0)
        super().__init__(self._all(path))

    def _all(self, path: Path) -> Iterator[Arrival]:
        can, _ = _packages()
        with can.LogReader(path) as messages:
            for message in messages:
                yield self._decoder.read(message, round(message.timestamp * SECOND))


class CanBusSource:
    """A bus: ``can://socketcan/can0``, ``can://slcan//dev/ttyUSB0?bitrate=500000``; what follows ``?`` goes to `can.Bus`."""

    live = True
    disconnects = 0

    def __init__(self, uri: str, topics: tuple[str, ...], *, dbc: Any = None) -> None:
        can, _ = _packages()
        url = urlsplit(uri)
        given = {key: int(text) if text.lstrip("-").isdigit() else text for key, text in parse_qsl(url.query)}
        self.topics = topics
        self._decoder = _Decoder(dbc, time.time_ns())
        try:
            self._bus = can.Bus(interface=url.netloc, channel=url.path[1:], **given)
        except (can.CanError, OSError, ValueError, TypeError) as error:
            msg = f"{uri}: expected can://interface/channel as python-can knows it, got {error}"
            raise StreamAddressError(msg) from None

    def receive(self, timeout: float | None) -> Arrival | None:
        message = self._bus.recv(timeout)
        return None if message is None else self._decoder.read(message, time.time_ns())

    def close(self) -> None:
        self._bus.shutdown()
