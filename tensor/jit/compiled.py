"""`compile`: a function that is recorded when it is called, and replayed when nothing it depends on has changed."""

from __future__ import annotations

import functools
import logging
import queue
import threading
import types
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from threading import get_ident
from typing import Any

from tensor.jit import codegen
from tensor.jit.attempt import Attempt
from tensor.jit.plan import Plan
from tensor.jit.rehearsal import rehearse
from tensor.jit.script import MISS
from tensor.jit.seams import current
from tensor.utils.turns import short_turns

__all__ = ["Compiled", "compile"]

log = logging.getLogger("tensor.jit")

#: Recordings kept for each function; the least recently used goes first.
KEPT = 16
#: Uses after which machine code is made for a recording that follows another one: where one was superseded, the next may be soon,
#: and the compiler takes as long as a thousand uses.
LATER = 256
#: Recordings in a row that could not be made, or were never used, after which a function is left alone.
PATIENCE = 8


class Compiled:
    """A function, with its recordings. Calls give what the function would give."""

    def __init__(self, function: Callable[..., Any], native: bool = True) -> None:
        self._native = native
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.plans: list[Plan] = []
        self.reasons: dict[str, int] = {}
        self.recorded = self.eager = self.missed = self._forgotten = 0
        self._patience = PATIENCE
        self._edited = False  #: whether the call before this one found a network that was just edited
        self._lock = threading.RLock()
        rehearse()
        _all.add(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current and current[-1].thread == get_ident():  # inside of another recording
            return self.function(*args, **kwargs)
        with self._lock:
            plans = self.plans
            if plans and plans[0].check(args, kwargs):
                plan = plans[0]
                result = plan.run(args, kwargs)
                if result is not MISS:
                    hits = plan.hits = plan.hits + 1
                    if hits == plan.due:
                        self._due(plan)
                    return result
                self.missed += 1
                return self._search(args, kwargs, plan)
            return self._search(args, kwargs)

    def _search(self, args: tuple[Any, ...], kwargs: dict[str, Any], missed: Plan | None = None) -> Any:
        """The result by any of the recordings but ``missed``, else by a new one."""
        for i, plan in enumerate(self.plans):
            if plan is missed or not plan.fits(args, kwargs):
                continue
            self._serve_at_once(plan)
            result = plan.run(args, kwargs)
            if result is MISS:
                self.missed += 1
                continue
            plan.hits += 1
            self._patience = PATIENCE
            if not plan.queued:
                self._due(plan)
            plan.renew(args, kwargs)
            if i:
                self.plans.insert(0, self.plans.pop(i))
            return result
        if self._patience and not self._put_off():
            return self._record(args, kwargs)
        self.eager += 1
        return self.function(*args, **kwargs)

    def _put_off(self) -> bool:
        """Whether to leave recording to the next call, since this step has already paid for an edit of the network."""
        self._edited = bool(self.plans) and not self._edited and self.plans[0].resized()
        return self._edited

    def _serve_at_once(self, plan: Plan) -> None:
        """Before a use, have machine code of what needs little, if that is at hand and no more is due: it takes no thread."""
        if self._native and not plan.queued and plan.hits + 1 < plan.due and codegen.checker_is_ready():
            plan.queued = plan.lower_at_once(codegen.checker)

    def _due(self, plan: Plan) -> None:
        """Have machine code made, all of it if that is worth the while by now."""
        if self._native:
            plan.queued = True
            in_background(plan, whole=plan.hits >= plan.due)

    @property
    def hits(self) -> int:
        """How many calls were replayed."""
        return self._forgotten + sum(plan.hits for plan in self.plans)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)  # a compiled module is used like the module

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def wait(self) -> None:
        """Return when there is all the machine code that calls so far have asked for; a call asks for it when a recording is
        used for the first time.

        >>> import tensor as T
        >>> double = T.compile(lambda x: x * 2 + x)
        >>> for _ in range(2):
        ...     y = double(T.ones(3))
        >>> double.wait()
        >>> double(T.ones(3))
        tensor([3., 3., 3.])
        """
        with codegen.awaited():
            _queue.join()

    @property
    def native(self) -> bool:
        """Whether what was recorded or used last runs as machine code."""
        return bool(self.plans) and self.plans[0].tier == 1

    def hasten(self) -> None:
        """Ask for all the machine code of what was recorded or used last, though another recording may follow soon."""
        with self._lock:
            if self.plans and not self.native:
                self.plans[0].due = self.plans[0].hits
                self._due(self.plans[0])

    def reset(self) -> None:
        """Forget all recordings, and what was found out about the function."""
        with self._lock:
            self.plans.clear()
            self.reasons.clear()
            self._patience = PATIENCE
            self.recorded = self.eager = self.missed = self._forgotten = 0

    def explain(self) -> str:
        """What was recorded, how often it was used, and why not."""
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        lines = [
            f"{name}: {self.hits} of {self.hits + self.recorded + self.eager} calls replayed, {len(self.plans)} recordings kept"
        ]
        lines += [f"  not compiled ({n} times): {why}" for why, n in self.reasons.items()]
        if not self._patience:
            lines.append("  left alone: its recordings were of no use")
        for i, plan in enumerate(self.plans):
            calls = sum(made.kind == "call" for made in plan.script.instructions)
            lines.append(
                f"  recording {i}: {plan.hits} hits, tier {plan.tier}, {calls} NumPy calls recorded, "
                f"{len(plan.surroundings.places)} places guarded, "
                f"{len(plan.surroundings.tensors)} tensors from outside"
            )
            if plan.script.lowering is not None:
                segments = plan.script.lowering.segments
                count = sum(len(s.program.instructions) for s in segments)
                lines.append(f"    machine code: {count} instructions in {len(segments)} segments")
                lines += [f"    left to NumPy: {call}: {why}" for call, why in plan.script.lowering.reasons]
            lines += [f"    {line}" for line in plan.script.text.splitlines()]
        return "\n".join(lines)

    # --- recording ------------------------------------------------------------------------------------------------------

    def _record(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.recorded += 1
        self._patience -= 1
        if not self._patience:
            self.plans = [plan for plan in self.plans if plan.hits]
            log.info(
                "compile: %s is run without being compiled from now on: %s",
                self.function,
                "; ".join(self.reasons) or "no two calls agree",
            )
        attempt = Attempt(self.function, args, kwargs)
        result = attempt.run()
        plan = attempt.plan
        if plan is None:
            for why in attempt.reasons:
                self.reasons[why] = self.reasons.get(why, 0) + 1
        else:
            if self.plans:
                plan.due = LATER
            self.plans.insert(0, plan)
            self._forgotten += sum(old.hits for old in self.plans[KEPT:])
            del self.plans[KEPT:]
        return result


class _Compile:
    def __call__(
        self,
        function: Any = None,
        *,
        fullgraph: bool = False,
        dynamic: bool | None = None,
        backend: Any = None,
        mode: str | None = None,
        options: Any = None,
        disable: bool = False,
    ) -> Any:
        if function is None:
            return functools.partial(self, disable=disable)
        if not callable(function):
            msg = f"compile: expected a function or a module, got {function!r}"
            raise TypeError(msg)
        return function if disable else Compiled(function)

    def explain(self, function: Any) -> str:
        """What was recorded of a compiled function, how often it was used, and why not.

        >>> import tensor as T
        >>> double = T.compile(lambda x: x * 2)
        >>> _ = double(T.ones(2)), double(T.zeros(2))
        >>> print(T.compile.explain(double).splitlines()[0])
        <lambda>: 1 of 2 calls replayed, 1 recordings kept
        """
        if not isinstance(function, Compiled):
            msg = f"compile.explain: expected a compiled function, got {type(function).__name__}"
            raise TypeError(msg)
        return function.explain()

    def reset(self) -> None:
        """Forget the recordings of all compiled functions."""
        for compiled in list(_all):
            compiled.reset()


compile = _Compile()
compile.__doc__ = """A function, or a module, that is recorded when it is called and replayed when nothing that it depends on has
changed.

The first call runs the function as it is and writes down what it does to arrays: forward, backward, optimizer's step, writes in
place, draws of random numbers. Later calls make the same NumPy calls with none of the Python between, as long as arguments have
the same shapes and kinds, and everything else that the function can see is as it was; else they are recorded anew, and several
recordings are kept. After an edit that gave tensors other shapes the first call runs as it is and the second one records, so
that no single step pays for the edit and the recording both. What cannot be followed (a side effect, a clock, a NumPy array)
makes the function run as it is, and ``compile.explain(f)`` says why. Tensors returned after a backward pass come without their
history, which that pass has used.

With the package llvmlite, machine code takes over as soon as a thread in the background has made it; its results differ from the
function's by rounding. Without it, or with ``Compiled(f, native=False)``, they are the same to the last bit.

Use it as a decorator or as a call; ``compile.reset()`` forgets all recordings. With ``disable=True`` the function stays as it is.
PyTorch's other options (``fullgraph``, ``dynamic``, ``backend``, ``mode``, ``options``) are taken and change nothing, as there is
one way to compile. Raises TypeError for what cannot be called.

>>> import tensor as T
>>> w = T.ones(2, requires_grad=True)
>>> optimizer = T.optim.SGD([w], lr=0.25)
>>> @T.compile
... def step(x):
...     optimizer.zero_grad()
...     loss = ((w * x) ** 2).sum()
...     loss.backward()
...     optimizer.step()
...     return loss.detach()
>>> [step(T.ones(2)).item() for _ in range(4)]
[2.0, 0.5, 0.125, 0.03125]
"""

_all: weakref.WeakSet[Compiled] = weakref.WeakSet()


def in_background(plan: Any, whole: bool) -> None:
    """Have machine code made for a plan, in the thread that does so; it takes over when it is ready.

    Turns are short from here on until that thread is done: whoever waits for the interpreter waits by the length that turns had
    when it began to, and it may have to before that thread has come to shorten them.
    """
    global _worker
    turns = ExitStack()
    turns.enter_context(short_turns(GIVE_WAY))
    _queue.put((plan, whole, turns))
    if _worker is None or not _worker.is_alive():
        _worker = threading.Thread(target=_work, name="tensor.jit", daemon=True)
        _worker.start()


def _work() -> None:
    if codegen.available():
        codegen.use_disk(codegen.default_directory())
    else:
        log.info("compile: %s", codegen.why_not())
    while True:
        plan, whole, turns = _queue.get()
        with turns:
            try:
                _make(plan, whole)
            finally:
                later = weakref.WeakMethod(plan.foresee)
                del plan  # which may be the last to hold machine code
                _queue.task_done()
            if _queue.empty() and codegen.available():  # there is nothing more urgent to do
                try:
                    _foresee(later)
                    codegen.keep_on_disk()
                except Exception:
                    log.exception("compile: machine code could not be made for later, or kept on disk")


def _foresee(later: weakref.WeakMethod[Callable[[], None]]) -> None:
    """Make ready for what may come, for a plan that is still there."""
    foresee = later()
    if foresee is not None:
        foresee()


def _make(plan: Any, whole: bool) -> None:
    try:
        if codegen.available() and plan.wanted():
            plan.lower_quickly(codegen.checker)
            if whole and plan.wanted():  # still: steps may have gone on with another one meanwhile
                plan.lower(codegen.compile_program, codegen.checker())
    except Exception:
        log.exception("compile: no machine code for a recording; NumPy goes on replaying it")


#: Seconds for which making machine code may keep other threads from running.
GIVE_WAY = 2e-4
_queue: queue.LifoQueue[tuple[Plan, bool, ExitStack]] = queue.LifoQueue()  # what was recorded last is what runs now
_worker: threading.Thread | None = None
