"""Derivatives of functions: `jacobian`, `hessian`, `vjp`, `jvp`, `vhp`, `hvp`.

They are made of operators, and live in the room above them, `tensor.func.derivatives`; here is the name that people know.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]  # noqa: F822  (found by `__getattr__`)


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("tensor.func.derivatives"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
