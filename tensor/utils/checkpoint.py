"""Gradient checkpointing: keep only the inputs of a part of a network, and compute the rest again when backward needs it.

A chain of n layers in k checkpoints keeps n / k activations and k inputs at a time, for one more forward: "Training Deep Nets
with Sublinear Memory Cost", arXiv 1604.06174.

The graph of the part is recorded as always, but its nodes are emptied of what they saved. The first of them to be used runs the
part again, and each node takes what its twin has saved. So everything else works as without a checkpoint: gradients of tensors
that the part closes over, `autograd.grad`, gradients of gradients, checkpoints in checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import get_ident
from typing import Any

from tensor.autograd.function import FunctionNode, Saved
from tensor.autograd.modes import enable_grad, is_grad_enabled, rerun
from tensor.autograd.node import Leaf, Node, OpNode, SeveralOutputs, next_number
from tensor.autograd.tensor import Tensor
from tensor.func.trees import leaves_of, rebuild
from tensor.ops.random import get_rng_state, set_rng_state

__all__ = ["checkpoint", "checkpoint_sequential"]

Contexts = Callable[[], tuple[AbstractContextManager[Any], AbstractContextManager[Any]]]


class _Part:
    """A part of a graph that has been emptied: how to compute it again. It stands where its nodes' saved values were."""

    __slots__ = ("context", "function", "inputs", "nodes", "rng_state", "tree", "versions")

    def __init__(self, function: Callable[..., Any], tree: Any, rng_state: Any, context: AbstractContextManager[Any]) -> None:
        self.function, self.tree, self.rng_state, self.context = function, tree, rng_state, context
        self.inputs = leaves_of(tree)
        self.versions = [_version(x) for x in self.inputs]
        self.nodes: list[Any] = []

    def empty(self, nodes: list[Any]) -> None:
        """Take what the nodes saved away from them."""
        self.nodes = nodes
        for node in nodes:
            kind = _EMPTIED.get(type(node), type(node))
            if kind in _EMPTIED.values():  # a node with hooks of its own keeps what it saved
                node.__class__ = kind
                if issubclass(kind, FunctionNode):
                    node.context._saved = self
                elif node.op.holds_values:
                    node.saved = self

    def fill(self) -> None:
        """Compute the part again, and give each node what its twin has saved."""
        for x, version in zip(self.inputs, self.versions, strict=True):
            if _version(x) != version:
                msg = f"checkpoint: an input of shape {tuple(x.shape)} was changed by an in-place operation before backward"
                raise RuntimeError(msg)
        twin_of: dict[Node, Node] = {}
        fresh = [_under_another_node(x, twin_of) for x in self.inputs]
        args, kwargs = rebuild(self.tree, iter(fresh))
        now = get_rng_state()
        since = next_number()
        try:
            if self.rng_state is not None:
                set_rng_state(self.rng_state)
            with enable_grad(), self.context, _unreplayed():
                out = self.function(*args, **kwargs)
        finally:
            set_rng_state(now)
        twins = _nodes_since(out, since)
        if [n.name() for n in twins] != [n.name() for n in self.nodes]:
            msg = (
                f"checkpoint: the function recorded {len(self.nodes)} operations, and {len(twins)} others when it was run again "
                "for backward; it must do the same each time"
            )
            raise RuntimeError(msg)
        twin_of.update(zip(twins, self.nodes, strict=True))
        for node, twin in zip(self.nodes, twins, strict=True):
            if isinstance(node, FunctionNode) and node.context._saved is self:
                node.context = twin.context
                _adopt(twin.context._saved, twin_of)
            elif isinstance(node, OpNode) and node.saved is self:
                node.saved = twin.saved
                _adopt(twin.saved, twin_of)


class _EmptiedOp(OpNode):
    """A node that has to be filled before it is used."""

    __slots__ = ()

    def backward(self, g: Any) -> tuple[Any, ...]:
        if type(self.saved) is _Part:
            self.saved.fill()
        return super().backward(g)


class _EmptiedSeveral(SeveralOutputs):
    __slots__ = ()

    def backward(self, g: Any) -> tuple[Any, ...]:
        if type(self.saved) is _Part:
            self.saved.fill()
        return super().backward(g)


class _EmptiedFunction(FunctionNode):
    __slots__ = ()

    def backward(self, g: Any) -> tuple[Any, ...]:
        if type(self.context._saved) is _Part:
            self.context._saved.fill()
        return super().backward(g)


_EMPTIED: dict[type[Node], type[Node]] = {
    OpNode: _EmptiedOp,
    SeveralOutputs: _EmptiedSeveral,
    FunctionNode: _EmptiedFunction,
}


def _version(x: Any) -> int | None:
    return None if not isinstance(x, Tensor) else x._version.value if x._version else 0


def _under_another_node(x: Any, twin_of: dict[Node, Node]) -> Any:
    """The same values, not connected to the graph that the input comes from."""
    if not isinstance(x, Tensor):
        return x
    alias = x.detach()
    if x._node is not None:
        alias._node = Leaf(x._array.shape, x._array.dtype)
        twin_of[alias._node] = x._node
    return alias


def _nodes_since(out: Any, since: int) -> list[Any]:
    """The nodes made since then that the outputs come from, in the order in which they were made."""
    stack = [y._node for y in leaves_of(out) if isinstance(y, Tensor) and y._node is not None]
    seen = set(stack)
    while stack:
        for edge in stack.pop().edges:
            if edge is not None and edge.number > since and edge not in seen:
                seen.add(edge)
                stack.append(edge)
    return sorted((n for n in seen if n.number > since and type(n) is not Leaf), key=lambda n: n.number)


def _adopt(saved: Any, twin_of: dict[Node, Node]) -> None:
    """Make what a twin saved belong to the graph of the node that gets it, for gradients of gradients."""
    if isinstance(saved, Tensor):
        if saved._node is not None:
            saved._node = twin_of.get(saved._node, saved._node)
    elif type(saved) is _Part:  # of a checkpoint inside of this one
        saved.nodes = [twin_of.get(n, n) for n in saved.nodes]
        _adopt(saved.inputs, twin_of)
    elif type(saved) is Saved:
        _adopt(saved.tensor, twin_of)
    elif isinstance(saved, (tuple, list)):
        for s in saved:
            _adopt(s, twin_of)


@contextmanager
def _unreplayed() -> Iterator[None]:
    """Have compiled functions run as they are, so that the nodes of both runs are of the same kinds."""
    me = get_ident()
    outer = me in rerun
    rerun.add(me)
    try:
        yield
    finally:
        if not outer:
            rerun.discard(me)


def _no_contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), nullcontext()


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Contexts = _no_contexts,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """``function(*args, **kwargs)``, keeping only its inputs until backward, which runs it again.

    The function must do the same each time; with ``preserve_rng_state`` it draws the same random numbers. ``context_fn`` gives
    two contexts, for the first run and for the second. ``use_reentrant`` is taken for PyTorch's sake: there is only the one way.

    Raises RuntimeError in backward when an input was changed in place, or the function recorded something else.

    >>> import tensor as T
    >>> x = T.tensor([0.5], requires_grad=True)
    >>> checkpoint(lambda x: x.sin().exp(), x, use_reentrant=False).backward()
    >>> x.grad
    tensor([1.4174])
    """
    first, second = context_fn()
    if not is_grad_enabled():
        with first:
            return function(*args, **kwargs)
    part = _Part(function, (args, kwargs), get_rng_state() if preserve_rng_state else None, second)
    since = next_number()
    with first, _unreplayed():
        out = function(*args, **kwargs)
    part.empty(_nodes_since(out, since))
    return out


def checkpoint_sequential(
    functions: Iterable[Callable[..., Any]],
    segments: int,
    input: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
) -> Any:
    """The functions (or a `Sequential`) one after the other, in ``segments`` checkpoints; the last part is kept as it is.

    >>> import tensor as T
    >>> net = T.nn.Sequential(T.nn.Linear(2, 2), T.nn.Tanh(), T.nn.Linear(2, 1))
    >>> checkpoint_sequential(net, 2, T.ones(3, 2)).shape
    tensor.Size([3, 1])
    """
    steps = list(functions)
    if not 0 < segments <= max(len(steps), 1):
        msg = f"checkpoint_sequential: expected between 1 and {len(steps)} segments, got {segments}"
        raise ValueError(msg)
    size = len(steps) // segments
    for start in range(0, size * (segments - 1), size):
        run = _in_a_row(steps[start : start + size])
        input = checkpoint(run, input, use_reentrant=use_reentrant, preserve_rng_state=preserve_rng_state)
    return _in_a_row(steps[size * (segments - 1) :])(input)


def _in_a_row(steps: Sequence[Callable[..., Any]]) -> Callable[[Any], Any]:
    def run(x: Any) -> Any:
        for step in steps:
            x = step(x)
        return x

    return run
