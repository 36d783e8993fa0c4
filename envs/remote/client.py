"""A remote environment as a local one: `RemoteEnv`, and several at once as `RemoteVectorEnv`."""

from __future__ import annotations

import secrets
import struct
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.remote.layout import Layout, make_space
from envs.remote.messages import VERSION, Request, decode_reply, encode, from_plain, to_plain
from envs.remote.sockets import ClientSocket
from envs.streams import Curve
from rlcore.errors import UsageError, WorldError

__all__ = ["RemoteEnv", "RemoteVectorEnv"]

_VERDICT = struct.Struct("<dBB")
#: Seconds after which a request is sent again: the first time, and at most.
_AGAIN, _AGAIN_MOST = 0.25, 1.0


class _Lost(Exception):
    """The server does not know our session: it was started anew, or has forgotten us. Told as ``info["server_restarted"]``."""


class _Session:
    """A dialogue with a server: each request is answered once, however often the connection breaks."""

    def __init__(self, address: str, num_envs: int, render_mode: str | None, timeout: float, options: dict[str, Any]) -> None:
        if render_mode not in (None, "rgb_array"):
            message = f"{address}: expected render_mode None or 'rgb_array', got {render_mode!r}"
            raise UsageError(message)
        self.address, self.timeout = address, timeout
        self._wanted = {"num_envs": num_envs, "render_mode": render_mode}
        self._options = options
        self._socket: ClientSocket | None = None
        self.described: dict[str, Any] = {}
        self._picture: Any = None
        #: Whether an episode is under way, as far as we know.
        self.begun = False
        self.open()

    def open(self) -> None:
        """A new session, under a new identity; of the same environment as the last one.

        Raises:
            WorldError: nobody answers within the timeout, or somebody who serves another environment.
        """
        self.close()
        self._socket = ClientSocket(self.address, b"\1" + secrets.token_bytes(16), **self._options)
        self._sequence = 0
        try:
            described, _ = self._exchange("open", self._wanted, b"", 0)
            if not isinstance(described, dict) or described.get("num_envs") != self._wanted["num_envs"]:
                message = f"{self.address}: expected the description of an environment, got {str(described)[:80]}"
                raise WorldError(message)
            for name in ("observation_space", "action_space"):
                if self.described and described.get(name) != self.described[name]:
                    before, now = (make_space(each.get(name)) for each in (self.described, described))
                    message = f"{self.address}: expected the {name.replace('_', ' ')} of before, {before}, got {now}"
                    raise WorldError(message)
        except BaseException:
            self._drop()
            raise
        self.described, self.begun = described, False

    def begin(self, seeds: Any, options: dict[str, Any] | None) -> tuple[Any, bytes]:
        """Reset, in a new session where the old one is gone."""
        body = {"seeds": seeds, "options": None if options is None else to_plain(options)}
        end = time.monotonic() + self.timeout
        while True:
            try:
                answer = self.call("reset", body)
                self.begun = True
                return answer
            except _Lost:
                if time.monotonic() > end:
                    message = f"{self.address}: the server loses our session again and again: is it started anew all the time?"
                    raise WorldError(message) from None
                self.open()

    def step(self, actions: bytes) -> tuple[Any, bytes]:
        """A step of the episode that `begin` began; raises as `call` does."""
        if not self.begun:
            message = f"{self.address}: call reset() before step()"
            raise WorldError(message)
        return self.call("step", None, actions)

    def picture(self) -> Any:
        """What the server draws; the last picture where the episode is gone with its server, until the next has begun."""
        if self.begun or self._picture is None:
            try:
                described, raw = self.call("render")
            except _Lost:
                return self._picture
            self._picture = None if described is None else np.frombuffer(raw, described[0]).reshape(described[1])
        return None if self._picture is None else self._picture.copy()

    def call(self, name: str, body: Any = None, raw: bytes = b"") -> tuple[Any, bytes]:
        """One request and its answer.

        Raises:
            WorldError: the environment raised, or nobody answered within the timeout.
            _Lost: the server has no such session.
        """
        if self._socket is None:  # given up after a timeout, or closed
            raise _Lost
        self._sequence += 1
        return self._exchange(name, body, raw, self._sequence)

    def _exchange(self, name: str, body: Any, raw: bytes, sequence: int) -> tuple[Any, bytes]:
        socket = self._socket
        assert socket is not None
        request = encode(Request(VERSION, sequence, name, body, raw))
        socket.send(request)
        answer = socket.receive(_AGAIN)
        if answer is None:
            answer = self._insist(socket, name, request, time.monotonic() + self.timeout)
        while (reply := decode_reply(answer)).sequence != sequence:  # to a request that we had sent twice
            answer = socket.receive(self.timeout)
            if answer is None:
                raise self._given_up(socket, name)
        if reply.outcome == "ok":
            return reply.body, reply.raw
        if reply.outcome == "unknown":
            raise _Lost
        message = f"{self.address}: {reply.body}"
        raise WorldError(message)

    def _insist(self, socket: ClientSocket, name: str, request: bytes, end: float) -> bytes:
        wait = _AGAIN
        while (left := end - time.monotonic()) > 0:
            refusal = socket.state().refusal
            if refusal:
                self._drop()
                message = f"{self.address}: the server refused the connection: {refusal}"
                raise WorldError(message)
            wait = min(2 * wait, _AGAIN_MOST, max(left, 0.001))
            socket.send(request)
            answer = socket.receive(wait)
            if answer is not None:
                return answer
        raise self._given_up(socket, name)

    def _given_up(self, socket: ClientSocket, name: str) -> WorldError:
        link = socket.state()
        within = f"{name!r} within {self.timeout:g} s"
        if link.is_connected:
            what = f"is connected, but did not answer {within}: is the environment busy, or does it hang?"
        elif link.was_connected:
            what = f"the connection broke, and nobody was there again to answer {within}: was the server stopped?"
        else:
            what = f"nobody answered {within}: is `run-agent serve-env` running there?"
        self._drop()  # whether the request was done is unknown: the next `reset` begins a new session
        return WorldError(f"{self.address}: {what}")

    def _drop(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close()

    def close(self) -> None:
        """Tell the server, without waiting for long; a second call does nothing."""
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.send(encode(Request(VERSION, self._sequence + 1, "close")))
            socket.receive(0.2)
            socket.close()


class RemoteEnv(gymnasium.Env[Any, Any]):
    """An environment that runs elsewhere: ``run-agent serve-env``. Registered as ``rlcore/Remote-v0``.

    Wherever an environment's id is taken, so is its address: ``run-agent train --env remote+tcp://127.0.0.1:5700``.

    - Where the connection breaks, it is made again, and the episode goes on: no step is lost, and none is done twice.
    - Where the server died and was started anew, the episode is gone. The step under way, or the next one, is truncated with
      ``info["server_restarted"]``: it gives the last observation again and a reward of 0, since what came of it nobody knows.
      The next `reset` begins an episode there.
    - Where the server does not come back within ``timeout``, `step` raises, and says so; a later call tries again.
    - What serves another environment there, in its place, is refused.

    Args:
        address: ``remote+tcp://host:port`` or ``remote+ipc:///path``; ``?key=FILE&server=FILE`` names keys of `run-agent keys`.
        render_mode: ``"rgb_array"`` for pictures that the server draws.
        timeout: seconds to wait for an answer; those in which a server must be back.
        curve: keys, with ``server``; needed for other machines, unless ``insecure``.

    Raises:
        WorldError: nobody answers, the server refuses us, or its environment raised.
        UsageError: not an address, or not a safe one.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}  # type: ignore[misc]  # those of the server, once known

    def __init__(
        self,
        address: str,
        *,
        render_mode: str | None = None,
        timeout: float = 30.0,
        curve: Curve | None = None,
        insecure: bool = False,
    ) -> None:
        self._session = _Session(address, 1, render_mode, timeout, {"curve": curve, "insecure": insecure})
        self.render_mode = render_mode
        self.metadata = _metadata(self._session.described)  # type: ignore[misc]
        self.observation_space = make_space(self._session.described["observation_space"])
        self.action_space = make_space(self._session.described["action_space"])
        self._observations, self._actions = Layout(self.observation_space), Layout(self.action_space)
        self._last = b""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode there."""
        super().reset(seed=seed)
        body, self._last = self._session.begin(None if seed is None else [seed], options)
        return self._observations.unpack(self._last), _info(body, 0)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take the action there."""
        try:
            body, raw = self._session.step(self._actions.pack([action]))
        except _Lost:
            self._session.open()
            return self._observations.unpack(self._last), 0.0, False, True, {"server_restarted": True}
        size = self._observations.size
        if len(raw) != size + _VERDICT.size:
            message = f"{self._session.address}: expected {size + _VERDICT.size} bytes of a step, got {len(raw)}"
            raise WorldError(message)
        self._last = raw[:size]
        reward, terminated, truncated = _VERDICT.unpack_from(raw, size)
        info = {} if body is None else _info(body[0], 0)
        return self._observations.unpack(self._last), reward, terminated != 0, truncated != 0, info

    def render(self) -> Any:
        """The picture that the server draws; None without a render mode. The last one where the server was started anew, until
        the next `reset`."""
        return None if self.render_mode is None else self._session.picture()

    def close(self) -> None:
        """End the session; a second call does nothing."""
        self._session.close()


class RemoteVectorEnv(VectorEnv[Any, Any, Any]):
    """``num_envs`` environments that run elsewhere, stepped by one request; those that end are reset in the same step.

    Arguments and errors are those of `RemoteEnv`.
    """

    def __init__(
        self,
        address: str,
        num_envs: int = 1,
        *,
        render_mode: str | None = None,
        timeout: float = 30.0,
        curve: Curve | None = None,
        insecure: bool = False,
    ) -> None:
        if num_envs < 2:
            message = (
                f"{address}: expected at least 2 environments of a RemoteVectorEnv, got {num_envs}; RemoteEnv is a single one"
            )
            raise UsageError(message)
        self._session = _Session(address, num_envs, render_mode, timeout, {"curve": curve, "insecure": insecure})
        self.num_envs, self.render_mode = num_envs, render_mode
        self.metadata = {**_metadata(self._session.described), "autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = make_space(self._session.described["observation_space"])
        self.single_action_space = make_space(self._session.described["action_space"])
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._observations, self._actions = Layout(self.single_observation_space), Layout(self.single_action_space)
        self._last = b""

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all; environment i with seed ``seed + i``, or ``seed[i]``."""
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else None if seed is None else list(seed)
        body, self._last = self._session.begin(seeds, options)
        return self._observations.unpack_batch(self._last, self.num_envs), self._infos(body, None)

    def step(self, actions: Any) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Take an action each there; ``infos["final_obs"]`` where an episode ended."""
        count, size = self.num_envs, self._observations.size
        try:
            body, raw = self._session.step(self._actions.pack(list(_rows(actions, count))))
        except _Lost:
            return self._after_restart()
        at = count * size
        ended_at = at + count * _VERDICT.size
        if len(raw) < ended_at:
            message = f"{self._session.address}: expected at least {ended_at} bytes of a step, got {len(raw)}"
            raise WorldError(message)
        rewards = np.frombuffer(raw, "<f8", count, at).astype(np.float64)
        verdicts = np.frombuffer(raw, np.bool_, 2 * count, at + 8 * count)
        terminated, truncated = verdicts[:count].copy(), verdicts[count:].copy()
        self._last = raw[:at]
        infos = self._infos(*(body or (None, None)))
        ended = np.flatnonzero(terminated | truncated)
        if ended.size:
            finals = self._observations.unpack_all(raw[ended_at:], ended.size)
            for index, final in zip(ended.tolist(), finals, strict=True):
                infos = self._add_info(infos, {"final_obs": final}, index)
        return self._observations.unpack_batch(self._last, count), rewards, terminated, truncated, infos

    def _after_restart(self) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Every episode is gone: truncated where it was, and another has begun."""
        count = self.num_envs
        finals = self._observations.unpack_all(self._last, count)
        observations, infos = self.reset()
        for index, final in enumerate(finals):
            infos = self._add_info(infos, {"final_obs": final, "server_restarted": True}, index)
        return observations, np.zeros(count), np.zeros(count, np.bool_), np.ones(count, np.bool_), infos

    def _infos(self, infos: Any, finals: Any) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for index in infos or ():
            merged = self._add_info(merged, _info(infos, index), index)
        for index in finals or ():
            merged = self._add_info(merged, {"final_info": _info(finals, index)}, index)
        return merged

    def render(self) -> tuple[Any, ...] | None:
        """The picture of the first, which the server draws."""
        return None if self.render_mode is None else (self._session.picture(),)

    def close_extras(self, **_: Any) -> None:
        """End the session."""
        self._session.close()


def _rows(actions: Any, count: int) -> Any:
    """The actions one by one, of an array or of a batched dictionary or tuple."""
    return actions if isinstance(actions, np.ndarray) else (_row(actions, index) for index in range(count))


def _row(actions: Any, index: int) -> Any:
    if isinstance(actions, dict):
        return {key: _row(part, index) for key, part in actions.items()}
    if isinstance(actions, tuple):
        return tuple(_row(part, index) for part in actions)
    return actions[index]


def _info(infos: Any, index: int) -> dict[str, Any]:
    return {} if infos is None else dict(from_plain(infos[index]))


def _metadata(described: dict[str, Any]) -> dict[str, Any]:
    return {"render_modes": list(described["render_modes"]), "render_fps": described["render_fps"]}
