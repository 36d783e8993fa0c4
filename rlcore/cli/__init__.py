"""The command line: `run-agent` and its commands.

This module imports nothing heavy: the help of `run-agent` itself must appear at once, and the number of threads must
be settled before NumPy is imported.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from rlcore.errors import RlcoreError, RunError, UsageError, nearest

__all__ = ["main"]

#: Each command: the module of `rlcore.cli` that has it, and what it does.
_COMMANDS = {
    "train": ("train", "train an agent on an environment, or continue a run"),
    "live": ("live", "act in real time at a fixed rate, and learn meanwhile"),
    "eval": ("evaluate", "evaluate a trained agent"),
    "list": ("inspect", "list environments or agents"),
    "info": ("inspect", "describe a run"),
    "draw": ("draw", "draw a run's networks, and how they changed"),
    "world": ("world", "run a world in real time: it publishes sensors and takes actions"),
    "play": ("world", "drive it yourself, with the keyboard, and record the drive"),
    "serve-env": ("world", "serve an environment to other processes and hosts"),
    "record": ("streams", "record a stream of sensors"),
    "replay": ("streams", "send a recording again"),
    "keys": ("streams", "make keys for a stream"),
}

_USAGE = """\
usage: run-agent [-h] [--version] COMMAND ...

Train and evaluate reinforcement-learning agents.

commands:
{commands}

examples:
  run-agent train --env CartPole-v1 --agent ppo --dir runs/cartpole
  run-agent train --resume runs/cartpole
  run-agent eval runs/cartpole --episodes 20
  run-agent live stream-q CartPole-v1 --hz 50 --minutes 2
  run-agent train --agent ppo --help        all hyperparameters of an agent, with their defaults

Every command has --help, and --debug to show the traceback of an error.
""".replace("{commands}", "\n".join(f"  {name:<11}{what}" for name, (_, what) in _COMMANDS.items()))

_ENVIRONMENT = {
    # Small networks run fastest on one thread; whoever sets these variables knows better.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the arguments after the program's name; those of the process by default.

    Returns:
        0; 2 where the command was used wrongly; 1 where it failed while running; 128 + the signal where one stopped it.

    >>> main(["--help"]) # doctest: +ELLIPSIS
    usage: run-agent [-h] [--version] COMMAND ...
    ...
    0
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    here = str(Path.cwd())
    if here not in sys.path:  # files of the user's own are found by name, as under `python -m`; what is installed comes first
        sys.path.append(here)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        return _dispatch(arguments)
    except SystemExit as exit_:  # tyro leaves this way after --help
        return exit_.code if isinstance(exit_.code, int) else 0
    except KeyboardInterrupt:
        print("run-agent: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as `run-agent list envs | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        known = isinstance(error, RlcoreError) and not (isinstance(error, RunError) and _foreign(error.__cause__))
        text = " ".join((str(error) if isinstance(error, RlcoreError) else f"{type(error).__name__}: {error}").split())
        hint = "" if known or "--debug" in arguments else " (--debug shows where)"
        print(f"run-agent: error: {text}{hint}", file=sys.stderr)
        return error.exit_code if isinstance(error, RlcoreError) else 1


def _foreign(cause: BaseException | None) -> bool:
    """Whether it was raised by other people's code, whose place in it they want to know."""
    return cause is not None and not isinstance(cause, (RlcoreError, OSError))


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        message = f"expected a command: {', '.join(_COMMANDS)}; run-agent --help describes them"
        raise UsageError(message)
    command, *rest = arguments
    if command in ("-h", "--help"):
        print(_USAGE, end="")
        return 0
    if command == "--version":
        from importlib.metadata import version  # 20 ms that nobody else needs

        print(f"rlcore {version('rlcore')}")
        return 0
    if command not in _COMMANDS:
        kind, known = ("option", ["--help", "--version"]) if command.startswith("-") else ("command", [*_COMMANDS])
        first = "; a command comes first, such as train" * (kind == "option")
        message = f"unknown {kind} {command!r}; {nearest(command, known)}{first}"
        raise UsageError(message)
    module = importlib.import_module(f"rlcore.cli.{_COMMANDS[command][0]}")
    code: int = getattr(module, f"{command.replace('-', '_')}_command")(rest)
    return code
