"""Serves an environment to clients in other processes, on other hosts, in other languages."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from envs.make import make_env
from envs.remote.layout import Layout, describe_space
from envs.remote.messages import VERSION, Reply, Request, decode_request, encode, from_plain, to_plain
from envs.remote.sockets import ServerSocket
from envs.streams import Curve
from rlcore.errors import RlcoreError, WorldError

__all__ = ["EnvServer", "serve_env"]

#: Clients, and environments of one client, at most.
MAX_SESSIONS, MAX_ENVS = 64, 1024
_VERDICT = struct.Struct("<dBB")


class _Refusal(Exception):
    """A request that makes no sense here; the text goes to the client."""


class _Session:
    """The environments of one client, the last request and its answer."""

    def __init__(self, make: Callable[[str | None], gymnasium.Env[Any, Any]], count: int, render_mode: str | None) -> None:
        self.envs: list[gymnasium.Env[Any, Any]] = []
        try:
            for _ in range(count):
                self.envs.append(make(render_mode))
        except BaseException:
            self.close()
            raise
        first = self.envs[0]
        self.observations, self.actions = Layout(first.observation_space), Layout(first.action_space)
        self.described = {
            "observation_space": describe_space(first.observation_space),
            "action_space": describe_space(first.action_space),
            "num_envs": count,
            "render_modes": ["rgb_array"] if "rgb_array" in (first.metadata.get("render_modes") or ()) else [],
            "render_fps": first.metadata.get("render_fps"),
        }
        self.sequence = 0
        self.answer = b""
        self.seen = time.monotonic()

    def close(self) -> None:
        for env in self.envs:
            env.close()

    def reset(self, body: Any, raw: bytes) -> tuple[Any, bytes]:
        """``{"seeds": [int | None, ...] | None, "options": dict | None}``: infos by index; n observations."""
        seeds = body["seeds"] or [None] * len(self.envs)
        options = None if body["options"] is None else from_plain(body["options"])
        observations, infos = [], {}
        for index, (env, seed) in enumerate(zip(self.envs, seeds, strict=True)):
            observation, info = self._guarded(index, env.reset, seed=seed, options=options)
            observations.append(observation)
            if info:
                infos[index] = to_plain(info)
        return infos or None, self.observations.pack(observations)

    def step(self, body: Any, raw: bytes) -> tuple[Any, bytes]:
        """n actions: ``[infos, final infos]`` by index, or None; n observations, rewards (f8), terminated, truncated (u1).

        A single environment is left as it is at the end of its episode. Of several, those that ended are reset, and their final
        observations follow.
        """
        envs = self.envs
        if len(envs) == 1:
            action = self.actions.unpack(raw)
            observation, reward, terminated, truncated, info = self._guarded(0, envs[0].step, action)
            verdict = _VERDICT.pack(reward, bool(terminated), bool(truncated))
            return [{0: to_plain(info)}, None] if info else None, self.observations.pack([observation]) + verdict
        observations, finals, infos, final_infos = [], [], {}, {}
        rewards, terminations, truncations = np.empty(len(envs), "<f8"), np.empty(len(envs), "u1"), np.empty(len(envs), "u1")
        for index, (env, action) in enumerate(zip(envs, self.actions.unpack_all(raw, len(envs)), strict=True)):
            observation, reward, terminated, truncated, info = self._guarded(index, env.step, action)
            rewards[index], terminations[index], truncations[index] = reward, bool(terminated), bool(truncated)
            if terminated or truncated:
                finals.append(observation)
                if info:
                    final_infos[index] = to_plain(info)
                observation, info = self._guarded(index, env.reset)
            observations.append(observation)
            if info:
                infos[index] = to_plain(info)
        answer = [self.observations.pack(observations), rewards.tobytes(), terminations.tobytes(), truncations.tobytes()]
        if finals:
            answer.append(self.observations.pack(finals))
        return [infos, final_infos] if infos or final_infos else None, b"".join(answer)

    def render(self, body: Any, raw: bytes) -> tuple[Any, bytes]:
        """The picture of the first: ``[dtype, shape]``; None where there is none."""
        picture = self._guarded(0, self.envs[0].render)
        if not isinstance(picture, np.ndarray):
            return None, b""
        return [picture.dtype.str, list(picture.shape)], picture.tobytes()

    def _guarded(self, index: int, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return method(*arguments, **options)
        except Exception as error:
            which = f"environment {index}: " if len(self.envs) > 1 else ""
            message = f"{which}{method.__name__} raised {type(error).__name__}: {error}"
            raise WorldError(" ".join(message.split())) from error


class EnvServer:
    """One environment for many clients; each has copies of its own, made when it opens a session.

    A client's last answer is kept: a request that comes again, because the network lost the answer, is answered again and not
    done again. So the network may go and come back, and the client's episodes go on.

    Args:
        env: an id, as `envs.make_world` takes it, or a function of a render mode that makes an environment.
        at: where: ``remote+tcp://127.0.0.1:5700``, port 0 for a free one.
        env_kwargs: for the environment's constructor, where ``env`` is an id.
        keep: seconds for which the session of a silent client is kept.
        curve: keys, with ``allowed``; needed where other machines reach ``at``, unless ``insecure``.

    Raises:
        UsageError: an address that cannot be bound, or not safely.
    """

    def __init__(
        self,
        env: str | Callable[[str | None], gymnasium.Env[Any, Any]],
        at: str,
        *,
        env_kwargs: dict[str, Any] | None = None,
        keep: float = 600.0,
        curve: Curve | None = None,
        insecure: bool = False,
    ) -> None:
        self._env, self._kwargs, self._keep = env, env_kwargs, keep
        self._socket = ServerSocket(at, curve=curve, insecure=insecure)
        self.uri = self._socket.uri
        self._sessions: dict[bytes, _Session] = {}
        self._stopped = False
        #: Messages that were none of ours.
        self.rejected = 0

    @property
    def sessions(self) -> int:
        """How many clients have one."""
        return len(self._sessions)

    def run(self, seconds: float | None = None) -> None:
        """Serve for so many seconds, or until `stop` is called from another thread."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self._stopped and (end is None or time.monotonic() < end):
            parts = self._socket.receive()
            if parts is None:
                self._forget()
            else:
                self._socket.send(parts[0], self._answer(parts))

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stopped = True

    def close(self) -> None:
        """Close the port and every environment; a second call does nothing."""
        self._socket.close()
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def __enter__(self) -> EnvServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self, render_mode: str | None) -> gymnasium.Env[Any, Any]:
        if isinstance(self._env, str):
            return make_env(self._env, render_mode=render_mode, env_kwargs=self._kwargs)
        return self._env(render_mode)

    def _forget(self) -> None:
        oldest = time.monotonic() - self._keep
        for identity in [identity for identity, session in self._sessions.items() if session.seen < oldest]:
            self._sessions.pop(identity).close()

    def _answer(self, parts: list[bytes]) -> bytes:
        sequence = 0
        try:
            if len(parts) != 2:
                message = f"expected a message of one part, got {len(parts) - 1}"
                raise _Refusal(message)
            request = decode_request(parts[1])
            sequence = request.sequence
            return self._serve(parts[0], request)
        except (_Refusal, RlcoreError) as error:
            self.rejected += 1
            return encode(Reply(VERSION, sequence, "refused", str(error)))

    def _serve(self, identity: bytes, request: Request) -> bytes:
        if request.call == "open":
            return self._open(identity, request)
        session = self._sessions.get(identity)
        if session is None:
            return encode(Reply(VERSION, request.sequence, "unknown"))
        session.seen = time.monotonic()
        if request.sequence == session.sequence:
            return session.answer
        if request.sequence != session.sequence + 1:
            message = f"expected request {session.sequence} again, or {session.sequence + 1}, got {request.sequence}"
            raise _Refusal(message)
        if request.call == "close":
            self._sessions.pop(identity).close()
            return encode(Reply(VERSION, request.sequence, "ok"))
        call = {"step": session.step, "reset": session.reset, "render": session.render}.get(request.call)
        if call is None:
            message = f"expected open, reset, step, render or close, got {request.call[:20]!r}"
            raise _Refusal(message)
        try:
            body, data = call(request.body, request.raw)
        except RlcoreError as error:
            answer = encode(Reply(VERSION, request.sequence, "failed", str(error)))
        except (TypeError, KeyError, ValueError) as error:
            message = f"{request.call}: expected another body, got {str(request.body)[:80]} ({type(error).__name__}: {error})"
            raise _Refusal(message) from None
        else:
            answer = encode(Reply(VERSION, request.sequence, "ok", body, data))
        session.sequence, session.answer = request.sequence, answer
        return answer

    def _open(self, identity: bytes, request: Request) -> bytes:
        session = self._sessions.get(identity)
        if session is None:
            count, render_mode = self._wanted(request.body)
            if len(self._sessions) >= MAX_SESSIONS:
                message = f"already serves {MAX_SESSIONS} clients"
                raise _Refusal(message)
            session = self._sessions[identity] = _Session(self._make, count, render_mode)
        session.seen = time.monotonic()
        return encode(Reply(VERSION, request.sequence, "ok", {**session.described, "sequence": session.sequence}))

    @staticmethod
    def _wanted(body: Any) -> tuple[int, str | None]:
        count, render_mode = (body.get("num_envs"), body.get("render_mode")) if isinstance(body, dict) else (None, None)
        if not isinstance(count, int) or not 1 <= count <= MAX_ENVS or render_mode not in (None, "rgb_array"):
            message = f"open: expected num_envs from 1 to {MAX_ENVS} and render_mode None or 'rgb_array', got {str(body)[:80]}"
            raise _Refusal(message)
        return count, render_mode


def serve_env(
    env: str, at: str, *, seconds: float | None = None, on_start: Callable[[str], None] | None = None, **options: Any
) -> None:
    """Serve an environment until ``seconds`` are over; what `run-agent serve-env` does. ``options`` are those of `EnvServer`.

    ``on_start`` is called with the address, once it can be reached.
    """
    make_env(env, env_kwargs=options.get("env_kwargs")).close()  # what cannot be made is said here, not to the first client
    with EnvServer(env, at, **options) as server:
        if on_start is not None:
            on_start(server.uri)
        server.run(seconds)
