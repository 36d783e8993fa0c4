"""`metrics.jsonl`: one JSON object per line."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcore.errors import SaveError
from rlcore.logging.base import Record

__all__ = ["JsonlLogger"]


class JsonlLogger:
    """Appends records to a file as strict JSON: NaN and infinities, which JSON has not, become null.

    Args:
        path: the file.
        resume_at: the step of the checkpoint that the run continues from: later lines, and a last line that a crash
            cut short, are removed, so that the log reads as if the run had never stopped. None starts a new file.

    Raises:
        SaveError: the file cannot be written.
    """

    def __init__(self, path: Path, *, resume_at: int | None = None) -> None:
        self._path = path
        self.seconds = 0.0  #: of the last line kept: where the clock of a resumed run continues
        try:
            kept = 0 if resume_at is None else self._length_until(resume_at)
            self._file = path.open("r+b" if kept else "wb")
            self._file.truncate(kept)
            self._file.seek(kept)
        except OSError as error:
            raise self._failed(error) from error

    def _length_until(self, step: int) -> int:
        """How many bytes the lines up to and including ``step`` take."""
        length = 0
        if self._path.exists():
            for line in self._path.read_bytes().splitlines(keepends=True):
                try:
                    entry = json.loads(line)
                    if entry["step"] > step or not line.endswith(b"\n"):
                        break
                    self.seconds = float(entry["time"])
                except (ValueError, KeyError, TypeError):
                    break
                length += len(line)
        return length

    def log(self, record: Record) -> None:
        """Append one line: step, time, episodes, returns, lengths, mean_return, the metrics by name; edits, if there were any.

        Raises:
            SaveError: the disk is full.
        """
        entry = {
            "step": record.step,
            "time": round(record.seconds, 3),
            "episodes": record.episodes,
            "mean_return": _finite(record.mean_return),
            "returns": [_finite(value) for value in record.returns],
            "lengths": list(record.lengths),
            **{name: _finite(value) for name, value in record.metrics.items()},
            **{name: _plain(events) for name in ("edits", "outcomes") if (events := getattr(record, name))},
        }
        try:
            self._file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the file."""
        # Every line was flushed when it was logged: what fails here is the rest of a line whose error was raised then.
        with contextlib.suppress(OSError):
            self._file.close()

    def _failed(self, error: OSError) -> SaveError:
        return SaveError(f"{self._path}: cannot write the log: {error.strerror or error}")


def _plain(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: _finite(value) if isinstance(value, float) else value for name, value in event.items()} for event in events]


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
