"""Names to things, imported only when asked for.

A registry holds strings such as ``"agents.ppo:PPO"``; the module is imported by `Registry.load`. Third parties add to
it without touching this project, with an entry point in their own ``pyproject.toml``::

    [project.entry-points."rlcore.agents"]
    my-agent = "my_package.my_agent:MyAgent"

    [project.entry-points."rlcore.envs"]
    Maze-v0 = "my_package.maze:MazeEnv"        # a gymnasium.Env class, or a callable that makes a World
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from rlcore.errors import ConfigError, UnknownNameError, nearest

__all__ = ["AGENTS", "ENVS", "GAMES", "WORLDS", "Registry", "load_object", "load_users"]


def load_object(location: str) -> Any:
    """Import ``"module:Attribute"`` and return the attribute.

    >>> load_object("math:tau") > 6
    True
    """
    module, _, attribute = location.partition(":")
    return getattr(importlib.import_module(module), attribute)


def load_users(kind: str, location: str) -> Any:
    """What a user names as ``"module:Attribute"``, installed or in this directory.

    Raises:
        ConfigError: no such module, or no such attribute (with the nearest).

    >>> load_users("agent", "maths:tau")
    Traceback (most recent call last):
        ...
    rlcore.errors.ConfigError: agent 'maths:tau': no module 'maths' is installed or in this directory
    """
    module, _, attribute = location.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not error.name or not f"{module}.".startswith(f"{error.name}."):
            raise  # it is there, and imports what is not
        message = f"{kind} {location!r}: no module {error.name!r} is installed or in this directory"
        raise ConfigError(message) from error
    if not hasattr(found, attribute):
        own = [name for name, thing in vars(found).items() if getattr(thing, "__module__", None) == module]
        message = f"{kind} {location!r}: no {attribute!r} in {module}; {nearest(attribute, own)}"
        raise ConfigError(message)
    return getattr(found, attribute)


class Registry:
    """A lazy mapping from names to objects.

    Args:
        kind: what the names stand for, in error messages.
        entries: name to ``"module:Attribute"``, or to the object itself.
        entry_points: the group where other distributions may add names. It is read when a name is not found here, or
            when all names are listed; names given here win.

    >>> colours = Registry("colour", {"pi": "math:pi"})
    >>> colours.load("pi")
    3.141592653589793
    >>> colours.load("pie")
    Traceback (most recent call last):
        ...
    rlcore.errors.UnknownNameError: unknown colour 'pie'; did you mean 'pi'?
    """

    def __init__(self, kind: str, entries: Mapping[str, Any] | None = None, *, entry_points: str | None = None) -> None:
        self.kind = kind
        self._entries: dict[str, Any] = dict(entries or {})
        self._group = entry_points

    @cached_property
    def _third_party(self) -> dict[str, str]:
        if self._group is None:
            return {}
        from importlib.metadata import entry_points  # costs 20 ms: only once somebody asks

        return {point.name: point.value for point in entry_points(group=self._group)}

    def names(self) -> list[str]:
        """All names, sorted, third parties' included; imports none of them."""
        return sorted({*self._entries, *self._third_party})

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._third_party

    def register(self, name: str, target: Any) -> None:
        """Add or replace an entry; ``target`` is ``"module:Attribute"`` or the object itself."""
        self._entries[name] = target

    def load(self, name: str) -> Any:
        """The object of that name, or of ``"module:Attribute"``, which needs no registration.

        Raises:
            UnknownNameError: no such name; the message gives the nearest.
            ConfigError: no such module or attribute.
        """
        target = self._entries.get(name)
        if target is None:
            target = self._third_party.get(name)
        if target is None and ":" in name:
            return load_users(self.kind, name)
        if target is None:
            raise UnknownNameError(self.kind, name, self.names())
        return load_object(target) if isinstance(target, str) else target


#: Learners: classes as `rlcore.types.Agent` describes, each with a dataclass ``Config``.
AGENTS = Registry(
    "agent",
    {
        "ppo": "agents.ppo:PPO",
        "dqn": "agents.dqn:DQN",
        "stream-ac": "agents.stream_ac:StreamAC",
        "stream-q": "agents.stream_q:StreamQ",
        "stream-sarsa": "agents.stream_sarsa:StreamSarsa",
    },
    entry_points="rlcore.agents",
)

#: Environments beside Gymnasium's own registry: Gymnasium ``Env`` classes, or callables with `make_world`'s signature.
ENVS = Registry("environment", {"CoastingCartPole-v0": "envs.coasting:CoastingCartPole"}, entry_points="rlcore.envs")

#: Worlds that run in a process of their own, for `run-agent world`: callables as `envs.games.run_car`.
WORLDS = Registry("world", {"car": "envs.games:run_car"}, entry_points="rlcore.worlds")

#: Worlds that people play, for `run-agent play`: callables as `envs.games.play_car`.
GAMES = Registry("game", {"car": "envs.games:play_car"}, entry_points="rlcore.games")
