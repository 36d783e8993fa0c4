"""``out=``: the result of an operator, written into a tensor that is there already."""

from __future__ import annotations

import functools
from collections.abc import Callable
from inspect import Parameter as Kinds
from typing import Any

import numpy as np

from tensor import dtypes
from tensor.autograd.inplace import bump
from tensor.autograd.tensor import Tensor
from tensor.ops.aliases import declared, defaults_of, numpy_names
from tensor.ops.written import Parameter, parameters, written

__all__ = ["accepting_out", "check_out", "with_out", "write_out"]


def check_out(name: str, out: Any, *inputs: Any) -> None:
    """Refuse what cannot be written into: PyTorch records nothing for ``out=``, so nothing may want a gradient."""
    if not isinstance(out, Tensor):
        msg = f"{name}: expected a tensor as out=, got {type(out).__name__}"
        raise TypeError(msg)
    if any(isinstance(t, Tensor) and t._node is not None for t in (out, *inputs)):
        msg = f"{name}: out= does not support automatic differentiation, but one of the arguments requires grad"
        raise RuntimeError(msg)


def write_out(name: str, value: Any, out: Any) -> Any:
    """Write a result into ``out`` (a tuple of results into a tuple of tensors) and return that.

    An empty tensor takes the shape of the result; any other must have it.
    """
    if isinstance(value, tuple):
        if not isinstance(out, (tuple, list)) or len(out) != len(value):
            msg = f"{name}: expected a tuple of {len(value)} tensors as out=, got {type(out).__name__}"
            raise TypeError(msg)
        written = [write_out(name, v, o) for v, o in zip(value, out, strict=True)]
        return type(value)(*written) if hasattr(value, "_fields") else tuple(written)
    check_out(name, out, value)
    source, target = value._array, out._array
    if not dtypes.can_cast(value.dtype, out.dtype):
        msg = f"{name}: the result has dtype {value.dtype}, which cannot be written into out= of {out.dtype}"
        raise RuntimeError(msg)
    if target.shape == source.shape:
        target[...] = source
    elif not target.size:
        out._array = np.array(source, dtype=target.dtype, copy=True)
    else:
        msg = f"{name}: the result has shape {tuple(source.shape)}, got out= of shape {tuple(target.shape)}"
        raise RuntimeError(msg)
    bump(out)
    return out


def with_out(name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function whose keywords hold ``out``."""
    out = kwargs.pop("out")
    value = function(*args, **kwargs)
    return value if out is None else write_out(name, value, out)


def accepting_out(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The same function with a keyword ``out``; written out with the function's own signature, so that Python binds the arguments."""
    own = parameters(function)
    if any(p.name == "out" or p.kind is Kinds.VAR_KEYWORD for p in own):
        return function
    scope = {**defaults_of(own), "function": function, "write_out": write_out, "name": name}
    accepting: Callable[..., Any] = functools.wraps(function)(written(scope, lambda: _lines(own, name)))
    return accepting


def _lines(own: list[Parameter], name: str) -> list[str]:
    own, keywords, renaming = numpy_names(own, name)
    heads, passed, starred = [], [], False
    for p in own:
        if p.kind is Kinds.KEYWORD_ONLY and not starred:
            heads.append("*")
        starred |= p.kind in (Kinds.KEYWORD_ONLY, Kinds.VAR_POSITIONAL)
        star = "*" if p.kind is Kinds.VAR_POSITIONAL else ""
        heads.append(star + declared(p))
        passed.append(star + (p.name if p.kind is not Kinds.KEYWORD_ONLY else f"{p.name}={p.name}"))
    return [
        f"def call({', '.join([*heads, *([] if starred else ['*']), 'out=None', *keywords])}):",
        *renaming,
        "    if out is None:",
        f"        return function({', '.join(passed)})",
        f"    return write_out(name, function({', '.join(passed)}), out)",
    ]
