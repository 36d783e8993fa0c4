"""What a live run is told, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Space
from numpy.typing import NDArray

from rlcore.errors import ConfigError
from rlcore.live.figures import Figures

__all__ = ["Hooks", "LiveConfig", "LiveResult", "safe_action"]


@dataclass(frozen=True)
class LiveConfig:
    """How a live run keeps time."""

    hz: float = 20.0
    """Actions a second."""

    minutes: float = 10.0
    """How long to run."""

    deadline_ms: float | None = None
    """An action later than this counts as missed (default: the time between two actions)."""

    max_age: float = 0.5
    """Seconds after which an observation is too old to act on: the safe action is given."""

    watchdog: float = 2.0
    """Seconds without an action after which an alarm is raised."""

    backlog: int = 1_000
    """Steps that may wait for the learner; beyond it the oldest are lost, and counted."""

    learning: bool = True
    """Learn; otherwise act by what was learnt before."""

    priority: bool = False
    """Let the acting thread come before all others of the machine (Linux, with the right to do so): for busy machines."""

    log_seconds: float = 10.0
    """Seconds between lines of metrics.jsonl."""

    save_seconds: float = 60.0
    """Seconds between checkpoints, which are written while the run goes on."""

    def __post_init__(self) -> None:
        for name in ("hz", "minutes", "max_age", "watchdog", "backlog", "log_seconds", "save_seconds"):
            if not getattr(self, name) > 0:
                message = f"{name}: expected a number above 0, got {getattr(self, name)}"
                raise ConfigError(message)
        if self.deadline_ms is not None and self.deadline_ms <= 0:
            message = f"deadline_ms: expected a number above 0, got {self.deadline_ms}"
            raise ConfigError(message)

    @property
    def deadline(self) -> float:
        """Seconds that an action may take."""
        return 1 / self.hz if self.deadline_ms is None else self.deadline_ms / 1e3


@dataclass(frozen=True)
class Hooks:
    """Where others have a say. All are called in the acting thread, but for ``on_watchdog``; they must be quick."""

    #: Given the observation ``[d]`` and the agent's action, a person's action, or None to leave it to the agent.
    take_over: Callable[[NDArray[np.float32], NDArray[Any]], NDArray[Any] | None] | None = None
    #: Given the figures of the last interval, a reason to stop, or None.
    stop: Callable[[Figures], str | None] | None = None
    #: Whether the observation is not to be acted on, whatever the sensors say of themselves.
    stale: Callable[[], bool] | None = None
    #: Given the seconds without an action; called by the watchdog's thread.
    on_watchdog: Callable[[float], None] | None = None


@dataclass(frozen=True, slots=True)
class LiveResult:
    """How a live session ended."""

    figures: Figures  #: of the whole session
    intervals: list[Figures]  #: of each ``log_seconds``
    steps: int  #: of the whole run, over all sessions
    seconds: float  #: of this session
    reason: str  #: why it ended
    checkpoint: Path
    signal: int | None


def safe_action(space: Space[Any]) -> NDArray[Any]:
    """What to do without knowing anything: no force (zeros, or what is nearest in the bounds), the first choice.

    >>> safe_action(Box(np.float32([0.2, -1]), np.float32([1, 1])))
    array([0.2, 0. ], dtype=float32)
    """
    if isinstance(space, Box):
        nearest: NDArray[Any] = np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
        return nearest
    return np.zeros(space.shape or (), np.int64)
