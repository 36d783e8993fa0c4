"""One block of memory for all temporaries of a program: those that are not alive together share their place."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

ALIGNMENT = 64  # a cache line, and the widest vector register


def layout(sizes: Mapping[int, int], spans: Mapping[int, tuple[int, int]]) -> tuple[dict[int, int], int]:
    """Offsets in bytes for blocks of `sizes` bytes alive from the first to the last step of their span, and the total.

    First fit, in the order in which they come alive.

    >>> layout({0: 64, 1: 64, 2: 64}, {0: (0, 1), 1: (1, 2), 2: (2, 3)})
    ({0: 0, 1: 64, 2: 0}, 128)
    """
    offsets: dict[int, int] = {}
    alive: list[tuple[int, int, int]] = []  # (offset, end, last step), by offset
    total = 0
    for key in sorted(sizes, key=lambda key: spans[key]):
        first, last = spans[key]
        alive = [block for block in alive if block[2] >= first]
        size = -(-max(sizes[key], 1) // ALIGNMENT) * ALIGNMENT
        offset = 0
        for start, end, _ in alive:
            if start - offset >= size:
                break
            offset = max(offset, end)
        offsets[key] = offset
        alive = sorted([*alive, (offset, offset + size, last)])
        total = max(total, offset + size)
    return offsets, total


def aligned(size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """`size` bytes that begin at a multiple of `ALIGNMENT`."""
    block = np.empty(size + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + size]
