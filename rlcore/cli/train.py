"""`run-agent train`."""

from __future__ import annotations

import dataclasses
import json
import shlex
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from rlcore.cli.parsing import Directory, File, Flag, parse, peek, structure_tables
from rlcore.config import Settings, read_toml, resolve
from rlcore.errors import ConfigError, UsageError
from rlcore.logging import make_progress

__all__ = ["train_command"]

_DESCRIPTION = (
    "Train an agent. The defaults below are those for the --env, --agent and --config given beside --help: "
    "our preset for that pair, and over it the file."
)


@dataclass(frozen=True)
class TrainOptions:
    """Where the run goes, and what is said of it."""

    dir: Directory = None
    """Where the run goes (default: runs/ENV-AGENT-SEED)."""

    resume: Directory = None
    """Continue the run in this directory, with its own configuration; --steps may extend it."""

    overwrite: Flag = False
    """Replace the run that is in the directory."""

    config: File = None
    """TOML file with the tables [run] and [agent]; the command line comes over it."""

    structure: File = None
    """TOML file that says when and how the agent's networks change as it learns; or one that we ship: continual, plateau, renew,
    slim, trial."""

    tensorboard: Flag = False
    """Also write TensorBoard files."""

    json: Flag = False
    """Print the result as one JSON object, on the last line of stdout."""

    quiet: Flag = False
    """Show no progress."""

    debug: Flag = False
    """Show the traceback of an error."""


def train_command(arguments: list[str]) -> int:
    """Parse, train, and say how it went; returns the exit code."""
    options, settings = _parse(arguments)
    directory = _directory(options, settings)
    progress = make_progress(quiet=options.quiet)
    run = settings.run
    # Said before the agent's and the environment's modules are imported: a person sees at once what is going to happen.
    progress.message(f"{run.agent} on {run.env}, {run.steps:,} steps, seed {run.seed} -> {directory}")

    from rlcore.runs import train

    result = train(
        settings,
        directory,
        resume=options.resume is not None,
        overwrite=options.overwrite,
        tensorboard=options.tensorboard,
        progress=progress,
    )
    where = shlex.quote(str(directory))
    if result.signal is not None:
        name = signal.Signals(result.signal).name
        print(f"stopped by {name} at step {result.steps:,}; saved {result.checkpoint}", file=sys.stderr)
        print(f"continue with: run-agent train --resume {where}", file=sys.stderr)
    if options.json:
        print(json.dumps(_result_json(result, settings)))
    elif result.signal is None:
        score = "no episode finished" if result.mean_return is None else f"mean return {result.mean_return:.2f}"
        print(f"{score} (last 100 of {result.episodes:,} training episodes, {result.steps_per_s:,.0f} steps/s)")
        print(f"saved {result.checkpoint}")
        print(f"evaluate with: run-agent eval {where} --episodes 20")
    return 0 if result.signal is None else 128 + result.signal


def _parse(arguments: list[str]) -> tuple[TrainOptions, Settings]:
    resume, file = peek(arguments, "--resume"), peek(arguments, "--config")
    config = None if file is None else Path(file)
    if resume is None:
        defaults = resolve(peek(arguments, "--env") or "", peek(arguments, "--agent") or "", config)
    else:
        from rlcore.runs import read

        _, defaults, _ = read(resume)
        if config is not None:
            defaults = defaults.overlay(read_toml(config), str(config))
    own = {field.name for kind in (TrainOptions, type(defaults.run)) for field in dataclasses.fields(kind)}
    for field in dataclasses.fields(defaults.agent):
        if field.name in own:
            message = f"agent {defaults.run.agent}: its hyperparameter {field.name!r} has the name of one of our own flags"
            raise ConfigError(message)
    # The agent's dataclass is known only now, so the whole command line is put together here.
    command_line = dataclasses.make_dataclass(
        "TrainCommand",
        [
            ("options", Annotated[TrainOptions, tyro.conf.arg(name="session")]),
            ("run", type(defaults.run)),
            # A group of its own in the help, whose flags still carry no prefix.
            ("hyperparameters", Annotated[type(defaults.agent), tyro.conf.arg(name=defaults.run.agent)]),
        ],
        frozen=True,
    )
    default = command_line(TrainOptions(), defaults.run, defaults.agent)
    parsed: Any = parse(default, arguments, command="train", description=_DESCRIPTION)
    settings = Settings(parsed.run, parsed.hyperparameters, structure_tables(parsed.options.structure, defaults.structure))
    if not settings.run.env:
        message = "train needs --env; `run-agent list envs` lists them"
        raise UsageError(message)
    return parsed.options, settings


def _directory(options: TrainOptions, settings: Settings) -> Path:
    if options.resume is not None:
        from rlcore.checkpoint import FILE_NAME

        directory = options.resume if options.resume.is_dir() else options.resume.parent
        if options.resume != directory and options.resume.name != FILE_NAME:
            message = f"--resume: expected a run's directory or its {FILE_NAME}, got {options.resume}"
            raise ConfigError(message)
        if options.dir is not None and options.dir.resolve() != directory.resolve():
            message = f"--dir: a resumed run stays where it is; expected {directory}, got {options.dir}"
            raise ConfigError(message)
        if options.overwrite:
            message = "--overwrite replaces a run and --resume continues it; give one of them"
            raise UsageError(message)
        return directory
    run = settings.run
    name = f"{run.env}-{run.agent}-{run.seed}".replace("/", "_").replace(":", "_")
    return options.dir or Path("runs") / name


def _result_json(result: Any, settings: Settings) -> dict[str, Any]:
    run = settings.run
    return {
        "env": run.env,
        "agent": run.agent,
        "seed": run.seed,
        "steps": result.steps,
        "steps_per_s": result.steps_per_s,
        "episodes": result.episodes,
        "mean_return": result.mean_return,
        "checkpoint": str(result.checkpoint),
        "interrupted": result.signal is not None,
    }
