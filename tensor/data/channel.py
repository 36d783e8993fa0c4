"""Framed messages over a socket between two processes, which never wait for each other in a circle."""

from __future__ import annotations

import select
import socket
import struct
import time

__all__ = ["Channel"]

_LENGTH = struct.Struct("<Q")
_CHUNK = 1 << 18


class Channel:
    """Whole messages in both directions.

    A side that cannot send because the other is not reading reads in the meantime: two sides that both send never block each
    other. A peer that has died is an end of the stream, seen at once, since the kernel closes its socket.

    >>> near, far = (Channel(s) for s in socket.socketpair())
    >>> near.send(b"hello")
    >>> far.receive()
    b'hello'
    >>> near.close()
    >>> far.receive() is None
    True
    >>> far.close()
    """

    def __init__(self, endpoint: socket.socket) -> None:
        endpoint.setblocking(False)
        self._socket = endpoint
        self._inbox = bytearray()
        self._ended = False

    def close(self) -> None:
        """End the stream: the other side's `receive` gives None."""
        self._socket.close()

    def send(self, message: bytes) -> None:
        """Send a message; BrokenPipeError where the other side has gone."""
        rest = memoryview(_LENGTH.pack(len(message)) + message)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                if self._wait(select.POLLIN | select.POLLOUT, None) & select.POLLIN and not self._read():
                    raise BrokenPipeError from None
            except ConnectionResetError as e:
                raise BrokenPipeError from e

    def receive(self, timeout: float | None = None) -> bytes | None:
        """The next message; None at the end of the stream. TimeoutError where none comes in ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        inbox = self._inbox
        while True:
            if len(inbox) >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(inbox)
                end = _LENGTH.size + length
                if len(inbox) >= end:
                    message = bytes(inbox[_LENGTH.size : end])
                    del inbox[:end]
                    return message
            while not self._read():
                if self._ended:
                    return None
                left = None if deadline is None else deadline - time.monotonic()
                if not self._wait(select.POLLIN, left):
                    raise TimeoutError

    def _read(self) -> bool:
        """Take in what has arrived; False where nothing has, or nothing will."""
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return False
        except ConnectionError:
            data = b""
        self._inbox += data
        self._ended = not data
        return bool(data)

    def _wait(self, events: int, timeout: float | None) -> int:
        poll = select.poll()
        poll.register(self._socket, events)
        ready = poll.poll(None if timeout is None else max(0.0, timeout) * 1000)
        return ready[0][1] if ready else 0
