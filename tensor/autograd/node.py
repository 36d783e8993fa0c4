"""The tape: one node for each recorded operation, and one for each leaf that wants a gradient.

A node points at the nodes of its inputs (``edges``). Nodes are numbered as they are made, and an edge always points at a
smaller number, so the engine only ever needs the largest number first: no counting, no recursion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensor.autograd.tensor import Tensor

__all__ = [
    "FREED", "MAKERS", "Leaf", "Node", "OpNode", "OutputNode", "RemovableHandle", "SeveralOutputs", "Term", "Version",
    "new_version", "settled", "version_of",
]  # fmt: skip

next_number = count(1).__next__

#: The namespaces that hold `next_number` and `new_node`. A mode that watches nodes being made (anomaly detection, hooks of saved
#: tensors) puts its own functions there while it is on, so that nothing has to be asked while it is off.
MAKERS: list[dict[str, Any]] = [globals()]

Hook = Callable[["Tensor"], "Tensor | None"]

#: What `OpNode.saved` becomes once a backward pass has used and released it.
FREED: Any = object()


class Version:
    """Counts the writes into one piece of memory; shared by every tensor over it, with weak references to the views."""

    __slots__ = ("value", "views")

    value: int
    views: list[Any] | None


def new_version() -> Version:
    """A counter of no writes; `tensor.ops.plan` writes these lines out, which is why they are not in an ``__init__``."""
    v = Version()
    v.value = 0
    v.views = None
    return v


def version_of(t: Tensor) -> Version:
    """The tensor's version counter, made when it is first needed."""
    v: Version | None = t._version
    if v is None:
        v = t._version = new_version()
    return v


class RemovableHandle:
    """What registering a hook returns: call `remove`, or leave its ``with`` block, to take the hook away."""

    __slots__ = ("_hook", "_hooks")

    def __init__(self, hooks: list[Any], hook: Any) -> None:
        self._hooks, self._hook = hooks, hook
        hooks.append(hook)

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Attached(list[Any]):
    """The hooks of a node: before its backward as the elements, ``after`` it, and what users put into its ``metadata``."""

    def __init__(self, hooks: Any = ()) -> None:
        super().__init__(hooks)
        self.after: list[Any] = []
        self.metadata: dict[Any, Any] = {}


class Node:
    """Base of all nodes. ``shape`` and ``dtype`` are those of the value the node made: what its gradient must have."""

    __slots__ = ("dtype", "edges", "hooks", "number", "shape")

    edges: tuple[Node | None, ...]
    hooks: list[Hook] | None
    number: int
    shape: Any
    dtype: Any

    # No __init__ here: Python makes an object of a class without one in two thirds of the time, and `OpNode` is the hot one.
    def setup(self, edges: tuple[Node | None, ...], shape: Any, dtype: Any) -> None:
        """Fill in what all nodes have."""
        self.edges = edges
        self.shape = shape
        self.dtype = dtype
        self.hooks = None
        self.number = next_number()

    def backward(self, g: Any) -> tuple[Any, ...]:
        """Gradients for the edges, given the gradient of the node's value."""
        raise NotImplementedError

    def release(self) -> None:
        """Forget what was kept for `backward`."""

    def name(self) -> str:
        """The operation."""
        return type(self).__name__

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """The nodes of the inputs, each with the number of the output it was."""
        return tuple((e.edges[0], e.index) if isinstance(e, OutputNode) else (e, 0) for e in self.edges)

    def __repr__(self) -> str:
        return f"<{self.name()}>"

    # --- hooks ----------------------------------------------------------------------------------------------------

    def _attached(self) -> Attached:
        if type(self.hooks) is not Attached:
            self.hooks = Attached(self.hooks or ())
        return self.hooks

    @property
    def metadata(self) -> dict[Any, Any]:
        """A dictionary to keep things with this node."""
        return self._attached().metadata

    def register_prehook(self, hook: Callable[[tuple[Any, ...]], Any]) -> RemovableHandle:
        """Call ``hook(grad_outputs)`` before this node's backward; a tuple that it returns replaces them."""

        def before(g: Any) -> Any:
            replaced = hook(self._as_outputs(g))
            if replaced is None:
                return None
            return {i: r for i, r in enumerate(replaced) if r is not None} if isinstance(g, dict) else replaced[0]

        return RemovableHandle(self._attached(), before)

    def register_hook(self, hook: Callable[[tuple[Any, ...], tuple[Any, ...]], Any]) -> RemovableHandle:
        """Call ``hook(grad_inputs, grad_outputs)`` after this node's backward; a tuple that it returns replaces the former."""
        kind: Any = type(self)
        self.__class__ = _with_hooks_after(kind)
        return RemovableHandle(self._attached().after, hook)

    def _as_outputs(self, g: Any) -> tuple[Any, ...]:
        """The gradients of the outputs, one for each."""
        return (g,)


class Term:
    """A gradient that is one term of a sum, which is cheaper to take at once than term by term.

    What is used many times in a graph (a weight, at each step of a recurrence) gets a gradient from each use. A rule may return
    this instead of a tensor while nothing is recorded: ``total(parts)`` is the raw sum of what ``parts`` stand for, in fresh
    memory of the input's shape. ``rows`` are what the parts hold.
    """

    __slots__ = ("parts", "rows", "total")

    #: Rows to wait for before they are added up: they hold memory, and more of them gain nothing.
    most = 2048

    def __init__(self, total: Callable[[list[Any]], Any], part: Any, rows: int = 32) -> None:
        self.total, self.parts, self.rows = total, [part], rows

    def value(self, node: Node) -> Tensor:
        """The sum, as a gradient of the node's value."""
        from tensor.autograd.tensor import Tensor

        g = Tensor(self.total(self.parts))
        return g if g._array.dtype == node.dtype else g.to_gradient_dtype(node.dtype)


def settled(node: Node, grads: Sequence[Any]) -> tuple[Any, ...]:
    """The gradients for a node's edges with all terms as tensors, for those who look at them."""
    return tuple(g.value(e) if type(g) is Term and e is not None else g for e, g in zip(node.edges, grads, strict=False))


@cache
def _with_hooks_after(kind: Any) -> Any:
    """The same kind of node, running hooks after its backward: looked up only for the nodes that have any."""
    if "_hooked" in kind.__dict__:
        return kind

    def backward(self: Any, g: Any) -> tuple[Any, ...]:
        outputs = self._as_outputs(g)
        inputs = settled(self, kind.backward(self, g))
        for hook in list(self.hooks.after):
            replaced = hook(inputs, outputs)
            if replaced is not None:
                inputs = tuple(replaced)
        return inputs

    return type(kind.__name__, (kind,), {"__slots__": (), "backward": backward, "_hooked": True})


class Leaf(Node):
    """A tensor made by the user that requires a gradient. Holds the gradient, not the tensor: no reference cycle."""

    __slots__ = ("grad", "post_hooks")

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.setup((), shape, dtype)
        self.grad: Tensor | None = None
        self.post_hooks: list[Any] | None = None

    def name(self) -> str:
        return "AccumulateGrad"

    def register_hook(self, hook: Callable[[tuple[Any, ...], tuple[Any, ...]], Any]) -> RemovableHandle:
        """Call ``hook((), grad_outputs)`` when the gradient of this leaf is complete."""

        def before(g: Any) -> None:
            hook((), (g,))

        return RemovableHandle(self._attached(), before)


class OutputNode(Node):
    """One of several outputs of an operation; hands its gradient to the operation's node."""

    __slots__ = ("index",)

    def __init__(self, parent: Node, index: int, shape: Any, dtype: Any) -> None:
        self.setup((parent,), shape, dtype)
        self.index = index

    def name(self) -> str:
        parent = self.edges[0]
        assert parent is not None
        return parent.name()


class OpNode(Node):
    """An application of an operator record.

    ``plan`` is the operator's for the inputs that want a gradient (`tensor.ops.plan`). ``saved`` is what it keeps: inputs as
    ``(tensor, version)``, outputs as ``(array, counter, version)`` and everything else as it is.
    """

    __slots__ = ("plan", "saved")

    plan: Any
    saved: Any

    @property
    def op(self) -> Any:
        """The operator."""
        return self.plan.op

    def backward(self, g: Any) -> tuple[Any, ...]:
        grads: tuple[Any, ...] = self.plan.backward(self, g)
        return grads

    def release(self) -> None:
        if self.plan.op.holds_values:
            self.saved = FREED

    def name(self) -> str:
        return f"{''.join(p.capitalize() for p in self.op.name.split('_'))}Backward"


class SeveralOutputs(OpNode):
    """An application of an operator with several outputs, each of which has an `OutputNode` above this one."""

    __slots__ = ("count",)

    count: int

    def __init__(self, plan: Any, edges: tuple[Node | None, ...], count: int) -> None:
        self.setup(edges, (), None)
        self.plan, self.count = plan, count

    def backward(self, g: dict[int, Any]) -> tuple[Any, ...]:
        return super().backward(self._as_outputs(g))

    def _as_outputs(self, g: Any) -> tuple[Any, ...]:
        return tuple(g.get(i) for i in range(self.count))


#: Makes the node of an operator's result, which the function of `tensor.ops.plan` that called it fills in.
new_node: Any = OpNode
