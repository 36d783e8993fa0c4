"""Deferred arrays, recorded programs, and the compiler that runs them."""

from tensor.jit.compiled import Compiled, compile
from tensor.jit.deferred import lazy

__all__ = ["Compiled", "compile", "lazy"]
