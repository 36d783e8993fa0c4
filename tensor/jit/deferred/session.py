"""A lazy block under way, in one thread: what is deferred, what is run, and why."""

from __future__ import annotations

import operator
import sys
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import RLock, get_ident
from typing import Any
from weakref import ref

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.jit.deferred import cache
from tensor.jit.deferred.array import Deferred
from tensor.jit.deferred.form import FLOATS, form_of, without_holes
from tensor.jit.deferred.graph import Memory, Node, _add, needed_for, owner_of
from tensor.jit.deferred.outcomes import Outcome, arrays_in, has_arrays
from tensor.jit.deferred.rules import outcome
from tensor.jit.functions import INPLACE, QUERIES, WRITERS
from tensor.jit.seams import slot
from tensor.jit.traced import Traced
from tensor.optim.flat import Flat

__all__ = ["Session"]

ndarray = np.ndarray
#: References to an array in `Session._adopt` where only a tensor's slot holds it.
ALONE = 4
_BYTE = np.zeros((), np.uint8)


class Session:
    """What `call` is asked for is deferred if `rules` know what it gives, else run at once."""

    def __init__(self, native: bool) -> None:
        self.native = native
        self.thread = get_ident()
        self.depth = 0
        self.active = False
        self.deferred = self.ran = self.graphs = self.hits = self.compiled = 0
        self.at_once: Counter[str] = Counter()
        self._lock = RLock()
        self._memories: weakref.WeakValueDictionary[int, Memory] = weakref.WeakValueDictionary()  #: by id of the owner
        self._holders: list[ref[Tensor]] = []
        self._pending: list[ref[Memory]] = []
        self._private: dict[int, Any] = {}  #: by id, owners of memory that only the library can write

    def on(self) -> bool:
        """Whether calls are deferred: in the block's own thread, unless it is paused."""
        return self.active and get_ident() == self.thread

    # --- tensors' slots -------------------------------------------------------------------------------------------------

    def get(self, t: Tensor) -> Any:
        """What the slot of a tensor holds, for the block's thread."""
        array = slot.__get__(t)
        kind = type(array)
        if kind is Deferred:
            if array.session is self:
                return array if self.active else self.settled(array)
            array = array.settled()
            return Deferred(array, self._memory_of(array, True), self) if self.active else array
        if kind is Traced:
            array = array.held
        elif kind is ndarray and self.active:
            adopted = self._adopt(array)
            slot.__set__(t, adopted)
            self._holds(t)
            return adopted
        return array

    def put(self, t: Tensor, value: Any) -> None:
        """Put an array into a tensor."""
        slot.__set__(t, value)
        if type(value) is Deferred:
            value.scalar = False
            self._holds(t)

    def _holds(self, t: Tensor) -> None:
        _add(self._holders, ref(t), lambda r: (t := r()) is not None and type(slot.__get__(t)) is Deferred)

    def _adopt(self, array: Any) -> Deferred:
        """A real array that comes out of a tensor's slot. Where others refer to it too, they may write it unseen."""
        known = id(owner_of(array)) in self._private  # an optimizer's buffer, which keeps a list of its views
        inner, shared = array, sys.getrefcount(array) > ALONE + known
        while not (shared or known) and inner.base is not None:
            inner = inner.base
            shared = not isinstance(inner, ndarray) or sys.getrefcount(inner) > 3
        return Deferred(array, self._memory_of(array, shared), self)

    def _memory_of(self, array: Any, shared: bool) -> Memory:
        owner = owner_of(array)
        memory = self._memories.get(id(owner))
        if memory is None:
            memory = self._memories[id(owner)] = Memory(owner)
        if shared:
            self._expose(memory)
        return memory

    def _expose(self, memory: Memory) -> None:
        if not memory.exposed:
            self.run([memory], memory.pending_readers())
            memory.exposed = True

    # --- reading --------------------------------------------------------------------------------------------------------

    def contents(self, array: Deferred) -> Any:
        """The real array, run if need be, for reading only."""
        if array.memory.last is not None:
            self.run([array.memory])
        return array.held

    def settled(self, array: Deferred) -> Any:
        """The real array for code of the library that is not followed, but writes nothing unseen."""
        with self._lock:
            self.contents(array)
            self._memories[id(array.memory.owner)] = array.memory  # it may come back in other arrays
        return array.held

    def handed_out(self, array: Deferred) -> Any:
        """The real array for whoever asks: it may be written, unseen, from now on."""
        with self._lock:
            real = self.settled(array)
            self._expose(array.memory)
        return real

    # --- calls ----------------------------------------------------------------------------------------------------------

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Defer a call, or run it."""
        if function in QUERIES:
            return function(*_held(args), **_held(kwargs))
        if not self.on():
            return self._run_now(function, args, kwargs, None)
        if next(_deferred((args, kwargs)), None) is None:  # asked to make an array like a deferred one
            return self._wrapped(_own(function(*args, **kwargs), args), ())
        with self._lock:
            found = outcome(function, real := _held(args), options := _held(kwargs))
            if found is None or not (_writable(found) and self._in_bounds(function, args, real)):
                return self._run_now(function, args, kwargs, _name(function))
            if found.view is not None:
                return self._views(found.view, args)
            return self._defer(found.function or function, found, args, kwargs, real, options)

    def _in_bounds(self, function: Any, args: tuple[Any, ...], real: Any) -> bool:
        """Whether indices are, as far as their values are there."""
        if function is not operator.getitem and function is not operator.setitem:
            return True
        if not has_arrays(real[1]) or any(d.memory.last is not None for d in _deferred(args[1])):
            return True
        try:
            return np.broadcast_to(_BYTE, real[0].shape)[real[1]] is not None
        except IndexError:
            return False

    def _views(self, result: Any, args: tuple[Any, ...]) -> Any:
        source = next(x for x in _deferred(args))
        if type(result) is not ndarray:
            return type(result)([self._view(r, source) for r in result])
        return source if result is source.held else self._view(result, source)

    def _view(self, array: Any, source: Deferred) -> Deferred:
        base = source.base
        view = Deferred(array, source.memory, self, root=base if type(base) is Deferred else source)
        if source.memory.last is not None:
            source.memory.seen_as(view)
        return view

    def _defer(
        self, function: Any, found: Outcome, args: tuple[Any, ...], kwargs: dict[str, Any], real: Any, options: dict[str, Any]
    ) -> Any:
        written = None
        if found.writes:
            written = next((d for d in _deferred((args, kwargs)) if d.held is found.writes[0]), None)
            if written is None or written.memory.last is None:  # memory with contents is written at once
                return self._run_now(function, args, kwargs, None if written is not None else "writes into an array")
        reads: list[Memory] = []
        arrays: list[Any] = []
        try:
            form = (function, form_of((args, kwargs), arrays, function in FLOATS))
        except TypeError as e:
            return self._run_now(function, args, kwargs, str(e))
        copied = False
        for i, x in enumerate(arrays):
            if type(x) is Deferred:
                memory = x.memory
                if memory.exposed:
                    arrays[i], copied = x.held.copy(order="K"), True
                else:
                    arrays[i] = x.held
                    reads.append(memory)
            elif type(x) is ndarray:  # somebody may go on to write into it
                arrays[i], copied = x.copy(order="K"), True
        if copied:
            real, options = without_holes(form[1], iter(arrays))
        assert found.into is not None
        fill = found.into(function, real, options, found.outs)
        node = Node(function, fill, form, arrays, found.outs)
        self.deferred += 1
        if written is not None:
            node.writes = found.writes
            node.depend(reads, [written.memory])
            return written if function in INPLACE or "out" in kwargs else None
        targets = [Memory(owner_of(out)) for out in found.outs]
        node.depend(reads, targets)
        results = [Deferred(out, m, self, found.scalar) for out, m in zip(found.outs, targets, strict=True)]
        for m, d in zip(targets, results, strict=True):
            m.handles.append(ref(d))
            _add(self._pending, ref(m), lambda r: (m := r()) is not None and m.last is not None)
        return results[0] if found.pack is None else found.pack(results)

    def _run_now(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], why: str | None) -> Any:
        """Run a call on real arrays; ``why``: what to count it as."""
        with self._lock:
            given = list(_deferred((args, kwargs)))
            targets = list(_deferred(kwargs.get("out")))
            if function in WRITERS or function in INPLACE or getattr(function, "__name__", "") == "at":
                targets += _deferred(args[:1])
            if isinstance(function, np.ufunc):
                targets += _deferred(args[function.nin :])
            self.run([d.memory for d in given], [n for d in targets for n in d.memory.pending_readers()])
            if why is not None:
                self.at_once[why] += 1
            result = function(*_held(args), **_held(kwargs))
            if not self.on():
                return result
            return self._wrapped(result, given)

    def _wrapped(self, result: Any, given: Sequence[Deferred]) -> Any:
        """A result of a call that has run, so that what is done with it is followed."""
        if isinstance(result, ndarray):
            if type(result) is not ndarray:
                return result
            owner = owner_of(result)
            for d in given:
                if d.held is result:
                    return d
                if d.memory.owner is owner:
                    return self._view(result, d)
            return Deferred(result, self._memories.get(id(owner)) or Memory(owner), self)
        if isinstance(result, np.generic):
            held = np.asarray(result)
            return Deferred(held, Memory(held), self, True)
        if isinstance(result, tuple | list) and any(isinstance(r, ndarray | np.generic) for r in result):
            parts = [self._wrapped(r, given) for r in result]
            return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
        return result

    # --- running --------------------------------------------------------------------------------------------------------

    def run(self, memories: Iterable[Memory], nodes: Iterable[Node] = ()) -> None:
        """Run what these memories' contents depend on, and these calls."""
        with self._lock:
            wanted = [m.last for m in memories if m.last is not None]
            pending = needed_for([*wanted, *nodes])
            if not pending:
                return
            self.graphs += 1
            self.ran += len(pending)
            how = cache.run(pending, self.native)
            self.hits += how > 0
            self.compiled += how > 1

    def memory_of(self, array: Any) -> Memory | None:
        """What is known of a real array's memory."""
        return self._memories.get(id(owner_of(array)))

    def readers_of(self, arrays: Iterable[Any], memories: Iterable[Memory]) -> list[Node]:
        """The pending calls that read these."""
        mine = [a.memory for a in arrays if type(a) is Deferred and a.session is self]
        return [n for m in (*mine, *memories) for n in m.pending_readers()]

    def vouch(self, flat: Flat) -> None:
        """An optimizer's buffer is the library's own, unless somebody holds one of its views."""
        owner = owner_of(flat.data)
        self._private[id(owner)] = owner
        memory = self.memory_of(owner)
        if memory is not None and all(sys.getrefcount(view) <= 4 for view in flat.views):
            memory.exposed = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let what happens inside of the block run as it does elsewhere, on real arrays."""
        before, self.active = self.active, False
        try:
            yield
        finally:
            self.active = before

    def run_all(self) -> None:
        """Run all that anybody can still look at, and put the real arrays into the tensors."""
        with self._lock:
            alive = [m for r in self._pending if (m := r()) is not None and m.last is not None]
            error = None
            try:
                self.run([m for m in alive if m.held()])
            except Exception as e:  # one by one, so that only what depends on the mistake is left
                error = e
                for m in alive:
                    try:
                        self.run([m] if m.held() else [])
                    except Exception:  # the first is raised below
                        continue
            holders = [t for r in self._holders if (t := r()) is not None]
            for t in holders:
                array = slot.__get__(t)
                if type(array) is Deferred and array.memory.last is None:
                    slot.__set__(t, array.held)
            _settle(holders)
            self._holders = [ref(t) for t in holders if type(slot.__get__(t)) is Deferred]
            self._pending.clear()
            if error is not None:
                raise error


def _settle(tensors: Iterable[Tensor]) -> None:
    """Put real arrays in place of the outputs that nodes keep for backward."""
    stack: list[Any] = [t._node for t in tensors]
    seen: set[Any] = set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        stack += node.edges
        saved = getattr(node, "saved", None)
        if isinstance(saved, tuple):
            node.saved = _settled(saved)


def _settled(x: Any) -> Any:
    if type(x) is Deferred:
        return x.held if x.memory.last is None else x
    if type(x) is tuple or type(x) is list:
        return type(x)([_settled(v) for v in x])
    return x


def _held(x: Any) -> Any:
    """Nested arguments with the real arrays, whatever they contain."""
    kind = type(x)
    if kind is Deferred:
        return x.held
    if kind is tuple or kind is list:
        return kind([_held(v) for v in x])
    if kind is dict:
        return {k: _held(v) for k, v in x.items()}
    if kind is slice:
        return slice(_held(x.start), _held(x.stop), _held(x.step))
    return x


def _deferred(x: Any) -> Iterator[Deferred]:
    kind = type(x)
    if kind is Deferred:
        yield x
    elif kind is tuple or kind is list:
        for v in x:
            yield from _deferred(v)
    elif kind is dict:
        yield from _deferred(list(x.values()))
    elif kind is slice:
        yield from _deferred((x.start, x.stop, x.step))


def _own(result: Any, args: tuple[Any, ...]) -> Any:
    """A result that is none of the arguments' memory."""
    if type(result) is ndarray and any(owner_of(result) is owner_of(a) for a in arrays_in(args)):
        return result.copy()
    return result


def _writable(found: Outcome) -> bool:
    return all(a.flags.writeable and not (0 in a.strides and a.size > 1) for a in found.writes)


def _name(function: Any) -> str:
    owner = getattr(function, "__self__", None)
    name = str(getattr(function, "__name__", repr(function)))
    return f"{owner.__name__}.{name}" if isinstance(owner, np.ufunc) else name
