"""What a run is: `RunConfig` for the run, the agent's own dataclass for the agent, both together as `Settings`.

Values are merged in this order, later over earlier:

1. the dataclasses' own defaults;
2. the preset of the pair (agent, environment), in ``rlcore/presets/<agent>.toml``: table ``"*"``, then the id's own;
3. the ``--config`` file, with the tables ``[run]`` and ``[agent]``;
4. the command line.

>>> RunConfig(steps=0)
Traceback (most recent call last):
    ...
rlcore.errors.ConfigError: steps: expected at least 1, got 0
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlcore.errors import ConfigError
from rlcore.registry import AGENTS
from rlcore.schema import format_toml, nearest, replace, to_mapping

__all__ = ["RunConfig", "Settings", "config_class", "preset", "read_toml", "resolve"]

_PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class RunConfig:
    """Everything about a run but the agent's hyperparameters."""  # shown by --help

    env: str = ""
    """Environment: a Gymnasium id, "package:Name-v0" to import the package first, or "module:Class" of your own."""

    env_args: tuple[str, ...] = ()
    """Arguments of the environment, each as name=value with a value of TOML, or else a text."""

    agent: str = "ppo"
    """Agent: one of `run-agent list agents`, or "module:Class" of your own."""

    steps: int = 100_000
    """Environment steps to train for, counted over all copies."""

    seed: int = 0
    """Seed of every random generator: same seed, same run."""

    num_envs: int = 1
    """Copies of the environment stepped together."""

    vectorization: Literal["auto", "native", "sync", "async"] = "auto"
    """How copies are stepped: the environment's own vector version, in this process, or one process each."""

    normalize_observation: bool = False
    """Standardise observations by their running mean and deviation (kept in the checkpoint)."""

    normalize_reward: bool = False
    """Divide rewards by the running deviation of the discounted return (kept in the checkpoint)."""

    checkpoint_every: int = 10_000
    """Steps between checkpoints. It changes no result."""

    log_every: int = 1_000
    """Steps between lines of metrics.jsonl. It changes no result."""

    def __post_init__(self) -> None:
        for name in ("steps", "num_envs", "checkpoint_every", "log_every"):
            _at_least(name, getattr(self, name), 1)
        _at_least("seed", self.seed, 0)
        self.env_kwargs  # noqa: B018  # raises where one of them has no name

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """`env_args` by name.

        >>> RunConfig(env_args=("track=3", "camera=true", "sensors=zmq+tcp://127.0.0.1:5600")).env_kwargs
        {'track': 3, 'camera': True, 'sensors': 'zmq+tcp://127.0.0.1:5600'}
        """
        values = {}
        for argument in self.env_args:
            name, equals, text = argument.partition("=")
            if not equals or not name.isidentifier():
                message = f"env_args: expected name=value, got {argument!r}"
                raise ConfigError(message)
            try:
                values[name] = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                values[name] = text
        return values


def _at_least(name: str, value: int, low: int) -> None:
    if value < low:
        message = f"{name}: expected at least {low}, got {value}"
        raise ConfigError(message)


@dataclass(frozen=True)
class Settings:
    """The full configuration of a run, as stored in its checkpoint and in its ``config.toml``."""

    run: RunConfig
    agent: Any  #: an instance of the agent class's ``Config``
    structure: Mapping[str, Any] | None = None  #: the tables of a structure file; see `rlcore.living`

    @property
    def discount(self) -> float:
        """The agent's discount, by which the world scales normalised rewards."""
        return float(getattr(self.agent, "gamma", 0.99))

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Plain values, for a checkpoint; `Settings.from_json` gives an equal object back."""
        values = {"run": to_mapping(self.run), "agent": to_mapping(self.agent)}
        return values if self.structure is None else {**values, "structure": dict(self.structure)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> Settings:
        """The reverse of `to_json`; also accepts what `read_toml` gives.

        Raises:
            ConfigError: an unknown key or a wrong type, for example from another version.
            UnknownNameError: the agent is not registered here.
        """
        run = replace(RunConfig(), values["run"], where)
        return cls(run, replace(config_class(run.agent)(), values["agent"], where), values.get("structure"))

    def to_toml(self) -> str:
        """The text of a file that ``--config`` reads back to the same settings."""
        return format_toml({name: table for name, table in self.to_json().items() if name != "structure"})

    def overlay(self, values: Mapping[str, Any], where: str = "settings") -> Settings:
        """A copy with the tables ``run`` and ``agent`` of ``values`` over it; errors name ``where`` and the key."""
        values = _checked_tables(values, where)
        return Settings(
            replace(self.run, values.get("run", {}), _table(where, "run")),
            replace(self.agent, values.get("agent", {}), _table(where, "agent")),
            self.structure,
        )


def _table(where: str, table: str) -> str:
    return f"{where} [{table}]"


def config_class(agent: str) -> type[Any]:
    """The dataclass of an agent's hyperparameters.

    Raises:
        UnknownNameError: no such agent.
        ConfigError: it has no dataclass `Config`.
    """
    config = getattr(AGENTS.load(agent), "Config", None)
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        message = f"agent {agent!r}: expected a class that has a dataclass Config; docs/extending.md shows one"
        raise ConfigError(message)
    return config


def read_toml(path: Path) -> dict[str, dict[str, Any]]:
    """A configuration file: tables ``run`` and ``agent``, either may be missing.

    Raises:
        ConfigError: no such file, not TOML, or other tables or keys at the top.
    """
    return _checked_tables(_parse_toml(path), str(path))


def _parse_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path}: not valid TOML: {error}"
    raise ConfigError(message)


def _checked_tables(tables: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    for name, table in tables.items():
        if name not in ("run", "agent"):
            ours = name in {field.name for field in dataclasses.fields(RunConfig)}
            hint = "it belongs into the table [run]" if ours else nearest(name, ("run", "agent"))
            message = f"{where}: unknown key {name!r} at the top; {hint}"
            raise ConfigError(message)
        if not isinstance(table, dict):
            message = f"{where}: {name}: expected a table, got {table!r}"
            raise ConfigError(message)
    return dict(tables)


def preset(agent: str, env: str) -> dict[str, dict[str, Any]]:
    """The tables ``run`` and ``agent`` that we ship for a pair; empty where we ship none.

    >>> preset("ppo", "CartPole-v1")["run"]["num_envs"]
    8
    """
    path = _PRESETS / f"{agent}.toml"
    merged: dict[str, dict[str, Any]] = {"run": {}, "agent": {}}
    if path.is_file():
        presets = _parse_toml(path)
        for key in ("*", env):
            for name, table in presets.get(key, {}).items():
                merged[name] |= table
    return merged


def resolve(env: str, agent: str, file: Path | None = None) -> Settings:
    """The settings of a run before its command line: defaults, preset, then the configuration file.

    Args:
        env: environment id; empty to take it from the file.
        agent: name of the agent; empty to take it from the file, or else the default.
        file: a TOML file, as `read_toml` describes.

    Raises:
        UnknownNameError: no such agent.
        ConfigError: the file has an unknown key, a wrong type or a value out of range.
    """
    tables = {} if file is None else read_toml(file)
    # The names are needed first: they choose the preset, which comes before the file.
    named = replace(RunConfig(), tables.get("run", {}), _table(str(file), "run"))
    run = dataclasses.replace(RunConfig(), env=env or named.env, agent=agent or named.agent)
    settings = Settings(run, config_class(run.agent)())
    settings = settings.overlay(preset(run.agent, run.env), f"preset {run.agent}.toml")
    settings = settings.overlay(tables, str(file))
    return dataclasses.replace(settings, run=dataclasses.replace(settings.run, env=run.env, agent=run.agent))
