"""Declaring elementwise operators: dispatchers of their own, without the general one's binding of arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from threading import get_ident
from typing import Any, Literal

import numpy as np

from tensor import dtypes
from tensor.autograd.data import to_array
from tensor.autograd.inplace import bump
from tensor.autograd.modes import disabled
from tensor.autograd.node import MAKERS, new_node, next_number, version_of
from tensor.autograd.samples import recover
from tensor.autograd.tensor import Tensor
from tensor.ops.dispatch import as_array, cast_operands, explain, is_operand, no_operand
from tensor.ops.out import check_out, write_out
from tensor.ops.record import Array, Operator, Rule, register

__all__ = ["as_operand", "binary", "unary", "written_in_place"]

ndarray = np.ndarray
new_tensor = Tensor.__new__
MAKERS.append(globals())
float32 = np.dtype(np.float32)


def unary(
    name: str,
    forward: Callable[[Array], Array],
    rule: Rule,
    doc: str,
    *,
    dtype: str = "float",
    inplace: bool = True,
    method: bool = True,
    aliases: Sequence[str] = (),
    lowering: str | None = None,
    onnx: str | None = None,
    raw: Rule | Literal[True] = None,
) -> Callable[..., Tensor]:
    """Declare an elementwise operator of one tensor; the rule may ask for ``x`` and ``y``."""

    def with_signature(x: Array) -> Array:
        return forward(x)

    op = Operator(name, with_signature, {"x": rule}, dtype, lowering, onnx, raw=raw if raw is True else raw and {"x": raw})
    op.forward = forward
    made_float = "biu" if dtype == "float" else ()
    recorded = rule is not None  # without a rule only what could have a gradient: using it is the error
    plans = op.plans

    # `out` is not keyword-only, as it should be: that would cost every call 40 ns.
    def function(x: Any, out: Any = None) -> Any:
        if x.__class__ is not Tensor or out is not None:
            if out is not None:
                return into(out, x)
            if not isinstance(x, Tensor):
                x = Tensor(to_array(x, copy=False))
        a = x._array
        if a.dtype is not float32 and a.dtype.kind in made_float:
            a = a.astype(dtypes.get_default_dtype().numpy)
        try:
            r = forward(a)
        except TypeError as e:
            r = recover(explain(e, name, (a,)), e, forward, (a,))
        if r.__class__ is not ndarray:
            r = as_array(r)
        out = new_tensor(Tensor)
        out._array = r
        out._node = out._version = out._view = out._extra = None
        node = x._node
        if node is not None and (recorded or r.dtype.kind in "fc") and (not disabled or get_ident() not in disabled):
            (plans.get(1) or op.plan(1)).record(out, (node,), x)
        return out

    into = written_into(name, forward, function)
    register(op, function, doc=doc, method=method, inplace=inplace, aliases=aliases)
    return function


def binary(
    name: str,
    forward: Callable[..., Array],
    rules: Mapping[str, Rule],
    doc: str,
    *,
    dtype: str = "promote",
    inplace: bool = True,
    method: bool = True,
    aliases: Sequence[str] = (),
    lowering: str | None = None,
    onnx: str | None = None,
    raw: Mapping[str, Rule] | Literal[True] | None = None,
) -> Callable[..., Tensor]:
    """Declare an elementwise operator of two broadcast operands ``a`` and ``b``, either of which may be a Python number."""

    def with_signature(a: Array, b: Array) -> Array:
        return forward(a, b)

    op = Operator(name, with_signature, rules, dtype, lowering, onnx, raw=raw)
    op.forward = forward
    recorded = bool(rules)
    saves_nothing = not op.names
    plans = op.plans
    floats = dtype == "float"

    def function(a: Any, b: Any, out: Any = None) -> Any:
        if a.__class__ is Tensor and b.__class__ is Tensor and out is None:
            x = a._array
            y = b._array
            na = a._node
            nb = b._node
            d = x.dtype
            if d is not y.dtype or (floats and d is not float32 and d.kind != "f"):
                x, y = cast_operands((x, y), dtype, name)
        elif out is not None:
            return into(out, a, b)
        else:
            na = nb = None
            if isinstance(a, Tensor):
                x = a._array
                na = a._node
            else:
                x = a if type(a) in _NUMBERS else as_operand(a, name)
            if isinstance(b, Tensor):
                y = b._array
                nb = b._node
                if type(x) in _REAL:
                    if y.dtype.kind != "f":
                        x, y = cast_operands((x, y), dtype, name)
                elif x.__class__ is not ndarray or x.dtype is not y.dtype or (floats and y.dtype.kind != "f"):
                    x, y = cast_operands((x, y), dtype, name)
            else:
                y = b if type(b) in _NUMBERS else as_operand(b, name)
                if x.__class__ is not ndarray or x.dtype.kind != "f" or type(y) not in _REAL:
                    x, y = cast_operands((x, y), dtype, name)
        try:
            r = forward(x, y)
        except (ValueError, TypeError) as e:
            r = recover(explain(e, name, (x, y)), e, forward, (x, y))
        if r.__class__ is not ndarray:
            r = as_array(r)
        # The hottest lines of the package: Tensor(r) and the node written out save a third of a small addition's time.
        out = new_tensor(Tensor)
        out._array = r
        out._version = out._view = out._extra = None
        if (
            (na is not None or nb is not None)
            and (recorded or r.dtype.kind in "fc")
            and (not disabled or get_ident() not in disabled)
        ):
            mask = (na is not None) | (nb is not None) << 1
            plan = plans.get(mask) or op.plan(mask)
            if saves_nothing:
                node = new_node()
                node.plan = plan
                node.edges = (na, nb)
                node.saved = ()
                node.shape = r.shape
                node.dtype = r.dtype
                node.hooks = None
                node.number = next_number()
                out._node = node
            else:
                plan.record(out, (na, nb), a, b)
        else:
            out._node = None
        return out

    into = written_into(name, forward, function)
    register(op, function, doc=doc, method=method, inplace=inplace, aliases=aliases)
    return function


def as_operand(x: Any, name: str) -> Any:
    """The raw array of an operand that is neither a tensor nor one of Python's own numbers."""
    if not is_operand(x):
        raise no_operand(name, x)
    return to_array(x, copy=False)


def written_in_place(ufunc: Any, method: Callable[..., Tensor], *, scales: bool) -> Callable[..., Tensor]:
    """The in-place ``method`` of an operator that is a ufunc: of floats alike and with nothing to record NumPy writes straight into them.

    ``scales``: the method takes ``alpha``, which multiplies the other operand first.
    """
    known = {"alpha"} if scales else set()

    @functools.wraps(method)
    def write(self: Tensor, other: Any, **options: Any) -> Tensor:
        a = self._array
        if a.dtype.kind != "f" or (options and options.keys() != known):
            return method(self, other, **options)
        recorded = self._node is not None or self._view is not None  # a view's whole may be a leaf
        if isinstance(other, Tensor):
            b = other._array
            recorded = recorded or other._node is not None
            if b.dtype is not a.dtype or b.ndim > a.ndim:
                return method(self, other, **options)
        elif type(other) in _REAL:
            b = other
        else:
            return method(self, other, **options)
        if recorded and (not disabled or get_ident() not in disabled):
            return method(self, other, **options)
        try:
            if options and (alpha := options["alpha"]) is not True and alpha != 1:
                b = b * alpha
            ufunc(a, b, a)
        except (ValueError, TypeError):  # an operand that does not fit, read-only memory, samples of a `vmap`
            return method(self, other, **options)
        version_of(self).value += 1
        return self

    return write


def written_into(name: str, forward: Any, function: Callable[..., Tensor]) -> Callable[..., Any]:
    """The operator with ``out=``: NumPy's own where the forward is a ufunc of arrays alike, else the result copied."""
    is_ufunc = isinstance(forward, np.ufunc)

    def into(out: Any, *operands: Any) -> Any:
        check_out(name, out, *operands)
        target = out._array
        arrays = [t._array if isinstance(t, Tensor) else None for t in operands]
        alike = all(a is not None and a.dtype == target.dtype and a.shape == target.shape for a in arrays)
        if is_ufunc and alike and target.dtype.kind == "f":
            forward(*arrays, out=target)
            bump(out)
            return out
        return write_out(name, function(*operands), out)

    return into


_NUMBERS = {bool, int, float, complex}
_REAL = {bool, int, float}
