"""From recorded NumPy calls to programs for the compiler's back end, as few and as long ones as the recording allows.

What has no place in a program (a draw, a gradient handed over, a function without a rule, a value that Python looks at) is
moved before or after the program that it stands in the middle of, as far as what it reads and writes lets it; only what needs
the program's results and is needed by it again ends the program (an optimizer's step always does). What a `Segment` computes
for later is written into fresh arrays; all the rest stays in temporaries, which the back end lays out or keeps in registers.

A value that the recording was made for (a branch, an index inside its array) is compared by the program itself: one truth value
says that the run has to go another way, and is read after the program, before anything that cannot be taken back. Hence memory of
tensors from outside is written by a program only where no comparison follows; before that it works on a copy, which is written
back when all has been compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from tensor.jit.instructions import Instruction, Ref, references
from tensor.jit.program import Buffer, Elementwise, Literal, Program, Slot, View, extent, operands, reads, replaced, writes
from tensor.jit.program import Instruction as Lowered
from tensor.jit.recorder import Recording
from tensor.jit.rules import lower_call, lower_number
from tensor.jit.slots import NoLowering, Slots, contiguous_layout, decline, dense_order, slots_of
from tensor.jit.touched import Touched

__all__ = ["Lowering", "NoLowering", "Segment", "contiguous_layout"]

#: Fewer instructions than this are not worth a program of their own.
FEWEST = 3
#: Elements of memory from outside of which a program makes a copy, rather than leave it to NumPy.
LARGEST_COPY = 1 << 16


class Segment:
    """Calls that run as one program. ``inputs`` and ``outputs`` are slots, in the order in which the program wants their
    arrays."""

    def __init__(
        self, instructions: list[Instruction], program: Program, inputs: list[int], outputs: list[int], scalars: list[int]
    ) -> None:
        self.instructions, self.program = instructions, program
        self.inputs, self.outputs, self.scalars = inputs, outputs, scalars
        self.run: Any = None


class Lowering:
    """Splits a recording's instructions; ``needed`` are slots used when all is done. ``parts`` is what to do, in order;
    ``reasons`` says for each call that stays with NumPy which it is and why."""

    def __init__(self, recording: Recording, instructions: Sequence[Instruction], needed: Iterable[int]) -> None:
        self.recording = recording
        self.slots = Slots(recording, instructions)
        self.parts: list[Instruction | Segment] = []
        self.reasons: list[tuple[str, str]] = []
        self._needed = set(needed)
        self._last_use: dict[int, int] = dict.fromkeys(self._needed, len(instructions))
        for n, made in enumerate(instructions):
            for slot in made.uses:
                self._last_use[slot] = max(self._last_use.get(slot, 0), n)
        self._last_check = max((n for n, made in enumerate(instructions) if self._compares(made)), default=-1)
        self._effects = False  # whether a step was taken: from then on a run cannot go another way
        self._begin()
        for n, made in enumerate(instructions):
            self._take(n, made)
        self._close(len(instructions))
        self.parts = _without_idle(self.parts, self._needed)

    @property
    def segments(self) -> list[Segment]:
        """The stretches that became programs."""
        return [p for p in self.parts if isinstance(p, Segment)]

    # --- which part an instruction goes to ------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Start a new stretch."""
        self._before: list[Instruction] = []
        self._stretch: list[tuple[Instruction, list[Lowered]]] = []
        self._after: list[Instruction] = []
        self._inside = Touched(self.recording)
        self._behind = Touched(self.recording)
        self.slots.numbers.clear()
        self.slots.own.clear()
        self.slots.fault = None
        self._direct = False  # whether memory from outside is written

    def _take(self, n: int, made: Instruction) -> None:
        if made.kind in ("load", "given", "create"):
            self._before.append(made)
            return
        try:
            lowered = self._lower(n, made)
        except NoLowering as why:
            if made.kind in ("call", "read", "number"):
                self.reasons.append((_title(made), str(why)))
            self._leave(n, made)
        else:
            self._inside.note(made)
            self._stretch.append((made, lowered))

    def _leave(self, n: int, made: Instruction) -> None:
        """Find a place for an instruction that is not part of a program."""
        ordered = made.kind == "draw" and any(i.kind == "draw" for i in self._after)
        pure = made.kind == "draw" or (made.kind == "call" and not made.writes and made.shape is None)
        if pure and not ordered and not self._inside.feeds(made) and not self._behind.feeds(made):
            self._before.append(made)
            return
        if made.kind != "step" and made.writes and any(self._outside(s) for s in made.writes):
            self._close(n)  # what it changes may be read by the program as it was
        self._behind.note(made)
        self._after.append(made)
        if made.kind == "step":
            self._close(n + 1)
            self._effects = True

    def _lower(self, n: int, made: Instruction) -> list[Lowered]:
        """The program's instructions for one that was recorded; NoLowering where it has none."""
        if made.kind not in ("call", "read", "number"):
            decline("it is Python's")
        if made.shape is not None:
            decline("the shape of its result depends on values")
        if self._behind.feeds(made) or self._behind.disturbed_by(made):
            self._close(n)
        slots = self.slots
        slots.lines = []
        for w in made.writes if made.kind == "call" else ():
            if self._outside(w):
                self._settle(n, made)
        fault, moved = slots.fault, dict(slots.moved)
        try:
            if made.kind == "call":
                self._lower_call(n, made)
            else:
                self._compare(made)
        except NoLowering:
            slots.fault, slots.moved = fault, moved
            raise
        return slots.lines

    def _lower_call(self, n: int, made: Instruction) -> None:
        s = self.slots
        outs = slots_of(made.out)
        folded = not made.writes and isinstance(made.out, int) and self._fold(made)
        if not made.writes and outs and all(s.origin[o] != o or s.makers[o] is not made for o in outs):
            return  # views
        if folded:
            return
        if isinstance(made.out, list):
            decline("several results")
        if made.kwargs.get("where", True) is not True and isinstance(made.function, np.ufunc):
            decline("a ufunc with where")
        if all(0 in s.shapes[o][0] for o in (*outs, *made.writes)):
            for o in (*outs, *made.writes):
                s.view(o)
            return  # there is nothing to compute
        for w in made.writes:
            if self._outside(w) and not self._direct:
                self._move(w)
        lower_call(s, made)
        if not self._effects and s.fault is not None and self._direct:
            decline("an index decides where memory from outside is written")

    def _fold(self, made: Instruction) -> bool:
        """Whether a call's result is the same at every run, since it is made of constants: then it is one."""
        s, recording = self.slots, self.recording
        shape, dtype = s.shapes[made.out]
        if any(slot not in s.values for slot in made.uses) or recording.owner[made.out] in recording.written:
            return False
        if prod(shape) > LARGEST_COPY or not contiguous_layout(recording, made.out) or dtype.kind not in "fiub":
            return False
        value = made.function(*_with(made.args, s.values), **_with(made.kwargs, s.values))
        if np.shape(value) != shape or getattr(value, "dtype", None) != dtype:
            return False
        s.values[made.out] = np.array(value)
        return True

    def _compare(self, made: Instruction) -> None:
        """A value that leaves the arrays: Python's arithmetic, and whether it is the one recorded."""
        s = self.slots
        slots = list(made.uses)
        if made.kind == "read" and slots and all(slot in s.values for slot in slots):
            return  # the answer is that of the recording, and so it is here:
        if made.function in _OF_LAYOUT and not any(self._outside(slot) for slot in slots):
            return
        if made.kind == "number":
            view = lower_number(s, made)
            s.numbers[made.out] = view
            if not made.used:
                return
        elif isinstance(made.value, bool) and len(made.args) > 1:
            view = lower_number(s, made)
        elif isinstance(made.value, (bool, int)) and made.function in _READS and type(made.args[0]) is Ref:
            operand = s.view(made.args[0].slot)
            if any(n != 1 for n in operand.shape):
                decline("a value of several")
            view = View(operand.buffer, operand.offset, (), ())
        else:
            decline(f"{_title(made)} is compared by Python")
        if self._effects or self._direct:
            decline("a value is compared after a change that stays")
        kind = s.dtype(view).kind
        if kind == "f" and made.value != made.value:
            differs = s.put("equal", s.new((), bool), view, view)
        elif kind == "b":
            differs = s.put("logical_not", s.new((), bool), view) if made.value else view
        else:
            differs = s.put("not_equal", s.new((), bool), view, Literal(made.value))
        flag = s.flag()
        s.put("logical_or", flag, flag, differs)

    # --- memory from outside --------------------------------------------------------------------------------------------

    def _outside(self, slot: int) -> bool:
        return self.recording.of_outside.get(self.recording.owner[slot]) == "load"

    def _compares(self, made: Instruction) -> bool:
        """Whether a run may go another way at this instruction."""
        if made.kind == "read" or made.used or made.shape is not None:
            return True
        return made.kind == "call" and not self._sure(made)

    def _sure(self, made: Instruction) -> bool:
        """Whether no array of integers decides which memory is touched, other than constants."""
        f: Any = made.function
        if getattr(f, "__name__", "") not in ("getitem", "setitem", "take", "at", "take_along_axis", "put_along_axis"):
            return True
        shapes, values = self.recording.shapes, self.slots.values
        chosen = [r for r in references((made.args[1:], list(made.kwargs.values()))) if shapes[r][1] is not float]
        return not any(shapes[r][1].kind in "iu" and self.slots.origin[r] not in values for r in chosen)

    def _settle(self, n: int, made: Instruction) -> None:
        """Before memory from outside is written: whether in place, since nothing can take the run back any more."""
        final = n > self._last_check or (n == self._last_check and self._sure(made))
        if self._direct or not (final or self._effects):
            return
        if not self._sure(made):
            decline("an index decides where memory from outside is written")
        if self.slots.fault is not None or any(_checks(i) for i in self._after):
            self._close(n)
            self.slots.lines = []
        self._direct = True

    def _move(self, slot: int) -> None:
        """Let a copy stand for memory from outside until all has been compared."""
        s = self.slots
        origin = s.origin[slot]
        if origin in s.moved:
            return
        shape, dtype = s.shapes[origin]
        if self._effects or not contiguous_layout(self.recording, origin) or prod(shape) > LARGEST_COPY:
            decline("memory from outside is written before a value is compared")
        whole = s.view(origin)
        s.flag()  # where two tensors turn out to share memory
        s.moved[origin] = s.copy(s.new(shape, dtype), whole).buffer

    # --- segments -------------------------------------------------------------------------------------------------------

    def _close(self, n: int) -> None:
        """End a stretch before instruction `n`: what goes before it, the program, and what comes after it."""
        before, stretch, after = self._before, self._stretch, self._after
        moved, s = dict(self.slots.moved), self.slots
        wanted = {slot for slot, last in self._last_use.items() if last >= n}
        for made in after:
            wanted.update(made.uses)
        program = self._segment(stretch, wanted, moved)
        self.parts += before
        if program is None:
            self.parts += [made for made, _ in stretch]
        else:
            self.parts += program
            if s.fault is not None:
                self.parts.append(self._check(s.fault))
            self._write_back(n, moved)
        self.parts += after
        s.moved.clear()
        self._begin()

    def _check(self, fault: View) -> Instruction:
        if self._effects:
            return Instruction("call", _raise_if, (Ref(fault.buffer),))
        return Instruction("read", bool, (Ref(fault.buffer),), value=False)

    def _write_back(self, n: int, moved: dict[int, int]) -> None:
        """Memory from outside becomes what its copies are."""
        s, written = self.slots, list[tuple[Instruction, list[Lowered]]]()
        s.own.clear()
        s.moved.clear()
        for origin, copy in moved.items():
            s.lines = []
            s.copy(s.view(origin), s.view(copy))
            written.append((Instruction("call", np.copyto, (Ref(origin), Ref(copy)), writes=(origin,)), s.lines))
        final = n > self._last_check and not any(_checks(i) for i in self._after)
        s.fault = None
        program = self._segment(written, set(), {}) if final else None
        self.parts += program if program is not None else [made for made, _ in written]

    def _segment(
        self, stretch: list[tuple[Instruction, list[Lowered]]], wanted: set[int], moved: dict[int, int]
    ) -> list[Instruction | Segment] | None:
        """A program, and after it what its results are wanted as; None where the calls are better left as they are."""
        s, recording = self.slots, self.recording
        calls = [made for made, _ in stretch]
        flat = [i for _, lines in stretch for i in lines]
        if len(flat) < FEWEST:
            return None
        results: list[Instruction | Segment] = []
        names = {view.buffer: slot for slot, view in s.numbers.items() if slot in wanted}
        for buffer, slot in names.items():  # Python's numbers are made of the program's
            results.append(Instruction("number", np.ndarray.item, (Ref(buffer),), out=slot))
        kept = {*names, *moved.values()}
        if s.fault is not None:
            flat.insert(0, Elementwise("cast", s.fault, (Literal(False),)))
            kept.add(s.fault.buffer)
        constant = {slot for slot in s.values if s.origin[slot] == slot and contiguous_layout(recording, slot)}
        fresh = {slot for made in calls for slot in slots_of(made.out) if s.makers.get(slot) is made and s.origin[slot] == slot}
        fresh = (fresh | s.own) - constant
        found = self._again(stretch, _touched(flat), wanted, constant)
        if found is None:
            return None
        views, wanted = found
        flat = _alive(flat, fresh - wanted - kept)
        touched, written = _touched(flat), _written(flat)
        if self._overlapping(touched, written | set(moved)):
            self.reasons.append(("a program", "arrays share memory that is written"))
            return None
        outputs = [o for o in touched if o in fresh and (o in wanted or o in kept)]
        internal = [o for o in touched if o in fresh and o not in wanted and o not in kept]
        literal = [o for o in touched if o in constant]
        inputs = [o for o in touched if o not in fresh and o not in constant]
        stand_ins: dict[int, int] = {}
        for o in outputs:  # an array in another order of axes is a view of one in C order
            order = dense_order(recording, o)
            if order is None:
                return None
            if order != sorted(order):
                shape, dtype = s.shapes[o]
                stand_ins[o] = s.new([shape[a] for a in order], dtype).buffer
                back = tuple(int(a) for a in np.argsort(order))
                results.append(Instruction("call", np.ndarray.transpose, (Ref(stand_ins[o]), back), out=o))
        sizes = dict.fromkeys(touched, 0)
        for i in flat:
            for view in (*writes(i), *reads(i)):
                low, high = extent(view)
                if low < 0:
                    return None
                sizes[view.buffer] = max(sizes[view.buffer], high + 1)
        number = {o: n for n, o in enumerate([*inputs, *outputs, *internal, *literal])}
        buffers = [
            Buffer(n, s.shapes[o][1], sizes[o], "temporary" if n >= len(inputs) + len(outputs) else "external")
            for o, n in number.items()
            if o not in constant
        ]
        for o in literal:
            value = np.ascontiguousarray(s.values[o]).reshape(-1)
            buffers.append(Buffer(number[o], value.dtype, value.size, "constant", value))
        scalars = list(dict.fromkeys(x.index for i in flat for x in operands(i) if isinstance(x, Slot)))
        place = {slot: n for n, slot in enumerate(scalars)}

        def new(x: Any) -> Any:
            if isinstance(x, View):
                return View(number[x.buffer], x.offset, x.shape, x.strides)
            return Slot(place[x.index]) if isinstance(x, Slot) else x

        shared = frozenset(number[o] for o in inputs if (o in written or o in moved) and self._outside(o))
        refused = number[s.fault.buffer] if moved and s.fault is not None else None
        program = Program(tuple(buffers), tuple(replaced(i, new) for i in flat), len(scalars), shared, refused)
        segment = Segment(calls, program, inputs, [stand_ins.get(o, o) for o in outputs], scalars)
        return [segment, *results, *views]

    def _again(
        self, stretch: Sequence[tuple[Instruction, list[Lowered]]], touched: Iterable[int], wanted: set[int], constant: set[int]
    ) -> tuple[list[Instruction], set[int]] | None:
        """The views, constants, and memory that nobody has written, that are to be made again after a program, and what is wanted
        with them."""
        touched, again, wanted = set(touched) - constant, list[Instruction](), set(wanted)
        for made, lines in reversed(stretch):
            slots = {slot for slot in slots_of(made.out) if self.slots.makers.get(slot) is made}
            if made.kind != "call" or not slots & wanted or slots & touched:
                continue
            if lines:
                self.reasons.append((_title(made), "its result is wanted, and lies in memory that is written"))
                return None
            again.append(made)
            wanted |= set(made.uses)
        return again[::-1], wanted

    def _overlapping(self, touched: Iterable[int], written: set[int]) -> bool:
        """Whether memory that is written is also known as another buffer."""
        s = self.slots
        known: dict[int, list[tuple[int, int, int]]] = {}  # by owner
        for o in {*touched, *written}:
            if o not in s.own:
                known.setdefault(s.owner[o], []).append((o, *_bytes(s.layout[o], *s.shapes[o])))
        return any(
            a != b and start <= last and first <= end
            for those in known.values()
            if len(those) > 1
            for a, start, end in those
            if a in written
            for b, first, last in those
        )


def _with(x: Any, values: dict[int, Any]) -> Any:
    """Arguments with the values of constants in place of their slots."""
    if type(x) is Ref:
        return values[x.slot]
    if isinstance(x, (tuple, list)):
        return type(x)([_with(v, values) for v in x])
    if isinstance(x, dict):
        return {k: _with(v, values) for k, v in x.items()}
    return slice(*(_with(v, values) for v in (x.start, x.stop, x.step))) if type(x) is slice else x


def _raise_if(fault: Any) -> None:
    """What NumPy does at an index outside of an array."""
    if fault:
        msg = "index out of range"
        raise IndexError(msg)


def _checks(made: Instruction) -> bool:
    return made.kind == "read" or made.used or made.shape is not None


def _writes(lines: Iterable[Lowered]) -> Iterator[View]:
    for i in lines:
        yield from writes(i)


def _written(lines: Iterable[Lowered]) -> set[int]:
    return {view.buffer for view in _writes(lines)}


def _touched(lines: Iterable[Lowered]) -> dict[int, None]:
    return dict.fromkeys(view.buffer for i in lines for view in (*writes(i), *reads(i)))


def _alive(flat: list[Lowered], internal: set[int]) -> list[Lowered]:
    """Without what only writes memory that nobody reads afterwards."""
    read: set[int] = set()
    kept = []
    for i in reversed(flat):
        if any(view.buffer not in internal or view.buffer in read for view in writes(i)):
            kept.append(i)
            read.update(view.buffer for view in reads(i))
    return kept[::-1]


def _bytes(layout: tuple[int, tuple[int, ...]], shape: tuple[int, ...], dtype: Any) -> tuple[int, int]:
    """The first and the last byte of an array."""
    address, strides = layout
    ends = [(n - 1) * t for n, t in zip(shape, strides, strict=True)]
    return address + sum(e for e in ends if e < 0), address + sum(e for e in ends if e > 0) + dtype.itemsize - 1


def _without_idle(parts: Sequence[Instruction | Segment], needed: set[int]) -> list[Instruction | Segment]:
    """Without arrays from outside, constants and views that nothing uses."""
    wanted, kept = set(needed), []
    for part in reversed(parts):
        if isinstance(part, Segment):
            wanted.update(part.inputs)
            wanted.update(part.scalars)
        elif part.kind in ("load", "given", "create") and part.out not in wanted:
            continue
        else:
            wanted.update(part.uses)
        kept.append(part)
    return kept[::-1]


def _title(made: Instruction) -> str:
    f: Any = made.function
    if made.kind != "call":
        return f"{made.kind} {getattr(f, '__name__', '')}".strip()
    owner = getattr(f, "__self__", None)
    name = getattr(f, "__name__", None) or repr(f)
    return f"{owner.__name__}.{name}" if isinstance(owner, np.ufunc) else str(name)


_OF_LAYOUT = (np.shares_memory, np.may_share_memory)
_READS = (bool, int, np.ndarray.item)
