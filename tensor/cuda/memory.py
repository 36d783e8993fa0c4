"""How much of a device's memory is used. CuPy keeps freed blocks in a pool for the next tensor."""

from __future__ import annotations

from typing import Any

from tensor.cuda.backend import cupy, is_available
from tensor.cuda.devices import device, index_of

__all__ = [
    "empty_cache",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "set_per_process_memory_fraction",
]


def _in(d: Any, what: str) -> Any:
    with device(index_of(d)):  # the pool answers for the current device
        return getattr(cupy().get_default_memory_pool(), what)()


def memory_allocated(device: Any = None) -> int:
    """Bytes that tensors hold; 0 without a device."""
    return int(_in(device, "used_bytes")) if is_available() else 0


def memory_reserved(device: Any = None) -> int:
    """Bytes that the pool holds, used or free; 0 without a device."""
    return int(_in(device, "total_bytes")) if is_available() else 0


def memory_stats(device: Any = None) -> dict[str, int]:
    """The pool in numbers, bytes and blocks; empty without a device."""
    if not is_available():
        return {}
    names = {
        "allocated_bytes": "used_bytes",
        "reserved_bytes": "total_bytes",
        "free_bytes": "free_bytes",
        "free_blocks": "n_free_blocks",
    }
    return {name: int(_in(device, method)) for name, method in names.items()}


def mem_get_info(device_index: Any = None) -> tuple[int, int]:
    """Bytes of the device that are free, and all."""
    with device(index_of(device_index)):
        free, total = cupy().cuda.runtime.memGetInfo()
    return int(free), int(total)


def empty_cache() -> None:
    """Give the pool's free blocks back to the device; nothing without one."""
    if is_available():
        cupy().get_default_memory_pool().free_all_blocks()
        cupy().get_default_pinned_memory_pool().free_all_blocks()


def set_per_process_memory_fraction(fraction: float, device_index: Any = None) -> None:
    """Let the pool grow to this share of the device's memory at most; more is an out-of-memory error."""
    if not 0 <= fraction <= 1:
        msg = f"set_per_process_memory_fraction: expected a fraction between 0 and 1, got {fraction}"
        raise ValueError(msg)
    with device(index_of(device_index)):
        cupy().get_default_memory_pool().set_limit(fraction=fraction)
