"""TensorBoard event files, without TensorFlow or PyTorch."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlcore.errors import MissingExtraError
from rlcore.logging.base import Record

__all__ = ["TensorBoardLogger"]


class TensorBoardLogger:
    """Writes every figure of a record as a scalar.

    Args:
        directory: where event files go; a resumed run adds a file, and TensorBoard joins them.
        resume_at: the step of the checkpoint that the run continues from: later points, of a file written before a
            crash, are then no longer shown.

    Raises:
        MissingExtraError: the package ``tensorboard`` is not installed.
    """

    def __init__(self, directory: Path, *, resume_at: int | None = None) -> None:
        self.require()
        writer = importlib.import_module("tensorboard.summary.writer.event_file_writer")
        self._event: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._summary: Any = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        self._writer: Any = writer.EventFileWriter(str(directory))
        if resume_at is not None:
            start = self._event.SessionLog(status=self._event.SessionLog.START)
            self._writer.add_event(self._event.Event(step=resume_at + 1, session_log=start))

    @staticmethod
    def require() -> None:
        """Raise MissingExtraError where the package is missing; imports nothing."""
        if importlib.util.find_spec("tensorboard") is None:
            package = "tensorboard"
            raise MissingExtraError(package, needed_for="--tensorboard")

    def log(self, record: Record) -> None:
        """Write ``train/mean_return``, ``train/episodes`` and the metrics at the record's step."""
        values = {"train/episodes": float(record.episodes), **record.metrics}
        if record.mean_return is not None:
            values["train/mean_return"] = record.mean_return
        scalars = [self._summary.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._writer.add_event(self._event.Event(step=record.step, summary=self._summary.Summary(value=scalars)))
        for event in (*record.edits, *record.outcomes):
            self._log_edit(event, "reward_after" in event and event["reward_after"] is not None)
        self._writer.flush()

    def _log_edit(self, event: Mapping[str, Any], outcome: bool) -> None:
        """At the edit's own step: what was done as text, and its figures as points of curves."""
        names = ("reward_before", "reward_after") if outcome else ("parameters", "units", "output_change")
        values = [
            self._summary.Summary.Value(tag=f"structure/{name}", simple_value=float(event[name]))
            for name in names
            if event.get(name) is not None
        ]
        if not outcome:
            text = f"**{event['edit']}** {event['layer']}, {event['units']} units: {event['reason']}"
            kind = importlib.import_module("tensorboard.compat.proto.types_pb2").DT_STRING
            tensor = importlib.import_module("tensorboard.compat.proto.tensor_pb2").TensorProto(
                dtype=kind, string_val=[text.encode()]
            )
            plugin = self._summary.SummaryMetadata.PluginData(plugin_name="text")
            metadata = self._summary.SummaryMetadata(plugin_data=plugin)
            values.append(self._summary.Summary.Value(tag="structure/edits", tensor=tensor, metadata=metadata))
        self._writer.add_event(self._event.Event(step=event["step"], summary=self._summary.Summary(value=values)))

    def close(self) -> None:
        """Write what is pending and stop the writer's thread."""
        self._writer.close()
