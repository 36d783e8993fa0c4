"""Pictures in folders, one folder a class."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tensor.data.dataset import Dataset
from tensor.data.readers.files import Transform

__all__ = ["ImageFolder", "read_image"]

Array = Any


def read_image(path: str | Path) -> Array:
    """A picture as a uint8 array ``[height, width, 3]``; what a ``.npy`` file holds as it is.

    PPM and PGM are read here, all else by Pillow (``pip install 'rlcore[images]'``). ValueError for a damaged file.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "two.ppm"
    >>> _ = file.write_bytes(b"P6 2 1 255 " + bytes([255, 0, 0, 0, 0, 255]))
    >>> read_image(file).tolist()
    [[[255, 0, 0], [0, 0, 255]]]
    """
    path = Path(path)
    return _READERS.get(path.suffix.lower(), _by_pillow)(path)


def _by_pillow(path: Path) -> Array:
    try:
        pillow = importlib.import_module("PIL.Image")
    except ImportError as e:
        msg = f"ImageFolder: reading {path.suffix} files needs Pillow: pip install 'rlcore[images]'"
        raise ImportError(msg) from e
    try:
        with pillow.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise  # an OSError too, but no matter of the content
    except (OSError, SyntaxError, ValueError, EOFError, pillow.DecompressionBombError) as e:  # what its decoders raise
        msg = f"{path}: not a readable picture: {e}"
        raise ValueError(msg) from e


def _npy(path: Path) -> Array:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as e:
        msg = f"{path}: not a readable .npy file: {e}"
        raise ValueError(msg) from e


#: Magic number, width, height, largest value, with comments between them, and one blank before the pixels (netpbm's ppm(5)).
_NETPBM = re.compile(rb"(P[56])" + rb"(?:\s|#[^\n]*\n)+(\d{1,9})" * 3 + rb"\s")


def _netpbm(path: Path) -> Array:
    content = path.read_bytes()
    header = _NETPBM.match(content)
    if header is None:
        msg = f"{path}: expected a PGM or PPM file of the binary kind (P5, P6), got {content[:16]!r}"
        raise ValueError(msg)
    channels = 3 if header[1] == b"P6" else 1
    width, height, largest = (int(number) for number in header.groups()[1:])
    pixels = np.frombuffer(content, np.uint8, offset=header.end())
    if largest != 255 or len(pixels) != height * width * channels:
        msg = (
            f"{path}: expected {height * width * channels} bytes of pixels up to 255 for {width} x {height}, "
            f"got {len(pixels)} up to {largest}"
        )
        raise ValueError(msg)
    return np.broadcast_to(pixels.reshape(height, width, channels), (height, width, 3)).copy()


_READERS: dict[str, Callable[[Path], Array]] = {".npy": _npy, ".ppm": _netpbm, ".pgm": _netpbm}

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".npy", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class ImageFolder(Dataset[tuple[Any, Any]]):
    """Pictures below ``root/<class>/``, in any depth: ``dataset[i]`` is a uint8 array ``[height, width, 3]`` and a class number.

    ``classes`` are the folders' names in order, ``class_to_idx`` their numbers, ``samples`` the paths with their numbers.
    ``loader`` reads a path (`read_image`). FileNotFoundError for a root without such folders, or a folder without pictures.
    """

    def __init__(
        self,
        root: str | Path,
        transform: Transform = None,
        target_transform: Transform = None,
        loader: Callable[[Path], Any] = read_image,
    ) -> None:
        self.root = Path(root).expanduser().resolve()
        self.transform, self.target_transform, self.loader = transform, target_transform, loader
        self.classes = sorted(path.name for path in self.root.iterdir() if path.is_dir()) if self.root.is_dir() else []
        if not self.classes:
            msg = f"ImageFolder: expected a folder of pictures for each class in {self.root}, found none"
            raise FileNotFoundError(msg)
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        self.samples = [(path, number) for name, number in self.class_to_idx.items() for path in self._pictures(name)]
        self.targets = [number for _, number in self.samples]

    def _pictures(self, name: str) -> list[Path]:
        found = sorted(path for path in (self.root / name).rglob("*") if path.suffix.lower() in _SUFFIXES)
        if not found:
            msg = f"ImageFolder: found no pictures in {self.root / name}; it looks for {', '.join(sorted(_SUFFIXES))}"
            raise FileNotFoundError(msg)
        return found

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        path, target = self.samples[index]
        picture = self.loader(path)
        return (
            picture if self.transform is None else self.transform(picture),
            target if self.target_transform is None else self.target_transform(target),
        )
