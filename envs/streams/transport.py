"""How parts travel: a small interface, and the one for tests, ``memory://name``."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from envs.streams.frames import wire_topic

__all__ = ["MemoryReceiver", "MemorySender", "Receiver", "Sender"]


class Receiver(Protocol):
    """Takes multipart messages."""

    @property
    def disconnects(self) -> int:
        """How often the other end was cut off."""

    def receive(self, timeout: float | None) -> Sequence[Any] | None:
        """The next message; None where none came within ``timeout`` seconds (None: no limit)."""

    def close(self) -> None:
        """Let go of everything; a second call does nothing."""


class Sender(Protocol):
    """Gives multipart messages."""

    #: Where it can be reached.
    uri: str

    @property
    def refused(self) -> int:
        """Peers that were not admitted."""

    def send(self, parts: Sequence[Any]) -> None:
        """Send one message; its memory may be used again at once."""

    def wait(self, timeout: float) -> bool:
        """Whether somebody listens, after ``timeout`` seconds at most."""

    def drain(self, timeout: float | None) -> None:
        """Wait until what was sent has left, ``timeout`` seconds at most; nothing can be sent after it."""

    def close(self) -> None:
        """Let go of everything; a second call does nothing."""


class MemoryReceiver:
    """Listens to ``memory://name`` in this process."""

    disconnects = 0
    listeners: ClassVar[dict[str, list[MemoryReceiver]]] = {}
    changed: ClassVar[threading.Condition] = threading.Condition()

    def __init__(self, name: str, topics: Sequence[str] = (), high_water: int = 1000) -> None:
        self._name, self._topics = name, tuple(map(wire_topic, topics))
        self._queue: queue.Queue[Sequence[Any]] = queue.Queue(high_water)
        with self.changed:
            self.listeners.setdefault(name, []).append(self)
            self.changed.notify_all()

    def offer(self, parts: Sequence[Any], block: bool) -> None:
        """Take a message, or drop it where the queue is full, as a PUB socket does."""
        if self._topics and bytes(parts[0]) not in self._topics:
            return
        try:
            self._queue.put(parts, block=block)
        except queue.Full:
            return

    def receive(self, timeout: float | None) -> Sequence[Any] | None:
        try:
            return self._queue.get(block=timeout != 0, timeout=timeout or None)
        except queue.Empty:
            return None

    def close(self) -> None:
        with self.changed:
            theirs = self.listeners.get(self._name, [])
            if self in theirs:
                theirs.remove(self)
            if not theirs:
                self.listeners.pop(self._name, None)


class MemorySender:
    """Gives to whoever listens to ``memory://name`` in this process."""

    refused = 0

    def __init__(self, name: str, block: bool = False) -> None:
        self._name, self._block = name, block
        self.uri = f"memory://{name}"

    def send(self, parts: Sequence[Any]) -> None:
        theirs = MemoryReceiver.listeners.get(self._name, ())
        if theirs:
            copied = [bytes(part) for part in parts]
            for listener in tuple(theirs):
                listener.offer(copied, self._block)

    def wait(self, timeout: float) -> bool:
        with MemoryReceiver.changed:
            return MemoryReceiver.changed.wait_for(lambda: bool(MemoryReceiver.listeners.get(self._name)), timeout)

    def drain(self, timeout: float | None) -> None:
        """It is there already."""

    def close(self) -> None:
        """Nothing is held."""
