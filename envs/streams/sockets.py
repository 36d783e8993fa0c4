"""ZeroMQ as a transport: PUB/SUB, or PUSH/PULL with ``?pattern=push``. The only importer of zmq."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import time
from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import parse_monitor_message

from envs.streams.errors import PeerRefusedError, StreamAddressError, StreamKeysError
from envs.streams.frames import MAX_BUFFERS, MAX_BYTES, wire_topic
from envs.streams.keys import Curve

__all__ = ["ZmqReceiver", "ZmqSender"]

#: From this size on a view of a message's memory is cheaper than a copy.
LARGE = 1 << 13
SENDERS = {"pub": zmq.XPUB, "push": zmq.PUSH}
RECEIVERS = {"pub": zmq.SUB, "push": zmq.PULL}


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


_OTHERS = {"allowed": "those of who is admitted", "server": "the publisher's"}


def _address(uri: str, curve: Curve | None, insecure: bool, needs: Literal["allowed", "server"]) -> tuple[str, str]:
    """ZeroMQ's address and the pattern; refuses what is open to a network without keys, and keys without those of others."""
    url = urlsplit(uri)
    pattern = parse_qs(url.query).get("pattern", ["pub"])[0]
    if pattern not in SENDERS:
        msg = f"{uri}: expected pattern=pub or pattern=push, got {pattern!r}"
        raise StreamAddressError(msg)
    if curve is not None and not getattr(curve, needs):
        raise StreamKeysError(uri, f"our key comes without {_OTHERS[needs]}", needs=needs)
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
        raise StreamKeysError(uri, f"{host} is not this machine alone", needs=needs, or_none=True)
    return f"tcp://{url.netloc}", pattern


#: A subscriber sends subscriptions and handshakes, and nothing that is larger.
MAX_SUBSCRIPTION = 4096
#: Milliseconds after which a subscriber that takes nothing is let go of by a publisher that waits for it.
PATIENCE_MS = 60_000
#: A peer that dies during the handshake looks like one that refuses: only several in a row are taken for a refusal.
PATIENCE = 3

_ACCEPTED, _LEFT = zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_DISCONNECTED
_REFUSED: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "it does not list our key",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "only one of the two ends has keys",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "server= is not its key, or it does not list ours, or it wants keys",
}
#: ZeroMQ tries again by itself, and says so; after a message that was too large or none of its own it does not.
_TRYING = (zmq.EVENT_CONNECTED, zmq.EVENT_CONNECT_DELAYED, zmq.EVENT_CONNECT_RETRIED)
_GIVEN_UP = 2.0
_EVENTS = _ACCEPTED | _LEFT | sum(_REFUSED) | sum(_TRYING)


class _Socket:
    """A socket with a context of its own, so that closing one never waits for another."""

    def __init__(self, kind: int, high_water: int, max_bytes: int) -> None:
        self._context = zmq.Context()
        self._authenticator: ThreadAuthenticator | None = None
        self._socket = self._context.socket(kind)
        # Cuts are noticed by TCP's own probes, in about four seconds. ZeroMQ's heartbeats cannot tell a busy end from a dead one,
        # and their answers to an end that has gone destroy what it sent last.
        for option, value in (
            (zmq.LINGER, 0), (zmq.SNDHWM, high_water), (zmq.RCVHWM, high_water), (zmq.MAXMSGSIZE, max_bytes),
            (zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 1), (zmq.TCP_KEEPALIVE_INTVL, 1), (zmq.TCP_KEEPALIVE_CNT, 3),
            (zmq.RECONNECT_IVL, 50), (zmq.RECONNECT_IVL_MAX, 1000),
        ):  # fmt: skip
            self._socket.setsockopt(option, value)
        self._monitor = self._socket.get_monitor_socket(_EVENTS)
        #: Peers that are connected, that went or were cut off, handshakes that failed, and of those the last in a row.
        self._connected = self._disconnects = self._refused = self._refusals = 0
        #: When the last one was cut off, until the first sign of another try.
        self._gone: float | None = None

    @property
    def disconnects(self) -> int:
        """How often a peer went or was cut off."""
        self._watch()
        return self._disconnects

    @property
    def refused(self) -> int:
        """Handshakes that failed."""
        self._watch()
        return self._refused

    def _watch(self) -> int:
        """Take what the monitor has told; the last refusal, 0 where there was none."""
        refusal = 0
        while not self._monitor.closed and self._monitor.poll(0):
            event = parse_monitor_message(self._monitor.recv_multipart())["event"]
            if event == _ACCEPTED:
                self._connected += 1
                self._refusals = refusal = 0
            elif event == _LEFT:
                self._disconnects += self._connected > 0
                self._connected = max(self._connected - 1, 0)
                self._gone = time.monotonic()
            elif event in _TRYING:
                self._gone = None
            elif event in _REFUSED:
                self._refused += 1
                self._refusals += PATIENCE if event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL else 1
                refusal = int(event)
        return refusal if self._refusals >= PATIENCE else 0

    def close(self) -> None:
        """Let go of everything, without waiting for anybody."""
        self._close(0)

    def _close(self, linger: int) -> None:
        if not self._socket.closed:
            self._watch()
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close(linger)
            if self._authenticator is not None:
                self._authenticator.stop()
            self._context.term()  # comes back when what lingers has left

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
        address, pattern = _address(uri, curve, insecure, "server")
        super().__init__(RECEIVERS[pattern], high_water, max_bytes)
        self._uri = uri
        if curve is not None:
            self._socket.curve_publickey, self._socket.curve_secretkey = curve.public, curve.secret
            self._socket.curve_serverkey = curve.server
        if pattern == "pub":
            for topic in topics:
                self._socket.setsockopt(zmq.SUBSCRIBE, wire_topic(topic))
            if not topics:
                self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._address = address
        self._attach(uri, self._socket.connect, address)

    def receive(self, timeout: float | None) -> Sequence[Any] | None:
        """The parts of a message: bytes, or views of the memory they came in where they are large; see `Receiver`.

        Raises:
            PeerRefusedError: the other end is there, and refuses us.
        """
        receive = self._socket.recv
        try:
            part = receive(zmq.NOBLOCK, False)
        except zmq.Again:
            if not self._wait(timeout):
                return None
            part = receive(0, False)
        parts = [part.bytes if len(part) < LARGE else part.buffer]
        while part.more:
            part = receive(0, False)
            if len(parts) <= MAX_BUFFERS + 2:  # of a message without an end no more is kept than shows that it is none
                parts.append(part.bytes if len(part) < LARGE else part.buffer)
        return parts

    def _wait(self, timeout: float | None) -> bool:
        """Whether a message is there, after ``timeout`` seconds at most."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = math.inf if end is None else max(end - time.monotonic(), 0)
            if self._gone is not None:
                self._try_again()
                left = min(left, _GIVEN_UP)
            ready = dict(self._poller.poll(None if left == math.inf else math.ceil(left * 1000)))
            if self._monitor in ready and (refusal := self._watch()):
                msg = f"{self._uri}: the publisher is there and refuses us: {_REFUSED[refusal]}"
                raise PeerRefusedError(msg)
            if self._socket in ready:
                return True
            if end is not None and time.monotonic() >= end:
                return False

    def _try_again(self) -> None:
        if self._gone is not None and time.monotonic() - self._gone > _GIVEN_UP:
            self._gone = None
            with contextlib.suppress(zmq.ZMQError):  # where nothing is left of the connection that was given up
                self._socket.disconnect(self._address)
            self._socket.connect(self._address)


class ZmqSender(_Socket):
    """Binds. ``block``: wait for a slow subscriber at the high-water mark; otherwise it loses samples, and counts them."""

    def __init__(
        self, uri: str, *, curve: Curve | None = None, insecure: bool = False, high_water: int = 1000, block: bool = False
    ) -> None:
        address, pattern = _address(uri, curve, insecure, "allowed")
        super().__init__(SENDERS[pattern], high_water, MAX_SUBSCRIPTION)
        if curve is not None:
            self._authenticator = ThreadAuthenticator(self._context)
            self._authenticator.start()
            self._authenticator.configure_curve_callback("*", _AllowList(curve.allowed))
            self._socket.curve_server = True
            self._socket.curve_publickey, self._socket.curve_secretkey = curve.public, curve.secret
        self._send = super(zmq.Socket, self._socket).send  # without zmq.Socket's own, whose checks cost more than sending does
        self._is_pub, self._listeners = pattern == "pub", 0
        self._flags = 0 if block else zmq.NOBLOCK
        self._sent = 0
        if self._is_pub:
            self._socket.setsockopt(zmq.XPUB_NODROP, int(block))
        if block:  # nobody is waited for longer than this without a sign of life
            self._socket.setsockopt(zmq.TCP_MAXRT, PATIENCE_MS)
        self._attach(uri, self._socket.bind, address)
        bound = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.uri = f"zmq+{bound}" + ("" if self._is_pub else "?pattern=push")

    def send(self, parts: Sequence[Any]) -> None:
        send, flags = self._send, self._flags
        *leading, last = parts
        try:
            for part in leading:
                send(part, flags | zmq.SNDMORE)
            send(last, flags)
        except zmq.Again:
            return
        finally:
            self._sent += 1
            if not self._sent % 256:  # what nobody reads would pile up
                self._hear(0)
                self._watch()

    def drain(self, timeout: float | None) -> None:
        self._close(-1 if timeout is None else math.ceil(timeout * 1000))

    def _hear(self, timeout: float) -> None:
        """Take subscriptions and their ends."""
        end = time.monotonic() + timeout
        while self._is_pub and self._socket.poll(math.ceil(max(end - time.monotonic(), 0) * 1000)):
            self._listeners += 1 if self._socket.recv()[:1] == b"\1" else -1
            end = time.monotonic()

    def wait(self, timeout: float) -> bool:
        if not self._is_pub:
            return bool(self._socket.poll(math.ceil(timeout * 1000), zmq.POLLOUT))
        self._hear(0)
        if self._listeners <= 0:
            self._hear(timeout)
        self._watch()
        return self._listeners > 0
