"""Dataclasses as command lines, by tyro; its errors as one line of ours."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from rlcore.errors import ConfigError, KeysNeededError, UsageError
from rlcore.registry import load_object
from rlcore.schema import nearest

__all__ = [
    "Directory", "File", "Flag", "Recording", "Run", "Seconds", "Text", "Uri", "key_flags", "parse", "peek", "read_keys",
    "structure_tables",
]  # fmt: skip

Directory = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")]
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
Text = Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
Seconds = Annotated[float | None, tyro.conf.arg(metavar="SECONDS", help_behavior_hint="")]
Uri = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="URI", help_behavior_hint="")]
Recording = Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
Run = Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help_behavior_hint="")]

T = TypeVar("T")


def parse(default: T, arguments: Sequence[str], *, command: str, description: str) -> T:
    """A copy of the dataclass ``default`` with the values that ``arguments`` give; nested dataclasses share one level.

    Raises:
        UsageError: an unknown flag (with the nearest), a missing value, or one of the wrong type.
        ConfigError: a value that the dataclass itself refuses.
        SystemExit: after printing the help.
    """
    config: tuple[Any, ...] = (tyro.conf.OmitArgPrefixes,)
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            parsed, unknown = tyro.cli(
                type(default),
                default=default,
                args=arguments,
                prog=f"run-agent {command}",
                description=description,
                config=config,
                return_unknown_args=True,
            )
    except SystemExit as exit_:
        if exit_.code == 0:
            raise
        raise UsageError(_with_nearest(_first_paragraph(captured.getvalue()))) from None
    except ConfigError as error:
        # The dataclass says "steps: expected ..."; here the key is a flag.
        field, colon, rest = str(error).partition(":")
        flag = "--" + field.replace("_", "-")
        if colon and flag in _flags(default):
            message = f"{flag}:{rest}"
            raise ConfigError(message) from error
        raise
    if unknown:
        raise UsageError(_unknown(unknown, default))
    return parsed


@contextlib.contextmanager
def key_flags() -> Iterator[None]:
    """Within a command that has --key and --insecure: what is said of missing keys names them."""
    try:
        yield
    except KeysNeededError as error:
        raise error.with_flags() from error


def read_keys(key: Path | None, *, allow: Path | None = None, server: Path | None = None) -> Any:
    """The keys that --key, --allow and --server name; None without any."""
    if key is None and (allow is not None or server is not None):
        message = "--allow and --server need --key; run-agent keys makes one"
        raise UsageError(message)
    return None if key is None else load_object("envs.streams:Curve").load(key, allowed=allow, server=server)


def structure_tables(path: Path | None, otherwise: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What the structure file that --structure names says; ``otherwise`` without the flag."""
    if path is None:
        return otherwise
    from rlcore.living.plan import read_structure

    return read_structure(path)


def peek(arguments: Sequence[str], flag: str) -> str | None:
    """The value of a flag, before anything is parsed: some flags decide what the others are.

    >>> peek(["--env=A", "--seed", "1"], "--env"), peek(["--seed", "1"], "--seed"), peek([], "--env")
    ('A', '1', None)
    """
    value = None
    for index, argument in enumerate(arguments):
        if argument == flag and index + 1 < len(arguments):
            value = arguments[index + 1]
        elif argument.startswith(flag + "="):
            value = argument[len(flag) + 1 :]
    return value


#: What tyro says of values, and what we say.
_MISTAKES = {
    r"Error parsing (?P<flag>\S+): invalid literal for int\(\) with base 10: (?P<given>'.*')": "expected an integer, got {given}",
    r"Error parsing (?P<flag>\S+): could not convert string to float: (?P<given>'.*')": "expected a number, got {given}",
    r"Error parsing (?P<flag>\S+): Could not find valid parse for arguments: (?P<given>\[.*\])": (
        "expected values with spaces between them, such as 64 64, got {given}"
    ),
    r"Missing value for argument '(?P<flag>\S+)'\. Expected .*": "expected a value",
}


def _with_nearest(text: str) -> str:
    """What tyro says of a value that cannot be read, or a choice that there is not, as we say it.

    >>> _with_nearest("Error parsing --steps: invalid literal for int() with base 10: '1e5'")
    "--steps: expected an integer, got '1e5'"
    >>> _with_nearest("invalid choice 'obdg' for argument '--step-rule'. Expected one of ('obgd', 'intentional').")
    "--step-rule: unknown choice 'obdg'; did you mean 'obgd'?"
    """
    for pattern, expected in _MISTAKES.items():
        mistake = re.fullmatch(pattern, text)
        if mistake is not None:
            return f"{mistake['flag']}: {expected.format(**mistake.groupdict())}"
    refused = re.fullmatch(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)\.", text)
    if refused is None:
        return text
    given, flag, choices = refused.groups()
    hint = nearest(given, re.findall("'([^']*)'", choices))
    return f"{flag}: unknown choice {given!r}; {hint}"


def _unknown(unknown: Sequence[str], default: Any) -> str:
    flags = [argument for argument in unknown if argument.startswith("-")]
    if not flags and unknown[0].lower() in ("true", "false"):
        return f"unexpected argument {unknown[0]!r}; a switch takes no value: --compile or --no-compile"
    if not flags:
        return f"unexpected argument {unknown[0]!r}; --help shows what goes where" + (
            ": settings are flags, such as --env CartPole-v1 --agent ppo" if "--env" in _flags(default) else ""
        )
    flag = flags[0].partition("=")[0]
    known = {name.lstrip("-").replace("-", "_"): name for name in _flags(default)}
    hint = nearest(flag.lstrip("-").replace("-", "_"), known)
    named = re.sub("'([^']*)'", lambda name: known[name[1]], hint)
    return f"unknown flag {flag}; {named if hint.startswith('did') else '--help lists them'}"


def _flags(config: Any) -> set[str]:
    def walk(node: Any) -> Iterator[str]:
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if dataclasses.is_dataclass(value):
                yield from walk(value)
            else:
                name = field.name.replace("_", "-")
                yield "--" + name
                if isinstance(value, bool):
                    yield "--no-" + name

    return {"--help", *walk(config)}


def _first_paragraph(box: str) -> str:
    """What tyro says within its box, below the title and up to the next rule, on one line.

    Where a terminal has no lines to draw with, the title is a paragraph, and rules are dashes.
    """
    paragraphs: list[list[str]] = [[]]
    for line in box.splitlines():
        text = re.sub("[\u2500-\u257f]", "", line).strip()
        if re.search("[\u256d\u2570]", line) or not text.strip("-"):
            paragraphs.append([])
        else:
            paragraphs[-1].append(text)
    said = [" ".join(lines) for lines in paragraphs if lines]
    return "".join(said[: 1 if "\u256d" in box else 2][-1:]) or "the command line could not be read; see --help"
