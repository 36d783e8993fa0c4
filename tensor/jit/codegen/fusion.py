"""From a list of instructions to kernels: which of them share one pass over memory.

An instruction joins an earlier group of the same iteration space if nothing in between depends on it and every buffer they
share is read and written at the same place by both, element for element. Values then pass from one to the next in registers,
and a temporary that only its own group touches needs no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import prod

from tensor.jit.program import (
    Elementwise,
    Instruction,
    Literal,
    Program,
    Reduce,
    Slot,
    View,
    c_strides,
    extent,
    reads,
    writes,
)

MOST_ITEMS = 64
MOST_UNRELATED = 12  # a group of more items takes only what shares memory with it
SEARCH = 100  # how many kernels back an instruction looks for one to join
Span = tuple[int, int, int]  # buffer, first element, last element


@dataclass(frozen=True, slots=True)
class Item:
    """An instruction with its views over the space of its group; the output of a reduction has strides of 0 along `axes`."""

    op: str
    out: View
    inputs: tuple[View | Literal | Slot, ...]
    axes: tuple[int, ...] | None  # None: elementwise

    @property
    def sources(self) -> list[View]:
        return [view for view in self.inputs if isinstance(view, View)]

    @property
    def views(self) -> list[View]:
        return [self.out, *self.sources]


@dataclass(frozen=True, slots=True)
class Touched:
    """The memory that an instruction reads and writes."""

    reads: tuple[Span, ...]
    writes: tuple[Span, ...]


@dataclass(slots=True)
class Kernel:
    """Instructions that run together, and the memory they touch."""

    instructions: list[Instruction]
    reads: set[Span] = field(default_factory=set)
    writes: set[Span] = field(default_factory=set)

    def include(self, instruction: Instruction, touched: Touched) -> None:
        self.instructions.append(instruction)
        self.reads.update(touched.reads)
        self.writes.update(touched.writes)


@dataclass(slots=True)
class Group(Kernel):
    """Elementwise operations and reductions over one space."""

    shape: tuple[int, ...] = ()
    items: list[Item] = field(default_factory=list)

    @property
    def axes(self) -> tuple[int, ...] | None:
        """The axes that its reductions run over."""
        return next((item.axes for item in self.items if item.axes is not None), None)


@dataclass(slots=True)
class Alone(Kernel):
    """One instruction with a kernel of its own: a product, or one with an order or a choice of elements."""


@dataclass(slots=True)
class Interpreted(Kernel):
    """Instructions left to Python."""


def span(view: View) -> Span:
    return (view.buffer, *extent(view))


def overlap(some: Iterable[Span], others: Iterable[Span]) -> bool:
    return any(a[0] == b[0] and a[1] <= b[2] and b[1] <= a[2] for a in some for b in others)


def depends(kernel: Kernel, touched: Touched) -> bool:
    """Whether an instruction must stay behind the kernel."""
    return (
        overlap(kernel.writes, touched.writes) or overlap(kernel.writes, touched.reads) or overlap(kernel.reads, touched.writes)
    )


def schedule(program: Program, native: Callable[[Instruction], bool]) -> list[Kernel]:
    """The program as kernels, in an order that keeps every dependence; what is not `native` becomes `Interpreted`."""
    kernels: list[Kernel] = []
    for instruction in program.instructions:
        touched = Touched(tuple(map(span, reads(instruction))), tuple(map(span, writes(instruction))))
        if not native(instruction):
            if not (kernels and isinstance(kernels[-1], Interpreted)):
                kernels.append(Interpreted([]))
            kernels[-1].include(instruction, touched)
        elif prod(writes(instruction)[0].shape) == 0:
            continue
        elif not isinstance(instruction, Elementwise | Reduce):
            kernels.append(Alone([]))
            kernels[-1].include(instruction, touched)
        else:
            _place(kernels, instruction, touched)
    return kernels


def _place(kernels: list[Kernel], instruction: Elementwise | Reduce, touched: Touched) -> None:
    shape, item = normal(instruction)
    for kernel in reversed(kernels[-SEARCH:]):
        if isinstance(kernel, Group) and _join(kernel, shape, item):
            kernel.include(instruction, touched)
            return
        if depends(kernel, touched):
            break
    group = Group([], shape=shape, items=[item])
    group.include(instruction, touched)
    kernels.append(group)


def _join(group: Group, shape: tuple[int, ...], item: Item) -> bool:
    """Take an item into a group if it may run inside it."""
    if len(group.items) >= MOST_ITEMS:
        return False
    items = group.items
    if shape != group.shape:
        if prod(shape) != prod(group.shape) or min(len(shape), len(group.shape)) != 1:
            return False
        if len(shape) == 1:
            item, shape = unflattened(item, group.shape), group.shape
        else:
            items = [unflattened(other, shape) for other in items]
    axes = next((other.axes for other in items if other.axes is not None), None)
    if axes is not None and item.axes is not None and axes != item.axes:
        return False
    if not all(_compatible(item, other) for other in items):
        return False
    if len(items) > MOST_UNRELATED:
        buffers = {view.buffer for other in items for view in other.views}
        if not any(view.buffer in buffers for view in item.views):
            return False
    group.shape, group.items = shape, [*items, item]
    return True


def _compatible(item: Item, other: Item) -> bool:
    """Whether two items may run side by side, element for element, in their order."""
    for out, view in _conflicts(item, other):
        if overlap([span(out)], [span(view)]) and (out != view or item.axes is not None or other.axes is not None):
            return False
    return True


def _conflicts(item: Item, other: Item) -> Iterable[tuple[View, View]]:
    """Pairs of views of one buffer, at least one of them written."""
    for view in other.views:
        if view.buffer == item.out.buffer:
            yield item.out, view
    for view in item.sources:
        if view.buffer == other.out.buffer:
            yield other.out, view


def normal(instruction: Elementwise | Reduce) -> tuple[tuple[int, ...], Item]:
    """The space of an instruction without axes of length 1, as one axis where all views allow it, and its item."""
    if isinstance(instruction, Elementwise):
        shape, axes, out = instruction.out.shape, None, instruction.out
        inputs = instruction.inputs
    else:
        shape, inputs = instruction.input.shape, (instruction.input,)
        remaining = iter(instruction.out.strides)
        strides = tuple(0 if axis in instruction.axes else next(remaining) for axis in range(len(shape)))
        out = View(instruction.out.buffer, instruction.out.offset, shape, strides)
        axes = tuple(sorted(instruction.axes))
    kept = [axis for axis, n in enumerate(shape) if n != 1]
    new_shape = tuple(shape[axis] for axis in kept)
    if axes is not None:
        axes = tuple(kept.index(axis) for axis in axes if axis in kept)
    item = Item(instruction.op, squeezed(out, kept), tuple(squeezed(i, kept) if isinstance(i, View) else i for i in inputs), axes)
    whole = axes is None or len(axes) == len(new_shape)
    if len(new_shape) > 1 and whole and all(is_flat(view) for view in item.views):
        return (prod(new_shape),), flattened(item)
    return new_shape, item


def squeezed(view: View, kept: list[int]) -> View:
    return View(view.buffer, view.offset, tuple(view.shape[a] for a in kept), tuple(view.strides[a] for a in kept))


def is_flat(view: View) -> bool:
    """In C order without gaps, or one element everywhere."""
    return not any(view.strides) or view.strides == c_strides(view.shape)


def flattened(item: Item) -> Item:
    def flat(view: View) -> View:
        return View(view.buffer, view.offset, (prod(view.shape),), (1 if any(view.strides) else 0,))

    inputs = tuple(flat(i) if isinstance(i, View) else i for i in item.inputs)
    return Item(item.op, flat(item.out), inputs, None if item.axes is None else (0,))


def unflattened(item: Item, shape: tuple[int, ...]) -> Item:
    """An item over one axis, over the axes of `shape`."""

    def folded(view: View) -> View:
        return View(view.buffer, view.offset, shape, tuple(stride * view.strides[0] for stride in c_strides(shape)))

    inputs = tuple(folded(i) if isinstance(i, View) else i for i in item.inputs)
    return Item(item.op, folded(item.out), inputs, None if item.axes is None else tuple(range(len(shape))))


def in_registers(program: Program, kernels: list[Kernel]) -> set[int]:
    """Temporaries that one group alone touches, and whose values it passes on in registers."""
    users: dict[int, set[int]] = {}
    barred: set[int] = set()
    for number, kernel in enumerate(kernels):
        for buffer, _, _ in kernel.reads | kernel.writes:
            users.setdefault(buffer, set()).add(number)
            if not isinstance(kernel, Group):
                barred.add(buffer)
        if isinstance(kernel, Group):
            barred.update(item.out.buffer for item in kernel.items if item.axes is not None)
    temporary = {buffer.index for buffer in program.of_kind("temporary")}
    return {buffer for buffer in temporary - barred if len(users.get(buffer, ())) == 1}
