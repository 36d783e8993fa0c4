"""`lazy`: the block in which operators are deferred, and what stands in tensors' slots meanwhile."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import ContextDecorator
from threading import get_ident
from typing import Any

from tensor.autograd.tensor import Tensor
from tensor.jit import seams
from tensor.jit.compiled import Compiled
from tensor.jit.deferred.array import Deferred
from tensor.jit.deferred.session import Session
from tensor.jit.seams import plain_step, slot
from tensor.jit.traced import Traced
from tensor.optim.adafactor import Adafactor
from tensor.optim.flat_optimizer import FlatOptimizer
from tensor.optim.lbfgs import LBFGS
from tensor.optim.optimizer import Optimizer, evaluate

__all__ = ["lazy"]

_sessions: dict[int, Session] = {}
_lock = threading.Lock()


def _get(t: Tensor) -> Any:
    session = _sessions.get(get_ident())
    if session is not None:
        return session.get(t)
    array = slot.__get__(t)
    return array.settled() if type(array) is Deferred else array.held if type(array) is Traced else array


def _put(t: Tensor, value: Any) -> None:
    session = _sessions.get(get_ident())
    if session is None:
        slot.__set__(t, value)
    else:
        session.put(t, value)


def _step(optimizer: FlatOptimizer, closure: Callable[[], Any] | None = None) -> Any:
    """An optimizer's step writes into memory that pending calls may read."""
    session = _sessions.get(get_ident())
    if session is None or not session.active:
        return plain_step(optimizer, closure)
    loss = None if closure is None else evaluate(closure)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    grads = [g._array.memory for p in params if (g := p.grad) is not None and type(g._array) is Deferred]
    flats = [flat for flats in optimizer._flats for flat in flats]
    moments = [memory for flat in flats if (memory := session.memory_of(flat.moments)) is not None]
    session.run(grads, session.readers_of([slot.__get__(p) for p in params], moments))
    with session.paused():
        plain_step(optimizer)
    for flat in flats:
        session.vouch(flat)
    return loss


def _paused(function: Any) -> Any:
    """A function that sees and changes real arrays: all that is pending runs before it."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        session = _sessions.get(get_ident())
        if session is None or not session.active:
            return function(*args, **kwargs)
        session.run_all()
        with session.paused():
            return function(*args, **kwargs)

    return call


def _followed(function: Any) -> Any:
    """A NumPy function without a protocol, for deferred arrays too."""

    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        if type(x) is not Deferred:
            return function(x, *args, **kwargs)
        if seams.called_by_library():
            return x.session.call(function, (x, *args), kwargs)
        return function(x.session.handed_out(x), *args, **kwargs)  # others go on with C code that wants a real array

    return call


#: What stands in the place of methods while a block is on.
_REPLACED: list[tuple[Any, str, Any, Any]] = [
    (owner, name, vars(owner)[name], _paused(vars(owner)[name]))
    for owner, name in (
        (Compiled, "__call__"), (Optimizer, "__init__"), (Optimizer, "load_state_dict"), (Optimizer, "state_dict"),
        (Optimizer, "add_param_group"), (FlatOptimizer, "add_param_group"), (LBFGS, "add_param_group"),
        (FlatOptimizer, "moved"), (FlatOptimizer, "lay"), (Adafactor, "step"), (LBFGS, "step"),
    )
]  # fmt: skip


def _install() -> None:
    seams.lay((property(_get, _put), _followed, functools.wraps(plain_step)(_step)))
    for owner, name, _, replacement in _REPLACED:
        setattr(owner, name, replacement)


def _remove() -> None:
    seams.lay(seams.PLAIN_GROUND)
    for owner, name, plain, _ in _REPLACED:
        setattr(owner, name, plain)


class lazy(ContextDecorator):
    """A block, or a decorated function, in which operators are only noted, and run when a value is asked for.

    ``item``, ``tolist``, ``numpy``, ``bool``, ``float``, ``print`` and the like run what the value depends on, and nothing
    else; an optimizer's step runs the gradients. Shapes and dtypes are there at once, and so are errors about them. On leaving
    the block everything that can still be looked at is run. What nobody looks at is never run.

    A graph that comes for the second time is compiled in the background where llvmlite is installed, and then runs as machine
    code, whose results differ by rounding; with ``native=False``, or without llvmlite, results are those of the same code
    outside, to the last bit. An inner block joins the outer one. Other threads see ordinary arrays.

    >>> import tensor as T
    >>> with T.lazy() as block:
    ...     x = T.ones(3)
    ...     y, z = (x * 2).sum(), (x * 3).exp()
    ...     before = block.ran
    ...     value = y.item()
    >>> before, value
    (0, 6.0)
    """

    def __init__(self, *, native: bool = True) -> None:
        self._native = native
        self._session: Session | None = None

    def __enter__(self) -> lazy:
        if seams.current and seams.current[-1].thread == get_ident():  # a compiled function is being recorded: that sees all
            return self
        with _lock:
            session = _sessions.get(get_ident())
            if session is None:
                if not _sessions:
                    _install()
                session = _sessions[get_ident()] = Session(self._native)
            session.depth += 1
            session.active = True
        self._session = session
        return self

    def __exit__(self, kind: Any, *exc: object) -> None:
        session = _sessions.get(get_ident())
        if session is None or session is not self._session:
            return
        session.depth -= 1
        if session.depth:
            return
        try:
            session.run_all()
        except Exception:
            if kind is None:
                raise
        finally:
            session.active = False
            with _lock:
                del _sessions[get_ident()]
                if not _sessions:
                    _remove()

    # --- what happened --------------------------------------------------------------------------------------------------

    @property
    def deferred(self) -> int:
        """How many calls were deferred."""
        return 0 if self._session is None else self._session.deferred

    @property
    def ran(self) -> int:
        """How many of these have run."""
        return 0 if self._session is None else self._session.ran

    @property
    def graphs(self) -> int:
        """How many graphs of them were run."""
        return 0 if self._session is None else self._session.graphs

    @property
    def hits(self) -> int:
        """How many of the graphs were seen before."""
        return 0 if self._session is None else self._session.hits

    @property
    def compiled(self) -> int:
        """How many graphs ran as machine code."""
        return 0 if self._session is None else self._session.compiled

    @property
    def at_once(self) -> dict[str, int]:
        """The functions that were run at once, and how often."""
        return {} if self._session is None else dict(self._session.at_once)

    def explain(self) -> str:
        """What was deferred, what was run, and which functions were not deferred."""
        lines = [
            f"lazy: {self.deferred} calls deferred, {self.ran} run, in {self.graphs} graphs: {self.hits} seen before, "
            f"{self.compiled} as machine code"
        ]
        lines += [f"  at once ({n} times): {what}" for what, n in sorted(self.at_once.items(), key=lambda item: -item[1])]
        return "\n".join(lines)
