"""Which CUDA device is current, and what it is."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tensor.cuda.backend import cupy, device_count, is_available

__all__ = [
    "DeviceProperties", "current_device", "device", "get_device_capability", "get_device_name", "get_device_properties",
    "manual_seed", "manual_seed_all", "set_device", "synchronize",
]  # fmt: skip


def index_of(d: Any) -> int:
    """The number of a device: from an int, a name such as ``"cuda:1"``, a `tensor.device`; None: the current one."""
    index = getattr(d, "index", d) if not isinstance(d, str) else d
    if isinstance(index, str):
        kind, _, number = index.partition(":")
        if kind != "cuda" or (number and not number.isdigit()):
            msg = f"expected a CUDA device such as 'cuda:0' or 0, got {d!r}"
            raise ValueError(msg)
        index = int(number) if number else None
    if index is None:
        return current_device()
    count = device_count()
    if not cupy() or not 0 <= index < count:
        msg = f"expected a CUDA device below {count}, got {index}"
        raise RuntimeError(msg)
    return int(index)


def current_device() -> int:
    """The number of the device that new CUDA tensors are made on."""
    return int(cupy().cuda.runtime.getDevice())


def set_device(d: Any) -> None:
    """Make a device the current one; prefer ``with device(i):``."""
    cupy().cuda.runtime.setDevice(index_of(d))


class device:
    """``with device(1):`` makes CUDA device 1 the current one inside the block; a negative number or None changes nothing."""

    __slots__ = ("_before", "index")

    def __init__(self, d: Any) -> None:
        self.index = -1 if d is None or (isinstance(d, int) and d < 0) else index_of(d)
        self._before = -1

    def __enter__(self) -> device:
        if self.index >= 0:
            self._before = current_device()
            cupy().cuda.runtime.setDevice(self.index)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.index >= 0:
            cupy().cuda.runtime.setDevice(self._before)


def synchronize(d: Any = None) -> None:
    """Wait until everything asked of a device is done."""
    with device(index_of(d)):
        cupy().cuda.runtime.deviceSynchronize()


@dataclass(frozen=True)
class DeviceProperties:
    """What a device is; memory in bytes."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int


def get_device_properties(d: Any = None) -> DeviceProperties:
    """The properties of a device, the current one when none is named."""
    found = cupy().cuda.runtime.getDeviceProperties(index_of(d))
    name = found["name"]
    return DeviceProperties(
        name.decode() if isinstance(name, bytes) else str(name),
        found["major"],
        found["minor"],
        found["totalGlobalMem"],
        found["multiProcessorCount"],
    )


def get_device_name(d: Any = None) -> str:
    """For example ``NVIDIA H200``."""
    return get_device_properties(d).name


def get_device_capability(d: Any = None) -> tuple[int, int]:
    """The compute capability, (major, minor)."""
    found = get_device_properties(d)
    return found.major, found.minor


def manual_seed(seed: int) -> None:
    """Seed CuPy's own generator; nothing without a device.

    Tensors on CUDA draw from `tensor.manual_seed` and generators, as those on the CPU do: the same numbers on both.
    """
    if is_available():
        cupy().random.seed(seed)


manual_seed_all = manual_seed
