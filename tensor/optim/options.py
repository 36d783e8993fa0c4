"""Checks that several optimizers make of their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["fraction", "not_negative"]


def not_negative(who: str, options: Mapping[str, Any], *names: str) -> None:
    """Raise ValueError for an option that is negative or not a number."""
    for name in names:
        if not options[name] >= 0:
            msg = f"{who}: expected {name} >= 0, got {options[name]}"
            raise ValueError(msg)


def fraction(who: str, name: str, value: Any) -> None:
    """Raise ValueError unless 0 <= value < 1."""
    if not 0 <= value < 1:
        msg = f"{who}: expected 0 <= {name} < 1, got {value}"
        raise ValueError(msg)
