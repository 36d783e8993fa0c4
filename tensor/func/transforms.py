"""Functions into their derivatives: `grad`, `vjp`, `jvp`, `jacrev`, `jacfwd`, `hessian`, which nest and go with `vmap`.

A transform gives the function tensors of its own in place of its arguments, and differentiates by those. The result depends on
whatever else requires grad: arguments of an outer transform, or tensors that the function closes over. A graph of the result is
made only when there is such a thing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensor.autograd.engine import grad as engine_grad
from tensor.autograd.modes import enable_grad, is_grad_enabled
from tensor.autograd.node import Node, next_number
from tensor.autograd.tensor import Tensor
from tensor.func.trees import leaves_of, map_tree, rebuild
from tensor.func.vmap import vmap

__all__ = ["grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "vjp"]


class Alias(Node):
    """The same value under a name of its own."""

    __slots__ = ()

    def backward(self, g: Any) -> tuple[Any, ...]:
        return (g,)


def _own(x: Any, who: str) -> Tensor:
    """A tensor to differentiate by, which an outer transform can differentiate further."""
    if not isinstance(x, Tensor) or x._array.dtype.kind not in "fc":
        msg = f"{who}: expected floating-point tensors to differentiate by, got {_kind(x)}"
        raise TypeError(msg)
    own = x.detach()
    own._node = Alias()  # no leaf: a backward pass through the result has nothing to accumulate here
    own._node.setup(() if x._node is None else (x._node,), own._array.shape, own._array.dtype)
    return own


def _kind(x: Any) -> str:
    return str(x.dtype) if isinstance(x, Tensor) else type(x).__name__


class _Linearised:
    """A function at a point: its value, and products with its Jacobian.

    ``outer``: whether anything outside of the transform requires grad, so that what comes out must be differentiable.
    """

    def __init__(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Any, argnums: Any, has_aux: bool, who: str) -> None:
        self.who = who
        since = next_number()
        positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        for i in positions:
            if not -len(args) <= i < len(args):
                msg = f"{who}: argnums {i} is out of range for {len(args)} arguments"
                raise RuntimeError(msg)
        recorded = is_grad_enabled()
        with enable_grad():
            owned = list(args)
            for i in positions:
                owned[i] = map_tree(lambda x: _own(x, who), args[i])
            out = func(*owned, **kwargs)
        self.aux: Any = None
        if has_aux:
            if not isinstance(out, tuple) or len(out) != 2:
                msg = f"{who}: with has_aux=True the function returns (output, aux), got {type(out).__name__}"
                raise RuntimeError(msg)
            out, self.aux = out
        self.inputs = owned[argnums] if isinstance(argnums, int) else tuple(owned[i] for i in positions)
        self.outputs = out
        for y in leaves_of(out):
            if not isinstance(y, Tensor):
                msg = f"{who}: expected the function to return tensors, got {type(y).__name__}"
                raise RuntimeError(msg)
        self.outer = recorded and _reaches_outside([y._node for y in (*leaves_of(out), *leaves_of(self.aux))
                                                    if isinstance(y, Tensor) and y._node is not None], since)  # fmt: skip

    def free(self, tree: Any) -> Any:
        """Results of the function as the caller gets them."""
        return tree if self.outer else map_tree(lambda y: y.detach() if isinstance(y, Tensor) else y, tree)

    def pull(self, cotangents: Any, *, keep: bool, create_graph: bool) -> Any:
        """The product of cotangents (a tree like the outputs) with the Jacobian: a tree like the inputs."""
        ys, vs = leaves_of(self.outputs), leaves_of(cotangents)
        if len(ys) != len(vs):
            msg = f"{self.who}: expected cotangents for {len(ys)} outputs, got {len(vs)}"
            raise RuntimeError(msg)
        xs = leaves_of(self.inputs)
        used = [(y, v) for y, v in zip(ys, vs, strict=True) if y._node is not None]
        with enable_grad():
            if not used:
                grads: Any = [x.detach().new_zeros(x.shape) for x in xs]
            else:
                grads = engine_grad([y for y, _ in used], xs, [v for _, v in used], keep, create_graph, materialize_grads=True)
        return rebuild(self.inputs, iter(grads))


def _reaches_outside(nodes: list[Any], since: int) -> bool:
    """Whether a graph leads to a node made before number ``since``."""
    stack, seen = list(nodes), set(nodes)
    while stack:
        node = stack.pop()
        if node.number < since:
            return True
        for edge in node.edges:
            if edge is not None and edge not in seen:
                seen.add(edge)
                stack.append(edge)
    return False


def grad_and_value(func: Callable[..., Any], argnums: Any = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The function that returns ``(gradient, value)`` of a scalar function; see `grad`.

    >>> import tensor as T
    >>> grad_and_value(lambda x: (x * x).sum())(T.tensor([1.0, 2.0]))
    (tensor([2., 4.]), tensor(5.))
    """

    @functools.wraps(func)
    def derived(*args: Any, **kwargs: Any) -> Any:
        here = _Linearised(func, args, kwargs, argnums, has_aux, "grad")
        y = here.outputs
        if not isinstance(y, Tensor) or y.ndim:
            what = f"a tensor of shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            msg = f"grad: expected the function to return a scalar tensor, got {what}"
            raise RuntimeError(msg)
        g = here.pull(y.detach().new_ones(()), keep=here.outer, create_graph=here.outer)
        value = here.free(y)
        return (g, (value, here.free(here.aux))) if has_aux else (g, value)

    return derived


def grad(func: Callable[..., Any], argnums: Any = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The function that computes the gradient of a scalar function by its arguments ``argnums`` (an int, or a tuple of them).

    An argument may be a tree of tensors; the gradient has its structure. With ``has_aux`` the function returns ``(output, aux)``
    and its gradient ``(gradient, aux)``.

    >>> import tensor as T
    >>> cube = lambda x: x**3
    >>> grad(grad(cube))(T.tensor(2.0))
    tensor(12.)
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def derived(*args: Any, **kwargs: Any) -> Any:
        g, value = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return derived


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """``(output, vjp_fn)``: the output, and the function from cotangents (like the output) to a tuple of gradients.

    >>> import tensor as T
    >>> y, pull = vjp(T.sin, T.zeros(2))
    >>> pull(T.tensor([1.0, 2.0]))
    (tensor([1., 2.]),)
    """
    here = _Linearised(func, primals, {}, tuple(range(len(primals))), has_aux, "vjp")

    def vjp_fn(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        again = is_grad_enabled() and (here.outer or _any_requires_grad(cotangents))
        return here.pull(cotangents, keep=retain_graph, create_graph=again if create_graph is None else create_graph)

    out = here.free(here.outputs)
    return (out, vjp_fn, here.free(here.aux)) if has_aux else (out, vjp_fn)


def _any_requires_grad(tree: Any) -> bool:
    return any(isinstance(x, Tensor) and x._node is not None for x in leaves_of(tree))


def _pusher(here: _Linearised) -> Callable[[Any], Any]:
    """Products of the Jacobian with tangents: the gradient is linear in its cotangent, so its own gradient is the product."""
    with enable_grad():
        zeros = map_tree(lambda y: y.detach().new_zeros(y.shape).requires_grad_(), here.outputs)
        pulled = leaves_of(here.pull(zeros, keep=True, create_graph=True))
    seeds = leaves_of(zeros)

    def push(tangents: Any) -> Any:
        vs = leaves_of(tangents)
        used = [(g, v) for g, v in zip(pulled, vs, strict=True) if g._node is not None]
        again = here.outer or (is_grad_enabled() and _any_requires_grad(tangents))
        with enable_grad():
            if not used:
                return map_tree(lambda z: z.detach(), zeros)
            out = engine_grad([g for g, _ in used], seeds, [v for _, v in used], True, again, materialize_grads=True)
        return rebuild(zeros, iter(out))

    return push


def jvp(func: Callable[..., Any], primals: Any, tangents: Any, *, has_aux: bool = False) -> Any:
    """``(output, jvp)``: the output at the primals, and the product of the Jacobian with the tangents (both tuples).

    >>> import tensor as T
    >>> jvp(T.sin, (T.zeros(2),), (T.tensor([1.0, 2.0]),))
    (tensor([0., 0.]), tensor([1., 2.]))
    """
    for who, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, tuple) or not given:
            msg = f"jvp: expected {who} to be a non-empty tuple, got {type(given).__name__}"
            raise RuntimeError(msg)
    xs, vs = leaves_of(primals), leaves_of(tangents)
    if [tuple(x.shape) for x in xs] != [tuple(v.shape) for v in vs]:
        msg = f"jvp: expected tangents of shapes {[tuple(x.shape) for x in xs]}, got {[tuple(v.shape) for v in vs]}"
        raise RuntimeError(msg)
    here = _Linearised(func, primals, {}, tuple(range(len(primals))), has_aux, "jvp")
    pushed = _pusher(here)(tangents)
    out = here.free(here.outputs)
    return (out, pushed, here.free(here.aux)) if has_aux else (out, pushed)


def _unit_trees(leaves: list[Tensor]) -> tuple[list[Tensor], list[int]]:
    """For each leaf the batch of all unit vectors of the whole tree, and how many belong to each leaf."""
    counts = [x.numel() for x in leaves]
    total, start, batches = sum(counts), 0, []
    for x, n in zip(leaves, counts, strict=True):
        rows = np.zeros((total, n), x._array.dtype)
        rows[np.arange(start, start + n), np.arange(n)] = 1
        batches.append(x.detach().new_tensor(rows).reshape(total, *x.shape))
        start += n
    return batches, counts


def jacrev(
    func: Callable[..., Any], argnums: Any = 0, *, has_aux: bool = False, chunk_size: int | None = None
) -> Callable[..., Any]:
    """The function that computes the Jacobian, one row an output element, by reverse mode: shape ``[*output, *input]``.

    >>> import tensor as T
    >>> jacrev(lambda x: x * x)(T.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    @functools.wraps(func)
    def derived(*args: Any, **kwargs: Any) -> Any:
        here = _Linearised(func, args, kwargs, argnums, has_aux, "jacrev")
        ys = leaves_of(here.outputs)
        units, counts = _unit_trees(ys)
        rows = vmap(lambda *vs: here.pull(vs, keep=True, create_graph=here.outer), chunk_size=chunk_size)(*units)
        blocks = [_with_rows(parts, y.shape) for y, parts in zip(ys, _split_rows(rows, counts), strict=True)]
        jacobian = rebuild(here.outputs, iter(blocks))
        return (jacobian, here.free(here.aux)) if has_aux else jacobian

    return derived


def _with_rows(tree: Any, shape: Any) -> Any:
    """The rows, in a row until now, in the shape of the output that they belong to."""
    return map_tree(lambda g: g.reshape(*shape, *g.shape[1:]), tree)


def _split_rows(tree: Any, counts: list[int]) -> list[Any]:
    pieces = [leaf.split(counts, 0) for leaf in leaves_of(tree)]
    return [rebuild(tree, iter([p[i] for p in pieces])) for i in range(len(counts))]


def jacfwd(
    func: Callable[..., Any], argnums: Any = 0, has_aux: bool = False, *, randomness: str = "error", chunk_size: int | None = None
) -> Callable[..., Any]:
    """The function that computes the Jacobian, one column an input element: the result of `jacrev`, cheaper for few inputs.

    >>> import tensor as T
    >>> jacfwd(lambda x: x * x)(T.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    @functools.wraps(func)
    def derived(*args: Any, **kwargs: Any) -> Any:
        here = _Linearised(func, args, kwargs, argnums, has_aux, "jacfwd")
        xs = leaves_of(here.inputs)
        units, counts = _unit_trees(xs)
        push = _pusher(here)
        columns = vmap(lambda *vs: push(vs), randomness=randomness, chunk_size=chunk_size)(*units)
        blocks = []
        for y in leaves_of(columns):
            parts = [p.movedim(0, -1).reshape(*p.shape[1:], *x.shape) for p, x in zip(y.split(counts, 0), xs, strict=True)]
            blocks.append(rebuild(here.inputs, iter(parts)))
        jacobian = rebuild(here.outputs, iter(blocks))
        return (jacobian, here.free(here.aux)) if has_aux else jacobian

    return derived


def hessian(func: Callable[..., Any], argnums: Any = 0) -> Callable[..., Any]:
    """The function that computes the second derivatives of a scalar function: shape ``[*input, *input]``.

    >>> import tensor as T
    >>> hessian(lambda x: (x**3).sum())(T.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacfwd(jacrev(func, argnums), argnums)
