"""What the options of optimizers must be: the same name means the same in all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["check_options"]

Expected = Callable[[str, Any], None]


def _expect(fits: bool, expected: str, got: Any) -> None:
    if not fits:
        msg = f"expected {expected}, got {got}"
        raise ValueError(msg)


def not_negative(name: str, value: Any) -> None:
    """Zero or more; a NaN is neither."""
    _expect(value >= 0, f"{name} >= 0", value)


def unit(name: str, value: Any) -> None:
    """From 0 to 1."""
    _expect(0 <= value <= 1, f"0 <= {name} <= 1", value)


def fraction(name: str, value: Any) -> None:
    """From 0 to 1, without 1."""
    _expect(0 <= value < 1, f"0 <= {name} < 1", value)


def fractions(name: str, values: Any) -> None:
    """Several from 0 to 1, without 1."""
    for i, value in enumerate(values):
        fraction(f"{name}[{i}]", value)


def around_one(name: str, values: Any) -> None:
    """A factor that shrinks and one that grows."""
    low, high = values
    _expect(0 < low < 1 < high, f"0 < {name}[0] < 1 < {name}[1]", values)


CHECKS: dict[str, Expected] = {
    "lr": not_negative,
    "eps": not_negative,
    "weight_decay": not_negative,
    "momentum": not_negative,
    "alpha": not_negative,
    "lr_decay": not_negative,
    "initial_accumulator_value": not_negative,
    "momentum_decay": not_negative,
    "rho": unit,
    "betas": fractions,
    "etas": around_one,
}


def check_options(who: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for an option outside of its range, TypeError for one that is no number; the message names ``who``."""
    for name, value in options.items():
        if name in CHECKS:
            try:
                CHECKS[name](name, value)
            except ValueError as error:
                msg = f"{who}: {error}"
                raise ValueError(msg) from None
            except TypeError:
                msg = f"{who}: expected {name} in numbers, got {value!r}"
                raise TypeError(msg) from None
