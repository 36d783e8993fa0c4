"""The backward pass: iterative, newest node first.

Every node is numbered when it is made, after its inputs, so taking the largest number first is a topological order. A graph of
a million nodes in a row needs no stack. What a node saved is released as soon as it has been used, unless ``retain_graph``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush, heappushpop
from importlib import import_module
from itertools import count
from operator import attrgetter
from threading import Thread
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tensor.autograd.batched import Batched, active
from tensor.autograd.modes import record_gradients
from tensor.autograd.node import FREED, Leaf, Node, OpNode, OutputNode, Term

if TYPE_CHECKING:
    from tensor.autograd.tensor import Tensor

__all__ = ["backward", "grad"]


class Watch:
    """What stands between the engine and the nodes' backward while somebody watches: see `tensor.autograd.anomaly`."""

    backward: Callable[[Node, Any], tuple[Any, ...]] | None = None
    #: Called when a backward pass is over.
    finished: ClassVar[list[Callable[[], None]]] = []


watch = Watch()


class Shortcut:
    """A faster way through graphs of the usual operators: `tensor.jit.backward`.

    ``run(gradients, release)`` goes on from the nodes that have a gradient, and gives those of the leaves that it reached; None
    where it has done nothing.
    """

    run: Callable[[dict[Any, Any], bool], dict[Leaf, Tensor] | None]


def _ordinary(gradients: dict[Any, Any], release: bool) -> None:
    """Leave it to `run`; a process that goes back so often has `tensor.jit` make something faster, in the background."""
    first = getattr(next(iter(gradients.values())), "_array", None)
    if first.__class__ is np.ndarray and next(_passes) == SEVERAL:
        Thread(target=_prepare, name="tensor.autograd", daemon=True).start()


def _prepare() -> None:
    import_module("tensor.jit.backward").prepare()


#: Passes after which it is worth the tenth of a second that making machine code takes.
SEVERAL = 256
_passes = count(1)
shortcut = Shortcut()
shortcut.run = _ordinary


def run(
    roots: Sequence[tuple[Node, Tensor]],
    *,
    create_graph: bool,
    retain_graph: bool,
    wanted: set[Node] | None = None,
    captured: dict[Node, Tensor] | None = None,
    ends: bool = False,
) -> dict[Leaf, Tensor]:
    """Push gradients from the roots to the leaves.

    ``wanted``: the only nodes to visit. ``captured``: nodes whose gradient the caller asked for; filled in. Where they
    are the ``ends``, neither their hooks nor what is beyond them is run. Returns the gradients that arrived at leaves.
    """
    pending: dict[Node, Any] = {}
    leaves: dict[Leaf, Any] = {}
    heap: list[tuple[int, Node]] = []
    watched = watch.backward
    # The shortcut is tried at the start, and a few times more when a node is done that it could not have passed.
    tries = 4 if watched is None and wanted is None and captured is None and not create_graph else 0
    beyond = tries > 0
    owned: set[Node] = set()  # gradients summed here, in memory nobody else sees

    def add(into: Any, edge: Node, g: Any) -> None:
        have = into[edge]
        if have.__class__ is Term:
            if g.__class__ is Term and have.total is g.total and have.rows + g.rows <= Term.most:
                have.parts += g.parts
                have.rows += g.rows
                return
            have = into[edge] = have.value(edge)
            owned.add(edge)
        if g.__class__ is Term:
            g = g.value(edge)
        if create_graph:
            into[edge] = have + g
        elif edge in owned:
            have._array += g._array
        else:
            total = into[edge] = have + g
            if total._array.shape and total._array.__class__ is not Batched:
                owned.add(edge)

    for root, g in roots:
        into: Any = leaves if type(root) is Leaf else pending
        if root in into:
            add(into, root, g)
        else:
            into[root] = g
            if into is pending:
                heappush(heap, (-root.number, root))
    node = heappop(heap)[1] if heap else None
    while node is not None:
        if beyond and node.__class__ is OpNode and node.plan.word:
            found = shortcut.run({**pending, **leaves}, not retain_graph)
            if found is not None:
                leaves.update(found)
                break
            tries -= 1
            beyond = False
        g = pending.pop(node)
        if g.__class__ is Term:
            g = g.value(node)
        if node.hooks and not (ends and captured is not None and node in captured):
            g = run_hooks(node, g)
        if captured is not None and node in captured:
            captured[node] = g
            owned.discard(node)
            if ends:
                node = heappop(heap)[1] if heap else None
                continue
        following: Node | None = None
        if node.__class__ is OutputNode:
            parent = node.edges[0]
            assert parent is not None
            if wanted is None or parent in wanted:
                parts = pending.get(parent)
                if parts is None:
                    parts = pending[parent] = {}
                    following = parent
                # A rule that read the output has given it a second node: their gradients add up.
                parts[node.index] = parts[node.index] + g if node.index in parts else g
        elif wanted is None or not wanted.isdisjoint(node.edges):
            if watched is not None:
                grads = watched(node, g)
            else:  # two calls less for nearly all nodes
                grads = node.plan.backward(node, g) if node.__class__ is OpNode else node.backward(g)
            for edge, ge in zip(node.edges, grads):  # noqa: B905  # hot
                if edge is None or ge is None or (wanted is not None and edge not in wanted):
                    continue
                if ge.__class__ is not Term:
                    array = ge._array
                    if array.shape != edge.shape:
                        if array.__class__ is Batched:  # from inside of a `vmap`
                            ge = fit_samples(ge, edge)
                            owned.discard(edge)
                        else:
                            ge = ge.sum_to_size(edge.shape)
                    if array.dtype is not edge.dtype and array.dtype != edge.dtype:
                        ge = ge.to_gradient_dtype(edge.dtype)
                if edge.__class__ is Leaf:
                    have = leaves.get(edge)
                    if have is not None:
                        if (
                            ge.__class__ is Term
                            and have.__class__ is Term
                            and have.total is ge.total
                            and have.rows + ge.rows <= Term.most
                        ):
                            have.parts += ge.parts  # written out from `add`: a weight that is used many times
                            have.rows += ge.rows
                        else:
                            add(leaves, edge, ge)
                    else:
                        leaves[edge] = ge
                elif edge in pending:
                    add(pending, edge, ge)
                else:
                    pending[edge] = ge
                    if following is None:
                        following = edge
                    else:
                        heappush(heap, (-edge.number, edge))
            if not retain_graph:
                if node.__class__ is not OpNode:
                    node.release()
                elif node.plan.op.holds_values:
                    node.saved = FREED
        if tries and (node.__class__ is not OpNode or not node.plan.word or node.hooks):
            beyond = True
        # In a chain of nodes the next one never enters the heap.
        if following is None:
            node = heappop(heap)[1] if heap else None
        else:
            node = heappushpop(heap, (-following.number, following))[1] if heap else following
    for leaf, g in leaves.items():
        if g.__class__ is Term:
            leaves[leaf] = g.value(leaf)
    return leaves


def fit_samples(g: Tensor, edge: Node) -> Tensor:
    """A gradient of samples in the shape of the value that it is for.

    Where it leaves a `vmap` that has ended, to a value from outside of it, the gradients of all samples are summed. A backward
    pass that runs inside of the `vmap` is one of each sample.
    """
    from tensor.autograd.samples import leave

    for level in g._array.levels:
        if edge.number < level.since and level not in active.levels:
            g = leave(g, level).sum(0)
    shape = tuple(edge.shape)
    return g if tuple(g._array.shape) == shape else g.sum_to_size(shape)


def run_hooks(node: Node, g: Any) -> Any:
    """Let each hook see, or replace, the gradient of the node's value."""
    for hook in list(node.hooks or ()):
        replaced = hook(g)
        if replaced is not None:
            g = replaced
    return g


def accumulate(leaf: Leaf, g: Tensor, create_graph: bool, handed_out: set[int]) -> None:
    """Add to a leaf's ``.grad``; take the array as it is where nobody else can hold it."""
    have = leaf.grad
    array = g._array
    if array.__class__ is Batched:
        msg = "backward: each sample of a vmap has a gradient of its own, which .grad cannot hold; use func.grad inside of vmap"
        raise RuntimeError(msg)
    if have is None:
        if not create_graph and (array.base is not None or id(array) in handed_out or not array.flags.c_contiguous):
            g = g.clone()
        elif not create_graph and g._node is not None:
            g = g.detach()
        handed_out.add(id(array))
        leaf.grad = g
    elif create_graph:
        leaf.grad = have + g
    else:
        have.add_(g)
    for hook in list(leaf.post_hooks or ()):
        hook()


def root_gradients(
    outputs: Sequence[Tensor], gradients: Iterable[Tensor | None] | None, who: str, skip_constants: bool = False
) -> list[tuple[Node, Tensor]]:
    """Pair each output's node with its gradient: given, or one for a scalar. A constant output is an error, or left out."""
    given = [None] * len(outputs) if gradients is None else list(gradients)
    if len(given) != len(outputs):
        msg = f"{who}: expected {len(outputs)} gradients, one for each output, got {len(given)}"
        raise RuntimeError(msg)
    roots = []
    for y, g in zip(outputs, given, strict=True):
        if y._node is None:
            if skip_constants:
                continue
            msg = f"{who}: a tensor of shape {tuple(y.shape)} does not require grad and has no grad_fn"
            raise RuntimeError(msg)
        if g is None:
            if y._array.size != 1:
                msg = f"{who}: grad can be implicitly created only for scalar outputs, got shape {tuple(y.shape)}"
                raise RuntimeError(msg)
            if y._array.dtype.kind == "c":
                msg = f"{who}: grad can be implicitly created only for real scalar outputs, got {y.dtype}; give the gradient"
                raise RuntimeError(msg)
            g = y.data  # a plain tensor, for the ones that follow
            g._array = np.empty_like(y._array)
            g._array.fill(1)
        elif tuple(g._array.shape) != tuple(y._array.shape):
            msg = f"{who}: expected a gradient of shape {tuple(y.shape)}, got {tuple(g.shape)}"
            raise RuntimeError(msg)
        roots.append((y._node, g))
    return roots


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, Sequence) else (x,)


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Accumulate into ``.grad`` of the leaves (all, or those in ``inputs``) the gradient of ``tensors``.

    >>> import tensor as T
    >>> x = T.tensor([1.0, 2.0], requires_grad=True)
    >>> backward((x * x).sum())
    >>> x.grad
    tensor([2., 4.])
    """
    outputs = _as_tuple(tensors)
    roots = root_gradients(outputs, None if grad_tensors is None else _as_tuple(grad_tensors), "backward")
    if inputs is not None:
        targets = _as_tuple(inputs)
        found = grad(outputs, targets, [g for _, g in roots], retain_graph, create_graph, allow_unused=True)
        for t, g in zip(targets, found, strict=True):
            if g is not None:
                t.grad = g if t.grad is None else t.grad + g
        return
    handed_out = {id(g._array) for _, g in roots} if grad_tensors is not None else set()
    keep = create_graph if retain_graph is None else retain_graph
    before = record_gradients(create_graph)
    try:
        leaves = run(roots, create_graph=create_graph, retain_graph=keep)
        for leaf, g in leaves.items():
            accumulate(leaf, run_hooks(leaf, g) if leaf.hooks else g, create_graph, handed_out)
        while watch.finished:
            watch.finished.pop(0)()
    finally:
        watch.finished.clear()
        record_gradients(before)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Tensor, ...]:
    """The gradient of ``outputs`` with respect to any tensors in the graph, as new tensors; ``.grad`` stays as it was.

    With ``create_graph`` the result can be differentiated again, to any order. An input that the outputs do not depend on is an
    error, or None with ``allow_unused``, or zeros with ``materialize_grads``; so is an output that depends on nothing.

    >>> import tensor as T
    >>> x = T.tensor(3.0, requires_grad=True)
    >>> (dy,) = grad(x**3, x, create_graph=True)
    >>> grad(dy, x)
    (tensor(18.),)
    """
    ys, xs = _as_tuple(outputs), _as_tuple(inputs)
    lenient = bool(allow_unused or materialize_grads)
    roots = root_gradients(ys, None if grad_outputs is None else _as_tuple(grad_outputs), "grad", lenient)
    for x in xs:
        if x._node is None:
            msg = f"grad: an input of shape {tuple(x.shape)} does not require grad"
            raise RuntimeError(msg)
    targets = {x._node for x in xs}
    wanted = nodes_between([n for n, _ in roots], targets)
    captured: dict[Node, Any] = {n: None for n in targets if type(n) is not Leaf}
    keep = create_graph if retain_graph is None else retain_graph
    before = record_gradients(create_graph)
    try:
        leaves = run(roots, create_graph=create_graph, retain_graph=keep, wanted=wanted, captured=captured)
        results: list[Any] = []
        for x in xs:
            node = x._node
            g = leaves.get(node) if type(node) is Leaf else captured[node]
            if g is not None and type(node) is Leaf and node.hooks:
                g = run_hooks(node, g)
            if g is None and materialize_grads:
                g = x.detach().new_zeros(x.shape)
            if g is None and not lenient:
                msg = (
                    "grad: one of the inputs does not appear in the graph of the outputs; pass allow_unused=True if that is meant"
                )
                raise RuntimeError(msg)
            results.append(g)
        while watch.finished:
            watch.finished.pop(0)()
    finally:
        watch.finished.clear()
        record_gradients(before)
    return tuple(results)


def nodes_between(roots: list[Node], targets: set[Any]) -> set[Node]:
    """The nodes on a path from a root to a target, both included."""
    order: list[Node] = []
    seen = set(roots)
    stack = list(seen)
    while stack:
        node = stack.pop()
        order.append(node)
        for edge in node.edges:
            if edge is not None and edge not in seen:
                seen.add(edge)
                stack.append(edge)
    order.sort(key=attrgetter("number"))  # inputs first, so that one sweep decides
    wanted: set[Node] = set()
    for node in order:
        if node in targets or not wanted.isdisjoint(node.edges):
            wanted.add(node)
    return wanted
