"""How an operator's function is called: bind arguments, unwrap tensors, run the forward, wrap, record.

Three shapes of signature, each with its own small function, since this runs for every operation: one tensor first (most
operators), one tensor and any number of integers (``x.reshape(2, 3)``), and everything else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor import cuda, dtypes
from tensor.autograd.data import to_array
from tensor.autograd.inplace import link_view
from tensor.autograd.modes import disabled, is_grad_enabled
from tensor.autograd.tensor import Tensor

if TYPE_CHECKING:
    from tensor.ops.record import Operator

__all__ = ["as_array", "cast_operands", "dispatcher", "explain"]

ndarray = np.ndarray


def dispatcher(op: Operator, view: bool) -> Callable[..., Any]:
    """The function that users call for an operator."""
    parameters = list(inspect.signature(op.forward).parameters.values())
    first_only = op.inputs == [(0, False)]
    if parameters[-1].kind is inspect.Parameter.VAR_POSITIONAL:
        return _one_tensor_and_integers(op, len(parameters), view)
    bind = _binder(op.name, parameters)
    return _one_tensor(op, bind, len(parameters), view) if first_only else _any_tensors(op, bind, len(parameters))


def _binder(name: str, parameters: Sequence[inspect.Parameter]) -> Callable[..., tuple[Any, ...]]:
    """Fill in defaults and keywords: what Python does for a call, but in the order of the signature."""
    arity = len(parameters)
    defaults = tuple(p.default for p in parameters)
    index = {p.name: i for i, p in enumerate(parameters)}
    required = sum(p.default is p.empty for p in parameters)

    def bind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        given = len(args)
        if required <= given <= arity and not kwargs:
            return args + defaults[given:]
        if given > arity:
            msg = f"{name}: expected at most {arity} arguments, got {given}"
            raise TypeError(msg)
        bound = list(args + defaults[given:])
        for key, value in kwargs.items():
            i = index.get(key)
            if i is None or i < given:
                msg = f"{name}: unexpected keyword argument {key!r}; expected {', '.join(index)}"
                raise TypeError(msg)
            bound[i] = value
        for i, value in enumerate(bound):
            if value is inspect.Parameter.empty:
                msg = f"{name}: missing argument {parameters[i].name!r}"
                raise TypeError(msg)
        return tuple(bound)

    return bind


def _one_tensor(op: Operator, bind: Any, arity: int, view: bool) -> Callable[..., Any]:
    forward, name, rule = op.forward, op.name, op.dtype
    differentiable = op.differentiable

    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != arity:
            args = bind(args, kwargs)
        x = args[0]
        if x.__class__ is not Tensor and not isinstance(x, Tensor):
            x = Tensor(to_array(x, copy=False))
            args = (x, *args[1:])
        a = x._array
        if rule is not None:
            (a,) = cast_operands((a,), rule, name)
        try:
            r = forward(a, *args[1:])
        except (ValueError, IndexError, TypeError) as e:
            raise explain(e, name, (a,)) from e
        if r.__class__ is not ndarray:
            r = as_array(r)
        out = Tensor(r)
        node = x._node
        if node is not None and differentiable and (not disabled or get_ident() not in disabled) and r.dtype.kind in "fc":
            op.record(args, (node,), 1, out)
        if view and shares_memory(r, a):
            link_view(x, out, (call, args[1:], {}))
        return out

    return call


def _one_tensor_and_integers(op: Operator, arity: int, view: bool) -> Callable[..., Any]:
    forward, name = op.forward, op.name
    differentiable = op.differentiable

    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs:  # the integers under their own name
            (args,) = kwargs.values()
        elif len(args) == 1 and isinstance(args[0], (tuple, list)):
            args = args[0]  # type: ignore[assignment]
        args = tuple(args) if isinstance(args, (tuple, list)) else (args,)
        if x.__class__ is not Tensor and not isinstance(x, Tensor):
            x = Tensor(to_array(x, copy=False))
        a = x._array
        try:
            r = forward(a, *args)
        except (ValueError, IndexError, TypeError) as e:
            raise explain(e, name, (a,)) from e
        if r.__class__ is not ndarray:
            r = as_array(r)
        out = Tensor(r)
        node = x._node
        if node is not None and differentiable and (not disabled or get_ident() not in disabled) and r.dtype.kind in "fc":
            op.record((x, args), (node,), 1, out)
        if view and shares_memory(r, a):
            link_view(x, out, (call, args, {}))
        return out

    return call


def _any_tensors(op: Operator, bind: Any, arity: int) -> Callable[..., Any]:
    forward, name, rule, inputs = op.forward, op.name, op.dtype, op.inputs
    differentiable, joint = op.differentiable, op.joint

    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != arity:
            args = bind(args, kwargs)
        raws = list(args)
        edges: list[Any] = []
        mask, bit = 0, 1
        for i, many in inputs:
            x = args[i]
            if x.__class__ is Tensor or isinstance(x, Tensor):
                raws[i] = x._array
                node = x._node
                edges.append(node)
                if node is not None:
                    mask |= bit
            elif many:
                raws[i] = [t._array if isinstance(t, Tensor) else to_array(t, copy=False) for t in x]
                nodes = [t._node if isinstance(t, Tensor) else None for t in x]
                edges += nodes
                if any(nodes):
                    mask |= bit
            else:
                edges.append(None)
            bit <<= 1
        if rule is not None:
            _cast_some(raws, inputs, rule, name)
        try:
            r = forward(*raws)
        except (ValueError, IndexError, TypeError) as e:
            raise explain(e, name, raws) from e
        if r.__class__ is not ndarray:
            r = as_array(r)
        out = Tensor(r)
        if mask and differentiable and is_grad_enabled() and r.dtype.kind in "fc":
            op.record(args, tuple(edges), -1 if joint else mask, out)
        return out

    return call


def _cast_some(raws: list[Any], inputs: Sequence[tuple[int, bool]], rule: str, name: str) -> None:
    """Bring the tensor operands among the arguments to their common dtype, in place of the list."""
    single = [i for i, many in inputs if not many and raws[i] is not None]
    if single:
        for i, a in zip(single, cast_operands([raws[i] for i in single], rule, name), strict=True):
            raws[i] = a
    else:
        i = inputs[0][0]
        raws[i] = cast_operands(raws[i], rule, name)


def as_array(r: Any) -> Any:
    """NumPy gives scalars where a 0-d array is meant."""
    return np.asarray(r) if isinstance(r, (*cuda.scalar_types, bool, int, float, complex)) else r


def cast_operands(raws: Sequence[Any], rule: str, who: str) -> list[Any]:
    """Bring operands to their common dtype; Python numbers stay, they are weak in NumPy too."""
    try:
        d = dtypes.result_dtype(tuple(raws))
    except AttributeError:
        kinds = ", ".join(type(x).__name__ for x in raws)
        msg = f"{who}: expected tensors or numbers, got {kinds}"
        raise TypeError(msg) from None
    if rule == "float" and d.kind in "biu":
        d = dtypes.get_default_dtype().numpy
    return [x.astype(d, copy=False) if hasattr(x, "astype") else np.asarray(x, d)[()] if d.kind in "biu" else x for x in raws]


def shares_memory(view: Any, array: Any) -> bool:
    """Whether one raw array was made as a view of the other (NumPy collapses chains of bases)."""
    base = view.base
    return view is array or (base is not None and (base is array or base is array.base))


def explain(e: Exception, name: str, raws: Sequence[Any]) -> Exception:
    """The same kind of error, naming the operation with the shapes and dtypes it was given."""
    text = str(e)
    if text.startswith(f"{name}:"):
        return e
    arrays = [a for x in raws for a in (x if isinstance(x, list) else [x]) if isinstance(a, ndarray)]
    shown = [f"{a.dtype}{list(a.shape)}" for a in arrays]
    kind = RuntimeError if isinstance(e, ValueError) else type(e)
    return kind(f"{name}: {text} (operands {', '.join(shown)})")
