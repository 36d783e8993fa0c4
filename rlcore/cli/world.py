"""`run-agent world` and `run-agent play`: worlds in real time, for programs and for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from rlcore.cli.parsing import File, Flag, parse
from rlcore.errors import UsageError
from rlcore.registry import GAMES, WORLDS

__all__ = ["play_command", "world_command"]


@dataclass(frozen=True)
class WorldOptions:
    """Which world, and where it is heard."""

    world: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="WORLD", help_behavior_hint="")] = None
    """The world: car."""

    publish: str = "zmq+tcp://127.0.0.1:5600"
    """Where it publishes its sensors; port 0 for a free one."""

    actions: str = "zmq+tcp://127.0.0.1:5601"
    """Where whoever drives publishes actions."""

    track: int = 0
    """Seed of the road."""

    camera: bool = True
    """Publish pictures too."""

    seconds: float | None = None
    """How long it runs (default: until it is stopped)."""

    insecure: Flag = False
    """Allow addresses that other machines reach, without keys."""

    debug: Flag = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class PlayOptions:
    """What to play, and where it is recorded."""

    game: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="GAME", help_behavior_hint="")] = "car"
    """The game: car (arrow keys; Escape ends it)."""

    out: File = None
    """Record the sensors and the controls to this MCAP file."""

    track: int = 0
    """Seed of the road."""

    driver: Literal["keyboard", "centre-line"] = "keyboard"
    """Who drives: you, or the one that follows the middle of the road."""

    window: bool = True
    """Show it."""

    seconds: float | None = None
    """How long (default: until the window is closed)."""

    debug: Flag = False
    """Show the traceback of an error."""


def world_command(arguments: list[str]) -> int:
    """Run the world until it is stopped; returns the exit code."""
    options = parse(
        WorldOptions(),
        arguments,
        command="world",
        description="Run a world in real time: it publishes sensors, takes actions, and waits for nobody.",
    )
    if options.world is None:
        message = f"world needs a name: {', '.join(WORLDS.names())}; for example: run-agent world car"
        raise UsageError(message)
    run = WORLDS.load(options.world)
    run(
        options.publish,
        options.actions,
        track=options.track,
        camera=options.camera,
        seconds=options.seconds,
        insecure=options.insecure,
        on_start=lambda uri: print(f"{options.world}: sensors at {uri}, actions from {options.actions}", flush=True),
    )
    return 0


def play_command(arguments: list[str]) -> int:
    """Play until the window is closed; returns the exit code."""
    options = parse(PlayOptions(), arguments, command="play", description="Play a world with the keyboard, and record it.")
    if options.out is not None and options.out.suffix != ".mcap":
        message = f"--out: expected a file that ends in .mcap, got {options.out}"
        raise UsageError(message)
    if not options.window and options.driver == "keyboard":
        message = "--no-window leaves no keyboard; expected --driver centre-line with it"
        raise UsageError(message)
    drive = GAMES.load(options.game)(
        track=options.track, out=options.out, driver=options.driver, window=options.window, seconds=options.seconds
    )
    print(drive)
    return 0
