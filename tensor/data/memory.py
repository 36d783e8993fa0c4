"""Memory that two processes share and nobody can leak: it has no name.

A block is an open file that lives in memory (`memfd_create`, or an unlinked temporary file), handed to the worker when it is
started. Nothing ever appears in /dev/shm, so that no kill at any moment can leave something there: the kernel frees a block with
the last process that has it open or mapped.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import weakref
from collections import deque
from multiprocessing import reduction
from typing import Any

import numpy as np

from tensor.autograd.tensor import Tensor

__all__ = ["Arena", "Block", "Lender", "unpack"]

_ALIGNMENT = 64  # a cache line
_SMALLEST = 1 << 16


class Block:
    """Shared memory without a name, which can grow and never shrinks: what was mapped earlier stays valid."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = _anonymous_file() if descriptor is None else descriptor
        self.size = 0
        self.memory: Any = b""

    def __reduce__(self) -> Any:
        # Only ever pickled while a worker is started, which inherits the descriptor.
        return _inherit, (reduction.DupFd(self.descriptor),)

    def reserve(self, size: int) -> None:
        """Grow to ``size`` bytes or more. OSError where there is no memory for it, rather than a bus error later."""
        size = max(-(-size // mmap.PAGESIZE) * mmap.PAGESIZE, self.size)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self.descriptor, 0, size)
        else:
            os.ftruncate(self.descriptor, size)
        self.attach(size)

    def attach(self, size: int) -> None:
        """Map what the other process has reserved."""
        if size > self.size:
            self.memory = mmap.mmap(self.descriptor, size)
            self.size = size

    def private(self, size: int) -> memoryview:
        """The first ``size`` bytes, to be written to without the others noticing."""
        return memoryview(mmap.mmap(self.descriptor, size, access=mmap.ACCESS_COPY)) if size else memoryview(b"")

    def close(self) -> None:
        """Give up the descriptor; what is mapped stays mapped while something uses it."""
        os.close(self.descriptor)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("tensor.data")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _inherit(duplicate: Any) -> Block:
    return Block(duplicate.detach())


class Arena:
    """Where a worker puts a batch: the arrays into a block, and the rest into a short pickle that names their places."""

    def __init__(self) -> None:
        self._block = Block.__new__(Block)
        self._used = 0
        self._placed: dict[int, tuple[int, Any]] = {}

    def begin(self, block: Block) -> None:
        """Start a batch in ``block``, which is free."""
        self._block, self._used = block, 0
        self._placed.clear()

    def empty(self, shape: Any, dtype: Any) -> Any:
        """An uninitialised array in the block."""
        dtype = np.dtype(dtype)
        size = dtype.itemsize
        for length in shape:
            size *= length
        offset = self._used
        end = offset + -(-size // _ALIGNMENT) * _ALIGNMENT
        if end > self._block.size:
            # Twice as much, since batches of one kind differ little: it grows a few times and then never again.
            self._block.reserve(max(2 * end, _SMALLEST))
        self._used = end
        array = np.ndarray(shape, dtype, self._block.memory, offset)
        self._placed[id(array)] = offset, array  # keeping the array, so that its id stays its own
        return array

    def offset(self, array: Any) -> int:
        """Where an array is in the block, copied there if it is not yet."""
        found = self._placed.get(id(array))
        if found is None:
            copy = self.empty(array.shape, array.dtype)
            copy[...] = array
            # Kept under the original's id too: a batch that holds an array twice gets it twice from one place.
            found = self._placed[id(array)] = self._placed[id(copy)][0], array
        return found[0]

    def pack(self, batch: Any) -> bytes:
        """The batch with its arrays replaced by their places; they are in the block."""
        out = io.BytesIO()
        _Packer(out, self).dump(batch)
        return out.getvalue()

    @property
    def used(self) -> int:
        """Bytes of the block that the batch takes."""
        return self._used


class _Packer(pickle.Pickler):
    def __init__(self, out: io.BytesIO, arena: Arena) -> None:
        super().__init__(out, pickle.HIGHEST_PROTOCOL)
        self._arena = arena

    def persistent_id(self, obj: Any) -> Any:
        """The place of an array or of a plain tensor; None for anything else, which is pickled."""
        kind = type(obj)
        if kind is Tensor:
            array = obj._array
            if obj._node is not None or type(array) is not np.ndarray:
                return None
        elif kind is np.ndarray:
            array = obj
        else:
            return None
        if array.dtype.kind not in "biufcmMSU":
            return None
        return kind is Tensor, self._arena.offset(array), array.dtype.str, array.shape


class _Unpacker(pickle.Unpickler):
    def __init__(self, packed: bytes, memory: Any, copy: bool) -> None:
        super().__init__(io.BytesIO(packed))
        self._memory, self._copy = memory, copy

    def persistent_load(self, place: Any) -> Any:
        is_tensor, offset, dtype, shape = place
        array: Any = np.ndarray(shape, dtype, self._memory, offset)
        if self._copy:
            array = array.copy()
        return Tensor(array) if is_tensor else array


def unpack(packed: bytes, memory: Any, *, copy: bool) -> Any:
    """The batch that `Arena.pack` took apart; its arrays are in ``memory``, or copied out of it."""
    return _Unpacker(packed, memory, copy).load()


class Lender:
    """The main process' side of a worker's blocks: which are free, and who gets a batch without a copy.

    A small batch is copied out, which costs less than keeping account of it. A large one is lent: its arrays lie in the block,
    which is free again when the last of them, or of their views, is gone. At most ``spare`` are lent at a time; whoever keeps
    more batches than that gets copies. Either way a batch never changes under its holder's hands.
    """

    #: Batches up to this many bytes are copied. Measured: both take 4 us for 16 KiB; copying takes 10 for 256 KiB, 200 for 4 MiB.
    copied_below = 1 << 14

    def __init__(self, blocks: list[Block], spare: int) -> None:
        self.blocks = blocks
        self._free = deque(range(len(blocks)))
        self._returned: deque[int] = deque()  # filled by the garbage collector, perhaps in another thread
        self._lent: dict[int, Any] = {}
        self._spare = spare

    def take(self) -> int:
        """A free block's number. There is always one, for as many batches under way as there are blocks less the spare ones."""
        return self._free.popleft()

    def free(self, number: int) -> None:
        """Give a block back whose batch is not wanted."""
        self._free.append(number)

    def open(self, number: int, packed: bytes, size: int, used: int) -> Any:
        """The batch in a block that the worker filled; the block has now ``size`` bytes, ``used`` of them for the batch."""
        block = self.blocks[number]
        block.attach(size)
        while self._returned:
            back = self._returned.popleft()
            del self._lent[back]
            self._free.append(back)
        if used <= self.copied_below or len(self._lent) >= self._spare:
            batch = unpack(packed, block.memory, copy=True)
            self._free.append(number)
            return batch
        # Every array of the batch, and every view of one, holds this one alive: NumPy keeps the owner as `base`.
        owner = np.frombuffer(block.memory, np.uint8)
        returned = self._returned
        self._lent[number] = weakref.ref(owner, lambda _: returned.append(number))
        return unpack(packed, owner, copy=False)
