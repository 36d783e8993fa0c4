"""Where arrays live: ``cpu`` or ``cuda:i``."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensor import cuda

__all__ = ["as_device", "device", "device_of", "move"]


class device:
    """``device("cpu")``, ``device("cuda")``, ``device("cuda:1")``, ``device("cuda", 1)``.

    >>> device("cuda", 1)
    device(type='cuda', index=1)
    """

    __slots__ = ("index", "type")

    type: str
    index: int | None

    def __init__(self, type: str | device, index: int | None = None) -> None:
        if isinstance(type, device):
            self.type, self.index = type.type, type.index
            return
        kind, _, number = type.partition(":")
        if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
            msg = f"expected a device such as 'cpu' or 'cuda:0', got {type!r}"
            raise RuntimeError(msg)
        self.type = kind
        self.index = int(number) if number else index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        number = "" if self.index is None else f", index={self.index}"
        return f"device(type={self.type!r}{number})"


CPU = device("cpu")


def as_device(d: Any) -> device:
    """A device for a device, its name, or a CUDA device number."""
    return device("cuda", d) if isinstance(d, int) else device(d)


def device_of(array: Any) -> device:
    """The device of a raw array."""
    if type(array) is np.ndarray:
        return CPU
    index = cuda.device_of(array)
    return CPU if index is None else device("cuda", index)


def move(array: Any, d: Any) -> Any:
    """The raw array on that device; the same object when it is there already."""
    if d is CPU and type(array) is np.ndarray:
        return array
    target = as_device(d)
    return cuda.to_host(array) if target.type == "cpu" else cuda.to_device(array, target.index)
