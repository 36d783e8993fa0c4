"""What the namespace can do: the standard's inspection API."""

from __future__ import annotations

from typing import Any

from tensor import cuda, dtypes
from tensor.array_api.data_types import KIND_NAMES
from tensor.device import device as Device

__all__ = ["Info", "__array_namespace_info__"]

_NAMED = {name.name: name for names in KIND_NAMES.values() for name in names}


class Info:
    """What `__array_namespace_info__` returns.

    >>> Info().capabilities()["boolean indexing"]
    True
    """

    def capabilities(self) -> dict[str, Any]:
        """What is optional in the standard, and whether it is there."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> Device:
        """Where arrays are made unless told otherwise."""
        return Device("cpu")

    def devices(self) -> tuple[Device, ...]:
        """Where arrays can live."""
        return (Device("cpu"), *(Device("cuda", i) for i in range(cuda.device_count())))

    def default_dtypes(self, *, device: Any = None) -> dict[str, dtypes.dtype]:
        """The dtypes of Python's numbers and of indices; that of floats is what `set_default_dtype` says."""
        return {
            "real floating": dtypes.get_default_dtype(),
            "complex floating": dtypes.default_complex(),
            "integral": dtypes.int64,
            "indexing": dtypes.int64,
        }

    def dtypes(self, *, device: Any = None, kind: str | tuple[str, ...] | None = None) -> dict[str, dtypes.dtype]:
        """The dtypes of the standard by name: all, or those of a kind, or of several."""
        if kind is None:
            return dict(_NAMED)
        kinds = (kind,) if isinstance(kind, str) else kind
        unknown = [k for k in kinds if k not in KIND_NAMES]
        if unknown:
            msg = f"dtypes: expected a kind among {', '.join(map(repr, KIND_NAMES))}, got {unknown[0]!r}"
            raise ValueError(msg)
        return {d.name: d for k in kinds for d in KIND_NAMES[k]}


def __array_namespace_info__() -> Info:
    """What this namespace can do: devices, dtypes, defaults, optional parts of the standard."""
    return Info()
