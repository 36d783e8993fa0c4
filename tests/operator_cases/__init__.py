"""Test cases of the operators, one module a family; `tests/tensor/test_operators.py` and `test_composites.py` run them all.

A module may define ``RULED`` (operators with gradient rules: `Case`), ``COMPOSITES`` (operators written in terms of others) and
``NO_GRADIENT`` (composites that give booleans, integers, numbers of Python, or nothing a gradient could flow through).
"""

from __future__ import annotations

import importlib
import pkgutil

from operator_cases.case import Case, Composite

RULED: dict[str, Case] = {}
COMPOSITES: dict[str, Composite] = {}
NO_GRADIENT: set[str] = set()

for _found in pkgutil.iter_modules(__path__):
    _family = importlib.import_module(f"{__name__}.{_found.name}")
    RULED |= getattr(_family, "RULED", {})
    COMPOSITES |= getattr(_family, "COMPOSITES", {})
    NO_GRADIENT |= getattr(_family, "NO_GRADIENT", set())
