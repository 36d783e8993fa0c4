"""Recording: the function runs as it always does, and everything that happens to arrays is written down.

While a recording is on, the slot ``Tensor._array`` hands out `Traced` arrays to the recording's thread, random generators and
optimizers tell of what they do, and nothing else changes; other threads see plain arrays. When it is off, nothing of this is
left.
"""

from __future__ import annotations

import operator
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from threading import get_ident
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.jit.functions import DRAWS, INTO, LOOKS, ROLES, STATIC_SHAPE
from tensor.jit.instructions import Instruction, Ref, flat, references
from tensor.jit.memory import is_dense, owner_of
from tensor.jit.seams import grad_slot, install, plain_step, remove, slot
from tensor.jit.traced import ReadNumber, Traced, unwrap
from tensor.jit.watch import address_of, layout_is_known
from tensor.ops.random import Generator
from tensor.optim.flat_optimizer import FlatOptimizer

if TYPE_CHECKING:
    from tensor.jit.calls import Calls

__all__ = ["Recording", "grad_of"]

ndarray = np.ndarray
#: One recording at a time in the whole process: it changes what classes do.
_one = threading.Lock()


class Recording:
    """What one call did. ``sources`` says how tensors from outside are found again: by ``id``, anything that is given back in a
    load."""

    def __init__(self, sources: Mapping[int, Any], leaves: Sequence[Tensor]) -> None:
        self.sources, self.leaves = sources, leaves
        self.instructions: list[Instruction] = []
        self.reasons: list[str] = []
        self.numbers: list[Instruction] = []
        self.fresh = False  #: whether a number was the last thing to be made
        self.calls: Calls | None = None  #: what looks at the functions that are called
        self.thread = get_ident()
        self.active = False
        self.shapes: list[tuple[Any, Any]] = []  #: shape and dtype by slot
        self.origin: list[int] = []  #: by slot, the slot that it is a view of, itself if of none
        self.layout: list[tuple[int, tuple[int, ...]]] = []  #: address and strides by slot
        self.owner: list[int] = []  #: by slot, whose memory it is
        self.of_outside: dict[int, str] = {}  #: by owner: "load" or "create" where the memory was not made by an instruction
        self.computed: set[int] = set()  #: owners of memory that instructions made
        self.written: set[int] = set()  #: owners written into by an instruction
        self.loaded: dict[int, tuple[Any, Traced]] = {}
        self.external: dict[int, Tensor] = {}
        self.passes = 0  #: backward passes: those run the hooks of leaves
        self.effects = False  #: whether something happened that cannot be taken back
        self.stepped: dict[int, int] = {}  #: by id of a tensor, how often steps bumped its version
        self._by_id: dict[int, Traced] = {}
        self._refs: dict[int, Ref] = {}
        self._constants: dict[int, tuple[Any, Any, int]] = {}
        self._created: list[tuple[Instruction, Traced]] = []
        self._holders: list[weakref.ref[Tensor]] = []
        self._new: set[int] = set()
        self._known_grads = [grad_of(t) for t in leaves]
        self.entry_grads = list(self._known_grads)
        self.grads_set: set[int] = set()  #: by id of a leaf's node
        self.grads_seen: set[int] = set()  #: those that were read before they were set: what they were matters
        layout_is_known()  # which is found out on tensors made for it, before anything is recorded
        self.errors, self._error_state = np.geterr(), _error_state()

    def refuse(self, why: str) -> None:
        """Say why this cannot be replayed; the function goes on as it would."""
        if self.active and get_ident() == self.thread and why not in self.reasons:
            self.reasons.append(why)

    # --- on and off -----------------------------------------------------------------------------------------------------

    @contextmanager
    def on(self) -> Iterator[None]:
        """Record what happens inside of the block, in this thread."""
        with _one:
            install(self)
            self.active = True
            try:
                yield
            finally:
                self.active = False
                remove()
                for ref in self._holders:
                    t = ref()
                    if t is not None:
                        array = slot.__get__(t)
                        if type(array) is Traced:
                            slot.__set__(t, array.held)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let what happens inside of the block go unseen, on plain arrays."""
        self.active = False
        try:
            yield
        finally:
            self.active = True
            self.loaded.clear()  # arrays may have been replaced

    # --- arrays ---------------------------------------------------------------------------------------------------------

    def _slot_for(self, real: Any, made: Instruction | None = None) -> Traced:
        """A new slot; ``made``: the instruction that it may be a view from."""
        number = self._place(real)
        traced = Traced(real, number, self)
        self._refs[number] = Ref(number)
        if made is not None and real.base is not None:
            owner = self.owner[-1]
            parents = [s for s in references(made.args) if self.owner[s] == owner]
            if parents:
                self.origin[-1] = self.origin[parents[0]]
        self._by_id[id(real)] = traced
        return traced

    def seen_as(self, real: Any) -> Any:
        """The recorded array for a real one, if there is one."""
        found = self._by_id.get(id(real))
        return real if found is None else found

    def array_of(self, t: Tensor) -> Any:
        """What the slot of a tensor holds, for the recording's thread."""
        array = slot.__get__(t)
        if type(array) is Traced:
            return array if array.recording is self else array.held
        known = self.loaded.get(id(t))
        if known is not None and known[0] is array:
            return known[1]
        source = self.sources.get(id(t))
        if source is None or type(array) is not np.ndarray:
            self.refuse(
                "a tensor is used that was not found from the function, its arguments and the variables it names"
                if source is None
                else f"a tensor on {t.device} is used"
            )
            return array
        calls = self.calls
        paused = calls is not None and calls.pause()
        traced = self._slot_for(array)
        self.of_outside[self.owner[traced.slot]] = "load"
        self.loaded[id(t)] = (array, traced)
        self.external[id(t)] = t
        self.instructions.append(Instruction("load", source, out=traced.slot))
        if calls is not None and paused:
            calls.resume()
        return traced

    def set_array(self, t: Tensor, value: Any) -> None:
        """Put an array into a tensor: a new tensor's first, or another one for a tensor from outside."""
        try:
            before = slot.__get__(t)
        except AttributeError:
            before = None
        if type(value) is Traced and value.held is before:  # ``t._array += x``
            return
        traced = value if type(value) is Traced else self.create(value) if type(value) is np.ndarray else None
        if traced is None:
            self.refuse("a tensor of an unknown kind of array is made")
            slot.__set__(t, value)
            return
        if before is not None and id(t) in self.sources:
            if before.shape != traced.shape or before.dtype != traced.dtype:
                self.refuse("a tensor from outside is given an array of another shape or dtype")
            self.instructions.append(Instruction("store", self.sources[id(t)], (Ref(traced.slot),)))
            self.external[id(t)] = t
        elif before is not None and type(before) is not Traced:
            self.refuse("a tensor from outside, which was not found, is given another array")
        slot.__set__(t, traced)
        self._holders.append(weakref.ref(t))

    def create(self, real: Any) -> Traced:
        """An array made from Python values: a constant, since the values are guarded."""
        self.use_numbers()
        if owner_of(real) in self.computed:
            self.refuse("memory of a recorded array is read in a way that cannot be followed")
        if not is_dense(real):
            self.refuse("a tensor is made of an array with gaps in memory")
        traced = self._slot_for(real)
        self.of_outside.setdefault(self.owner[traced.slot], "create")
        made = Instruction("create", value=real.copy(order="K"), out=traced.slot)
        self.instructions.append(made)
        self._created.append((made, traced))
        return traced

    def _refer(self, x: Any) -> Any:
        """An argument as an instruction keeps it."""
        kind = type(x)
        if kind in _AS_IS:
            return x
        if kind is Traced:
            if x.recording is not self:
                self.refuse("an array of another recording is used")
            return self._ref(x.slot)
        if kind is np.ndarray:
            return self._ref(self._constant(x))
        if kind is tuple or kind is list:
            return kind([self._refer(v) for v in x])
        if kind is dict:
            return {k: self._refer(v) for k, v in x.items()}
        if kind is slice:
            return slice(self._refer(x.start), self._refer(x.stop), self._refer(x.step))
        if kind is ReadNumber:
            if x.recording is not self:
                self.refuse("a number of another recording is used")
            return Ref(x.made.out)
        if isinstance(x, (np.generic, complex)) and not isinstance(x, np.bool):
            self.use_numbers()
        elif isinstance(x, (Tensor, np.ndarray)):
            self.refuse(f"an operand of type {kind.__name__}")
        return x

    def _ref(self, number: int) -> Ref:
        """The one reference to a slot."""
        found = self._refs.get(number)
        if found is None:
            found = self._refs[number] = Ref(number)
        return found

    def _constant(self, x: Any) -> int:
        """The slot of an array that no instruction made, with the values it has now."""
        known = self._constants.get(id(x))
        if known is not None and np.array_equal(known[1], x, equal_nan=x.dtype.kind in "fc"):
            return known[2]
        self.use_numbers()
        made = Instruction("create", value=x.copy(order="K"), out=self._place(x))
        owner = self.owner[made.out]
        self.of_outside.setdefault(owner, "create")
        if self.of_outside[owner] == "load" or owner in self.written or owner in self.computed:
            self.refuse("memory of a tensor is read in a way that cannot be followed")
        self._constants[id(x)] = (x, made.value, made.out)
        self.instructions.append(made)
        return int(made.out)

    def _place(self, real: Any) -> int:
        """Note where an array lies in memory: what compiled code sees of it."""
        number = len(self.shapes)
        self.origin.append(number)
        self.shapes.append((real.shape, real.dtype))
        self.layout.append((address_of(real), real.strides))
        self.owner.append(owner_of(real))
        return number

    # --- operations -----------------------------------------------------------------------------------------------------

    def run(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out an operation on the real arrays, and write it down."""
        if not self.active or get_ident() != self.thread:
            return function(*unwrap(args), **unwrap(kwargs))
        if function.__class__ is FunctionType:  # it may be one that seams put in the place of NumPy's
            function = getattr(function, "__wrapped__", function)
        calls = self.calls
        if calls is None or not calls.pause():
            return self._run(function, args, kwargs)
        try:
            return self._run(function, args, kwargs)
        finally:
            calls.resume()

    def _run(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        role = ROLES.get(function)
        if role is LOOKS:
            return function(*unwrap(args), **unwrap(kwargs))
        outs = kwargs.get("out") if kwargs else None
        targets: Sequence[Any] = () if outs is None else outs if isinstance(outs, tuple) else (outs,)
        if role is not None or getattr(function, "__name__", "") == "at":
            targets = (*targets, args[0])
        refs, refer, arguments, given = self._refs, self._refer, [], []
        for x in args:
            if type(x) is Traced:
                arguments.append(refs[x.slot] if x.recording is self else refer(x))
                given.append(x.held)
                continue
            if type(x) is ndarray and not is_dense(x) and all(x is not t for t in targets):
                x = x.copy(order="K")  # a constant is kept without gaps, so the recording has to see it like that
            arguments.append(refer(x))
            given.append(unwrap(x))
        if kwargs:
            made = Instruction("call", function, tuple(arguments), refer(kwargs))
            result = function(*given, **unwrap(kwargs))
        else:
            made = Instruction("call", function, tuple(arguments))
            result = function(*given)
        if targets:
            slots = []
            for x in targets:
                if type(x) is Traced:
                    slots.append(x.slot)
                    self.written.add(self.owner[x.slot])
                elif x is not None:
                    self.refuse("an array that is not followed is written into")
            made.writes = tuple(slots)
            if role is INTO and slots and result is args[0].held:
                self._append(made)
                return args[0]
        self._append(made)
        return self._wrap_result(made, result)

    def _append(self, made: Instruction) -> None:
        if _error_state() is not self._error_state:
            errors = np.geterr()
            if errors != self.errors:
                made.errors = dict(errors)
        self.instructions.append(made)

    def _wrap_result(self, made: Instruction, result: Any) -> Any:
        if result is None:
            return None
        if isinstance(result, ndarray):
            if type(result) is not ndarray:
                self.refuse(f"{_name(made.function)} gives a {type(result).__name__}")
            known = self._by_id.get(id(result))
            if known is not None and known.held is result:  # out=, or the operand itself
                made.out = known.slot
                return known
            traced = self._slot_for(result, made)
            if self.of_outside.get(self.owner[-1]) != "create":  # a view of a constant is one
                self.computed.add(self.owner[-1])
        elif isinstance(result, np.generic):
            traced, made.scalar = self._slot_for(np.asarray(result)), True
        elif type(result) is bool or type(result) is int or type(result) is float:
            self.instructions.remove(made)
            made.kind, made.value = "read", result
            return self._number(made)
        elif isinstance(result, (tuple, list)) and all(isinstance(r, np.ndarray | np.generic) for r in result):
            return self._wrap_several(made, result)
        else:
            self.refuse(f"{_name(made.function)} gives a {type(result).__name__}")
            return result
        made.out = traced.slot
        self._check_shape(made)
        return traced

    def _wrap_several(self, made: Instruction, result: Any) -> Any:
        parts = [self._slot_for(np.asarray(r), made) for r in result]
        made.out, made.scalar = [p.slot for p in parts], any(isinstance(r, np.generic) for r in result)
        self._check_shape(made)
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)

    def _check_shape(self, made: Instruction) -> None:
        """Have the shape of the result checked where it depends on values."""
        f = made.function
        if type(f) is np.ufunc or type(f) is operator.attrgetter or made.kind != "call" or f in STATIC_SHAPE:
            return
        if isinstance(getattr(f, "__self__", f), np.ufunc):
            return
        if f is operator.getitem and not any(self._is_mask(x) for x in flat(made.args[1])):
            return
        made.shape = [self.shapes[s][0] for s in made.out] if isinstance(made.out, list) else self.shapes[made.out][0]
        self._before_effects(f"the shape that {_name(f)} gives depends on values")

    def _is_mask(self, x: Any) -> bool:
        return isinstance(x, Ref) and self.shapes[x.slot][1].kind == "b"

    def _before_effects(self, what: str) -> None:
        """A call that takes another way than the recording is run again from its start, with all it did by then taken back."""
        if self.effects:
            self.refuse(f"{what} after an optimizer's step")

    def read(self, function: Any, args: tuple[Any, ...]) -> Any:
        """A value that leaves the arrays: what follows may depend on it."""
        value = function(*unwrap(args))
        if not self.active or get_ident() != self.thread:
            return value
        made = Instruction("read", function, self._refer(args), value=value)
        return self._number(made)

    def compute(self, function: Any, args: tuple[Any, ...]) -> Any:
        """Arithmetic with numbers that were read."""
        value = function(*unwrap(args))
        if not self.active or get_ident() != self.thread:
            return value
        return self._number(Instruction("read", function, self._refer(args), value=value))

    def use_numbers(self) -> None:
        """Something was made of Python values that may come from the numbers read so far."""
        for made in self.numbers:
            made.used = True

    def _number(self, made: Instruction) -> Any:
        """A float goes on being recorded; anything else is compared at every run."""
        self.instructions.append(made)
        if self.calls is not None:
            self.calls.number_made()
        if type(made.value) is not float:
            self._before_effects("a value is read")
            return made.value
        made.kind, made.out, made.late = "number", len(self.shapes), self.effects
        self.origin.append(made.out)
        self.shapes.append(((), float))
        self.layout.append((0, ()))
        self.owner.append(-1)
        self.numbers.append(made)
        number = ReadNumber(made.value)
        number.made, number.recording = made, self
        self.fresh = True
        return number

    # --- what is not arrays ---------------------------------------------------------------------------------------------

    def draw(self, generator: Generator, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A draw of random numbers, which every run makes anew."""
        source = generator.__dict__["numpy"]
        if not self.active or get_ident() != self.thread:
            return getattr(source, method)(*args, **kwargs)
        if method not in DRAWS or any(isinstance(x, np.ndarray) for x in flat((args, list(kwargs.values())))):
            self.refuse(f"the generator's {method} is called in a way that cannot be followed")
            return getattr(source, method)(*unwrap(args), **unwrap(kwargs))
        made = Instruction("draw", (generator, method), self._refer(args), self._refer(kwargs))
        result = getattr(source, method)(*args, **kwargs)
        self.instructions.append(made)
        if not isinstance(result, np.ndarray | np.generic):
            self.refuse(f"the generator's {method} gives a Python number")
            return result
        return self._wrap_result(made, result)

    def grads(self) -> None:
        """Write down which gradients changed hands since they were last written down."""
        changed: list[tuple[int, Any]] = []
        for i, t in enumerate(self.leaves):
            g = grad_of(t)
            if g is self._known_grads[i]:
                continue
            self._known_grads[i] = g
            array = None if g is None else slot.__get__(g)
            if g is not None and type(array) is not Traced:
                self.refuse("a gradient is set to a tensor from outside")
                continue
            changed.append((i, None if array is None else Ref(array.slot)))
        if changed:
            self.instructions.append(Instruction("grads", args=tuple(changed)))

    def step(self, optimizer: FlatOptimizer, closure: Callable[[], Any] | None) -> Any:
        """An optimizer's step: done by the optimizer itself at every run."""
        if closure is not None:
            self.refuse("an optimizer's step is given a closure")
        params = [p for group in optimizer.param_groups for p in group["params"]]
        if any(id(p) not in self.sources for p in params):
            self.refuse("an optimizer is used that was not found from the function and the variables it names")
        self.grads()
        before = [0 if p._version is None else p._version.value for p in params]
        calls, own = self.calls, type(optimizer).__module__.startswith("tensor.")
        with self.paused(), nullcontext() if calls is None else calls.away(own):
            result = plain_step(optimizer, closure)
        for p, version in zip(params, before, strict=True):
            self.stepped[id(p)] = self.stepped.get(id(p), 0) + (0 if p._version is None else p._version.value) - version
            self._by_id.pop(id(slot.__get__(p)), None)
            self.of_outside[owner_of(slot.__get__(p))] = "load"
        self.instructions.append(Instruction("step", optimizer))
        self.effects = True
        return result

    def forget(self) -> None:
        """Let go of the arrays: what is left says where they were and what was done."""
        for kept in (self._by_id, self._constants, self._created, self._holders, self.loaded):
            kept.clear()

    def finish(self) -> None:
        """Check what can only be known at the end; call it while the recording is on."""
        self.grads()
        for made, traced in self._created:
            if self.owner[traced.slot] not in self.written and not np.array_equal(
                made.value, traced.held, equal_nan=traced.held.dtype.kind in "fc"
            ):
                self.refuse("an array was changed in a way that cannot be followed")
        if any(made.used and made.late for made in self.numbers):
            self.refuse("a value is read after an optimizer's step")


#: Kinds of arguments that an instruction keeps as they are, and that do not come from numbers read.
_AS_IS = frozenset({int, bool, float, str, type(None), type(...), np.dtype, type})
#: The object that stands for NumPy's error handling, another one after each change; where NumPy has it elsewhere, a new one
#: each time.
_error_state: Callable[[], object] = getattr(
    getattr(sys.modules.get("numpy._core.umath"), "_extobj_contextvar", None), "get", object
)


def grad_of(t: Tensor) -> Tensor | None:
    """The gradient of a leaf, unseen by the recording."""
    node: Any = t._node
    grad: Tensor | None = None if node is None else grad_slot.__get__(node)
    return grad


def _name(function: Any) -> str:
    return getattr(function, "__name__", repr(function))
