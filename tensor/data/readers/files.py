"""What readers have in common: finding files, reading them whole, and samples of a picture and a class."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.data.dataset import Dataset

__all__ = ["Pictures", "Transform", "find", "read"]

_CHUNK = 1 << 20

Transform = Callable[[Any], Any] | None


def find(who: str, root: str | Path, folder: str, names: Sequence[str], published: str) -> Path:
    """The first of the files ``names`` that is in ``root`` or in ``root/folder``.

    FileNotFoundError, with the full path where it belongs and where it is published, if there is none.
    """
    base = Path(root).expanduser().resolve()
    for directory in (base / folder, base):
        for name in names:
            if (directory / name).is_file():
                return directory / name
    msg = f"{who}: no such file; put {' or '.join(names)} into {base / folder} or into {base}; it is published at {published}"
    raise FileNotFoundError(msg)


def read(path: Path, most: int | None = None) -> bytes:
    """A file's bytes, unpacked where its name ends in .gz; at most ``most`` of them. ValueError for a damaged one."""
    content = bytearray()
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            # In pieces: room for all of it at once would be made for as much as is asked for, whatever there is.
            while chunk := file.read(_CHUNK if most is None else min(_CHUNK, most - len(content))):
                content += chunk
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
        msg = f"{path}: not a whole gzip file: {e}"
        raise ValueError(msg) from e
    return bytes(content)


class Pictures(Dataset[tuple[Any, Any]]):
    """Pictures in memory with a class each: ``dataset[i]`` is the picture, a uint8 array, and the number of its class.

    ``data`` and ``targets`` are all of them as tensors; ``transform`` and ``target_transform`` are applied to the two parts of a
    sample.
    """

    def __init__(self, pictures: Any, targets: Any, transform: Transform, target_transform: Transform) -> None:
        self.data, self.targets = Tensor(pictures), Tensor(targets.astype(np.int64))
        self.transform, self.target_transform = transform, target_transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        picture, target = self.data._array[index], int(self.targets._array[index])
        return (
            picture if self.transform is None else self.transform(picture),
            target if self.target_transform is None else self.target_transform(target),
        )
