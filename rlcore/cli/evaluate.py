"""`run-agent eval`."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rlcore.cli.parsing import File, Flag, Run, parse
from rlcore.cli.video import VideoWriter
from rlcore.errors import UsageError

__all__ = ["eval_command"]

_VIDEOS = (".mp4", ".mov", ".mkv", ".avi")
_SECONDS = 5.0  # between lines that say how far it is


@dataclass(frozen=True)
class EvalOptions:
    """What to evaluate, and how."""

    directory: Run = None
    """The run's directory, or its checkpoint file."""

    episodes: int = 100
    """How many episodes."""

    seed: int = 0
    """Seed of the environments: same run, same seed, same result."""

    stochastic: Flag = False
    """Let the agent draw its actions, instead of taking its best."""

    render: Flag = False
    """Show the environment in a window."""

    video: File = None
    """Record the episodes to this file, for example episodes.mp4."""

    json: Flag = False
    """Print the result as one JSON object, on the last line of stdout."""

    debug: Flag = False
    """Show the traceback of an error."""


def eval_command(arguments: list[str]) -> int:
    """Parse, evaluate, print; returns the exit code."""
    options = parse(
        EvalOptions(), arguments, command="eval", description="Evaluate a trained agent: whole episodes, no learning."
    )
    directory = _check(options)

    from rlcore.evaluation import evaluate
    from rlcore.runs import load

    if options.video is not None:
        VideoWriter.require()
    run, progress = load(directory), _teller(options.episodes)
    if not (options.render or options.video):
        result = run.evaluate(
            episodes=options.episodes, seed=options.seed, deterministic=not options.stochastic, progress=progress
        )
    else:
        with contextlib.ExitStack() as stack:
            world = run.make_world(render_mode="human" if options.render else "rgb_array")
            stack.callback(world.close)
            video = None if options.video is None else stack.enter_context(VideoWriter(options.video, world))
            result = evaluate(
                run.agent,
                world,
                episodes=options.episodes,
                seed=options.seed,
                deterministic=not options.stochastic,
                on_step=None if video is None else video.add_frame,
                progress=progress,
            )
    if options.json:
        described = {"env": run.settings.run.env, "agent": run.settings.run.agent, "steps": run.steps}
        print(json.dumps({**described, "seed": options.seed, **result.to_json()}))
    else:
        print(f"{run.settings.run.agent} on {run.settings.run.env} after {run.steps:,} steps: {result}")
        if options.video is not None:
            print(f"recorded {options.video}")
    return 0


def _teller(episodes: int) -> Callable[[int, int], None]:
    """Says now and then how far a long evaluation is."""
    told = time.monotonic()

    def tell(ended: int, steps: int) -> None:
        nonlocal told
        if steps % 64 == 0 and time.monotonic() - told > _SECONDS:
            told = time.monotonic()
            print(f"{ended:,} of {episodes:,} episodes, {steps:,} steps in each environment", file=sys.stderr, flush=True)

    return tell


def _check(options: EvalOptions) -> Path:
    if options.directory is None:
        message = "eval needs the directory of a run, for example: run-agent eval runs/cartpole"
        raise UsageError(message)
    for name, value, low in (("episodes", options.episodes, 1), ("seed", options.seed, 0)):
        if value < low:
            message = f"--{name}: expected at least {low}, got {value}"
            raise UsageError(message)
    if options.video is not None and options.video.suffix not in _VIDEOS:
        message = f"--video: expected a file that ends with {', '.join(_VIDEOS[:-1])} or {_VIDEOS[-1]}, got {options.video}"
        raise UsageError(message)
    if options.render and options.video:
        message = "--render shows the episodes and --video records them; give one of them"
        raise UsageError(message)
    return options.directory
