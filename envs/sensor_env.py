"""A stream of sensors, a place for actions, a reward and an end: a Gymnasium environment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Space

from envs.streams import Aligned, Moment, Publisher, Stream, open_stream, publish
from rlcore.errors import UsageError, WorldError, nearest

__all__ = ["SensorEnv"]

#: Of the moments before and after a step, and the action between them.
Judge = Callable[[Moment, Any, Moment], Any]


def _number(reward: Any) -> float:
    if reward is None or np.ndim(reward) != 0:
        got = "None" if reward is None else f"an array of shape {np.shape(reward)}"
        message = f"SensorEnv: expected one number of reward(before, action, after), got {got}"
        raise WorldError(message)
    return float(reward)


class SensorEnv(gymnasium.Env[Any, Any]):
    """Sensors as observations, at one rate; each `step` sends an action and waits for the next moment.

    On a live stream the world goes on meanwhile: whoever is late misses moments, and ``info["missed"]`` counts them. On a
    recording actions change nothing, and moments come as fast as they are read. Nothing is connected before the first
    `reset`. Register one of a live stream with ``nondeterministic=True``.

    Args:
        sensors: what `envs.streams.open_stream` takes (an address, a file, arrays), or a function that opens a stream.
        spaces: of each sensor, by topic. Values are cast to their dtype and clipped to their bounds; `observation_space` is the
            `Dict` of them.
        action_space: of one action.
        reward: of ``(before, action, after)``: two `Moment` and the action between them.
        terminated: the same; whether the episode has ended. None: never.
        actions: an address for `envs.streams.publish`, which is bound at the first reset; a `Publisher`; or a function of the
            action. None: nobody hears them.
        action_topic: under which they are published.
        observe: turns a moment into the observation; then ``observation_space`` is needed.
        observation_space: of what ``observe`` gives.
        needs: topics that must be heard, by default those of ``spaces``; the judges may need more.
        rate: moments a second.
        on_reset: a topic that is published, with the value 0, at every reset (a command to begin anew); None: none.
        settle: seconds to wait after that.
        timeout: seconds without a sensor, after which `reset` raises and an episode is truncated.
        stream: further options of `open_stream` (``rates``, ``curve``, ...).
        align: further options of `Stream.align` (``max_age``, ``on_stale``, ``interpolate``, ``clock``, ...). ``clock`` is
            ``"wall"`` by default, which reads a recording as fast as it can be read.

    - ``info``: ``time`` (ns), ``missed``, and by topic ``age`` (s), ``fresh``, ``lost``, ``alive``, ``valid``.
    - ``truncated`` where the stream ends or falls silent; ``info["ended"]`` is then True.
    - ``reset(seed=...)`` begins a recording from its start; ``reset()`` goes on in it, with a new episode.

    Raises (at `reset`):
        WorldError: a sensor is not heard within ``timeout``, or a value does not have the shape of its space.
        StreamAddressError: an address that cannot be opened, or not safely.

    >>> env = SensorEnv(
    ...     {"position": np.arange(5.0)},
    ...     {"position": Box(-10, 10, ())},
    ...     Box(-1, 1, ()),
    ...     reward=lambda before, action, after: after["position"] - before["position"],
    ...     rate=10,
    ...     stream={"rates": 10},
    ... )
    >>> observation, info = env.reset(seed=0)
    >>> env.step(env.action_space.sample())[:4]
    ({'position': array(1., dtype=float32)}, 1.0, False, False)
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(
        self,
        sensors: str | Path | Mapping[str, Any] | Callable[[], Stream],
        spaces: Mapping[str, Space[Any]],
        action_space: Space[Any],
        *,
        reward: Judge,
        terminated: Judge | None = None,
        actions: str | Publisher | Callable[[Any], object] | None = None,
        action_topic: str = "action",
        observe: Callable[[Moment], Any] | None = None,
        observation_space: Space[Any] | None = None,
        needs: str | tuple[str, ...] | None = None,
        rate: float = 20.0,
        on_reset: str | None = None,
        settle: float = 0.0,
        timeout: float = 5.0,
        stream: Mapping[str, Any] | None = None,
        align: Mapping[str, Any] | None = None,
    ) -> None:
        if (observe is None) != (observation_space is None):
            message = "SensorEnv: expected observe and observation_space together, or neither"
            raise UsageError(message)
        for name, judge in {"reward": reward, "terminated": terminated}.items():
            if not callable(judge) and (name == "reward" or judge is not None):
                message = f"SensorEnv: expected {name} to be a function of (before, action, after), got {judge!r}"
                raise UsageError(message)
        if not isinstance(spaces, Mapping):
            message = f"SensorEnv: expected spaces by topic, such as {{'imu': Box(-20, 20, (3,))}}, got {type(spaces).__name__}"
            raise UsageError(message)
        self.action_space = action_space
        self.observation_space = Dict(dict(spaces)) if observation_space is None else observation_space
        self._spaces, self._observe, self._reward, self._terminated = dict(spaces), observe, reward, terminated
        self._sensors, self._actions, self._action_topic = sensors, actions, action_topic
        self._needs = tuple(spaces) if needs is None else (needs,) if isinstance(needs, str) else tuple(needs)
        self._rate, self._on_reset, self._settle, self._timeout = rate, on_reset, settle, timeout
        self._stream_options, self._align_options = dict(stream or {}), dict(align or {})
        self._stream: Stream | None = None
        self._publisher = actions if isinstance(actions, Publisher) else None
        self._aligned: Aligned | None = None
        self._moments: Iterator[Moment] = iter(())
        self._moment: Moment | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with the next moment; connects where nothing is connected."""
        super().reset(seed=seed)
        if self._publisher is None and isinstance(self._actions, str):
            self._publisher = publish(self._actions)
        ended = self._stream is not None and self._moment is None
        if ended or (seed is not None and self._stream is not None and not self._stream.source.live):
            self._disconnect()
        if self._stream is None:
            self._connect()
        if self._on_reset is not None and self._publisher is not None:
            self._publisher.send(self._on_reset, 0)
            time.sleep(self._settle)
        self._moment = moment = next(self._moments, None)
        if moment is None:
            message = f"sensors {self._name()}: ended before the first moment of all of {list(self._needs)}"
            raise WorldError(message)
        return self._look(moment), self._info(moment)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Send the action; what the sensors say at the next moment."""
        before = self._moment
        if before is None:
            message = "SensorEnv: call reset() before step(), and after the stream has ended"
            raise WorldError(message)
        self._send(action)
        after = next(self._moments, None)
        self._moment = after
        if after is None:
            return self._look(before), 0.0, False, True, {**self._info(before), "ended": True}
        reward = _number(self._reward(before, action, after))
        terminated = self._terminated is not None and bool(self._terminated(before, action, after))
        return self._look(after), reward, terminated, False, self._info(after)

    def _send(self, action: Any) -> None:
        if self._publisher is not None:
            self._publisher.send(self._action_topic, action)
        elif callable(self._actions):
            self._actions(action)

    def _connect(self) -> None:
        if callable(self._sensors):
            stream = self._sensors()
        else:
            options = dict(self._stream_options)
            if isinstance(self._sensors, str) and "://" in self._sensors:
                options.setdefault("topics", self._needs)
            stream = open_stream(self._sensors, timeout=self._timeout, **options)
        self._stream = stream
        for topic in self._needs:
            if stream.topics and topic not in stream.topics:
                self._disconnect()
                message = f"sensors {self._name()}: no topic {topic!r}; {nearest(topic, stream.topics)}"
                raise WorldError(message)
        if stream.source.live:
            try:
                self._wait_for_all(stream)
            except WorldError:
                self._disconnect()
                raise
        clock = "wall" if stream.source.live else "fast"
        self._aligned = stream.align(self._rate, **{"clock": clock, "topics": self._needs, **self._align_options})
        self._moments = iter(self._aligned)

    def _wait_for_all(self, stream: Stream) -> None:
        """A sensor that never speaks must not be waited for in silence."""
        missing = set(self._needs)
        end = time.monotonic() + self._timeout
        while missing:
            sample = stream.poll(max(end - time.monotonic(), 0.0))
            if sample is not None:
                missing.discard(sample.topic)
            elif time.monotonic() >= end:
                heard = sorted(set(self._needs) - missing) or "nothing"
                message = f"sensors {self._name()}: expected {sorted(missing)} within {self._timeout:g} s, heard {heard}"
                if stream.last_error is not None:
                    message += f"; the last of {stream.rejected} that are no frames: {stream.last_error}"
                raise WorldError(message)

    def _name(self) -> str:
        return str(self._sensors) if isinstance(self._sensors, str | Path) else f"of {type(self._sensors).__name__}"

    def _look(self, moment: Moment) -> Any:
        if self._observe is not None:
            return self._observe(moment)
        return {topic: self._value(topic, space, moment[topic]) for topic, space in self._spaces.items()}

    def _value(self, topic: str, space: Space[Any], value: Any) -> Any:
        # Always a copy: the sensor's last value is given again where no newer one came.
        if isinstance(value, dict):
            message = f"sensor {topic!r}: expected one array, got {sorted(value)}; choose with observe="
            raise WorldError(message)
        array = np.array(value, space.dtype)
        if array.shape != space.shape:
            message = f"sensor {topic!r}: expected the shape {space.shape} of its space, got {array.shape}"
            raise WorldError(message)
        return np.clip(array, space.low, space.high, out=array) if isinstance(space, Box) else array

    def _info(self, moment: Moment) -> dict[str, Any]:
        assert self._aligned is not None
        return {
            "time": moment.t,
            "missed": self._aligned.missed,
            "age": dict(moment.age),
            "fresh": dict(moment.fresh),
            "lost": dict(moment.lost),
            "alive": dict(moment.alive),
            "valid": dict(moment.valid),
        }

    # --- what a live run asks (`rlcore.types.Sensors`) ------------------------------------------------------------

    @property
    def realtime(self) -> bool:
        """Whether the sensors go by a clock of their own: not before the first `reset`, and not on a recording."""
        return self._stream is not None and self._stream.source.live

    @property
    def rate(self) -> float:
        """Moments a second."""
        return self._rate

    @property
    def moment(self) -> int:
        """When the newest observation was due, by `time.time_ns`; 0 without one."""
        return 0 if self._moment is None else self._moment.t

    @property
    def missed(self) -> int:
        """Moments that passed while nobody waited for them."""
        return 0 if self._aligned is None else self._aligned.missed

    @property
    def age(self) -> float:
        """Seconds since the sensor among the needed that was silent longest was heard; infinite where one is not valid."""
        moment = self._moment
        if moment is None or not all(moment.valid.get(topic, False) for topic in self._needs):
            return math.inf
        return max((moment.age[topic] for topic in self._needs), default=0.0)

    @property
    def lost(self) -> int:
        """Samples that were sent and never arrived, of all sensors."""
        return 0 if self._moment is None else sum(self._moment.lost.values())

    def _disconnect(self) -> None:
        if self._stream is not None:
            close = getattr(self._moments, "close", None)
            if close is not None:
                close()
            self._stream.close()
        self._stream, self._aligned, self._moment = None, None, None
        self._moments = iter(())

    def close(self) -> None:
        """Let go of the sockets that it opened itself; a second call does nothing."""
        self._disconnect()
        if self._publisher is not None and not isinstance(self._actions, Publisher):
            self._publisher.close()
            self._publisher = None
