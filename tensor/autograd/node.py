"""The tape: one node for each recorded operation, and one for each leaf that wants a gradient.

A node points at the nodes of its inputs (``edges``). Nodes are numbered as they are made, and an edge always points at a
smaller number, so the engine only ever needs the largest number first: no counting, no recursion.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensor.autograd.tensor import Tensor

__all__ = ["FREED", "Leaf", "Node", "OpNode", "OutputNode", "SeveralOutputs", "Version", "op_node", "version_of"]

next_number = count(1).__next__

Hook = Callable[["Tensor"], "Tensor | None"]

#: What `OpNode.saved` becomes once a backward pass has used and released it.
FREED: Any = object()


class Version:
    """Counts the writes into one piece of memory; shared by every tensor over it, with weak references to the views."""

    __slots__ = ("value", "views")

    def __init__(self) -> None:
        self.value = 0
        self.views: list[Any] | None = None


def version_of(t: Tensor) -> Version:
    """The tensor's version counter, made when it is first needed."""
    v: Version | None = t._version
    if v is None:
        v = t._version = Version()
    return v


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

    @property
    def name(self) -> str:
        """What PyTorch's ``grad_fn.name()`` tells: the operation."""
        return type(self).__name__

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """The nodes of the inputs, each with the number of the output it was."""
        return tuple((e, 0) for e in self.edges)

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Leaf(Node):
    """A tensor made by the user that requires a gradient. Holds the gradient, not the tensor: no reference cycle."""

    __slots__ = ("grad", "post_hooks")

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.setup((), shape, dtype)
        self.grad: Tensor | None = None
        self.post_hooks: list[Any] | None = None

    @property
    def name(self) -> str:
        return "AccumulateGrad"


class OutputNode(Node):
    """One of several outputs of an operation; hands its gradient to the operation's node."""

    __slots__ = ("index",)

    def __init__(self, parent: Node, index: int, shape: Any, dtype: Any) -> None:
        self.setup((parent,), shape, dtype)
        self.index = index

    @property
    def name(self) -> str:
        parent = self.edges[0]
        assert parent is not None
        return parent.name


class OpNode(Node):
    """An application of an operator record.

    ``saved`` holds, in the order the record asks for, inputs as ``(tensor, version)``, outputs as ``(array, counter, version)``
    and everything else as it is.
    """

    __slots__ = ("op", "saved")

    op: Any
    saved: Any

    def backward(self, g: Any) -> tuple[Any, ...]:
        saved = self.saved
        if saved is FREED:
            msg = (
                f"{self.op.name}: trying to backward through the graph a second time, but its saved values were freed; "
                "pass retain_graph=True to the first backward"
            )
            raise RuntimeError(msg)
        grads: tuple[Any, ...] = self.op.backward(self, g)
        return grads

    def release(self) -> None:
        if self.op.holds_values:
            self.saved = FREED

    @property
    def name(self) -> str:
        return f"{''.join(p.capitalize() for p in self.op.name.split('_'))}Backward"


class SeveralOutputs(OpNode):
    """An application of an operator with several outputs, each of which has an `OutputNode` above this one."""

    __slots__ = ("count",)

    count: int

    def __init__(self, op: Any, edges: tuple[Node | None, ...], count: int) -> None:
        self.setup(edges, (), None)
        self.op, self.count = op, count

    def backward(self, g: dict[int, Any]) -> tuple[Any, ...]:
        return super().backward(tuple(g.get(i) for i in range(self.count)))


def op_node(op: Any, edges: tuple[Node | None, ...], saved: tuple[Any, ...], array: Any) -> OpNode:
    """The node of an operator's result ``array``."""
    node = OpNode()
    node.op = op
    node.edges = edges
    node.saved = saved
    node.shape = array.shape
    node.dtype = array.dtype
    node.hooks = None
    node.number = next_number()
    return node
