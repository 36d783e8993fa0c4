"""Tables in CSV files (RFC 4180)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.data.dataset import Dataset
from tensor.data.readers.files import Transform
from tensor.dtypes import numpy_dtype
from tensor.naming import instead

__all__ = ["CSV"]

_MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "None", "?")


class CSV(Dataset[Any]):
    """The rows of a CSV file: ``dataset[i]`` is a vector of the columns, or that and the ``target`` column's value.

    - ``columns``: which, and in which order; all but the target without it. Names where there is a ``header``, else numbers.
    - ``dtypes``: column to dtype, or to ``"category"`` for text, which becomes the numbers of its sorted values (``categories``).
      Without it a column is int64 or float32. A vector has the dtype that its columns promote to.
    - ``missing``: what stands for a value that is not there; it becomes ``fill``, which is NaN unless it is given.

    ``data`` and ``targets`` are all rows as tensors. ValueError, with file and line, for rows of different lengths and for text
    where a number should be; FileNotFoundError without the file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "flowers.csv"
    >>> _ = path.write_text("length,width,kind\\n1.5,2,lily\\n,3,rose\\n")
    >>> flowers = CSV(path, target="kind", dtypes={"kind": "category"}, fill=0)
    >>> flowers[1]
    (array([0., 3.], dtype=float32), 1)
    >>> flowers.categories
    {'kind': ['lily', 'rose']}
    """

    def __init__(
        self,
        path: str | Path,
        *,
        columns: Sequence[Any] | None = None,
        target: Any = None,
        header: bool = True,
        dtypes: Mapping[Any, Any] | None = None,
        delimiter: str = ",",
        missing: Sequence[str] = _MISSING,
        fill: float | None = None,
        transform: Transform = None,
        target_transform: Transform = None,
    ) -> None:
        self.path = Path(path).expanduser().resolve()
        self.transform, self.target_transform = transform, target_transform
        self._missing, self._fill, self._dtypes = frozenset(missing), fill, dict(dtypes or {})
        names, rows, self._lines = self._read(header, delimiter)
        self.target = target
        self.columns = [name for name in names if name != target] if columns is None else list(columns)
        self.categories: dict[Any, list[str]] = {}
        for name in [*self.columns, *self._dtypes, *([] if target is None else [target])]:
            if name not in names:
                msg = f"CSV: {self.path} has no column {name!r}; {instead(name, names)}"
                raise ValueError(msg)
        arrays = [self._column(name, [row[names.index(name)] for row in rows]) for name in self.columns]
        dtype = np.result_type(*arrays) if arrays else np.float32
        if dtype == np.float64 and all(a.dtype != np.float64 for a in arrays):
            dtype = np.dtype(np.float32)  # int64 beside float32: as tensors promote
        self.data = Tensor(np.stack(arrays, axis=1).astype(dtype, copy=False) if arrays else np.empty((len(rows), 0), dtype))
        self.targets = None if target is None else Tensor(self._column(target, [row[names.index(target)] for row in rows]))

    def _read(self, header: bool, delimiter: str) -> tuple[list[Any], list[list[str]], list[int]]:
        if not self.path.is_file():
            msg = f"CSV: no such file: {self.path}"
            raise FileNotFoundError(msg)
        rows, lines = [], []
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(file, delimiter=delimiter, strict=True)
                for row in reader:
                    if row:  # a line with nothing on it is no row
                        rows.append([field.strip() for field in row])
                        lines.append(reader.line_num)
        except (csv.Error, UnicodeDecodeError) as e:
            msg = f"{self.path}: not a readable CSV file: {e}"
            raise ValueError(msg) from e
        if not rows:
            msg = f"{self.path}: expected rows, got an empty file"
            raise ValueError(msg)
        names: list[Any] = rows.pop(0) if header else list(range(len(rows[0])))
        lines = lines[len(lines) - len(rows) :]
        if len(set(names)) < len(names):
            msg = f"{self.path}: expected columns of different names, got {', '.join(names)}"
            raise ValueError(msg)
        for row, line in zip(rows, lines, strict=True):
            if len(row) != len(names):
                msg = f"{self.path}, line {line}: expected {len(names)} fields, got {len(row)}"
                raise ValueError(msg)
        return names, rows, lines

    def _column(self, name: Any, texts: list[str]) -> Any:
        wanted = self._dtypes.get(name)
        if wanted == "category":
            self.categories[name] = sorted(set(texts))
            number = {text: i for i, text in enumerate(self.categories[name])}
            return np.array([number[text] for text in texts], np.int64)
        values = [self._number(name, text, line) for text, line in zip(texts, self._lines, strict=True)]
        if wanted is None:
            whole = all(type(v) is int and -(2**63) <= v < 2**63 for v in values)
            return np.array(values, np.int64 if whole else np.float32)
        d = numpy_dtype(wanted)
        limits = np.iinfo(d) if d.kind in "iu" else None
        for value, text, line in zip(values, texts, self._lines, strict=True):
            if limits is not None and not (value == value // 1 and limits.min <= value <= limits.max):
                hint = "; give fill= for missing values" if text in self._missing else ""
                msg = f"{self.path}, line {line}: column {name!r}: expected a value of {d}, got {text!r}{hint}"
                raise ValueError(msg)
        return np.array(values, d)

    def _number(self, name: Any, text: str, line: int) -> Any:
        if text in self._missing:
            return float("nan") if self._fill is None else self._fill
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                pass
        msg = (
            f"{self.path}, line {line}: column {name!r}: expected a number, got {text!r}; "
            f"leave text out with columns=, or give dtypes={{{name!r}: 'category'}}"
        )
        raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Any:
        row = self.data._array[index]
        row = row if self.transform is None else self.transform(row)
        if self.targets is None:
            return row
        target = self.targets._array[index].item()
        return row, target if self.target_transform is None else self.target_transform(target)
