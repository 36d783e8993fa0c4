"""Tables of sensor values, CSV and Parquet: column ``time``, and a topic in each other column. Read row by row."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from envs.streams.errors import StreamAddressError
from envs.streams.frames import encode
from envs.streams.sources import SECOND, Arrival, FileSource
from rlcore.errors import MissingExtraError

__all__ = ["CsvSource", "ParquetSource"]

#: Nanoseconds, and the values of one row by topic.
Row = tuple[int, dict[str, Any]]


def _arrivals(rows: Iterator[Row]) -> Iterator[Arrival]:
    sequences: dict[str, int] = {}
    for at, cells in rows:
        for topic, value in cells.items():
            number = sequences.get(topic, 0)
            sequences[topic] = number + 1
            yield Arrival(encode(topic, value, sequence=number, capture_time=at), at)


def _existing(path: Path) -> Path:
    if not path.is_file():
        msg = f"open_stream: no such file: {path}"
        raise StreamAddressError(msg)
    return path


class CsvSource(FileSource):
    """A table with a header line. Column ``time`` is in seconds; each other column is a topic, and an empty cell no sample.

    Without that column the rows come at ``rates`` Hz. `StreamAddressError` names the line that holds no number.
    """

    def __init__(self, path: Path, *, rates: float = 1.0) -> None:
        with _existing(path).open(newline="", encoding="utf-8") as file:
            names = next(csv.reader(file), [])
        self.topics = tuple(name for name in names if name != "time")
        super().__init__(_arrivals(self._rows(path, "time" in names, rates)))

    def _rows(self, path: Path, timed: bool, rate: float) -> Iterator[Row]:
        with path.open(newline="", encoding="utf-8") as file:
            for number, line in enumerate(csv.DictReader(file)):
                try:
                    seconds = float(line["time"]) if timed else number / rate
                    cells = {name: float(line[name]) for name in self.topics if line[name]}
                    at = round(seconds * SECOND)
                except (ValueError, TypeError, OverflowError) as error:
                    msg = f"{path}: expected numbers in line {number + 2}, got {error}"
                    raise StreamAddressError(msg) from None
                yield at, cells


def _pyarrow(room: str) -> Any:
    try:
        return importlib.import_module(f"pyarrow{room}")
    except ImportError:
        package = "pyarrow"
        raise MissingExtraError(package, needed_for="a .parquet file", extra="parquet") from None


class ParquetSource(FileSource):
    """A Parquet file: columns of numbers, or of lists of numbers; an empty cell is no sample. Extra ``parquet``.

    Column ``time`` holds timestamps or seconds; without it the rows come at ``rates`` Hz. Read by row groups.
    """

    def __init__(self, path: Path, *, rates: float = 1.0) -> None:
        pa, types, parquet = (_pyarrow(room) for room in ("", ".types", ".parquet"))
        try:
            self._file = parquet.ParquetFile(_existing(path))
        except pa.ArrowInvalid as error:
            msg = f"{path}: expected a Parquet file, got {error}"
            raise StreamAddressError(msg) from None
        for field in self._file.schema_arrow:
            kind = getattr(field.type, "value_type", field.type)
            is_time = field.name == "time" and types.is_timestamp(kind)
            if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or is_time):
                msg = f"{path}: expected numbers or lists of numbers in column {field.name!r}, got {field.type}"
                raise StreamAddressError(msg)
        names = self._file.schema_arrow.names
        self.topics = tuple(name for name in names if name != "time")
        super().__init__(_arrivals(self._rows("time" in names, rates)))

    def _rows(self, timed: bool, rate: float) -> Iterator[Row]:
        pa = _pyarrow("")
        count = 0
        for batch in self._file.iter_batches():
            if timed:
                column = batch.column("time")
                whole = pa.types.is_timestamp(column.type)
                times = (
                    column.cast(pa.timestamp("ns")).cast(pa.int64()).to_numpy(zero_copy_only=False)
                    if whole
                    else np.rint(column.to_numpy(zero_copy_only=False) * float(SECOND))
                )
            else:
                times = np.rint(np.arange(count, count + batch.num_rows) / rate * SECOND)
            count += batch.num_rows
            columns = {name: batch.column(name) for name in self.topics}
            dtypes = {name: column.type for name, column in columns.items()}
            cells = {name: column.to_pylist() for name, column in columns.items()}
            kinds = {name: np.dtype(getattr(kind, "value_type", kind).to_pandas_dtype()) for name, kind in dtypes.items()}
            for row, at in enumerate(times.astype(np.int64).tolist()):
                yield (
                    at,
                    {name: np.asarray(values[row], kinds[name]) for name, values in cells.items() if values[row] is not None},
                )

    def close(self) -> None:
        super().close()
        self._file.close()
