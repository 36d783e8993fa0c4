"""`run-agent world`: a world in a process of its own, which publishes sensors and takes actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from rlcore.cli.parsing import Flag, parse
from rlcore.errors import UsageError
from rlcore.registry import WORLDS

__all__ = ["world_command"]


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
