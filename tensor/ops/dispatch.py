"""How an operator's function is called: bind arguments, unwrap tensors, run the forward, wrap, record.

Each shape of signature has its own small function, since this runs for every operation: one tensor first (most operators), one
tensor and any number of integers (``x.reshape(2, 3)``), several tensors, and a sequence of them.
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
from tensor.autograd.samples import recover
from tensor.autograd.tensor import Tensor
from tensor.ops.aliases import NUMPY_NAMES, declared, defaults_of, numpy_names
from tensor.ops.out import with_out, write_out
from tensor.ops.written import Parameter, written

if TYPE_CHECKING:
    from tensor.ops.record import Operator

__all__ = ["as_array", "cast_operands", "dispatcher", "explain", "is_operand", "no_operand"]

ndarray = np.ndarray
new_tensor = Tensor.__new__


def dispatcher(op: Operator, view: bool) -> Callable[..., Any]:
    """The function that users call for an operator."""
    parameters = op.parameters
    if op.outputs > 1:
        return _several_outputs(op, _binder(op.name, parameters), len(parameters))
    if parameters[-1].kind is inspect.Parameter.VAR_POSITIONAL:
        return _one_tensor_and_integers(op, len(parameters), view)
    return _written_out(op, parameters, view)


def _binder(name: str, parameters: Sequence[Parameter]) -> Callable[..., tuple[Any, ...]]:
    """Fill in defaults and keywords: what Python does for a call, but in the order of the signature."""
    arity = len(parameters)
    defaults = tuple(p.default for p in parameters)
    index = {p.name: i for i, p in enumerate(parameters)}
    index |= {NUMPY_NAMES[name]: i for name, i in index.items() if name in NUMPY_NAMES}
    required = sum(p.required for p in parameters)

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
                msg = f"{name}: unexpected keyword argument {key!r}; expected {', '.join(p.name for p in parameters)}"
                raise TypeError(msg)
            bound[i] = value
        for i, value in enumerate(bound):
            if value is inspect.Parameter.empty:
                msg = f"{name}: missing argument {parameters[i].name!r}"
                raise TypeError(msg)
        return tuple(bound)

    return bind


def _one_tensor_and_integers(op: Operator, arity: int, view: bool) -> Callable[..., Any]:
    forward, name = op.forward, op.name
    differentiable, plans = op.differentiable, op.plans

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
        except (ValueError, IndexError, TypeError, RuntimeError) as e:
            r = recover(explain(e, name, (a,)), e, forward, (a, *args), view)
        if r.__class__ is not ndarray:
            r = as_array(r)
        out = new_tensor(Tensor)  # Tensor(r), written out
        out._array = r
        out._node = out._version = out._view = out._extra = None
        node = x._node
        if node is not None and differentiable and (not disabled or get_ident() not in disabled) and r.dtype.kind in "fc":
            (plans.get(1) or op.plan(1)).record(out, (node,), x, args)
        if view:
            base = r.base  # most often the tensor's own array, or its owner
            if (base is not None and (base is a or base is a.base)) or shares_memory(r, a):
                link_view(x, out, (call, args, {}))
        return out

    return call


def _written_out(op: Operator, parameters: Sequence[Parameter], view: bool) -> Callable[..., Any]:
    """A function with the forward's own signature, written out for its tensors: Python binds the arguments."""
    scope: dict[str, Any] = {
        **globals(),
        **defaults_of(parameters),
        "_forward": op.forward,
        "_name": op.name,
        "_op": op,
        "_plans": op.plans,
        "_cast": _caster(op.dtype or "", op.name),
        "write_out": write_out,
    }
    function: Callable[..., Any] = written(scope, lambda: _lines(op, parameters, view))
    return function


def _lines(op: Operator, parameters: Sequence[Parameter], view: bool) -> list[str]:
    first_only = op.inputs == [(0, False)]
    parameters, keywords, renamed = numpy_names(parameters, op.name)
    tensors = [parameters[i].name for i, _ in op.inputs]
    many = any(sequence for _, sequence in op.inputs)  # then it is the only input
    arrays = ", ".join(f"_a_{p.name}" if p.name in tensors else p.name for p in parameters)
    names = ", ".join(p.name for p in parameters)
    lines = [
        f"def call({', '.join([*map(declared, parameters), 'out=None', *keywords])}):",
        *renamed,
        "    if out is not None:",
        f"        return write_out(_name, call({names}), out)",
    ]
    unwrap, cast, wanted, edges, mask = _of_sequence(op, tensors[0]) if many else _of_each(op, tensors, first_only)
    errors = (
        "ValueError, IndexError, TypeError" + ", RuntimeError" * first_only + ", AttributeError" * (not first_only and not many)
    )
    lines += [
        *unwrap,
        *cast,
        "    try:",
        f"        _r = _forward({arrays})",
        f"    except ({errors}) as _e:",
        f"        _r = recover(explain(_e, _name, ({arrays},)), _e, _forward, ({arrays},), {view})",
        "    if _r.__class__ is not ndarray:",
        "        _r = as_array(_r)",
        "    out = new_tensor(Tensor)",  # Tensor(_r), written out
        "    out._array = _r",
        "    out._node = out._version = out._view = out._extra = None",
    ]
    if op.differentiable:
        lines += [
            f"    if (not disabled or get_ident() not in disabled) and ({wanted}) and _r.dtype.kind in 'fc':",
            f"        (_plans.get(_mask := {mask}) or _op.plan(_mask)).record(out, {edges}, {names})",
        ]
    if view:  # most often of the tensor's own array, or of its owner: NumPy collapses chains of bases
        lines += [
            "    _base = _r.base",
            f"    if _base is not None and (_base is _a_{tensors[0]} or _base is _a_{tensors[0]}.base) or shares_memory(_r, _a_{tensors[0]}):",
            f"        link_view({tensors[0]}, out, (call, ({', '.join(names.split(', ')[1:])}{',' * (len(parameters) > 1)}), {{}}))",
        ]
    return [*lines, "    return out"]


def _of_each(op: Operator, tensors: list[str], first_only: bool) -> tuple[list[str], list[str], str, str, str]:
    """For single tensors: lines that unwrap and that cast, whether a gradient is wanted, the nodes, and the set of those that want one."""
    unwrap, cast = [], []
    for t in tensors:
        unwrap += [
            f"    if isinstance({t}, Tensor):",
            f"        _a_{t} = {t}._array; _n_{t} = {t}._node",
            "    else:",
            f"        {t} = Tensor(_a_{t} := to_array({t}, copy=False)); _n_{t} = None"
            if first_only
            else f"        _a_{t} = {t}; _n_{t} = None",
        ]
    if op.dtype is not None:  # arrays of one dtype stay as they are
        first, *others = [f"_a_{t}" for t in tensors]
        alike = f"{first}.__class__ is ndarray and (_d := {first}.dtype).kind in {'fc' if op.dtype == 'float' else 'fciub'!r}"
        alike += "".join(f" and ({t} is None or ({t}.__class__ is ndarray and {t}.dtype is _d))" for t in others)
        cast = [f"    if not ({alike}):", f"        {', '.join([first, *others])}, = _cast({', '.join([first, *others])})"]
    nodes = [f"_n_{t}" for t in tensors]
    mask = "-1" if op.joint else " | ".join(f"({n} is not None) << {i}" for i, n in enumerate(nodes))
    return unwrap, cast, " or ".join(f"{n} is not None" for n in nodes), f"({', '.join(nodes)},)", mask


def _of_sequence(op: Operator, t: str) -> tuple[list[str], list[str], str, str, str]:
    """The same for a sequence of tensors, like that of `cat`."""
    unwrap = [
        f"    _a_{t} = []",
        "    _nodes = []",
        "    _wanted = False",
        f"    for _t in {t}:",
        "        if _t.__class__ is Tensor or isinstance(_t, Tensor):",
        f"            _a_{t}.append(_t._array)",
        "            _nodes.append(_n := _t._node)",
        "            if _n is not None:",
        "                _wanted = True",
        "        else:",
        f"            _a_{t}.append(to_array(_t, copy=False))",
        "            _nodes.append(None)",
    ]
    cast = [
        f"    for _a in _a_{t}:",
        f"        if _a.dtype is not _a_{t}[0].dtype:",
        f"            _a_{t} = _cast(*_a_{t})",
        "            break",
    ]
    return unwrap, cast if op.dtype is not None else [], "_wanted", "tuple(_nodes)", "-1"


#: What does not change the dtype of an array of floats: numbers, and an operand that is not given.
_WEAK = frozenset((float, int, type(None)))


def _caster(rule: str, name: str) -> Callable[..., Sequence[Any]]:
    def cast(*raws: Any) -> Sequence[Any]:
        first, *others = raws
        if first.__class__ is ndarray and first.dtype.kind == "f" and _WEAK.issuperset([x.__class__ for x in others]):
            return raws
        given = iter(cast_operands([x for x in raws if x is not None], rule, name))
        return [None if x is None else next(given) for x in raws]

    return cast


def _several_outputs(op: Operator, bind: Any, arity: int) -> Callable[..., Any]:
    """For operators with several values, like `linalg.eigh`, of any kind of inputs."""
    forward, name, rule, differentiable = op.forward, op.name, op.dtype, op.differentiable
    one_float = op.inputs == [(0, False)]

    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != arity:
            if "out" in kwargs:
                return with_out(name, call, args, kwargs)
            args = bind(args, kwargs)
        if one_float and isinstance(args[0], Tensor) and args[0]._array.dtype.kind in "fc":
            edges: tuple[Any, ...] = (args[0]._node,)
            raws: list[Any] = [args[0]._array, *args[1:]]
        else:
            edges, raws = operands(args)
        try:
            results = forward(*raws)
        except (ValueError, IndexError, TypeError) as e:
            results = recover(explain(e, name, raws), e, forward, raws)
        outs = tuple([Tensor(r if r.__class__ is ndarray else as_array(r)) for r in results])
        if differentiable and any(edges) and is_grad_enabled():
            mask = (
                -1 if op.joint or any(many for _, many in op.inputs) else sum((e is not None) << i for i, e in enumerate(edges))
            )
            op.record(args, edges, mask, outs[0], outs)
        return outs

    def operands(args: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[Any]]:
        """The nodes of the tensors, and the arguments with raw arrays of one dtype in their places."""
        given = [t for i, many in op.inputs for t in (args[i] if many else [args[i]])]
        edges = tuple(t._node if isinstance(t, Tensor) else None for t in given)
        arrays = [t._array if isinstance(t, Tensor) else None if t is None else to_array(t, copy=False) for t in given]
        if rule is not None:
            cast = iter(cast_operands([a for a in arrays if a is not None], rule, name))
            arrays = [None if a is None else next(cast) for a in arrays]
        raws, taken = list(args), iter(arrays)
        for i, many in op.inputs:
            raws[i] = [next(taken) for _ in args[i]] if many else next(taken)
        return edges, raws

    return call


def as_array(r: Any) -> Any:
    """NumPy gives scalars where a 0-d array is meant."""
    return np.asarray(r) if isinstance(r, _SCALARS) else r


_SCALARS = (*cuda.scalar_types, bool, int, float, complex)


def cast_operands(raws: Sequence[Any], rule: str, who: str) -> list[Any]:
    """Bring operands to their common dtype; Python numbers stay, they are weak in NumPy too."""
    if len(raws) == 2:
        x, y = raws
        if x.__class__ is ndarray and y.__class__ is ndarray and x.dtype.kind == "f" and y.dtype.kind == "b":
            return [x, y]  # a mask: NumPy's own promotion keeps the float, without a copy
    try:
        d = dtypes.result_dtype(tuple(raws))
    except AttributeError as e:
        raise next((no_operand(who, x) for x in raws if not is_operand(x)), e) from None
    if rule == "float" and d.kind in "biu":
        d = dtypes.get_default_dtype().numpy
    return [x.astype(d, copy=False) if hasattr(x, "astype") else np.asarray(x, d)[()] if d.kind in "biu" else x for x in raws]


def shares_memory(view: Any, array: Any) -> bool:
    """Whether one raw array was made as a view of the other.

    NumPy collapses chains of bases, but for `as_strided`, which puts an object of its own between.
    """
    owner = array.base
    while view is not None:
        if view is array or view is owner:
            return True
        view = getattr(view, "base", None)
    return False


def is_operand(x: Any) -> bool:
    """Whether an operator takes it for a tensor: a number or an array, but no list or tuple."""
    return isinstance(x, (Tensor, int, float, complex)) or hasattr(x, "__array__") or hasattr(x, "__cuda_array_interface__")


def no_operand(name: str, x: Any) -> TypeError:
    """The error for what is no operand."""
    return TypeError(f"{name}: expected a tensor, a number or a NumPy array, got {type(x).__name__}; make a tensor of it first")


def explain(e: Exception, name: str, raws: Sequence[Any]) -> Exception:
    """The same kind of error, naming the operation with the shapes and dtypes it was given."""
    if isinstance(e, AttributeError):
        return next((no_operand(name, x) for x in raws if isinstance(x, (list, tuple))), e)
    text = str(e)
    if text.startswith(f"{name}:"):
        return e
    arrays = [a for x in raws for a in (x if isinstance(x, list) else [x]) if isinstance(a, ndarray)]
    shown = [f"{a.dtype}{list(a.shape)}" for a in arrays]
    kind = RuntimeError if isinstance(e, ValueError) or text.startswith("numpy boolean") else type(e)
    return kind(f"{name}: {text} (operands {', '.join(shown)})")
