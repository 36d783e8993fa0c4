"""CUDA devices, streams and memory under PyTorch's names: the only room that knows CuPy, imported when a device is asked for."""

from tensor.cuda.backend import (
    any_on_device,
    array_module,
    cupy,
    device_count,
    device_of,
    is_available,
    native,
    on_host,
    pin,
    scalar_types,
    to_device,
    to_host,
)
from tensor.cuda.devices import (
    current_device,
    device,
    get_device_capability,
    get_device_name,
    get_device_properties,
    manual_seed,
    manual_seed_all,
    set_device,
    synchronize,
)
from tensor.cuda.memory import (
    empty_cache,
    mem_get_info,
    memory_allocated,
    memory_reserved,
    memory_stats,
    set_per_process_memory_fraction,
)
from tensor.cuda.streams import Event, Stream, current_stream, default_stream, stream

__all__ = [
    "Event", "Stream", "any_on_device", "array_module", "cupy", "current_device", "current_stream", "default_stream", "device",
    "device_count", "device_of", "empty_cache", "get_device_capability", "get_device_name", "get_device_properties",
    "is_available", "manual_seed", "manual_seed_all", "mem_get_info", "memory_allocated", "memory_reserved", "memory_stats",
    "native", "on_host", "pin", "scalar_types", "set_device", "set_per_process_memory_fraction", "stream", "synchronize",
    "to_device", "to_host",
]  # fmt: skip
