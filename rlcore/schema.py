"""Dataclasses from and to plain mappings (TOML, JSON), strictly: no key is ignored, no value is guessed at."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from rlcore import errors
from rlcore.errors import ConfigError

__all__ = ["format_toml", "nearest", "replace", "to_mapping"]

#: TOML has no null; this word stands for None where a field allows it.
_NONE = "none"


#: What other libraries call a setting: what it is called here.
_ELSEWHERE = {
    "activation_fn": "activation", "algo": "agent", "batch_size": "minibatch_size", "clip_coef": "clip_range",
    "end_e": "exploration_final_epsilon", "ent_coef": "entropy_coefficient", "env_id": "env", "env_kwargs": "env_args",
    "env_name": "env", "eval_freq": "log_every", "exploration_final_eps": "exploration_final_epsilon",
    "hidden_size": "hidden_sizes", "log_dir": "dir", "logdir": "dir", "lr": "learning_rate", "max_steps": "steps",
    "n_envs": "num_envs", "n_epochs": "epochs", "n_steps": "rollout_length", "net_arch": "hidden_sizes",
    "num_epochs": "epochs", "num_steps": "rollout_length", "output_dir": "dir", "save_freq": "checkpoint_every",
    "start_e": "exploration_initial_epsilon", "target_network_frequency": "target_update_interval", "timesteps": "steps",
    "total_timesteps": "steps", "train_freq": "train_interval", "train_frequency": "train_interval",
    "update_epochs": "epochs", "vf_coef": "value_coefficient",
}  # fmt: skip


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """A hint that names what the writer of ``name`` may have meant, be it another library's name for a setting of ours.

    >>> nearest("gama", ["gamma", "clip_range"]), nearest("ent_coef", ["clip_range", "entropy_coefficient"])
    ("did you mean 'gamma'?", "did you mean 'entropy_coefficient'?")
    """
    known = set(known)
    ours = _ELSEWHERE.get(name)
    return f"did you mean {ours!r}?" if ours in known else errors.nearest(name, known)


def to_mapping(config: Any) -> dict[str, Any]:
    """The fields of a dataclass as plain JSON values (tuples become lists)."""
    return {
        field.name: list(value) if isinstance(value, tuple) else value
        for field in dataclasses.fields(config)
        for value in [getattr(config, field.name)]
    }


def replace(config: Any, values: Mapping[str, Any], where: str) -> Any:
    """A copy of the dataclass ``config`` with ``values`` over its own.

    Args:
        config: a dataclass whose fields are int, float, bool, str, Literal, tuples of those, or any of them or None.
        values: field names to plain values.
        where: what the values were read from, for the error message.

    Raises:
        ConfigError: an unknown key, a wrong type, or a value that the dataclass itself refuses.

    >>> @dataclasses.dataclass
    ... class Options:
    ...     width: int = 3
    >>> replace(Options(), {"width": 4}, "file.toml")
    Options(width=4)
    >>> replace(Options(), {"width": "4"}, "file.toml")
    Traceback (most recent call last):
        ...
    rlcore.errors.ConfigError: file.toml: width: expected an integer, got '4' (str)
    """
    hints = _hints(type(config))
    checked = {}
    for key, value in values.items():
        if key not in hints:
            message = f"{where}: unknown key {key!r}; {nearest(key, hints)}"
            raise ConfigError(message)
        try:
            checked[key] = _coerce(value, hints[key])
        except TypeError as error:
            message = f"{where}: {key}: expected {error}, got {value!r} ({type(value).__name__})"
            if typing.get_origin(hints[key]) is typing.Literal:
                hint = errors.nearest(str(value), map(str, typing.get_args(hints[key])))
                message += f"; {hint}" * hint.startswith("did")
            raise ConfigError(message) from None
    try:
        return dataclasses.replace(config, **checked)
    except (ConfigError, ValueError, TypeError) as error:  # the dataclass's own checks, in its own words
        message = f"{where}: {error}"
        raise ConfigError(message) from error


def _hints(cls: type[Any]) -> dict[str, Any]:
    resolved = typing.get_type_hints(cls)
    return {field.name: resolved[field.name] for field in dataclasses.fields(cls) if field.init}


def _coerce(value: Any, hint: Any) -> Any:
    """``value`` as type ``hint``; raises TypeError whose text is what was expected."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(value, arguments)
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise TypeError("one of " + ", ".join(map(repr, arguments)))
    if origin is tuple:
        if isinstance(value, (list, tuple)):
            kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
            if len(kinds) == len(value):
                try:
                    return tuple(_coerce(v, kind) for v, kind in zip(value, kinds, strict=True))
                except TypeError:
                    pass
        raise TypeError(_describe(hint))
    if hint is float and type(value) is int:
        return float(value)
    if hint in (int, float, bool, str) and type(value) is hint:  # `type is`: True must not pass for an integer
        return value
    if hint is Any:
        return value
    raise TypeError(_describe(hint))


def _coerce_union(value: Any, members: tuple[Any, ...]) -> Any:
    if type(None) in members and (value is None or (value == _NONE and str not in members)):
        return None
    for member in members:
        if member is not type(None):
            try:
                return _coerce(value, member)
            except TypeError:
                continue
    raise TypeError(" or ".join(_describe(member) for member in members))


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        arguments = typing.get_args(hint)
        plural = {int: "integers", float: "numbers", str: "strings", bool: "booleans"}.get(arguments[0], "values")
        return f"a list of {plural}" if arguments[-1] is Ellipsis else f"a list of {len(arguments)} {plural}"
    named = {int: "an integer", float: "a number", bool: "true or false", str: "a string", type(None): f"'{_NONE}'"}
    return named.get(hint) or str(getattr(hint, "__name__", hint))


def format_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of plain values as TOML text; None is written as the string ``"none"``.

    >>> print(format_toml({"run": {"steps": 10, "env": "CartPole-v1", "target_kl": None}}))
    [run]
    steps = 10
    env = "CartPole-v1"
    target_kl = "none"
    <BLANKLINE>
    """
    lines = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {_format_value(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)


def _format_value(value: Any) -> str:
    if value is None:
        return f'"{_NONE}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, str):  # a JSON string is a TOML basic string, but for the DEL character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_format_value, value)) + "]"
    return repr(value)
