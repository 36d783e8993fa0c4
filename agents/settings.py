"""Ranges of hyperparameters, checked when a configuration is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlcore.errors import ConfigError

__all__ = ["at_least", "check", "fraction", "positive"]

Range = tuple[str, Callable[[Any], bool]]

positive: Range = ("a number above 0", lambda x: x > 0)
fraction: Range = ("a number from 0 to 1", lambda x: 0 <= x <= 1)


def at_least(low: float) -> Range:
    """Numbers from ``low`` on."""
    return f"at least {low}", lambda x: x >= low


def check(config: Any, allowed: Range, *fields: str) -> None:
    """Raise a ConfigError that names the first field out of range.

    >>> from types import SimpleNamespace
    >>> check(SimpleNamespace(epochs=0), at_least(1), "epochs")
    Traceback (most recent call last):
    rlcore.errors.ConfigError: epochs: expected at least 1, got 0
    """
    expected, fits = allowed
    for field in fields:
        value = getattr(config, field)
        if not fits(value):
            msg = f"{field}: expected {expected}, got {value}"
            raise ConfigError(msg)
