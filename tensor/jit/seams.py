"""What a recording puts in the place of methods, slots and functions while it is on; afterwards nothing of it is left.

Only the thread that records sees any difference: for others, tensors hold plain arrays as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor.autograd import engine
from tensor.autograd.node import Leaf
from tensor.autograd.tensor import Tensor
from tensor.jit.tape import foreign
from tensor.jit.traced import Traced
from tensor.ops.random import Generator
from tensor.optim.flat_optimizer import FlatOptimizer

if TYPE_CHECKING:
    from tensor.jit.recorder import Recording

__all__ = ["PLAIN_GROUND", "called_by_library", "current", "grad_slot", "install", "lay", "plain_step", "remove", "slot"]

#: Where tensors and leaves keep their arrays and gradients, whatever stands before them.
slot: Any = Tensor.__dict__["_array"]
grad_slot: Any = Leaf.__dict__["grad"]
plain_step = FlatOptimizer.step
_numpy = Tensor.numpy
_pass = engine.run

#: What there is where nothing is recorded, or what lazy blocks put before it: the slot of tensors' arrays, what becomes of
#: NumPy's functions without a protocol, and an optimizer's step.
PLAIN_GROUND = slot, lambda function: function, plain_step
_ground: list[Any] = list(PLAIN_GROUND)
#: The recording under way.
current: list[Recording] = []

#: Functions of NumPy that do not ask their arguments for a protocol.
_PASSED_BY: list[tuple[Any, str, Any]] = [
    (module, name, getattr(module, name))
    for module, name in ((np, "asarray"), (np, "ascontiguousarray"), (np, "array"), (np.lib.stride_tricks, "as_strided"))
]


class _Draws:
    """A generator's source of numbers that tells the recording of every draw."""

    __slots__ = ("_generator", "_recording")

    def __init__(self, generator: Generator, recording: Recording) -> None:
        self._generator, self._recording = generator, recording

    def __getattr__(self, name: str) -> Any:
        if not callable(getattr(np.random.Generator, name, None)):
            self._recording.refuse(f"the generator's {name} is read")
            return getattr(self._generator.__dict__["numpy"], name)
        return lambda *args, **kwargs: self._recording.draw(self._generator, name, args, kwargs)


def install(recording: Recording) -> None:
    """Let a recording see what its thread does."""
    thread, read = recording.thread, slot.__get__

    def get(t: Tensor) -> Any:
        array = read(t)
        if recording.active and get_ident() == thread:
            return array if type(array) is Traced and array.recording is recording else recording.array_of(t)
        array = _ground[0].__get__(t)
        return array.held if type(array) is Traced else array

    def put(t: Tensor, value: Any) -> None:
        if recording.active and get_ident() == thread:
            recording.set_array(t, value)
        else:
            _ground[0].__set__(t, value)

    def get_grad(leaf: Leaf) -> Any:
        if recording.active and get_ident() == thread and id(leaf) not in recording.grads_set:
            recording.grads_seen.add(id(leaf))
        return grad_slot.__get__(leaf)

    def set_grad(leaf: Leaf, value: Any) -> None:
        if recording.active and get_ident() == thread:
            recording.grads_set.add(id(leaf))
        grad_slot.__set__(leaf, value)

    def numpy(t: Tensor, *, force: bool = False) -> Any:
        recording.refuse("numpy() is called")
        with_real = slot.__get__(t)
        if type(with_real) is not Traced:
            return _numpy(t, force=force) if get_ident() != thread or not recording.active else with_real
        if t._node is not None and not force:
            return _numpy(t, force=force)  # which raises
        return with_real.held

    def source(generator: Generator) -> Any:
        if recording.active and get_ident() == thread:
            return _Draws(generator, recording)
        return generator.__dict__["numpy"]

    def reseed(generator: Generator, value: Any) -> None:
        recording.refuse("a random generator is seeded")
        generator.__dict__["numpy"] = value

    def step(optimizer: FlatOptimizer, closure: Callable[[], Any] | None = None) -> Any:
        if recording.active and get_ident() == thread:
            return recording.step(optimizer, closure)
        return _ground[2](optimizer, closure)

    def backward_pass(roots: Any, **kwargs: Any) -> Any:
        if get_ident() != thread:
            return _pass(roots, **kwargs)
        recording.passes += 1
        calls = recording.calls
        if calls is None:
            return _pass(roots, **kwargs)
        plain = engine.watch.backward is None and foreign([n for n, _ in roots]) is None
        with calls.away(plain):
            return _pass(roots, **kwargs)

    for module, name, function in _PASSED_BY:
        setattr(module, name, _followed(recording, _ground[1](function)))
    Tensor._array = property(get, put)  # type: ignore[misc]
    Leaf.grad = property(get_grad, set_grad)  # type: ignore[assignment, misc]
    Tensor.numpy = numpy  # type: ignore[method-assign, assignment]
    Generator.numpy = property(source, reseed)  # type: ignore[assignment]
    FlatOptimizer.step = step  # type: ignore[method-assign, assignment]
    engine.run = backward_pass
    current.append(recording)


def _followed(recording: Recording, function: Any) -> Any:
    """A NumPy function without a protocol, for arrays that watch too."""

    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        if type(x) is not Traced:
            return function(x, *args, **kwargs)
        if called_by_library():
            return recording.run(function, (x, *args), kwargs)
        # Others go on with C code that wants a real array.
        recording.refuse("an array is handed to code that cannot be followed")
        return function(x.held, *args, **kwargs)

    call.__wrapped__ = function  # type: ignore[attr-defined]
    return call


def lay(ground: Any) -> None:
    """Put this in the place of `PLAIN_GROUND`."""
    _ground[:] = ground
    if not current:
        _show_ground()


def _show_ground() -> None:
    array, follow, step = _ground
    Tensor._array = array  # type: ignore[misc]
    FlatOptimizer.step = step  # type: ignore[method-assign]
    for module, name, function in _PASSED_BY:
        setattr(module, name, follow(function))


def called_by_library() -> bool:
    """Whether the caller's caller is code of this package."""
    return str(sys._getframe(2).f_globals.get("__name__")).startswith("tensor.")


def remove() -> None:
    """Put everything back."""
    current.pop()
    _show_ground()
    Leaf.grad = grad_slot  # type: ignore[misc]
    Tensor.numpy = _numpy  # type: ignore[method-assign]
    del Generator.numpy  # type: ignore[misc]
    engine.run = _pass
