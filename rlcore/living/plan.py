"""The structure file: rules that say which layer changes when, how, and how far.

::

    [budget]                          # of the whole agent
    parameters = 2_000
    latency_ms = 0.5                  # of acting

    [[rule]]
    layer = ["actor.0", "critic.0"]   # edited together
    interval = 2_000                  # environment steps from look to look
    watch = "return"                  # or a metric that the agent reports, such as "loss/value"

    [rule.policy]                     # when: its name, and its options
    name = "plateau"
    patience = 3

    [rule.edit]                       # what: its name, and its options
    name = "grow"
    units = 4

    [rule.budget]
    edits = 10
    units = 64                        # the most that one of the layers may have

    [rule.trial]                      # taken back where the return falls
    episodes = 20
    tolerance = 0.05

A policy that chooses units itself, such as "continual_backprop" and "redo", goes without [rule.edit].
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlcore.errors import ConfigError, RlcoreError, UnknownNameError
from rlcore.living.edits import EDITS, EditMaker
from rlcore.living.policies import POLICIES
from rlcore.living.renewals import Renewal
from rlcore.registry import Registry
from rlcore.schema import nearest, replace

__all__ = ["Budget", "Plan", "Rule", "RuleBudget", "TrialOptions", "read_plan", "read_structure"]


@dataclass(frozen=True)
class Budget:
    """How large the agent may become, and how slow to act."""

    parameters: int | None = None
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        _at_least("parameters", self.parameters, 1)
        if self.latency_ms is not None and not 0 < self.latency_ms < float("inf"):
            message = f"latency_ms: expected a positive number of milliseconds, got {self.latency_ms}"
            raise ConfigError(message)


@dataclass(frozen=True)
class RuleBudget:
    """How far a rule may go."""

    edits: int | None = None
    units: int | None = None  #: the most that a layer may have
    least: int | None = None  #: the fewest that pruning may leave

    def __post_init__(self) -> None:
        for name in ("edits", "units", "least"):
            _at_least(name, getattr(self, name), 1)


@dataclass(frozen=True)
class TrialOptions:
    """How long an edit is on trial, and when it is taken back."""

    episodes: int = 20  #: whose returns are compared with those of as many before; up to four times as many where that is open
    tolerance: float = 0.05  #: the share of the return before by which it may be worse
    confidence: float = 0.95  #: of the interval of the difference that decides
    rest: int = 10  #: looks that the rule sits out after an edit was taken back

    def __post_init__(self) -> None:
        _at_least("episodes", self.episodes, 1)
        _at_least("tolerance", self.tolerance, 0)
        _at_least("rest", self.rest, 0)
        if not 0 < self.confidence < 1:
            message = f"confidence: expected a number between 0 and 1, got {self.confidence}"
            raise ConfigError(message)


@dataclass(frozen=True)
class RuleOptions:
    """What a rule says besides its tables."""

    interval: int = 1_000
    watch: str = "return"

    def __post_init__(self) -> None:
        _at_least("interval", self.interval, 1)


@dataclass
class Rule:
    """One rule of a plan; its policy remembers, so a rule is made anew for each run."""

    layers: tuple[str, ...]
    options: RuleOptions
    policy: Any  #: a `Policy`, or a `Renewal`, which needs no edit
    edit: EditMaker | None
    edit_name: str
    edit_options: dict[str, Any]
    budget: RuleBudget
    trial: TrialOptions | None

    @property
    def grows(self) -> bool:
        """Whether its edits can go over a budget of the agent's size."""
        return self.edit is not None and self.edit_name not in ("prune", "reset_units")


@dataclass
class Plan:
    """What a structure file says."""

    budget: Budget = field(default_factory=Budget)
    rules: list[Rule] = field(default_factory=list)


#: Structure files that come with the project, by name.
SHIPPED = {path.stem: path for path in (Path(__file__).parents[1] / "structures").glob("*.toml")}


def read_structure(path: Path) -> dict[str, Any]:
    """The tables of a structure file, or of one that is shipped, by its name, checked.

    Raises:
        ConfigError: no such file, not TOML, an unknown key or name (with the nearest), a value of a wrong type or out of range.
    """
    if not path.suffix and not path.exists():
        if str(path) not in SHIPPED:
            kind = "structure"
            raise UnknownNameError(kind, str(path), SHIPPED)
        path = SHIPPED[str(path)]
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
        raise ConfigError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path}: not valid TOML: {error}"
        raise ConfigError(message) from error
    read_plan(tables, str(path))
    return tables


def read_plan(tables: Mapping[str, Any], where: str) -> Plan:
    """The plan that the tables of a structure file make.

    Raises:
        ConfigError: as `read_structure`; the message names the rule.

    >>> read_plan({"rule": [{"layer": "actor.0", "polcy": {}}]}, "growth.toml")
    Traceback (most recent call last):
    rlcore.errors.ConfigError: growth.toml: rule 1: unknown key 'polcy'; did you mean 'policy'?
    """
    _check_keys(tables, ("budget", "rule"), where)
    budget = replace(Budget(), _table(tables, "budget", where), f"{where}: budget")
    rules = tables.get("rule", [])
    if not isinstance(rules, list) or not rules or not all(isinstance(rule, dict) for rule in rules):
        got = "[rule], of which there is one only" if isinstance(rules, dict) else repr(rules)
        message = f"{where}: expected one or more tables [[rule]], got {got}"
        raise ConfigError(message)
    return Plan(budget, [_rule(rule, f"{where}: rule {number}") for number, rule in enumerate(rules, 1)])


def _rule(table: Mapping[str, Any], where: str) -> Rule:
    _check_keys(table, ("layer", "interval", "watch", "policy", "edit", "budget", "trial"), where)
    layer = table.get("layer")
    layers = [layer] if isinstance(layer, str) else layer
    if not isinstance(layers, list) or not layers or not all(isinstance(name, str) for name in layers):
        message = f"{where}: layer: expected the name of a layer, such as 'actor.0', or a list of names, got {layer!r}"
        raise ConfigError(message)
    options = {key: table[key] for key in ("interval", "watch") if key in table}
    policy, policy_name, _ = _named(table, "policy", POLICIES, where)
    edit, name = None, "reset_units"
    edit_options: dict[str, Any] = {}
    if not isinstance(policy, Renewal):
        edit, name, edit_options = _named(table, "edit", EDITS, where)
    for key in ("edit", "trial") if edit is None else ():
        if key in table:
            message = f"{where}: {key}: policy {policy_name!r} starts units anew by itself, ever again; leave this table out"
            raise ConfigError(message)
    budget = replace(RuleBudget(), _table(table, "budget", where), f"{where}: budget")
    trial = replace(TrialOptions(), _table(table, "trial", where), f"{where}: trial") if "trial" in table else None
    return Rule(tuple(layers), replace(RuleOptions(), options, where), policy, edit, name, edit_options, budget, trial)


def make_edit(name: str, options: Mapping[str, Any], where: str) -> EditMaker:
    """An edit by its name and options."""
    edit: EditMaker = replace(_kind(name, EDITS, where), options, where)
    return edit


def _named(table: Mapping[str, Any], key: str, registry: Registry, where: str) -> tuple[Any, str, dict[str, Any]]:
    if key not in table:
        message = f"{where}: expected a table [rule.{key}] with a name, one of {', '.join(map(repr, registry.names()))}"
        raise ConfigError(message)
    options = dict(_table(table, key, where))
    where = f"{where}: {key}"
    name = options.pop("name", None)
    if not isinstance(name, str):
        message = f"{where}: expected a name, one of {', '.join(map(repr, registry.names()))}, got {name!r}"
        raise ConfigError(message)
    return replace(_kind(name, registry, where), options, where), name, options


def _kind(name: str, registry: Registry, where: str) -> Any:
    """A dataclass by its registered name, or by "module:Name", with its defaults."""
    try:
        kind = registry.load(name)
    except (RlcoreError, ImportError, AttributeError) as error:
        message = f"{where}: {error}"
        raise ConfigError(message) from error
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        message = f"{where}: expected a dataclass, whose fields are the options, got {name!r}"
        raise ConfigError(message)
    try:
        return kind()
    except TypeError as error:
        message = f"{where}: expected a default for each field of {name!r}: {error}"
        raise ConfigError(message) from error


def _table(tables: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    table = tables.get(key, {})
    if not isinstance(table, Mapping):
        message = f"{where}: {key}: expected a table, got {table!r}"
        raise ConfigError(message)
    return table


def _at_least(name: str, value: float | None, least: int) -> None:
    if value is not None and not value >= least:
        message = f"{name}: expected at least {least}, got {value}"
        raise ConfigError(message)


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            message = f"{where}: unknown key {key!r}; {nearest(key, known)}"
            raise ConfigError(message)
