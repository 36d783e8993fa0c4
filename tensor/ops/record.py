"""One record per operator; `tensor.ops.dispatch` runs it.

A record is declared where its forward is written, with NumPy functions on raw arrays::

    @operator({"x": lambda g, x_shape: g.expand(x_shape)}, ...)
    def total(x: Array) -> Array:
        '''The sum of all elements.'''
        return np.sum(x)

- A parameter annotated ``Array`` (``Array | None``, ``Sequence[Array]``) is a tensor; every other one is a plain value.
- The vjp table has one rule an input: ``g`` is the gradient of the output; the other parameter names say what the rule needs,
  and only that is kept: an input by its name, the output as ``y``, a shape as ``x_shape``, a plain parameter by its name. Rules are
  written with differentiable operators, so gradients of any order follow. ``None`` for a rule: not differentiable, an error if used.
- ``outputs``: how many values the forward returns, as a tuple, when it is not one. Rules get ``g`` and ``y`` as tuples then; ``g`` has None for
  an output that nothing used.
- ``dtype``: ``"promote"`` casts all tensor operands to their common dtype, ``"float"`` also integers to the default dtype, None
  leaves them alone.

The engine brings a gradient to the shape and dtype of its input, so rules of broadcasting operators need not.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, overload

import numpy as np

from tensor import dtypes
from tensor.autograd.batched import NotBatchable, deepest
from tensor.autograd.inplace import assign, check_writable
from tensor.autograd.node import MAKERS, Node, OpNode, OutputNode, SeveralOutputs, op_node, version_of
from tensor.autograd.samples import enter, raw_arrays, sample_of_tensors
from tensor.autograd.tensor import Tensor
from tensor.ops.dispatch import dispatcher
from tensor.ops.out import accepting_out

__all__ = ["OPERATORS", "Array", "Operator", "attach", "composite", "operator"]

P = ParamSpec("P")
R = TypeVar("R")

#: A raw array: NumPy's, CuPy's, or a deferred one. An operand may also be a Python number.
Array: TypeAlias = Any

Rule: TypeAlias = Callable[..., Any] | None

MAKERS.append(globals())

#: Every operator by its public name.
OPERATORS: dict[str, Operator] = {}


class Operator:
    """All that is known of one operator."""

    __slots__ = (
        "_plans",
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
        "rules",
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
    ) -> None:
        self.name = name
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
        parameters = list(inspect.signature(forward).parameters.values()) if isinstance(forward, type(_kind_of)) else []
        for i, p in enumerate(parameters):
            kind = _kind_of(str(p.annotation))
            if kind:
                self.inputs.append((i, kind == "sequence"))
        positions = {p.name: i for i, p in enumerate(parameters)}
        if vjp and "y" in positions:
            msg = f"operator {name}: no parameter may be called y, which means the output in rules"
            raise TypeError(msg)
        self._bind_rules(vjp, positions)
        #: whether its nodes hold values, which a backward pass frees: without any, a graph may go backward again
        self.holds_values = any(kind in ("value", "output") for kind, _ in self.names)
        self._plans: dict[int, tuple[tuple[int, str, int], ...]] = {}

    def _bind_rules(self, vjp: Any, positions: dict[str, int]) -> None:
        """Resolve what each rule needs by the names of its parameters."""
        #: (kind, position) of everything some rule needs; kinds: value, shape, output, plain
        self.names: list[tuple[str, int]] = []
        seen: dict[str, int] = {}
        tensors = {i for i, _ in self.inputs}

        def needs(rule: Callable[..., Any]) -> tuple[int, ...]:
            found = []
            for name in list(inspect.signature(rule).parameters)[1:]:
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

    # --- recording ----------------------------------------------------------------------------------------------

    def plan(self, mask: int) -> tuple[tuple[int, str, int], ...]:
        """What must be kept when the inputs in the bit mask want a gradient: (slot, kind, position)."""
        found = self._plans.get(mask)
        if found is None:
            slots: set[int] = set()
            for i, (_, needed) in enumerate(self.rules):
                if self.joint or mask >> i & 1:
                    slots.update(needed)
            found = self._plans[mask] = tuple((s, *self.names[s]) for s in sorted(slots))
        return found

    def record(
        self, bound: Sequence[Any], edges: tuple[Node | None, ...], mask: int, out: Tensor, several: Sequence[Tensor] = ()
    ) -> None:
        """Make the node of ``out``, or of ``several`` outputs."""
        saved: list[Any] = [None] * len(self.names)
        for slot, kind, position in self._plans.get(mask) or self.plan(mask):
            if kind == "value":
                x = bound[position]
                if x.__class__ is Tensor:
                    version = x._version
                    saved[slot] = (x, 0 if version is None else version.value)
                else:
                    saved[slot] = [keep(t) for t in x] if type(x) in (list, tuple) else keep(x)
            elif kind == "plain":
                saved[slot] = bound[position]
            elif kind == "shape":
                x = bound[position]
                saved[slot] = x._array.shape if isinstance(x, Tensor) else np.shape(x)
            else:
                saved[slot] = [keep_output(t) for t in several] if several else keep_output(out)
        if not several:
            out._node = op_node(self, edges, tuple(saved), out._array)
            return
        parent = SeveralOutputs(self, edges, len(several))
        parent.saved = tuple(saved)
        for i, t in enumerate(several):
            if t._array.dtype.kind in "fc":
                t._node = OutputNode(parent, i, t._array.shape, t._array.dtype)

    def unpack(self, node: OpNode, slots: tuple[int, ...]) -> list[Any]:
        """The values that a rule asked for, checked against in-place writes since."""
        values = []
        saved, names = node.saved, self.names
        for s in slots:
            kind, x = names[s][0], saved[s]
            if kind == "value":
                if x.__class__ is tuple:
                    x, expected = x
                    version = x._version
                    if version is not None and version.value != expected:
                        self.changed("an input", x._array.shape, version.value, expected)
                elif x.__class__ is list:
                    x = [self.intact(k) for k in x]
            elif kind == "output":
                if x.__class__ is list:
                    x = tuple(self.output(kept, OutputNode(node, i, kept[0].shape, kept[0].dtype)) for i, kept in enumerate(x))
                else:
                    x = self.output(x, node)
            values.append(x)
        return values

    def output(self, kept: Any, node: Node) -> Tensor:
        """A saved output, unless it was written into."""
        array, version, value = kept
        if version.value != value:
            self.changed("its output", array.shape, version.value, value)
        return Tensor(array, node)

    def intact(self, kept: Any) -> Any:
        """A saved input, unless it was written into."""
        if type(kept) is not tuple:
            return kept
        t, value = kept
        version = t._version
        if version is not None and version.value != value:
            self.changed("an input", t._array.shape, version.value, value)
        return t

    def changed(self, what: str, shape: Any, version: int, expected: int) -> None:
        """Raise the error for a value that backward needs and that is no more."""
        msg = (
            f"{self.name}: {what} of shape {tuple(shape)}, needed for its gradient, was changed by an in-place operation "
            f"(version {version}, expected {expected}); clone it before writing"
        )
        raise RuntimeError(msg)

    def backward(self, node: OpNode, g: Tensor) -> tuple[Any, ...]:
        """Apply the rules of the inputs that want a gradient."""
        if self.joint:
            rule, slots = self.rules[0]
            assert rule is not None
            values = self.unpack(node, slots)
            try:
                return tuple(rule(g, *values))
            except NotBatchable:
                return tuple(rule_by_sample(rule, g, values))
        result: list[Any] = []
        for edge, (rule, slots) in zip(node.edges, self.rules, strict=True):
            if edge is None:
                result.append(None)
            elif rule is None:
                msg = f"{self.name}: no gradient rule for input {len(result)}"
                raise NotImplementedError(msg)
            elif slots:
                values = self.unpack(node, slots)
                try:
                    result.append(rule(g, *values))
                except NotBatchable:
                    result.append(rule_by_sample(rule, g, values))
            else:
                result.append(rule(g))
        return tuple(result)

    def __repr__(self) -> str:
        return f"<operator {self.name}>"


def rule_by_sample(rule: Callable[..., Any], g: Any, values: Sequence[Any]) -> Any:
    """What a rule that looks at values gives when it is run on each sample of a `vmap`."""
    given = (g, *values)
    level = deepest(raw_arrays(given))
    if level is None:
        return rule(*given)
    results = []
    for i in range(level.size):
        one = sample_of_tensors(given, i, level)
        try:
            results.append(rule(*one))
        except NotBatchable:  # an outer level's samples differ too
            results.append(rule_by_sample(rule, one[0], one[1:]))

    def together(parts: Sequence[Any]) -> Any:
        return None if parts[0] is None else enter(OPERATORS["stack"].function(list(parts), 0), level)

    return together(results) if isinstance(results[0], Tensor | None) else [together(p) for p in zip(*results, strict=True)]


def _kind_of(annotation: str) -> str | None:
    if annotation in ("Array", "Array | None"):
        return "one"
    if annotation.startswith("Sequence[Array"):
        return "sequence"
    return None


def keep(x: Any) -> Any:
    """An input kept for backward, with its version; numbers and arrays as they are."""
    if isinstance(x, Tensor):
        version = x._version
        return (x, 0 if version is None else version.value)
    return x


def keep_output(t: Tensor) -> tuple[Any, Any, int]:
    """An output kept for backward: its array and version, not the tensor, which would keep its own node alive."""
    version = version_of(t)
    return (t._array, version, version.value)


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
        source, target = value._array, self._array
        if source.shape != target.shape:
            msg = f"{name}_: the result has shape {tuple(source.shape)}, which does not fit the tensor's {tuple(target.shape)}"
            raise RuntimeError(msg)
        if source.dtype is not target.dtype and not dtypes.can_cast(value.dtype, self.dtype):
            msg = f"{name}_: the result has dtype {value.dtype}, which cannot be written into {self.dtype}"
            raise RuntimeError(msg)
        return assign(self, value)

    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"`{name}` written into this tensor; recorded like the operator itself."
    return method


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
) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Declare an operator whose forward is the decorated function; see the module's docstring."""

    def declare(forward: Callable[P, Any]) -> Callable[P, Any]:
        op = Operator(name or forward.__name__.rstrip("_"), forward, vjp, dtype, lowering, onnx, outputs)
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
