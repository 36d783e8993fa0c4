"""What layers without parameters share: options that are plain attributes, and that their repr shows."""

from __future__ import annotations

from typing import Any, ClassVar

from tensor.nn.module import Module

__all__ = ["Options", "numbers"]


class Options(Module):
    """A layer that shows the attributes named in ``_shown``, and ``inplace`` when it is set."""

    _shown: ClassVar[tuple[str, ...]] = ()
    inplace = False

    def extra_repr(self) -> str:
        parts = [f"{name}={getattr(self, name)}" for name in self._shown]
        return ", ".join([*parts, "inplace=True"] if self.inplace else parts)


def numbers(who: str, what: str, value: Any, n: int) -> tuple[int, ...]:
    """One number for each of ``n`` dimensions, or ValueError."""
    values = (value,) * n if isinstance(value, int) else tuple(value)
    if len(values) != n:
        msg = f"{who}: expected {what} to be a number or {n} numbers, got {value!r}"
        raise ValueError(msg)
    return values
