"""Questions about values that only save work: asked where the answer costs nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["perhaps_any"]


def perhaps_any(x: Any) -> bool:
    """Whether any element is true, if looking is free; else, of an array on another device or one that records, True.

    The answer may decide between two ways of computing the same, of which the shorter one holds only where nothing is true.
    """
    return type(x) is not np.ndarray or bool(x.any())
