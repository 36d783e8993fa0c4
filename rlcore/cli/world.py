"""`run-agent world`, `play` and `serve-env`: worlds in real time for programs and people, environments for other processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from rlcore.cli.parsing import Directory, File, Flag, key_flags, parse, read_keys
from rlcore.errors import UsageError
from rlcore.registry import GAMES, WORLDS, load_object

__all__ = ["play_command", "serve_env_command", "world_command"]


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

    key: File = None
    """Our secret key file: only those with a key of --allow are admitted."""

    allow: Directory = None
    """Folder of the public keys that are admitted."""

    server: File = None
    """Public key of whoever publishes the actions, where we have a key."""

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


@dataclass(frozen=True)
class ServeOptions:
    """What to serve, and where."""

    env: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="ENV", help_behavior_hint="")] = None
    """Environment: a Gymnasium id, or "package:Name-v0" to import the package first."""

    at: str = "zmq+tcp://127.0.0.1:5700"
    """Where clients find it; port 0 for a free one."""

    keep: float = 600.0
    """Seconds for which the episodes of a client that has gone silent are kept."""

    seconds: float | None = None
    """How long it runs (default: until it is stopped)."""

    key: File = None
    """Our secret key file: only those with a key of --allow are admitted."""

    allow: Directory = None
    """Folder of the public keys that are admitted."""

    insecure: Flag = False
    """Allow addresses that other machines reach, without keys."""

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
    with key_flags():
        run(
            options.publish,
            options.actions,
            track=options.track,
            camera=options.camera,
            seconds=options.seconds,
            curve=read_keys(options.key, allow=options.allow, server=options.server),
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


def serve_env_command(arguments: list[str]) -> int:
    """Serve an environment until it is stopped; returns the exit code."""
    options = parse(
        ServeOptions(),
        arguments,
        command="serve-env",
        description="Serve an environment to other processes, hosts and languages; they name it by its address.",
    )
    if options.env is None:
        message = "serve-env needs an environment, for example: run-agent serve-env CartPole-v1"
        raise UsageError(message)
    with key_flags():
        load_object("envs.remote:serve_env")(
            options.env,
            options.at,
            keep=options.keep,
            seconds=options.seconds,
            curve=read_keys(options.key, allow=options.allow),
            insecure=options.insecure,
            on_start=lambda uri: print(f"{options.env} at {uri}", flush=True),
        )
    return 0
