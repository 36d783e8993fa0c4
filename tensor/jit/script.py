"""From a recording to a function that repeats it: straight-line Python that makes the same NumPy calls, and nothing else.

The calls are the ones that the eager function made, on arrays of the same shapes, in the same order: so the results are the same
to the last bit. Names of variables are used again as soon as a value is dead, which gives its memory back.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.jit import watch
from tensor.jit.instructions import Instruction, Ref, needed
from tensor.jit.lower import Lowering, Segment, contiguous_layout
from tensor.jit.recorder import Recording
from tensor.jit.results import Made, Source, numbers_in, slots_in
from tensor.jit.stepping import FlatStep, flat_step, foresee_edits
from tensor.jit.traced import ReadNumber
from tensor.jit.written import MISS, bump, function, same_value, undo

__all__ = ["MISS", "Later", "Script", "wrap"]

#: Numbers from here on may be sizes.
SMALL = 10

_INFIX = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.floordiv: "//", operator.mod: "%",
    operator.pow: "**", operator.matmul: "@", operator.and_: "&", operator.or_: "|", operator.xor: "^", operator.lshift: "<<",
    operator.rshift: ">>", operator.lt: "<", operator.le: "<=",
    operator.gt: ">", operator.ge: ">=", operator.eq: "==", operator.ne: "!=",
}  # fmt: skip
_METHODS = {getattr(np.ndarray, n): n for n in dir(np.ndarray) if not n.startswith("_") and callable(getattr(np.ndarray, n))}


def wrap(array: Any) -> Tensor:
    """``Tensor(array)``, written out."""
    t = _new_tensor(Tensor)
    t._array = array
    t._node = t._version = t._view = t._extra = None
    return t


_new_tensor = Tensor.__new__


class Handed(NamedTuple):
    """What runs hand out: ``check`` says whether they may write it again; its ``slots``, and by slot the leaves whose gradients
    they are.
    """

    check: Callable[..., bool]
    slots: list[int]
    leaves: dict[int, Any]


class Later(Protocol):
    """A backward that comes later: what a run keeps for it."""

    saved: Sequence[int]  #: slots

    def first(self) -> Iterator[str]:
        """What a run does before all else."""

    def last(self, w: Any) -> Iterator[str]:
        """What a run does when all else is done."""

    def result(self, w: Any, made: Made) -> str:
        """A tensor returned."""

    def lower(self, compile_program: Callable[[Any], Any], make_check: Callable[..., Any]) -> bool:
        """Have machine code run the backward."""

    def swap(self, use: Callable[[], None]) -> bool:
        """Let another script take over, unless none may any more."""


class Writer:
    """Source text with the objects that it names."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.lines: list[str] = []
        self.scope: dict[str, Any] = {
            "MISS": MISS, "wrap": wrap, "asarray": np.asarray, "bump": bump, "errstate": np.errstate, "same_value":
            same_value, "undo": undo, "setattr": setattr, "copyto": np.copyto, "empty": np.empty,
        }  # fmt: skip
        self._names: dict[int, str] = {}
        self.variables: dict[int, str] = {}
        self._free: list[str] = []
        self._count = 0
        self._kept: list[Any] = []
        self.steps: dict[int, FlatStep] = {}
        self.step_names: dict[int, str] = {}  #: by id of a step, what the scope has it under
        self.gradients: dict[int, list[int]] = {}  #: by id of a step, the slots of the gradients
        self.fresh: set[int] = set()  #: owners of memory that every run needs of its own
        self.position = self.last_check = 0
        self.handed: Handed | None = None
        self.later: Later | None = None

    def bind(self, x: Any, prefix: str = "k") -> str:
        """The name of an object in the scope of the generated function.

        What may be a size is named too, so that the text is the same for all sizes.
        """
        if x is None or x is True or x is False or (type(x) is int and abs(x) < SMALL):
            return repr(x)
        found = self._names.get(id(x))
        if found is None:
            found = self._names[id(x)] = f"{prefix}{len(self._names)}"
            self.scope[found] = x
        return found

    def new(self, slot: int) -> str:
        """The variable of a slot that is written for the first time."""
        if self._free:
            name = self._free.pop()
        else:
            name, self._count = f"v{self._count}", self._count + 1
        self.variables[slot] = name
        return name

    def keep(self, key: Any, *call: str) -> Iterator[str]:
        """Remember the call that takes a change back, before it is made, where a check comes later; once for each ``key``."""
        if self.position < self.last_check and key not in self._kept:
            self._kept.append(key)
            yield f"u{len(self._kept) - 1} = ({', '.join(call)})"

    def miss(self) -> str:
        """What a run gives that takes another way: everything is put back first, the latest change first."""
        return f"undo({', '.join(f'u{i}' for i in reversed(range(len(self._kept))))})" if self._kept else "MISS"

    def drop(self, slot: int) -> None:
        """The slot is not read any more."""
        name = self.variables.pop(slot, None)
        if name is not None:
            self._free.append(name)

    def text(self, x: Any) -> str:
        """An argument."""
        kind = type(x)
        if kind is Ref:
            return self.variables[x.slot]
        if kind is tuple:
            if x and all(type(v) is int for v in x):
                return self.bind(x)
            return f"({''.join(self.text(v) + ', ' for v in x)})"
        if kind is list:
            return f"[{', '.join(map(self.text, x))}]"
        if kind is dict:
            return f"{{{', '.join(f'{k!r}: {self.text(v)}' for k, v in x.items())}}}"
        if kind is slice:
            return f"slice({self.text(x.start)}, {self.text(x.stop)}, {self.text(x.step)})"
        return self.bind(x)

    def source(self, source: Source) -> str:
        """A tensor from outside."""
        text = source.text or self.bind(source.tensor, "t")
        return f"{text}._node.grad" if source.grad else text


def _outs(x: Any) -> list[int]:
    return [] if x is None else [x] if isinstance(x, int) else list(x) if isinstance(x, list) else []


def _expression(w: Writer, made: Instruction) -> str:
    f, args, kwargs = made.function, made.args, made.kwargs
    if f in _INFIX:
        return f"{w.text(args[0])} {_INFIX[f]} {w.text(args[1])}"
    if f is operator.getitem:
        return f"{w.text(args[0])}[{w.text(args[1])}]"
    if type(f) is operator.attrgetter:
        return f"{w.text(args[0])}.{f.__reduce__()[1][0]}"
    rest = [w.text(a) for a in args] + [f"{k}={w.text(v)}" for k, v in kwargs.items()]
    if f in _METHODS and type(args[0]) is Ref:
        return f"{rest[0]}.{_METHODS[f]}({', '.join(rest[1:])})"
    return f"{w.bind(f, 'f')}({', '.join(rest)})"


def _call(w: Writer, made: Instruction) -> Iterator[str]:
    for slot in made.writes:
        if w.recording.of_outside.get(w.recording.owner[slot]) == "load":
            v = w.variables[slot]
            yield from w.keep(("write", slot), "copyto", v, f"{v}.copy()")
    if made.function is operator.setitem:
        target, index, value = made.args
        yield f"{w.text(target)}[{w.text(index)}] = {w.text(value)}"
        return
    text = _expression(w, made)
    yield from _assign(w, made, text)


def _assign(w: Writer, made: Instruction, text: str) -> Iterator[str]:
    if made.out is None:
        yield text
    elif isinstance(made.out, list):
        yield f"several = {text}"
        for i, slot in enumerate(made.out):
            yield f"{w.new(slot)} = asarray(several[{i}])" if made.scalar else f"{w.new(slot)} = several[{i}]"
            if made.shape is not None:
                yield f"if {w.variables[slot]}.shape != {w.bind(made.shape[i])}: return {w.miss()}"
    elif made.out in w.variables:  # the operand itself
        yield text
    else:
        yield f"{w.new(made.out)} = asarray({text})" if made.scalar else f"{w.new(made.out)} = {text}"
        if made.shape is not None:
            yield f"if {w.variables[made.out]}.shape != {w.bind(made.shape)}: return {w.miss()}"


def _read(w: Writer, made: Instruction) -> Iterator[str]:
    yield f"if not same_value({_expression(w, made)}, {w.bind(made.value)}): return {w.miss()}"


def _number(w: Writer, made: Instruction) -> Iterator[str]:
    yield f"{w.new(made.out)} = {_expression(w, made)}"
    if made.used:
        yield f"if not same_value({w.variables[made.out]}, {w.bind(made.value)}): return {w.miss()}"


def _draw(w: Writer, made: Instruction) -> Iterator[str]:
    generator, method = made.function
    rest = [w.text(a) for a in made.args] + [f"{k}={w.text(v)}" for k, v in made.kwargs.items()]
    bits = f"{w.bind(generator, 'g')}.numpy.bit_generator"
    yield from w.keep(("draw", id(generator)), "setattr", bits, "'state'", f"{bits}.state")
    yield from _assign(w, made, f"{w.bind(generator, 'g')}.numpy.{method}({', '.join(rest)})")


def _load(w: Writer, made: Instruction) -> Iterator[str]:
    yield f"{w.new(made.out)} = {w.source(made.function)}._array"


def _given(w: Writer, made: Instruction) -> Iterator[str]:
    yield f"{w.new(made.out)} = {made.function}[{made.args[0]}]"


def _create(w: Writer, made: Instruction) -> Iterator[str]:
    fresh = w.recording.owner[made.out] in w.fresh
    copy = ".copy('K')" if fresh else ""
    yield f"{w.new(made.out)} = {w.bind(made.value)}{copy}"


def _store(w: Writer, made: Instruction) -> Iterator[str]:
    t = w.source(made.function)
    yield from w.keep(("store", t), "setattr", t, "'_array'", f"{t}._array")
    yield f"{t}._array = {w.text(made.args[0])}"


def _grads(w: Writer, made: Instruction) -> Iterator[str]:
    for i, ref in made.args:
        if ref is not None and w.handed is not None and ref.slot in w.handed.slots:
            continue
        node = w.bind(w.recording.leaves[i]._node, "n")
        yield from w.keep(("grad", i), "setattr", node, "'grad'", f"{node}.grad")
        yield f"{node}.grad = {'None' if ref is None else f'wrap({w.text(ref)})'}"


def _step(w: Writer, made: Instruction) -> Iterator[str]:
    step = f"{w.bind(made.function, 'o')}.step()"
    grads = w.gradients.get(id(made))
    if grads is None:
        yield step
    else:
        name = w.step_names[id(made)] = f"step{len(w.step_names)}"
        w.scope[name] = w.steps.get(id(made), _undone)
        yield f"if not {name}([{', '.join(w.variables[g] for g in grads)}]): {step}"


def _undone(grads: list[Any]) -> bool:
    """In the place of an optimizer's step for which no machine code has been made."""
    return False


_WRITE: dict[str, Callable[[Writer, Instruction], Iterator[str]]] = {
    "call": _call, "read": _read, "number": _number, "draw": _draw, "load": _load, "given": _given, "create": _create,
    "store": _store, "grads": _grads, "step": _step,
}  # fmt: skip


def _result(w: Writer, x: Any, sources: Mapping[int, Source]) -> str:
    """What the function returned, made anew."""
    if type(x) is Made:
        if w.later is not None:
            return w.later.result(w, x)
        if w.handed is not None and x.slot in w.handed.slots:
            return f"tensors[{w.handed.slots.index(x.slot)}]"
        return f"wrap({w.variables[x.slot]})"
    if isinstance(x, Tensor):
        return w.source(sources[id(x)])
    if type(x) is ReadNumber:
        return w.variables[x.made.out]
    if not isinstance(x, (tuple, list, dict)):
        return w.bind(x)
    parts = [_result(w, v, sources) for v in (x.values() if isinstance(x, dict) else x)]
    if type(x) is dict:
        return f"{{{', '.join(f'{w.bind(k)}: {p}' for k, p in zip(x, parts, strict=True))}}}"
    if type(x) is list:
        return f"[{', '.join(parts)}]"
    if type(x) is tuple:
        return f"({''.join(p + ', ' for p in parts)})"
    return f"{w.bind(type(x), 'c')}({', '.join(parts)})"


class Script:
    """What a recording does, as it is written down in Python; ``run`` is the function made of it."""

    def __init__(
        self,
        recording: Recording,
        result: Any,
        sources: Mapping[int, Source],
        bumps: Sequence[tuple[Source, int]],
        instructions: Sequence[Instruction] | None = None,
        later: Later | None = None,
    ) -> None:
        """``result``: what `returned` made of it; ``instructions``: those of the recording, unless given."""
        self.recording, self.result, self.sources, self.bumps, self.later = recording, result, sources, bumps, later
        self.results = list(slots_in(result))
        self.wanted = {*self.results, *numbers_in(result), *(() if later is None else later.saved)}
        self.instructions = needed(recording.instructions if instructions is None else instructions, self.wanted)
        self.steps: dict[int, FlatStep] = {}
        self.lowering: Lowering | None = None
        self._use(self.instructions)

    def lower_steps(self, make_check: Callable[..., Any], at_once: bool = False) -> bool:
        """Have machine code do the optimizers' steps, which is soon made; says whether there is some for all.

        ``make_check`` makes checks of rows of `tensor.jit.watch`, or gives None where it cannot. ``at_once``: only with what has
        been made before.
        """
        done = True
        for made in self.instructions:
            if made.kind != "step":
                continue
            step = flat_step(made.function, make_check, at_once)
            if step is None:
                done = False
                continue
            self.steps[id(made)] = step
            if id(made) in self._step_names:
                self._scope[self._step_names[id(made)]] = step
        return done

    def foresee(self) -> None:
        """Have machine code made for what is likely to come: an edit of the network."""
        for made in self.instructions:
            if id(made) in self.steps:
                foresee_edits(made.function)

    def lower(self, compile_program: Callable[[Any], Any], make_check: Callable[..., Any] = lambda *args: None) -> bool:
        """Have machine code run what it can of the rest; says whether there was any such thing."""
        if self.later is not None and self.lowering is not None:
            return self.later.lower(compile_program, make_check)
        self.lowering = lowering = Lowering(self.recording, self.instructions, self.wanted)
        for segment in lowering.segments:
            segment.run = compile_program(segment.program).run
        if self.later is not None:
            lowered = self.later.lower(compile_program, make_check) or bool(lowering.segments)
            return self.later.swap(lambda: self._use(lowering.parts, make_check)) and lowered
        if lowering.segments:
            self._use(lowering.parts, make_check)
        return bool(lowering.segments)

    def _use(self, parts: Sequence[Instruction | Segment], make_check: Callable[..., Any] = lambda *args: None) -> None:
        self.text, w = self._write(parts, make_check)
        self._scope, self._step_names = w.scope, w.step_names
        self.run: Any = function(self.text, w.scope)

    def _handed_out(self, parts: Sequence[Instruction | Segment], make_check: Callable[..., Any]) -> Handed | None:
        """The results and gradients that machine code writes: a run may write them again if nobody has hold of them."""
        if self.later is not None or not any(isinstance(part, Segment) for part in parts):
            return None
        results = self.results
        leaves: dict[int, Any] = {}  # by slot, the node of the leaf whose gradient it is
        stepped: set[int] = set()
        for part in parts:
            if isinstance(part, Segment):
                continue
            if part.kind == "step":
                stepped.update(id(p) for group in part.function.param_groups for p in group["params"])
            elif part.kind == "grads":
                given = [(self.recording.leaves[i], ref) for i, ref in part.args]
                if any(ref is None or id(leaf) in stepped or ref.slot in leaves for leaf, ref in given):
                    return None
                leaves.update({ref.slot: leaf._node for leaf, ref in given})
        if len(set(leaves.values())) < len(leaves):  # set more than once
            return None
        written = {slot for part in parts if isinstance(part, Segment) for slot in part.outputs}
        slots = [s for s in (*results, *leaves) if s in written and results.count(s) + (s in leaves) == 1]
        arrays = [np.empty(*self.recording.shapes[s]) for s in slots]
        check = (
            make_check(watch.unheld_rows(arrays, {i: leaves[s] for i, s in enumerate(slots) if s in leaves})) if slots else None
        )
        return None if check is None else Handed(check, slots, leaves)

    def _write(self, parts: Sequence[Instruction | Segment], make_check: Callable[..., Any]) -> tuple[str, Writer]:
        last: dict[int, int] = {}
        for n, part in enumerate(parts):
            for slot in _touched(part):
                last[slot] = n
        for slot in self.wanted:
            last[slot] = len(parts)
        dying: dict[int, list[int]]
        recording = self.recording
        w = Writer(recording)
        w.steps, w.later = self.steps, self.later
        w.lines += [] if self.later is None else [f"    {line}" for line in self.later.first()]
        for n, part in enumerate(parts):  # machine code for a step reads the gradients where the run has them
            if isinstance(part, Instruction) and part.kind == "step" and (read := _gradients(self, parts[:n], part)) is not None:
                w.gradients[id(part)] = read
                for slot in read:
                    last[slot] = max(last[slot], n)
        dying = {}
        for slot, n in last.items():
            dying.setdefault(n, []).append(slot)
        escaping = set(self.results) | {s for i in self.instructions if i.kind in ("store", "grads") for s in i.uses}
        w.fresh = recording.written | {recording.owner[s] for s in escaping}
        errors = None
        w.last_check = max((n for n, i in enumerate(parts) if isinstance(i, Instruction) and _checks(i)), default=-1)
        if w.last_check < 0:
            w.handed = self._handed_out(parts, make_check)
        for n, part in enumerate(parts):
            w.position = n
            wanted = None if isinstance(part, Segment) else part.errors
            if wanted != errors:
                errors = wanted
                if errors is not None:
                    w.lines.append(f"    with errstate(**{w.bind(errors)}):")
            indent = "    " if errors is None else "        "
            lines = _segment(w, part) if isinstance(part, Segment) else _WRITE[part.kind](w, part)
            w.lines += [indent + line for line in lines]
            for slot in dying.get(n, ()):
                w.drop(slot)
        w.lines += [f"    bump({w.source(source)}, {by})" for source, by in self.bumps]
        w.lines += [] if self.later is None else [f"    {line}" for line in self.later.last(w)]
        w.lines.append(f"    return {_result(w, self.result, self.sources)}")
        return "\n".join(["def run(args, kwargs):", *w.lines]), w


def _gradients(script: Script, before: Sequence[Instruction | Segment], made: Instruction) -> list[int] | None:
    """The slots of the gradients of an optimizer's parameters, where all were set in this run, as its machine code wants them."""
    recording = script.recording
    known: dict[int, Any] = {}
    for part in before:
        if isinstance(part, Instruction) and part.kind == "grads":
            known.update({id(recording.leaves[i]): ref for i, ref in part.args})
    found = []
    for p in made.function.param_groups[0]["params"]:
        ref = known.get(id(p))
        if ref is None or recording.shapes[ref.slot][1] != p._array.dtype or not contiguous_layout(recording, ref.slot):
            return None
        found.append(ref.slot)
    return found


def _checks(made: Instruction) -> bool:
    return made.kind == "read" or made.used or made.shape is not None


def _touched(part: Instruction | Segment) -> list[int]:
    if isinstance(part, Segment):
        return [*part.inputs, *part.outputs, *part.scalars]
    return part.uses + _outs(part.out)


def _hand_out(w: Writer, handed: Handed) -> Iterator[str]:
    """The arrays that the last run handed out, if nobody has hold of them, else new ones."""
    w.scope |= {"again": handed.check, "tensors": [], "arrays": []}
    names = [w.new(slot) for slot in handed.slots]
    yield f"if again(tensors, arrays): {', '.join(names)}, = arrays"
    yield "else:"
    for name, slot in zip(names, handed.slots, strict=True):
        shape, dtype = w.recording.shapes[slot]
        yield f"    {name} = empty({w.bind(shape)}, {w.bind(dtype)})"
    yield f"    arrays[:] = {', '.join(names)},"
    yield f"    tensors[:] = {', '.join(f'wrap({name})' for name in names)},"
    for i, slot in enumerate(handed.slots):
        if slot in handed.leaves:
            yield f"    {w.bind(handed.leaves[slot], 'n')}.grad = tensors[{i}]"


def _segment(w: Writer, segment: Segment) -> Iterator[str]:
    given = [w.variables[slot] for slot in segment.inputs]
    handed = () if w.handed is None else w.handed.slots
    if any(slot in handed and slot not in w.variables for slot in segment.outputs):
        assert w.handed is not None
        yield from _hand_out(w, w.handed)
    for slot in segment.outputs:
        if slot not in handed:
            shape, dtype = w.recording.shapes[slot]
            yield f"{w.new(slot)} = empty({w.bind(shape)}, {w.bind(dtype)})"
    given += [w.variables[slot] for slot in segment.outputs]
    yield f"{w.bind(segment.run, 's')}([{', '.join(given)}], [{', '.join(w.variables[s] for s in segment.scalars)}])"
