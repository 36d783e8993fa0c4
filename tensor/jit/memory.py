"""Whose memory an array is, and how it lies in it."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["is_dense", "owner_of"]


def owner_of(a: Any) -> int:
    """The identity of whoever owns an array's memory."""
    base = a.base
    while base is not None:  # also through what `as_strided` puts between
        a, base = base, getattr(base, "base", None)
    return id(a)


def is_dense(a: Any) -> bool:
    """Whether a copy in the same order has the same strides."""
    return bool(a.flags.forc) or np.empty_like(a).strides == a.strides
