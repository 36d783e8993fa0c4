"""`run-agent list` and `run-agent info`: what there is to use, and what has been made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from rlcore.cli.parsing import Flag, Run, parse
from rlcore.errors import UsageError
from rlcore.registry import AGENTS

__all__ = ["info_command", "list_command"]


@dataclass(frozen=True)
class ListOptions:
    """What to list."""

    what: Annotated[
        Literal["agents", "envs"] | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="{agents,envs}", help_behavior_hint=""),
    ] = None
    """Names that --agent or --env take."""

    json: Flag = False
    """Print one JSON object, on the last line of stdout."""

    debug: Flag = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class InfoOptions:
    """Which run to describe."""

    directory: Run = None
    """The run's directory, or its checkpoint file."""

    json: Flag = False
    """Print one JSON object, on the last line of stdout."""

    debug: Flag = False
    """Show the traceback of an error."""


def list_command(arguments: list[str]) -> int:
    """Print the names, one per line; returns the exit code."""
    options = parse(ListOptions(), arguments, command="list", description="List agents or environments.")
    if options.what is None:
        message = "list needs one of: agents, envs"
        raise UsageError(message)
    if options.what == "agents":
        names = AGENTS.names()
    else:
        from rlcore.worlds import list_environments

        names = list_environments()
    print(json.dumps({options.what: names}) if options.json else "\n".join(names))
    return 0


def _grown(before: int | None, now: int) -> str:
    return f"{now}" if before in (None, now) else f"{now} (was {before})"


def info_command(arguments: list[str]) -> int:
    """Print what a run is and how far it has come; returns the exit code."""
    options = parse(InfoOptions(), arguments, command="info", description="Describe a run.")
    if options.directory is None:
        message = "info needs the directory of a run, for example: run-agent info runs/cartpole"
        raise UsageError(message)

    from rlcore.runs import read

    path, settings, metadata = read(options.directory)
    described: dict[str, Any] = {
        "checkpoint": str(path),
        "bytes": path.stat().st_size,
        "steps": metadata["steps"],
        "episodes": metadata["episodes"],
        "mean_return": metadata["mean_return"],
        "parameters": metadata["parameters"],
        "config": settings.to_json(),
        "structure": metadata.get("structure", {}),
    }
    if options.json:
        print(json.dumps(described))
        return 0
    parameters, score = described["parameters"], described["mean_return"]
    print(f"{path} ({described['bytes']:,} bytes)")
    print(f"{settings.run.agent} on {settings.run.env}", end="")
    print("" if parameters is None else f", {parameters:,} parameters")
    print(f"{described['steps']:,} of {settings.run.steps:,} steps, {described['episodes']:,} episodes", end="")
    print("" if score is None else f", mean return of the last 100: {score:.2f}")
    structure = described["structure"]
    if structure:
        print("layers: " + ", ".join(f"{name} {_grown(structure['start'].get(name), n)}" for name, n in structure["now"].items()))
    if structure.get("edits"):
        from rlcore.living.history import lines

        print("\n" + "\n".join(lines(structure["edits"])))
    print(f"\n{settings.to_toml()}", end="")
    return 0
