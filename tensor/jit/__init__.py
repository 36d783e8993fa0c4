"""Deferred arrays, recorded programs, and the compiler that runs them."""

from tensor.jit.compiled import Compiled, compile

__all__ = ["Compiled", "compile"]
