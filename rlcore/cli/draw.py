"""`run-agent draw`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlcore.cli.parsing import File, Flag, Run, parse
from rlcore.errors import SaveError, UsageError

__all__ = ["draw_command"]


@dataclass(frozen=True)
class DrawOptions:
    """Which run to draw, and where to."""

    directory: Run = None
    """The run's directory, or its checkpoint file."""

    out: File = None
    """The picture, .svg or .png (default: both, as structure.svg and structure.png beside the checkpoint)."""

    debug: Flag = False
    """Show the traceback of an error."""


def draw_command(arguments: list[str]) -> int:
    """Parse, draw, say where; returns the exit code."""
    description = "Draw a run's networks as they are, and how they became so."
    options = parse(DrawOptions(), arguments, command="draw", description=description)
    if options.directory is None:
        message = "draw needs the directory of a run, for example: run-agent draw runs/cartpole"
        raise UsageError(message)
    if options.out is not None and options.out.suffix not in (".svg", ".png"):
        message = f"--out: expected a file that ends with .svg or .png, got {options.out}"
        raise UsageError(message)

    from rlcore.drawing import draw_run
    from rlcore.drawing.scene import require_png
    from rlcore.runs import load

    run = load(options.directory)
    beside = run.path.parent
    files = [beside / "structure.svg", beside / "structure.png"] if options.out is None else [options.out]
    if options.out is not None and options.out.suffix == ".png":
        require_png()
    scene = draw_run(run)
    for file in files:
        try:
            _write(scene, file)
        except OSError as error:
            message = f"{file}: cannot be written: {error.strerror or error}"
            raise SaveError(message) from error
        print(f"drew {file}")
    return 0


def _write(scene: object, file: Path) -> None:
    from rlcore.drawing import Scene

    assert isinstance(scene, Scene)
    if file.suffix == ".svg":
        file.write_text(scene.svg(), encoding="utf-8")
    else:
        scene.save_png(file)
