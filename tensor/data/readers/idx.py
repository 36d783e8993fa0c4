"""The IDX format, and datasets published in it: MNIST (LeCun, Cortes, Burges 1998), Fashion-MNIST (Xiao et al. 2017)."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.data.readers.files import Pictures, Transform, find, read

__all__ = ["MNIST", "FashionMNIST", "read_idx"]

#: The third byte of the magic number.
_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> Tensor:
    """The array of an IDX file, plain or gzipped: two zero bytes, a dtype, the number of dimensions, their lengths, the elements.

    ValueError for a file that is not one, or whose length is not what its header says.
    """
    path = Path(path)
    head = read(path, 4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _DTYPES or not head[3]:
        msg = f"{path}: not an IDX file: expected it to begin with 0, 0, a dtype and a number of dimensions, got {list(head)}"
        raise ValueError(msg)
    start = 4 + 4 * head[3]
    lengths = read(path, start)[4:]
    if len(lengths) < start - 4:
        msg = f"{path}: the header of an IDX file with {head[3]} dimensions is cut off"
        raise ValueError(msg)
    shape = struct.unpack(f">{head[3]}I", lengths)
    dtype = np.dtype(_DTYPES[head[2]])
    expected = start + math.prod(shape) * dtype.itemsize
    content = read(path, expected + 1)  # no more than that is unpacked, whatever the file claims to hold
    if len(content) != expected:
        found = "more" if len(content) > expected else len(content)
        msg = f"{path}: expected {expected} bytes for {dtype.name}{list(shape)}, got {found}"
        raise ValueError(msg)
    return Tensor(np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("=")))


class MNIST(Pictures):
    """70,000 handwritten digits, 28 x 28: 60,000 to train on, 10,000 to test with.

    Expects the four files as published, gzipped or not (``train-images-idx3-ubyte.gz``, ``t10k-labels-idx1-ubyte.gz``, ...), in
    ``root`` or in ``root/MNIST/raw``. A sample is a uint8 array ``[28, 28]`` and an int.
    """

    published = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    classes = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")

    def __init__(
        self, root: str | Path, train: bool = True, transform: Transform = None, target_transform: Transform = None
    ) -> None:
        self.train = train
        part = "train" if train else "t10k"
        pictures, targets = self._part(root, f"{part}-images-idx3-ubyte"), self._part(root, f"{part}-labels-idx1-ubyte")
        if pictures.ndim != 3 or targets.shape != pictures.shape[:1] or (targets >= len(self.classes)).any():
            msg = (
                f"{type(self).__name__}: expected pictures [n, h, w] with n classes below {len(self.classes)}, "
                f"got {list(pictures.shape)} and {list(targets.shape)} up to {targets.max(initial=0)}"
            )
            raise ValueError(msg)
        super().__init__(pictures, targets, transform, target_transform)

    def _part(self, root: str | Path, name: str) -> Any:
        who = type(self).__name__
        return read_idx(find(who, root, f"{who}/raw", (name, f"{name}.gz"), self.published))._array


class FashionMNIST(MNIST):
    """70,000 articles of clothing, in files like those of `MNIST`: in ``root`` or in ``root/FashionMNIST/raw``."""

    published = "https://github.com/zalandoresearch/fashion-mnist"
    classes = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip
