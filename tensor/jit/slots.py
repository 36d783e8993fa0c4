"""Where the arrays of a recording lie in memory, as compiled code sees them: slots as views, indices as parts of views.

Views are no instructions: addresses and strides were noted when recording, and two arrays of one owner that share memory are
views of one buffer, which is named by the slot of the array that came first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np

from tensor.jit.instructions import Instruction as Recorded
from tensor.jit.instructions import Ref, references
from tensor.jit.program import Elementwise, Instruction, Literal, Slot, View, c_strides, extent
from tensor.jit.recorder import Recording

__all__ = ["NUMBERS", "NoLowering", "Slots", "broadcast", "contiguous_layout", "decline", "dense_order", "overlap", "slots_of"]

#: Python's and NumPy's numbers, which an instruction may hold as they are.
NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)
_DTYPES = "fiub"


class NoLowering(Exception):
    """An instruction that stays with NumPy; says why."""


def decline(why: str) -> NoReturn:
    """Leave the instruction at hand to NumPy."""
    raise NoLowering(why)


class Slots:
    """The slots of a recording as views, and `lines`, the instructions written so far for the call at hand."""

    def __init__(self, recording: Recording, instructions: Sequence[Recorded]) -> None:
        self.recording = recording
        self.shapes, self.layout, self.origin, self.owner = recording.shapes, recording.layout, recording.origin, recording.owner
        self.makers: dict[int, Recorded] = {}
        self.values: dict[int, Any] = {}  #: by slot, arrays that no run changes
        for made in instructions:
            for s in slots_of(made.out):
                self.makers.setdefault(s, made)
            if made.kind == "create" and self.owner[made.out] not in recording.written:
                self.values[made.out] = made.value
        self.lines: list[Instruction] = []
        self.own: set[int] = set()  #: slots of memory that the recording does not know
        self.numbers: dict[int, View] = {}  #: by slot, numbers that the segment computes
        self.moved: dict[int, int] = {}  #: by origin, the slot that stands for it for now
        self.fault: View | None = None  #: where the segment notes that the run has to go another way

    def dtype(self, view: View) -> np.dtype[Any]:
        """The element type of a view."""
        found: np.dtype[Any] = self.shapes[view.buffer][1]
        return found

    def view(self, slot: int) -> View:
        """A slot's elements, as part of the memory of its origin."""
        origin = self.origin[slot]
        shape, dtype = self.shapes[slot]
        if dtype is float:
            decline("a number in the place of an array")
        if dtype != self.shapes[origin][1] or dtype.kind not in _DTYPES or not dtype.isnative:
            decline(f"elements of {dtype}")
        address, strides = self.layout[slot]
        offset, rest = divmod(address - self.layout[origin][0], dtype.itemsize)
        if rest or any(s % dtype.itemsize for s in strides):
            decline("elements that are not aligned")
        steps = tuple(0 if n == 1 else s // dtype.itemsize for n, s in zip(shape, strides, strict=True))
        return View(self.moved.get(origin, origin), offset, tuple(shape), steps)

    def new(self, shape: Sequence[int], dtype: Any) -> View:
        """Memory that only this run knows."""
        shape, dtype = tuple(shape), np.dtype(dtype)
        slot = len(self.shapes)
        self.shapes.append((shape, dtype))
        self.origin.append(slot)
        self.layout.append((0, tuple(s * dtype.itemsize for s in c_strides(shape))))
        self.owner.append(-2 - slot)
        self.own.add(slot)
        return View(slot, 0, shape, c_strides(shape))

    def put(self, op: str, out: View, *inputs: View | Literal | Slot) -> View:
        """Write ``out = op(*inputs)``, by way of other memory where `out` overlaps an input in part."""
        if 0 in out.shape:
            return out
        if 0 in [s for s, n in zip(out.strides, out.shape, strict=True) if n > 1]:
            decline("several results for one place")
        if any(isinstance(x, View) and x != out and overlap(out, x) for x in inputs):
            inputs = (self.put(op, self.new(out.shape, self.dtype(out)), *inputs),)
            op = "cast"
        self.lines.append(Elementwise(op, out, inputs))
        return out

    def copy(self, out: View, source: View | Literal | Slot) -> View:
        """Write elements as they are, in the element type of `out`; nothing where they are already there."""
        return out if source == out else self.put("cast", out, source)

    def cast(self, x: View | Literal | Slot, dtype: Any) -> View | Literal | Slot:
        """An operand in another element type; broadcast axes are cast once."""
        if not isinstance(x, View) or self.dtype(x) == dtype:
            return x
        once = tuple(n if s else 1 for n, s in zip(x.shape, x.strides, strict=True))
        narrow = self.put("cast", self.new(once, dtype), View(x.buffer, x.offset, once, x.strides))
        return broadcast(View(narrow.buffer, 0, once, narrow.strides), x.shape)

    def operand(self, x: Any, shape: tuple[int, ...] | None = None) -> View | Literal | Slot:
        """An argument over `shape`."""
        if type(x) is Ref:
            if x.slot in self.numbers:
                return broadcast(self.numbers[x.slot], shape or ())
            if self.shapes[x.slot][1] is float:
                return Slot(x.slot)
            value = self.values.get(x.slot)
            if value is not None and value.size == 1 and value.dtype.kind in _DTYPES:
                return Literal(value.item())
            view = self.view(x.slot)
            return view if shape is None else broadcast(view, shape)
        if isinstance(x, NUMBERS):
            return Literal(x.item() if isinstance(x, np.generic) else x)
        decline(f"an argument of type {type(x).__name__}")

    def kind_of(self, x: Any) -> Any:
        """What decides an operand's part in promotion: a dtype, or the class of a Python number."""
        if type(x) is Ref:
            return self.shapes[x.slot][1]
        if isinstance(x, np.generic):
            return x.dtype
        return np.dtype(bool) if isinstance(x, bool) else type(x)

    def static(self, x: Any) -> Any:
        """An index that no array decides: as it is, or NoLowering."""
        if any(True for _ in references(x)):
            decline("an index that arrays decide")
        return x

    def part(self, view: View, index: Any) -> View:
        """The elements of a view that an index without arrays means."""
        # What it means is asked of an array of the same shape and strides that has no memory of its own.
        stand_in = np.lib.stride_tricks.as_strided(np.empty((), np.uint8), view.shape, view.strides)
        try:
            part = stand_in[
                (*index, ...) if isinstance(index, tuple) and ... not in index else (index, ...) if type(index) is int else index
            ]
        except (IndexError, TypeError):
            decline("an index that NumPy refuses")
        if not isinstance(part, np.ndarray) or part.base is None:
            decline(f"an index of type {type(index).__name__}")
        offset = part.__array_interface__["data"][0] - stand_in.__array_interface__["data"][0]
        return View(view.buffer, view.offset + offset, part.shape, part.strides)

    def chosen(self, view: View, index: Any) -> tuple[View, tuple[View, ...], View | None]:
        """What an index with arrays of integers means: the whole to choose from, the indices, and where to note a fault."""
        entries = list(index) if isinstance(index, tuple) else [index]
        if ... in [e for e in entries if e is ...]:
            at = next(i for i, e in enumerate(entries) if e is ...)
            taken = sum(e is not None for e in entries) - 1
            entries[at : at + 1] = [slice(None)] * (len(view.shape) - taken)
        entries += [slice(None)] * (len(view.shape) - sum(e is not None for e in entries))
        axis, offset = 0, view.offset
        basic: list[tuple[int, int]] = []  # length and stride
        places: list[int] = []  # of the entries that choose
        first = 0
        arrays: list[tuple[View, int, int]] = []
        for n, entry in enumerate(entries):
            if entry is None:
                basic.append((1, 0))
                continue
            size, stride = view.shape[axis], view.strides[axis]
            axis += 1
            if type(entry) is slice:
                start, stop, step = self.static(entry).indices(size)
                length = len(range(start, stop, step))
                offset += start * stride * (length > 0)
                basic.append((length, stride * step))
                continue
            if not places:
                first = len(basic)
            places.append(n)
            if isinstance(entry, (int, np.integer)) and not isinstance(entry, bool):
                if not -size <= entry < size:
                    decline("an index out of range")
                offset += int(entry) % size * stride
            elif type(entry) is Ref and self.shapes[entry.slot][1] is not float and self.shapes[entry.slot][1].kind in "iu":
                arrays.append((self.view(entry.slot), size, stride))
            else:
                decline("an index of another kind than integers")
        if not arrays or axis != len(view.shape):
            decline("an index without arrays")
        shape = np.broadcast_shapes(*(a.shape for a, *_ in arrays))
        if places[-1] - places[0] + 1 != len(places):  # kept apart by others, the chosen axes come first
            first = 0
        lead, rest = basic[:first], basic[first:]
        space = (*(n for n, _ in lead), *shape, *(n for n, _ in rest))
        strides = (*(s for _, s in lead), *(0 for _ in shape), *(s for _, s in rest))
        indices = []
        for a, _, _ in arrays:
            wide = broadcast(a, shape)
            steps = (*(0 for _ in lead), *wide.strides, *(0 for _ in rest))
            indices.append(View(a.buffer, a.offset, space, steps))
        whole = View(view.buffer, offset, (*space, *(n for _, n, _ in arrays)), (*strides, *(s for *_, s in arrays)))
        return whole, tuple(indices), self.faults(zip(indices, (n for _, n, _ in arrays), strict=True))

    def faults(self, indices: Iterable[tuple[View, int]]) -> View | None:
        """Where to note that an index lies outside; None where all are known to be inside."""
        for index, size in indices:
            if size == 0:
                decline("an index into nothing")
            value = self.values.get(index.buffer)
            if value is None or (value.size and not -size <= value.min() <= value.max() < size):
                return self.flag()
        return None

    def flag(self) -> View:
        """The truth value that says that the run has to go another way."""
        if self.fault is None:
            self.fault = self.new((), bool)
        return self.fault


def overlap(a: View, b: View) -> bool:
    """Whether two views may have elements in common."""
    if a.buffer != b.buffer:
        return False
    (low, high), (first, last) = extent(a), extent(b)
    return low <= last and first <= high


def broadcast(view: View, shape: tuple[int, ...]) -> View:
    """A view over a larger shape."""
    extra = len(shape) - len(view.shape)
    if extra < 0:
        decline("a result with fewer axes than its operands")
    strides = [0] * extra
    for n, m, s in zip(view.shape, shape[extra:], view.strides, strict=True):
        if n not in (m, 1):
            decline("operands of shapes that do not fit the result")
        strides.append(s if n == m else 0)
    return View(view.buffer, view.offset, tuple(shape), tuple(strides))


def contiguous_layout(recording: Recording, slot: int) -> bool:
    """Whether the array of a slot lies in C order without gaps."""
    order = dense_order(recording, slot)
    return order is not None and order == sorted(order)


def dense_order(recording: Recording, slot: int) -> list[int] | None:
    """The axes of a slot's array in the order of memory, the slowest first, where it lies without gaps; axes of one last."""
    shape, dtype = recording.shapes[slot]
    strides = recording.layout[slot][1]
    long = sorted((a for a, n in enumerate(shape) if n != 1), key=lambda a: -strides[a])
    step = dtype.itemsize
    for axis in reversed(long):
        if strides[axis] != step:
            return None
        step *= shape[axis]
    if long == sorted(long):
        return list(range(len(shape)))
    return long + [a for a, n in enumerate(shape) if n == 1]


def slots_of(out: Any) -> list[int]:
    """The slots of an instruction's results."""
    return [] if out is None else list(out) if isinstance(out, list) else [out]
