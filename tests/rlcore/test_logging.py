from __future__ import annotations

import io
import json
import math

import pytest

from rlcore.errors import MissingExtraError, SaveError
from rlcore.logging import JsonlLogger, Record, TensorBoardLogger, make_progress
from rlcore.logging.progress import PlainProgress, RichProgress, SilentProgress


def record(step: int, **metrics: float) -> Record:
    return Record(step, step / 10, 1, [1.0, math.nan], [3, 4], 2.0, metrics)


def lines(path):
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


def test_jsonl_is_strict_json_and_nan_is_null(tmp_path):
    logger = JsonlLogger(tmp_path / "m.jsonl")
    logger.log(record(10, loss=math.inf, entropy=0.5))
    assert lines(tmp_path / "m.jsonl") == [
        {
            "step": 10,
            "time": 1.0,
            "episodes": 1,
            "mean_return": 2.0,
            "returns": [1.0, None],
            "lengths": [3, 4],
            "loss": None,
            "entropy": 0.5,
        }
    ], "a line is on disk as soon as it is logged"
    logger.close()


def test_a_resumed_log_drops_what_came_after_the_checkpoint(tmp_path):
    path = tmp_path / "m.jsonl"
    logger = JsonlLogger(path)
    for step in (10, 20, 30):
        logger.log(record(step))
    logger.close()
    path.write_bytes(path.read_bytes() + b'{"step": 40, "ti')
    resumed = JsonlLogger(path, resume_at=20)
    assert resumed.seconds == 2.0
    resumed.log(record(25))
    resumed.close()
    assert [line["step"] for line in lines(path)] == [10, 20, 25]


def test_a_torn_last_line_is_dropped_and_a_missing_log_begun(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 10, "time": 1}\n{"step": 20, "time": 2}')
    JsonlLogger(path, resume_at=50).close()
    assert [line["step"] for line in lines(path)] == [10]
    JsonlLogger(tmp_path / "new.jsonl", resume_at=50).close()
    assert (tmp_path / "new.jsonl").read_bytes() == b""


def test_a_log_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(SaveError, match=r"m.jsonl: cannot write the log: No such file"):
        JsonlLogger(tmp_path / "none" / "m.jsonl")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_progress_fits_the_stream():
    assert isinstance(make_progress(quiet=True, stream=Terminal()), SilentProgress)
    assert isinstance(make_progress(stream=Terminal()), RichProgress)
    assert isinstance(make_progress(stream=io.StringIO()), PlainProgress)


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_progress_shows_position_speed_return_and_time_left(stream):
    progress = make_progress(stream=stream)
    progress.message("[red] is not markup")
    progress.start(0, 2000)
    progress.update(1000, 250.0, 21.5)
    progress.message("hello")
    progress.close()
    text = stream.getvalue()
    for part in ("[red] is not markup", "1,000", "2,000", "50%", "250 steps/s", "return 21.5", "hello"):
        assert part in text


def test_tensorboard_writes_scalars(tmp_path):
    pytest.importorskip("tensorboard")
    for resume_at in (None, 20):
        logger = TensorBoardLogger(tmp_path, resume_at=resume_at)
        logger.log(record(10, loss=0.25))
        logger.close()
    files = list(tmp_path.iterdir())
    assert files
    assert all(b"train/mean_return" in file.read_bytes() and b"loss" in file.read_bytes() for file in files)


def test_a_missing_tensorboard_names_its_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rlcore\[tensorboard\]'"):
        TensorBoardLogger.require()
