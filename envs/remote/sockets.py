"""ZeroMQ sockets of a server (ROUTER) and a client (DEALER), with keys and limits; the only importer of zmq here."""

from __future__ import annotations

import ipaddress
import os
import time
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import recv_monitor_message

from envs.streams import Curve
from rlcore.errors import KeysNeededError, UsageError, WorldError

__all__ = ["ClientSocket", "Link", "ServerSocket"]

MAX_BYTES = 1 << 28
_OPTIONS = {
    zmq.LINGER: 0,
    zmq.MAXMSGSIZE: MAX_BYTES,
    zmq.HEARTBEAT_IVL: 1000,  # by ZeroMQ's own thread: also while an environment computes
    zmq.HEARTBEAT_TIMEOUT: 3000,
    zmq.RECONNECT_IVL: 50,
    zmq.RECONNECT_IVL_MAX: 1000,
}
_REFUSALS: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "it does not admit our key",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "one end has keys and the other has none",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "it does not admit our key or has another, or one end has none, or is no such server",
}
#: A server that dies during the handshake looks like one that refuses: only several in a row are taken for a refusal.
_PATIENCE = 3


#: Seconds to stay awake for an answer: an idle core takes up to half of that to wake up, twice for each step.
_EAGER = 2e-4
_give_way = getattr(os, "sched_yield", lambda: time.sleep(0))


def _soon(socket: Any) -> bytes | None:
    """A part of a message if one comes within `_EAGER` seconds; other threads, ZeroMQ's own above all, go first."""
    end = time.perf_counter() + _EAGER
    while True:
        try:
            part: bytes = socket.recv(zmq.NOBLOCK)
            return part
        except zmq.Again:
            if time.perf_counter() >= end:
                return None
            _give_way()


def _endpoint(uri: str, curve: Curve | None, insecure: bool, role: str) -> str:
    """ZeroMQ's address of ``remote+tcp://``, ``zmq+tcp://`` and their ``ipc``; refuses what is open to a network without keys."""
    url = urlsplit(uri)
    scheme = url.scheme.removeprefix("remote+").removeprefix("zmq+")
    if scheme == "ipc" and (url.netloc or url.path):
        return f"ipc://{url.netloc}{url.path}"
    try:
        host, port = url.hostname or "", url.port
    except ValueError:
        host, port = "", None
    if scheme != "tcp" or not host or port is None:
        message = f"{uri}: expected remote+tcp://host:port or remote+ipc:///path"
        raise UsageError(message)
    if curve is None and not insecure and not _is_loopback(host):
        raise KeysNeededError(
            uri, f"{host} is not this machine alone", needs="allowed" if role == "server" else "address", or_none=True
        )
    if curve is not None and role == "server" and not curve.allowed:
        raise KeysNeededError(uri, "our key comes without those of who is admitted", needs="allowed")
    if curve is not None and role == "client" and not curve.server:
        raise KeysNeededError(uri, "our key comes without the server's", needs="server")
    return f"tcp://{url.netloc}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _AllowList:
    def __init__(self, allowed: frozenset[bytes]) -> None:
        self._allowed = allowed

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the key is listed."""
        return key in self._allowed


class ServerSocket:
    """Hears many clients, each by its identity."""

    def __init__(self, uri: str, *, curve: Curve | None = None, insecure: bool = False) -> None:
        endpoint = _endpoint(uri, curve, insecure, "server")
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._authenticator: ThreadAuthenticator | None = None
        for option, value in {**_OPTIONS, zmq.ROUTER_HANDOVER: 1, zmq.RCVTIMEO: 100}.items():
            self._socket.setsockopt(option, value)
        if curve is not None:
            self._authenticator = ThreadAuthenticator(self._context)
            self._authenticator.start()
            self._authenticator.configure_curve_callback("*", _AllowList(curve.allowed))
            self._socket.curve_server = True
            self._socket.curve_publickey, self._socket.curve_secretkey = curve.public, curve.secret
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            message = f"{uri}: {error}"
            raise UsageError(message) from None
        #: Where clients find it, with the port that the system chose.
        self.uri = f"remote+{self._socket.getsockopt_string(zmq.LAST_ENDPOINT)}"

    def receive(self) -> list[bytes] | None:
        """``[identity, message]``; None where nobody spoke for a tenth of a second."""
        identity = _soon(self._socket)
        if identity is not None:
            return [identity, *self._socket.recv_multipart()]
        try:
            return self._socket.recv_multipart()
        except zmq.Again:
            return None

    def send(self, identity: bytes, message: bytes) -> None:
        """Dropped where that client has gone: it asks again."""
        self._socket.send(identity, zmq.SNDMORE)
        self._socket.send(message)

    def close(self) -> None:
        """Let go of the port; a second call does nothing."""
        if not self._socket.closed:
            self._socket.close()
            if self._authenticator is not None:
                self._authenticator.stop()
            self._context.term()


def _keys_of(uri: str) -> Curve | None:
    """Those whose files an address names: ``remote+tcp://host:port?key=FILE&server=FILE``."""
    files = dict(parse_qsl(urlsplit(uri).query))
    if not files:
        return None
    if files.keys() != {"key", "server"}:
        message = f"{uri}: expected ?key=FILE&server=FILE, our secret key and the server's public one, got {sorted(files)}"
        raise UsageError(message)
    return Curve.load(files["key"], server=files["server"])


class Link(NamedTuple):
    """A client's connection."""

    is_connected: bool  #: The server's heartbeats come.
    was_connected: bool  #: They came at some time.
    refusal: str  #: Why the server turns us away; empty: it does not.


class ClientSocket:
    """Speaks to one server, under one identity; ZeroMQ connects anew by itself."""

    def __init__(self, uri: str, identity: bytes, *, curve: Curve | None = None, insecure: bool = False) -> None:
        curve = _keys_of(uri) if curve is None else curve
        endpoint = _endpoint(uri, curve, insecure, "client")
        # One context for all, that nobody ends: an environment that is not closed must not keep its process from ending.
        context: Any = zmq.Context.instance()
        self._socket = context.socket(zmq.DEALER)
        for option, value in _OPTIONS.items():
            self._socket.setsockopt(option, value)
        self._socket.setsockopt(zmq.IDENTITY, identity)
        if curve is not None:
            self._socket.curve_publickey, self._socket.curve_secretkey = curve.public, curve.secret
            self._socket.curve_serverkey = curve.server
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | sum(_REFUSALS))
        self._is_connected = self._was_connected = False
        self._refusal, self._refusals = "", 0
        self._waits = -1
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            message = f"{uri}: {error}"
            raise WorldError(message) from None

    def send(self, message: bytes) -> None:
        """Never waits: what cannot be sent now is sent once there is a connection."""
        try:
            self._socket.send(message, zmq.NOBLOCK)
        except zmq.Again:
            return  # the queue is full of requests that nobody has taken: this one is in it

    def receive(self, seconds: float) -> bytes | None:
        """A message; None where none came in that time."""
        waits = max(round(seconds * 1000), 1)
        if waits != self._waits:
            self._socket.rcvtimeo = self._waits = waits
        message = _soon(self._socket)
        if message is not None:
            return message
        try:
            late: bytes = self._socket.recv()
            return late
        except zmq.Again:
            return None

    def state(self) -> Link:
        """What heartbeats and handshakes have told so far."""
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            self._is_connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self._was_connected |= self._is_connected
            if event in _REFUSALS:
                self._refusal = _REFUSALS[event]
                self._refusals += 1 if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL else _PATIENCE
            elif self._is_connected:
                self._refusals = 0
        return Link(self._is_connected, self._was_connected, self._refusal if self._refusals >= _PATIENCE else "")

    def close(self) -> None:
        """Let go of the connection; a second call does nothing."""
        if not self._socket.closed:
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close()
