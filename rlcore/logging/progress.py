"""The progress a person sees, on stderr: a bar on a terminal, else a plain line now and then."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    import rich.progress

__all__ = ["PlainProgress", "Progress", "RichProgress", "SilentProgress", "make_progress"]


class Progress(Protocol):
    """Shows how far a run is."""

    #: Seconds between updates: each costs some 3 ms on a terminal, so twice a second is under one percent.
    interval: float

    def start(self, step: int, total: int) -> None:
        """Show the first sign of life: the run stands at ``step`` of ``total``."""
        ...

    def update(self, step: int, steps_per_s: float, mean_return: float | None) -> None:
        """Show the present figures."""
        ...

    def message(self, text: str) -> None:
        """Say something that stays on the screen."""
        ...

    def close(self) -> None:
        """Leave the screen in order."""
        ...


def make_progress(*, quiet: bool = False, stream: TextIO | None = None) -> Progress:
    """The progress that fits where it is shown; ``stream`` is stderr by default.

    >>> type(make_progress(quiet=True)).__name__
    'SilentProgress'
    """
    stream = stream or sys.stderr
    if quiet:
        return SilentProgress()
    return RichProgress(stream) if stream.isatty() else PlainProgress(stream)


class SilentProgress:
    """Shows nothing."""

    interval = float("inf")

    def start(self, step: int, total: int) -> None:
        pass

    def update(self, step: int, steps_per_s: float, mean_return: float | None) -> None:
        pass

    def message(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class PlainProgress:
    """A line every five seconds, and one at the start; for pipes and log files.

    >>> progress = PlainProgress(sys.stdout)
    >>> progress.start(0, 1000)
    step 0 of 1,000 (0%)
    >>> progress.update(500, 100.0, 21.5)
    step 500 of 1,000 (50%)  100 steps/s  return 21.5  ETA 0:00:05
    """

    interval = 5.0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._total = 0

    def start(self, step: int, total: int) -> None:
        self._total = total
        self.message(self._position(step))

    def update(self, step: int, steps_per_s: float, mean_return: float | None) -> None:
        remaining = round((self._total - step) / steps_per_s) if steps_per_s > 0 else 0
        eta = f"{remaining // 3600}:{remaining // 60 % 60:02}:{remaining % 60:02}"
        self.message(f"{self._position(step)}  {_figures(steps_per_s, mean_return)}  ETA {eta}")

    def _position(self, step: int) -> str:
        return f"step {step:,} of {self._total:,} ({100 * step // self._total}%)"

    def message(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        pass


class RichProgress:
    """A bar with speed, running return and time left."""

    interval = 0.5

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None

    def start(self, step: int, total: int) -> None:
        from rich import progress  # 70 ms that only a terminal needs
        from rich.console import Console

        columns = (
            progress.BarColumn(bar_width=None),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.completed:,}/{task.total:,} steps  {task.description}"),
            progress.TimeRemainingColumn(elapsed_when_finished=True),
        )
        # No refreshing thread: it would take turns with the learner; `update` refreshes.
        self._bar = progress.Progress(*columns, console=Console(file=self._stream), auto_refresh=False)
        self._task = self._bar.add_task("", total=total, completed=step)
        self._bar.start()
        self._bar.refresh()

    def update(self, step: int, steps_per_s: float, mean_return: float | None) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, description=_figures(steps_per_s, mean_return), refresh=True)

    def message(self, text: str) -> None:
        if self._bar is None:
            self._stream.write(text + "\n")
            self._stream.flush()
        else:
            self._bar.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _figures(steps_per_s: float, mean_return: float | None) -> str:
    return f"{steps_per_s:,.0f} steps/s" + ("" if mean_return is None else f"  return {mean_return:.4g}")
