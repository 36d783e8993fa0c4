"""Episodes as a video file, frame by frame: a run of any length takes the memory of one picture."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, Self

from rlcore.errors import MissingExtraError, RunError, UsageError

__all__ = ["VideoWriter"]

_FRAMES_PER_SECOND = 30


class VideoWriter:
    """Writes what a world renders; a context manager.

    Args:
        path: the file; its suffix chooses the format.
        world: made with ``render_mode="rgb_array"``.
    """

    def __init__(self, path: Path, world: Any) -> None:
        self._path = path
        self._world = world
        self._writer: Any = None

    @staticmethod
    def require() -> None:
        """Raise MissingExtraError where the package that encodes videos is missing; imports nothing."""
        if importlib.util.find_spec("moviepy") is None:
            package = "moviepy"
            raise MissingExtraError(package, needed_for="--video", extra="video")

    def __enter__(self) -> Self:
        return self

    def add_frame(self) -> None:
        """Append the world's present picture.

        Raises:
            UsageError: the environment cannot be rendered.
            RunError: the file cannot be written.
        """
        frame = self._world.render()
        if frame is None:
            message = "--video: this environment does not render pictures"
            raise UsageError(message)
        try:
            if self._writer is None:
                module = importlib.import_module("moviepy.video.io.ffmpeg_writer")
                height, width = frame.shape[:2]
                rate = getattr(self._world, "render_fps", None) or _FRAMES_PER_SECOND
                self._writer = module.FFMPEG_VideoWriter(str(self._path), (width, height), rate)
            self._writer.write_frame(frame)
        except OSError as error:
            message = f"{self._path}: cannot write the video: {' '.join(str(error).split())}"
            raise RunError(message) from error

    def __exit__(self, *exception: object) -> None:
        if self._writer is not None:
            self._writer.close()
