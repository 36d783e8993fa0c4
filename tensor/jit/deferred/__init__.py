"""Deferred arrays: operators that run when a value is asked for."""

from tensor.jit.deferred.block import lazy

__all__ = ["lazy"]
