"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in their binary version. The Python version is a pickle: it is not read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tensor.data.readers.files import Pictures, Transform, find, read

__all__ = ["CIFAR10", "CIFAR100"]

_PUBLISHED = "https://www.cs.toronto.edu/~kriz/cifar.html"
_PICTURE = 3 * 32 * 32


class _CIFAR(Pictures):
    """Records of label bytes, the last of which is the class, and a picture: its red, its green, its blue, each row by row."""

    folder: str
    pickled: str
    archive: str
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    meta: str
    labels: int

    def __init__(
        self, root: str | Path, train: bool = True, transform: Transform = None, target_transform: Transform = None
    ) -> None:
        self.train = train
        self.classes = read(self._find(root, self.meta)).decode("utf-8", "replace").split()
        records = np.concatenate([self._records(root, name) for name in (self.train_files if train else self.test_files)])
        pictures = records[:, self.labels :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        super().__init__(np.ascontiguousarray(pictures), records[:, self.labels - 1], transform, target_transform)

    def _find(self, root: str | Path, name: str) -> Path:
        who = type(self).__name__
        try:
            return find(who, root, self.folder, (name,), f"{_PUBLISHED} ({self.archive})")
        except FileNotFoundError as e:
            if (Path(root).expanduser() / self.pickled).is_dir():
                msg = f"{e}; what is in {self.pickled} is a pickle, which may run code when it is read: take the binary version"
                raise FileNotFoundError(msg) from None
            raise

    def _records(self, root: str | Path, name: str) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
        path = self._find(root, name)
        content, size = read(path), self.labels + _PICTURE
        if not content or len(content) % size:
            msg = f"{path}: expected records of {size} bytes, got {len(content)} bytes"
            raise ValueError(msg)
        records = np.frombuffer(content, np.uint8).reshape(-1, size)
        largest = int(records[:, self.labels - 1].max())
        if largest >= len(self.classes):
            msg = f"{path}: expected classes below {len(self.classes)}, got {largest}"
            raise ValueError(msg)
        return records


class CIFAR10(_CIFAR):
    """60,000 photographs in 10 classes, 32 x 32: 50,000 to train on, 10,000 to test with.

    Expects the files of ``cifar-10-binary.tar.gz`` in ``root`` or in ``root/cifar-10-batches-bin``. A sample is a uint8 array
    ``[32, 32, 3]`` and an int.
    """

    folder, pickled, archive = "cifar-10-batches-bin", "cifar-10-batches-py", "cifar-10-binary.tar.gz"
    train_files = ("data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin")
    test_files = ("test_batch.bin",)
    meta, labels = "batches.meta.txt", 1


class CIFAR100(_CIFAR):
    """60,000 photographs in 100 classes; expects the files of ``cifar-100-binary.tar.gz``, as `CIFAR10` those of its own."""

    folder, pickled, archive = "cifar-100-binary", "cifar-100-python", "cifar-100-binary.tar.gz"
    train_files, test_files = ("train.bin",), ("test.bin",)
    meta, labels = "fine_label_names.txt", 2
