"""Every exception the project raises on purpose.

::

    RlcoreError
    ├── UsageError            what the caller wrote is wrong          (exit code 2)
    │   ├── UnknownNameError  no such environment, agent, option; says the nearest names
    │   ├── ConfigError       an unknown key, a wrong type, a value out of range
    │   ├── SpaceError        the agent cannot serve this space
    │   ├── RunExistsError    the directory already holds a run
    │   ├── CheckpointError   cut short, damaged, or written by another agent
    │   ├── KeysNeededError   an address that other machines reach, without keys
    │   └── MissingExtraError an optional package is not installed; names its pip command
    └── RunError              something failed while running          (exit code 1)
        ├── WorldError        the environment raised, or returned NaN or a wrong shape
        └── SaveError         a checkpoint could not be written; the previous one is whole
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

__all__ = [
    "CheckpointError",
    "ConfigError",
    "KeysNeededError",
    "MissingExtraError",
    "RlcoreError",
    "RunError",
    "RunExistsError",
    "SaveError",
    "SpaceError",
    "UnknownNameError",
    "UsageError",
    "WorldError",
    "nearest",
]


def nearest(name: str, known: Iterable[str]) -> str:
    """What the writer of a name that is not ``known`` may have meant, or what there is to choose from.

    >>> nearest("gama", ["gamma", "clip_range"]), nearest("PPO", ["dqn", "ppo"])
    ("did you mean 'gamma'?", "did you mean 'ppo'?")
    >>> nearest("sac", ["dqn", "ppo"])
    "expected one of 'dqn', 'ppo'"
    """
    import difflib  # an error may be slow

    known = sorted(known)
    by_small_letters: dict[str, list[str]] = {}
    for one in known:
        by_small_letters.setdefault(one.lower(), []).append(one)
    close = [
        one for small in difflib.get_close_matches(name.lower(), by_small_letters, 3, 0.6) for one in by_small_letters[small]
    ]
    if close:
        return f"did you mean {' or '.join(map(repr, close[:3]))}?"
    if len(known) > 40:
        return f"none of the {len(known)} known names is near"
    return f"expected {'one of ' * (len(known) > 1)}{', '.join(map(repr, known)) or 'none'}"


class RlcoreError(Exception):
    """Base of every error raised on purpose; its text is one line."""

    exit_code = 1


class UsageError(RlcoreError):
    """What the caller wrote is wrong, and nothing was started."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is not registered.

    >>> UnknownNameError("agent", "pppo", ["ppo", "dqn"]).args[0]
    "unknown agent 'pppo'; did you mean 'ppo'?"
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}; {nearest(name, known)}")
        self.kind, self.name = kind, name


class ConfigError(UsageError):
    """A configuration with an unknown key, a wrong type or a value out of range."""


class SpaceError(UsageError):
    """An agent that cannot serve an observation or action space."""


class RunExistsError(UsageError):
    """A directory that already holds a run."""


class CheckpointError(UsageError):
    """A checkpoint that is cut short, damaged, or of another agent."""


class KeysNeededError(UsageError):
    """An address that other machines reach, without the keys for it, or with a part of them.

    Args:
        address: the address.
        problem: what is wrong with it.
        needs: what the keys must have: ``"allowed"``, those of the others who are admitted, or ``"server"``, the other end's;
            ``"address"``: the same, where they are named in the address.
        or_none: whether it may be done without keys, where somebody says so.

    >>> error = KeysNeededError("zmq+tcp://0.0.0.0:1", "it is open", needs="server", or_none=True)
    >>> print(error)
    zmq+tcp://0.0.0.0:1: it is open; give curve=Curve(...) with server=, or insecure=True to go without
    >>> print(error.with_flags())
    zmq+tcp://0.0.0.0:1: it is open; give --key FILE --server FILE, or --insecure to go without
    """

    #: As arguments, and as flags.
    _KEYS: ClassVar = {
        "allowed": ("curve=Curve(...) with allowed=", "--key FILE --allow DIR"),
        "server": ("curve=Curve(...) with server=", "--key FILE --server FILE"),
        "address": ("?key=FILE&server=FILE in the address", "?key=FILE&server=FILE in the address"),
    }
    _NONE: ClassVar = ("insecure=True", "--insecure")

    def __init__(
        self, address: str, problem: str, *, needs: Literal["allowed", "server", "address"], or_none: bool = False
    ) -> None:
        self._texts = [
            f"{address}: {problem}; give {keys}" + (f", or {none} to go without" if or_none else "")
            for keys, none in zip(self._KEYS[needs], self._NONE, strict=True)
        ]
        super().__init__(self._texts[0])

    def with_flags(self) -> UsageError:
        """The same for a command that has these flags."""
        return UsageError(self._texts[1])


class MissingExtraError(UsageError):
    """An optional package is missing.

    >>> MissingExtraError("tensorboard", needed_for="--tensorboard").args[0]
    "--tensorboard needs the package 'tensorboard': pip install 'rlcore[tensorboard]'"
    """

    def __init__(self, package: str, *, needed_for: str, extra: str | None = None) -> None:
        command = f"pip install 'rlcore[{extra or package}]'"
        super().__init__(f"{needed_for} needs the package {package!r}: {command}")


class RunError(RlcoreError):
    """Something failed while running; the last good checkpoint stays."""


class WorldError(RunError):
    """An environment raised, or returned NaN or a wrong shape."""


class SaveError(RunError):
    """A checkpoint could not be written; the previous one is whole."""
