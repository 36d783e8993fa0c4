"""ZeroMQ as a transport: PUB/SUB, or PUSH/PULL with ``?pattern=push``. The only importer of zmq."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import zmq
from zmq.auth.thread import ThreadAuthenticator

from envs.streams.errors import StreamAddressError
from envs.streams.frames import MAX_BYTES

__all__ = ["Curve", "ZmqReceiver", "ZmqSender"]

#: From this size on a message is received without a copy.
LARGE = 1 << 16
SENDERS = {"pub": zmq.XPUB, "push": zmq.PUSH}
RECEIVERS = {"pub": zmq.SUB, "push": zmq.PULL}


@dataclass(frozen=True)
class Curve:
    """Keys for one end, as `zmq.curve_keypair` makes them (Z85).

    A publisher needs ``allowed``, the public keys of those it admits; a subscriber needs ``server``, the publisher's public key.
    """

    public: bytes
    secret: bytes
    server: bytes = b""
    allowed: frozenset[bytes] = frozenset()


class _AllowList:
    def __init__(self, allowed: frozenset[bytes]) -> None:
        self._allowed = allowed

    def callback(self, domain: str, key: bytes) -> bool:
        return key in self._allowed


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(uri: str, curve: Curve | None, insecure: bool) -> tuple[str, str]:
    """ZeroMQ's address and the pattern; refuses what is open to a network without keys."""
    url = urlsplit(uri)
    pattern = parse_qs(url.query).get("pattern", ["pub"])[0]
    if pattern not in SENDERS:
        msg = f"{uri}: expected pattern=pub or pattern=push, got {pattern!r}"
        raise StreamAddressError(msg)
    scheme = url.scheme.removeprefix("zmq+")
    if scheme == "ipc":
        return f"ipc://{url.netloc}{url.path}", pattern
    try:
        host, port = url.hostname or "", url.port
    except ValueError:
        host, port = "", None
    if scheme != "tcp" or not host or port is None:
        msg = f"{uri}: expected zmq+tcp://host:port or zmq+ipc:///path"
        raise StreamAddressError(msg)
    if curve is None and not insecure and not _is_loopback(host):
        msg = f"{uri}: {host} is not this machine alone; give curve=Curve(...) keys, or insecure=True to go without"
        raise StreamAddressError(msg)
    return f"tcp://{url.netloc}", pattern


class _Socket:
    """A socket with a context of its own, so that closing one never waits for another."""

    def __init__(self, kind: int, high_water: int, max_bytes: int) -> None:
        self._context = zmq.Context()
        self._authenticator: ThreadAuthenticator | None = None
        self._socket = self._context.socket(kind)
        for option, value in (
            (zmq.LINGER, 0), (zmq.SNDHWM, high_water), (zmq.RCVHWM, high_water), (zmq.MAXMSGSIZE, max_bytes),
            (zmq.HEARTBEAT_IVL, 1000), (zmq.HEARTBEAT_TIMEOUT, 3000), (zmq.RECONNECT_IVL, 50), (zmq.RECONNECT_IVL_MAX, 1000),
        ):  # fmt: skip
            self._socket.setsockopt(option, value)

    def close(self) -> None:
        if not self._socket.closed:
            self._socket.close()
            if self._authenticator is not None:
                self._authenticator.stop()
            self._context.term()

    def _attach(self, uri: str, method: Any, address: str) -> None:
        try:
            method(address)
        except zmq.ZMQError as error:
            self.close()
            msg = f"{uri}: {error}"
            raise StreamAddressError(msg) from None


class ZmqReceiver(_Socket):
    """Connects; several addresses may be heard through several receivers."""

    def __init__(
        self,
        uri: str,
        topics: Sequence[str] = (),
        *,
        curve: Curve | None = None,
        insecure: bool = False,
        high_water: int = 1000,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        address, pattern = _address(uri, curve, insecure)
        if curve is not None and not curve.server:
            msg = f"{uri}: a subscriber's Curve needs server=, the publisher's public key"
            raise StreamAddressError(msg)
        super().__init__(RECEIVERS[pattern], high_water, max_bytes)
        if curve is not None:
            self._socket.curve_publickey, self._socket.curve_secretkey = curve.public, curve.secret
            self._socket.curve_serverkey = curve.server
        if pattern == "pub":
            for topic in topics or ("",):
                self._socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self._copy = True
        self._attach(uri, self._socket.connect, address)

    def receive(self, timeout: float | None) -> Sequence[Any] | None:
        parts: list[Any]
        try:
            parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=self._copy)
        except zmq.Again:
            if not self._socket.poll(None if timeout is None else math.ceil(max(timeout, 0) * 1000)):
                return None
            parts = self._socket.recv_multipart(0, copy=self._copy)
        whole = parts if self._copy else [getattr(part, "buffer", part) for part in parts]
        self._copy = sum(map(len, whole)) < LARGE  # messages come in kinds: the last one foretells the next
        return whole


class ZmqSender(_Socket):
    """Binds. ``block``: wait for a slow subscriber at the high-water mark; otherwise it loses samples, and counts them."""

    def __init__(
        self, uri: str, *, curve: Curve | None = None, insecure: bool = False, high_water: int = 1000, block: bool = False
    ) -> None:
        address, pattern = _address(uri, curve, insecure)
        if curve is not None and not curve.allowed:
            msg = f"{uri}: a publisher's Curve needs allowed=, the public keys of those it admits"
            raise StreamAddressError(msg)
        super().__init__(SENDERS[pattern], high_water, MAX_BYTES)
        if curve is not None:
            self._authenticator = ThreadAuthenticator(self._context)
            self._authenticator.start()
            self._authenticator.configure_curve_callback("*", _AllowList(curve.allowed))
            self._socket.curve_server = True
            self._socket.curve_publickey, self._socket.curve_secretkey = curve.public, curve.secret
        self._is_pub, self._heard = pattern == "pub", False
        self._flags = 0 if block else zmq.NOBLOCK
        if self._is_pub:
            self._socket.setsockopt(zmq.XPUB_NODROP, int(block))
        self._attach(uri, self._socket.bind, address)
        bound = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.uri = f"zmq+{bound}" + ("" if self._is_pub else "?pattern=push")

    def send(self, parts: Sequence[Any]) -> None:
        try:
            self._socket.send_multipart(parts, self._flags)
        except zmq.Again:
            return

    def wait(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        if not self._is_pub:
            return bool(self._socket.poll(math.ceil(timeout * 1000), zmq.POLLOUT))
        while not self._heard and (left := end - time.monotonic()) > 0:
            self._heard = bool(self._socket.poll(math.ceil(left * 1000))) and self._socket.recv()[:1] == b"\1"
        return self._heard
