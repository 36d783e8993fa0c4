"""`run-agent live`."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from rlcore.cli.parsing import Directory, File, Flag, parse, peek, structure_tables
from rlcore.config import RunConfig, Settings, read_toml, resolve
from rlcore.errors import UsageError
from rlcore.logging import make_progress
from rlcore.registry import AGENTS

if TYPE_CHECKING:
    from rlcore.live import LiveConfig, LiveResult

__all__ = ["live_command"]

_DESCRIPTION = (
    "Act on an environment in real time, and learn while it runs: run-agent live AGENT ENV. The hyperparameters below are the "
    "agent's, with our preset for the pair."
)


@dataclass(frozen=True)
class LiveOptions:
    """Where the run goes, and what is said of it."""

    dir: Directory = None
    """Where the run goes (default: runs/live-ENV-AGENT-SEED)."""

    resume: Directory = None
    """Continue the run in this directory, one of `run-agent train` too, with its own configuration and rate."""

    overwrite: Flag = False
    """Replace the run that is in the directory."""

    config: File = None
    """TOML file with the tables [run] and [agent]; the command line comes over it."""

    structure: File = None
    """TOML file that says when and how the agent's networks change as it learns; or one that we ship: continual, plateau, renew,
    slim, trial."""

    tensorboard: Flag = False
    """Also write TensorBoard files."""

    seed: int = 0
    """Seed of every random generator."""

    env_args: tuple[str, ...] = ()
    """Arguments of the environment, each as name=value with a value of TOML, or else a text."""

    json: Flag = False
    """Print the result as one JSON object, on the last line of stdout."""

    quiet: Flag = False
    """Show no progress."""

    debug: Flag = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        RunConfig(seed=self.seed, env_args=self.env_args)  # has the checks


def live_command(arguments: list[str]) -> int:
    """Parse, run, and say how it went; returns the exit code."""
    options, config, settings, directory = _parse(arguments)
    run = settings.run
    progress = make_progress(quiet=options.quiet)
    progress.message(f"{run.agent} live on {run.env}, {config.hz:g} Hz, {config.minutes:g} minutes -> {directory}")

    from rlcore.live import run_live

    result = run_live(
        settings,
        config,
        directory,
        resume=options.resume is not None,
        overwrite=options.overwrite,
        tensorboard=options.tensorboard,
        progress=progress,
    )
    if options.json:
        print(json.dumps(_to_json(result, settings)))
    else:
        print(result.figures)
        print(f"ended after {result.seconds:.0f} s: {result.reason}; saved {result.checkpoint}")
    if result.signal is not None:
        print(f"continue with: run-agent live --resume {shlex.quote(str(directory))}", file=sys.stderr)
        return 128 + signal.Signals(result.signal)
    return 0


def _parse(arguments: list[str]) -> tuple[LiveOptions, LiveConfig, Settings, Path]:
    from rlcore.live import LiveConfig

    positional, arguments = _named(arguments)
    timing = LiveConfig()
    resume, file = peek(arguments, "--resume"), peek(arguments, "--config")
    path = None if file is None else Path(file)
    asks_help = "-h" in arguments or "--help" in arguments
    if resume is not None:
        if positional:
            message = f"live --resume takes agent and environment from the run; got {' '.join(positional)}"
            raise UsageError(message)
        from rlcore.runs import read

        _, settings, metadata = read(resume)
        timing = LiveConfig(**metadata.get("live", {}))
    elif len(positional) == 2 or (asks_help and len(positional) < 2):
        agent, env = [*positional, *["stream-ac", ""][len(positional) :]]
        if agent not in AGENTS and env in AGENTS:
            message = f"live takes the agent first: run-agent live {env} {agent}"
            raise UsageError(message)
        settings = resolve(env, agent, path)
    else:
        got = " ".join(positional) or "neither"
        message = f"live needs an agent and an environment, got {got}; for example: run-agent live stream-q CartPole-v1 --hz 50"
        raise UsageError(message)
    if path is not None and resume is not None:
        settings = settings.overlay(read_toml(path), str(path))
    command_line = dataclasses.make_dataclass(
        "LiveCommand",
        [
            ("options", Annotated[LiveOptions, tyro.conf.arg(name="session")]),
            ("timing", LiveConfig),
            ("hyperparameters", Annotated[type(settings.agent), tyro.conf.arg(name=settings.run.agent)]),
        ],
        frozen=True,
    )
    default = command_line(LiveOptions(seed=settings.run.seed, env_args=settings.run.env_args), timing, settings.agent)
    parsed: Any = parse(default, arguments, command="live AGENT ENV", description=_DESCRIPTION)
    options: LiveOptions = parsed.options
    if resume is None and settings.run.num_envs != 1:
        settings = dataclasses.replace(settings, run=dataclasses.replace(settings.run, num_envs=1))
    run: RunConfig = dataclasses.replace(settings.run, seed=options.seed, env_args=options.env_args)
    settings = Settings(run, parsed.hyperparameters, structure_tables(options.structure, settings.structure))
    name = f"live-{run.env}-{run.agent}-{run.seed}".replace("/", "_").replace(":", "_")
    directory = options.resume or options.dir or Path("runs") / name
    return options, parsed.timing, settings, directory if directory.is_dir() or options.resume is None else directory.parent


def _named(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Agent and environment, by their places or by the flags that `train` has for them; and the other arguments."""
    names = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    others = arguments[len(names) :]
    for flag, place in (("--agent", 0), ("--env", len(names) + 1)):
        value = peek(others, flag)
        if value is not None:
            names.insert(place, value)
            others = [
                a for i, a in enumerate(others) if not (a == flag or a.startswith(f"{flag}=") or others[i - 1 : i] == [flag])
            ]
    return names, others


def _to_json(result: LiveResult, settings: Settings) -> dict[str, Any]:
    run = settings.run
    return {
        "env": run.env,
        "agent": run.agent,
        "seed": run.seed,
        "steps": result.steps,
        "seconds": round(result.seconds, 3),
        "reason": result.reason,
        "checkpoint": str(result.checkpoint),
        **result.figures.to_json(),
        "intervals": [figures.to_json() for figures in result.intervals],
    }
