"""Derivatives of functions at a point: what `tensor.autograd.functional` publishes.

Unlike the transforms, these give values, without history unless ``create_graph``; and say with ``strict`` when an output does not
depend on an input, where they otherwise give zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tensor.autograd.engine import grad
from tensor.autograd.modes import enable_grad
from tensor.autograd.tensor import Tensor
from tensor.func.transforms import jacfwd
from tensor.func.vmap import vmap
from tensor.ops.join import stack

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Tensors = Tensor | tuple[Tensor, ...]


def _tuple_of(who: str, what: str, given: Any) -> tuple[Tensor, ...]:
    xs = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    for x in xs:
        if not isinstance(x, Tensor):
            msg = f"{who}: expected {what} to be a tensor or a tuple of tensors, got {type(x).__name__}"
            raise TypeError(msg)
    return xs


def _own_inputs(who: str, inputs: Any, create_graph: bool) -> tuple[Tensor, ...]:
    """Tensors to differentiate by: with ``create_graph`` still a part of the graph that the inputs come from."""
    xs = _tuple_of(who, "the inputs", inputs)
    return tuple(x.view_as(x) if create_graph and x._node is not None else x.detach().requires_grad_() for x in xs)


def _evaluate(who: str, func: Callable[..., Any], xs: Sequence[Tensor], strict: bool) -> tuple[tuple[Tensor, ...], bool]:
    """The outputs, and whether they came as a tuple."""
    out = func(*xs)
    ys = _tuple_of(who, "the outputs of the function", out)
    for i, y in enumerate(ys):
        if strict and y._node is None:
            msg = f"{who}: output {i} of the function does not depend on the inputs, which strict=True does not allow"
            raise RuntimeError(msg)
    return ys, isinstance(out, (tuple, list))


def _pull(who: str, ys: Any, xs: Any, vs: Any, create_graph: bool, strict: bool, *, keep: bool = True) -> tuple[Tensor, ...]:
    """The gradients of the outputs, weighed by ``vs``; zeros where nothing depends on an input."""
    used = [(y, v) for y, v in zip(ys, vs, strict=True) if y._node is not None]
    if not used:
        return tuple(x.detach().new_zeros(x.shape) for x in xs)
    found = grad([y for y, _ in used], xs, [v for _, v in used], keep or create_graph, create_graph, allow_unused=True)
    for i, g in enumerate(found):
        if strict and (g is None or (create_graph and g._node is None)):
            what = "does not depend on" if g is None else "has a derivative that does not depend on"
            msg = f"{who}: the function {what} input {i}, which strict=True does not allow"
            raise RuntimeError(msg)
    return tuple(x.detach().new_zeros(x.shape) if g is None else g for g, x in zip(found, xs, strict=True))


def _finish(ts: Any, as_tuple: bool, create_graph: bool) -> Any:
    done = tuple(t if create_graph else t.detach() for t in ts)
    return done if as_tuple else done[0]


def _vectors(who: str, v: Any, like: Sequence[Tensor], what: str) -> tuple[Tensor, ...]:
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            msg = f"{who}: v may be left out only for a single {what} of one element, got shapes {[tuple(t.shape) for t in like]}"
            raise RuntimeError(msg)
        return (like[0].detach().new_ones(like[0].shape),)
    vs = _tuple_of(who, "v", v)
    if [tuple(t.shape) for t in vs] != [tuple(t.shape) for t in like]:
        msg = f"{who}: expected v of shapes {[tuple(t.shape) for t in like]}, got {[tuple(t.shape) for t in vs]}"
        raise RuntimeError(msg)
    return vs


def vjp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """``(outputs, v^T J)``: the function's value, and the product of ``v`` (like the outputs) with the Jacobian.

    >>> import tensor as T
    >>> vjp(lambda x: x * x, T.tensor([1.0, 2.0]), T.ones(2))
    (tensor([1., 4.]), tensor([2., 4.]))
    """
    with enable_grad():
        xs = _own_inputs("vjp", inputs, create_graph)
        ys, several = _evaluate("vjp", func, xs, strict)
        vs = _vectors("vjp", v, ys, "output")
        gs = _pull("vjp", ys, xs, vs, create_graph, strict, keep=False)
    return _finish(ys, several, create_graph), _finish(gs, isinstance(inputs, (tuple, list)), create_graph)


def jvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """``(outputs, J v)``: the function's value, and the product of the Jacobian with ``v`` (like the inputs).

    >>> import tensor as T
    >>> jvp(lambda x: x * x, T.tensor([1.0, 2.0]), T.ones(2))
    (tensor([1., 4.]), tensor([2., 4.]))
    """
    with enable_grad():
        xs = _own_inputs("jvp", inputs, create_graph)
        vs = _vectors("jvp", v, xs, "input")
        ys, several = _evaluate("jvp", func, xs, strict)
        # v^T J is linear in v, so its own gradient by v is J.
        seeds = tuple(y.detach().new_zeros(y.shape).requires_grad_() for y in ys)
        pulled = _pull("jvp", ys, xs, seeds, True, strict)
        pushed = _pull("jvp", pulled, seeds, vs, create_graph, False)
    return _finish(ys, several, create_graph), _finish(pushed, several, create_graph)


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The derivatives of every output element by every input element: shape ``[*output, *input]``.

    Several inputs give a tuple, several outputs a tuple of those. ``vectorize``: all rows at once, by `vmap`. ``strategy``: rows
    by "reverse-mode", or columns by "forward-mode", which needs ``vectorize``.

    >>> import tensor as T
    >>> jacobian(lambda x: x * x, T.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if strategy not in ("reverse-mode", "forward-mode"):
        msg = f"jacobian: expected strategy 'reverse-mode' or 'forward-mode', got {strategy!r}"
        raise ValueError(msg)
    if vectorize and strict:
        msg = "jacobian: strict=True and vectorize=True do not go together"
        raise RuntimeError(msg)
    xs_several = isinstance(inputs, (tuple, list))
    with enable_grad():
        xs = _own_inputs("jacobian", inputs, create_graph)
        if strategy == "forward-mode":
            if not vectorize:
                msg = "jacobian: strategy 'forward-mode' needs vectorize=True"
                raise NotImplementedError(msg)
            found = jacfwd(func, tuple(range(len(xs))))(*xs)
            rows, several = (found, True) if isinstance(found[0], tuple) else ((found,), False)
        else:
            ys, several = _evaluate("jacobian", func, xs, strict)
            row_maker = _rows_at_once if vectorize else _row_by_row
            rows = tuple(row_maker(y, xs, create_graph, strict) for y in ys)
        done = tuple(_finish(row, xs_several, create_graph) for row in rows)
    return done if several else done[0]


def _row_by_row(y: Tensor, xs: Any, create_graph: bool, strict: bool) -> tuple[Tensor, ...]:
    rows = []
    for i in range(y.numel()):
        seed = y.detach().new_zeros(y.numel())
        seed[i] = 1
        rows.append(_pull("jacobian", [y], xs, [seed.reshape(y.shape)], create_graph, strict))
    return _shaped(rows, y, xs)


def _shaped(rows: list[tuple[Tensor, ...]], y: Tensor, xs: Any) -> tuple[Tensor, ...]:
    if not rows:
        return tuple(x.detach().new_zeros((*y.shape, *x.shape)) for x in xs)
    return tuple(stack(list(gs), 0).reshape(*y.shape, *x.shape) for gs, x in zip(zip(*rows, strict=True), xs, strict=True))


def _rows_at_once(y: Tensor, xs: Any, create_graph: bool, strict: bool) -> tuple[Tensor, ...]:
    if not y.numel():
        return _shaped([], y, xs)
    seeds = y.detach().new_zeros((y.numel(), y.numel()))
    seeds.diagonal().fill_(1)
    rows = vmap(lambda v: _pull("jacobian", [y], xs, [v], create_graph, strict))(seeds.reshape(y.numel(), *y.shape))
    return tuple(g.reshape(*y.shape, *x.shape) for g, x in zip(rows, xs, strict=True))


def _scalar(who: str, func: Callable[..., Any]) -> Callable[..., Tensor]:
    def checked(*xs: Tensor) -> Tensor:
        y = func(*xs)
        if not isinstance(y, Tensor) or y.numel() != 1:
            what = f"a tensor of shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            msg = f"{who}: expected the function to return a single value, got {what}"
            raise RuntimeError(msg)
        return y.reshape(())

    return checked


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The second derivatives of a scalar function: shape ``[*input, *input]``; for several inputs a tuple of tuples.

    >>> import tensor as T
    >>> hessian(lambda x: (x**3).sum(), T.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    scalar = _scalar("hessian", func)

    def gradient(*xs: Tensor) -> Any:
        return tuple(jacobian(scalar, xs, create_graph=True, strict=strict))

    xs = _tuple_of("hessian", "the inputs", inputs)
    blocks = jacobian(gradient, xs, create_graph, strict, vectorize, outer_jacobian_strategy)
    return blocks if isinstance(inputs, (tuple, list)) else blocks[0][0]


def vhp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """``(output, v^T H)``: a scalar function's value, and the product of ``v`` with its Hessian.

    >>> import tensor as T
    >>> vhp(lambda x: (x**3).sum(), T.tensor([1.0, 2.0]), T.ones(2))
    (tensor(9.), tensor([ 6., 12.]))
    """
    several = isinstance(inputs, (tuple, list))
    with enable_grad():
        xs = _own_inputs("vhp", inputs, create_graph)
        vs = _vectors("vhp", v, xs, "input")
        y = _scalar("vhp", func)(*xs)
        if strict and y._node is None:
            msg = "vhp: the output of the function does not depend on the inputs, which strict=True does not allow"
            raise RuntimeError(msg)
        first = _pull("vhp", [y], xs, [y.detach().new_ones(())], True, strict)
        products = _pull("vhp", first, xs, vs, create_graph, strict)
    return (y if create_graph else y.detach()), _finish(products, several, create_graph)


def hvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """``(output, H v)``: a scalar function's value, and the product of its Hessian with ``v``; H is symmetric, so this is `vhp`.

    >>> import tensor as T
    >>> hvp(lambda x: (x**3).sum(), T.tensor([1.0, 2.0]), T.ones(2))
    (tensor(9.), tensor([ 6., 12.]))
    """
    return vhp(func, inputs, v, create_graph, strict)
