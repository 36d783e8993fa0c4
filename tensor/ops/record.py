"""One record per operator; `tensor.ops.dispatch` runs it.

A record is declared where its forward is written, with NumPy functions on raw arrays::

    @operator({"x": lambda g, x_shape: g.expand(x_shape)}, ...)
    def total(x: Array) -> Array:
        '''The sum of all elements.'''
        return np.sum(x)

- A parameter annotated ``Array`` (``Array | None``, ``Sequence[Array]``) is a tensor; every other one is a plain value.
- The vjp table has one rule an input: ``g`` is the gradient of the output; the other parameter names say what the rule needs,
  and only that is kept: an input by its name, the output as ``y``, a shape as ``x_shape`` (of a sequence a list of them), a plain parameter by its name. Rules are
  written with differentiable operators, so gradients of any order follow. ``None`` for a rule: not differentiable, an error if used.
- ``raw``: the rules once more, of the same parameters, on NumPy's arrays of one dtype and numbers: what runs where nothing is recorded, for
  operators of which small networks are made. A tensor that such a rule gives instead of an array, or a `Term`, is taken as it is. True: the
  rules themselves mean the same there.
- ``outputs``: how many values the forward returns, as a tuple, when it is not one. Rules get ``g`` and ``y`` as tuples then; ``g`` has None for
  an output that nothing used.
- ``dtype``: ``"promote"`` casts all tensor operands to their common dtype, ``"float"`` also integers to the default dtype, None
  leaves them alone.

The engine brings a gradient to the shape and dtype of its input, so rules of broadcasting operators need not.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, overload

from tensor import dtypes
from tensor.autograd.inplace import assign, check_writable
from tensor.autograd.modes import is_grad_enabled
from tensor.autograd.node import Node, OutputNode, SeveralOutputs, version_of
from tensor.autograd.tensor import Tensor
from tensor.ops.dispatch import dispatcher
from tensor.ops.out import accepting_out
from tensor.ops.plan import Plan
from tensor.ops.written import parameters

__all__ = ["OPERATORS", "Array", "Operator", "attach", "composite", "operator"]

P = ParamSpec("P")
R = TypeVar("R")

#: A raw array: NumPy's, CuPy's, or a deferred one. An operand may also be a Python number.
Array: TypeAlias = Any

Rule: TypeAlias = Callable[..., Any] | None

#: Every operator by its public name.
OPERATORS: dict[str, Operator] = {}


class Operator:
    """All that is known of one operator."""

    __slots__ = (
        "arity",
        "composite",
        "differentiable",
        "dtype",
        "forward",
        "function",
        "holds_values",
        "inputs",
        "joint",
        "lowering",
        "name",
        "names",
        "onnx",
        "outputs",
        "parameters",
        "plans",
        "raw",
        "rules",
        "slot_names",
    )

    def __init__(
        self,
        name: str,
        forward: Callable[..., Any],
        vjp: Any,
        dtype: str | None,
        lowering: str | None,
        onnx: str | None,
        outputs: int = 1,
        raw: Any = None,
    ) -> None:
        self.name = name
        self.raw = raw  #: the rules, or some, once more on NumPy's arrays of floats, for passes that nothing records
        self.outputs = outputs
        self.forward = forward
        self.dtype = dtype
        self.lowering = lowering  #: the scalar expression of an elementwise operator, for a compiler
        self.onnx = onnx  #: the ONNX operator with the same meaning
        self.composite = False
        #: Whether using it is recorded, where the result could have a gradient; a missing rule is the error of who needs it.
        self.differentiable = True
        self.function: Callable[..., Any] = forward
        #: parameter positions that are tensors, and whether each is a sequence of them
        self.inputs: list[tuple[int, bool]] = []
        self.parameters = parameters(forward) if isinstance(forward, type(_kind_of)) else []
        self.arity = len(self.parameters)
        for i, p in enumerate(self.parameters):
            kind = _kind_of(str(p.annotation))
            if kind:
                self.inputs.append((i, kind == "sequence"))
        positions = {p.name: i for i, p in enumerate(self.parameters)}
        if vjp and "y" in positions:
            msg = f"operator {name}: no parameter may be called y, which means the output in rules"
            raise TypeError(msg)
        if raw is True:
            self.raw = vjp
        self._bind_rules(vjp, positions)
        #: whether its nodes hold values, which a backward pass frees: without any, a graph may go backward again
        self.holds_values = any(kind in ("value", "output") for kind, _ in self.names)
        self.plans: dict[int, Plan] = {}

    def _bind_rules(self, vjp: Any, positions: dict[str, int]) -> None:
        """Resolve what each rule needs by the names of its parameters."""
        #: (kind, position) of everything some rule needs; kinds: value, shape, output, plain
        self.names: list[tuple[str, int]] = []
        seen: dict[str, int] = {}
        tensors = {i for i, _ in self.inputs}

        def needs(rule: Callable[..., Any]) -> tuple[int, ...]:
            found = []
            for name in [p.name for p in parameters(rule)[1:]]:
                if name not in seen:
                    if name == "y":
                        entry = ("output", 0)
                    elif name in positions:
                        entry = ("value" if positions[name] in tensors else "plain", positions[name])
                    elif name.endswith("_shape") and name[:-6] in positions:
                        entry = ("shape", positions[name[:-6]])
                    else:
                        msg = f"operator {self.name}: a vjp rule needs {name!r}, which is no parameter of the forward"
                        raise TypeError(msg)
                    seen[name] = len(self.names)
                    self.names.append(entry)
                found.append(seen[name])
            return tuple(found)

        self.joint = callable(vjp)
        if self.joint:
            self.rules: list[tuple[Rule, tuple[int, ...]]] = [(vjp, needs(vjp))]
        else:
            by_name: Mapping[str, Rule] = vjp or {}
            unknown = set(by_name) - set(positions)
            if unknown:
                msg = f"operator {self.name}: vjp rules for unknown inputs {sorted(unknown)}"
                raise TypeError(msg)
            names = {i: n for n, i in positions.items()}
            rules = [by_name.get(names[i]) for i, _ in self.inputs]
            self.rules = [(r, needs(r) if r is not None else ()) for r in rules]
        #: how rules call what is in `names`
        self.slot_names = list(seen)

    # --- recording ----------------------------------------------------------------------------------------------

    def plan(self, mask: int) -> Plan:
        """What is kept, and how it goes back, when the inputs in the bit mask want a gradient."""
        found = self.plans.get(mask)
        if found is None:
            found = self.plans[mask] = Plan(self, mask)
        return found

    def record(
        self, bound: Sequence[Any], edges: tuple[Node | None, ...], mask: int, out: Tensor, several: Sequence[Tensor] = ()
    ) -> None:
        """Make the node of ``out``, or of ``several`` outputs."""
        plan = self.plans.get(mask) or self.plan(mask)
        if not several:
            plan.record(out, edges, *bound)
            return
        parent = SeveralOutputs(plan, edges, len(several))
        parent.saved = plan.save(several, *bound)
        for i, t in enumerate(several):
            if t._array.dtype.kind in "fc":
                t._node = OutputNode(parent, i, t._array.shape, t._array.dtype)

    def __repr__(self) -> str:
        return f"<operator {self.name}>"


def _kind_of(annotation: str) -> str | None:
    if annotation in ("Array", "Array | None"):
        return "one"
    if annotation.startswith("Sequence[Array"):
        return "sequence"
    return None


def attach(**methods: Any) -> None:
    """Give Tensor methods and properties of these names."""
    for name, method in methods.items():
        setattr(Tensor, name, method)


# --- declaring -------------------------------------------------------------------------------------------------------


def register(
    op: Operator, function: Callable[..., Any], *, doc: str | None, method: bool, inplace: bool, aliases: Sequence[str]
) -> None:
    """Publish an operator: in the table, and as methods of Tensor."""
    op.function = function
    function.__name__ = function.__qualname__ = op.name.rsplit(".", 1)[-1]
    if doc:
        function.__doc__ = doc
    function.operator = op  # type: ignore[attr-defined]
    for name in (op.name, *aliases):
        OPERATORS[name] = op
        if method:
            setattr(Tensor, name, function)
            if inplace:
                setattr(Tensor, name + "_", inplace_method(function, name))


def inplace_method(function: Callable[..., Any], name: str) -> Callable[..., Tensor]:
    """The method ``name_`` that writes an operator's result into its first operand."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not is_grad_enabled():
            return _write(self, function(self, *args, **kwargs), name)
        check_writable(self, name + "_")
        # The operator sees the value as it was. Where a rule keeps it, it must outlive the write: only then is it copied.
        # (A rule that keeps a view of it shares the version counter, and says at backward that the value is gone.)
        before = Tensor(self._array, self._node)
        before._version = version_of(self)
        kept = weakref.ref(before)
        if args and args[0] is self:  # x.mul_(x): both operands are the value as it was
            args = (before, *args[1:])
        value = function(before, *args, **kwargs)
        del before, args
        old = kept()
        if old is not None:
            old._array, old._version = old._array.copy(), None
        return _write(self, value, name)

    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"`{name}` written into this tensor; recorded like the operator itself."
    return method


def _write(target: Tensor, value: Tensor, name: str) -> Tensor:
    """Write an operator's result into its first operand, if it fits."""
    a, b = target._array, value._array
    if b.shape != a.shape:
        msg = f"{name}_: the result has shape {tuple(b.shape)}, which does not fit the tensor's {tuple(a.shape)}"
        raise RuntimeError(msg)
    if b.dtype is not a.dtype and not dtypes.can_cast(value.dtype, target.dtype):
        msg = f"{name}_: the result has dtype {value.dtype}, which cannot be written into {target.dtype}"
        raise RuntimeError(msg)
    return assign(target, value)


@overload
def operator(
    vjp: Any = None, *, outputs: Literal[1] = 1, **options: Any
) -> Callable[[Callable[P, Any]], Callable[P, Tensor]]: ...


@overload
def operator(
    vjp: Any = None, *, outputs: int, **options: Any
) -> Callable[[Callable[P, Any]], Callable[P, tuple[Tensor, ...]]]: ...


def operator(  # type: ignore[misc]  # the overloads only say what comes back
    vjp: Any = None,
    *,
    outputs: int = 1,
    dtype: str | None = None,
    view: bool = False,
    method: bool = True,
    inplace: bool = False,
    aliases: Sequence[str] = (),
    name: str | None = None,
    lowering: str | None = None,
    onnx: str | None = None,
    raw: Any = None,
) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Declare an operator whose forward is the decorated function; see the module's docstring."""

    def declare(forward: Callable[P, Any]) -> Callable[P, Any]:
        op = Operator(name or forward.__name__.rstrip("_"), forward, vjp, dtype, lowering, onnx, outputs, raw)
        function = functools.wraps(forward)(dispatcher(op, view))
        register(op, function, doc=None, method=method, inplace=inplace, aliases=aliases)
        return function

    return declare


def composite(
    *, method: bool = True, inplace: bool = False, aliases: Sequence[str] = (), name: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare an operator written in terms of others: it needs no rules."""

    def declare(function: Callable[P, R]) -> Callable[P, R]:
        op = Operator(name or function.__name__.rstrip("_"), function, None, None, None, None)
        op.composite = True
        if not op.name.startswith("nn."):  # as in PyTorch, layers' functions take no out=
            function = accepting_out(function, op.name)
        register(op, function, doc=None, method=method, inplace=inplace, aliases=aliases)
        return function

    return declare
