"""Products of vectors and matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensor.autograd.modes import is_grad_enabled
from tensor.autograd.node import Term
from tensor.autograd.tensor import Tensor
from tensor.ops.complex_numbers import cj
from tensor.ops.record import Array, attach, composite, operator

__all__ = [
    "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "chain_matmul", "cross", "dot", "einsum", "ger", "inner", "kron", "linear", "matmul",
    "mm", "mv", "outer", "tensordot", "trace", "vdot",
]  # fmt: skip


def _check_product(a: Array, b: Array) -> None:
    if not a.ndim or not b.ndim:
        msg = f"matmul: both arguments need at least one dimension, got {a.ndim} and {b.ndim}"
        raise RuntimeError(msg)
    if a.dtype != b.dtype:
        msg = f"matmul: expected operands of one dtype, got {a.dtype} and {b.dtype}"
        raise RuntimeError(msg)
    inner_b = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner_b:
        msg = f"matmul: shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be multiplied"
        raise RuntimeError(msg)


def _left(g: Tensor, a_shape: Any, b: Tensor) -> Tensor:
    b = cj(b)
    if b.ndim == 1:
        return g.unsqueeze(-1) * b if len(a_shape) > 1 else g * b
    if len(a_shape) == 1:
        return (g.unsqueeze(-2) @ b.mT).squeeze(-2)
    return g @ b.mT


def _right(g: Tensor, a: Tensor, b_shape: Any) -> Tensor:
    a = cj(a)
    if a.ndim == 1:
        return a.unsqueeze(-1) * g.unsqueeze(-2) if len(b_shape) > 1 else g * a
    if len(b_shape) == 1:
        return (a.mT @ g.unsqueeze(-1)).squeeze(-1)
    return a.mT @ g


@operator({"a": _left, "b": _right}, onnx="MatMul")
def matmul(a: Array, b: Array) -> Array:
    """The matrix product; vectors are rows on the left and columns on the right; leading dimensions broadcast.

    >>> import tensor as T
    >>> T.matmul(T.ones(2, 3), T.ones(3))
    tensor([3., 3.])
    """
    if a.ndim == 2 and b.ndim == 2 and a.dtype is b.dtype and a.shape[1] == b.shape[0]:
        # `dot` has half the overhead of `matmul`, and a column by a row is three times faster broadcast.
        return a * b if a.shape[1] == 1 else a.dot(b)
    _check_product(a, b)
    return np.matmul(a, b)


#: Up to so many rows, those of several uses of a weight are worth being put together for one product.
FEW = 32


def _bias_rule(g: Tensor, bias_shape: Any) -> Any:
    a = g._array
    if a.ndim != 2 or not bias_shape:
        return g.sum_to_size(bias_shape)
    return Term(_sum_of_rows, a, len(a)) if len(a) <= FEW and a.__class__ is np.ndarray and not is_grad_enabled() else row_sum(g)


def _weight_rule(g: Tensor, x: Tensor, weight_shape: Any) -> Any:
    if len(weight_shape) == 1:
        return (cj(x) * g.unsqueeze(-1)).reshape(-1, weight_shape[0]).sum(0)
    a = g._array
    if a.ndim != 2:
        g, x = g.reshape(-1, weight_shape[0]), x.reshape(-1, weight_shape[1])
        a = g._array
    if len(a) <= FEW and a.__class__ is np.ndarray and a.dtype.kind == "f" and not is_grad_enabled():
        return Term(_sum_of_outer, (a, x._array), len(a))
    return outer_sum(g, cj(x))


def _raw_x_rule(g: Array, weight: Array) -> Any:
    if g.ndim != 2 or weight.ndim != 2:
        return Tensor(g) @ Tensor(weight)
    return g * weight if g.shape[1] == 1 else g.dot(weight)


def _raw_weight_rule(g: Array, x: Array, weight_shape: Any) -> Any:
    if g.ndim == 2 and len(weight_shape) == 2:
        return Term(_sum_of_outer, (g, x), len(g)) if len(g) <= FEW else sum_outer(g, x)
    return _weight_rule(Tensor(g), Tensor(x), weight_shape)


def _raw_bias_rule(g: Array, bias_shape: Any) -> Any:
    if g.ndim == 2 and bias_shape:
        return Term(_sum_of_rows, g, len(g)) if len(g) <= FEW else sum_rows(g)
    return _bias_rule(Tensor(g), bias_shape)


@operator(
    {
        "x": lambda g, weight: g @ cj(weight),
        "weight": _weight_rule,
        "bias": _bias_rule,
    },
    method=False,
    onnx="Gemm",
    raw={"x": _raw_x_rule, "weight": _raw_weight_rule, "bias": _raw_bias_rule},
)
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """``x @ weight.T + bias``: [..., in], [out, in], [out] to [..., out]."""
    try:
        rows = x if x.ndim <= 2 else x.reshape(-1, x.shape[-1])
        r = rows.dot(weight.T)
        if rows is not x:
            r = r.reshape(*x.shape[:-1], *weight.shape[:-1])
    except ValueError:
        msg = f"linear: expected an input of shape [..., {weight.shape[-1]}], got {list(x.shape)}"
        raise RuntimeError(msg) from None
    if x.dtype is not weight.dtype and x.dtype != weight.dtype:
        msg = f"linear: expected input and weight of one dtype, got {x.dtype} and {weight.dtype}"
        raise RuntimeError(msg)
    if bias is not None:  # r is our own fresh array (or a number): no second pass over memory
        if r.__class__ is np.ndarray and r.ndim == 2 and len(r) == 1:
            row = r[0]  # NumPy adds what is of one shape in a third of the time
            row += bias
        else:
            r += bias
    return r


def _sum_of_rows(parts: list[Array]) -> Array:
    return sum_rows(parts[0] if len(parts) == 1 else np.concatenate(parts))


def _sum_of_outer(parts: list[tuple[Array, Array]]) -> Array:
    if len(parts) == 1:
        return sum_outer(*parts[0])
    return sum_outer(*(np.concatenate(rows) for rows in zip(*parts, strict=True)))


def sum_rows(x: Array) -> Array:
    """The sum of a matrix's rows."""
    if len(x) == 1:
        return x[0].copy()
    if x.size < 8192 or x.dtype.kind != "f":
        return np.add.reduce(x, 0)
    # BLAS sums the rows of a larger matrix three times faster than a reduction over the first axis.
    ones = np.empty_like(x, shape=len(x))
    ones.fill(1)
    return ones.dot(x)


def sum_outer(a: Array, b: Array) -> Array:
    """``a.T @ b``: the sum over rows of outer products."""
    # For a single row broadcasting is faster than a product of a column and a row.
    return a.T * b if len(a) == 1 else a.T.dot(b)


@operator({"x": lambda g, x_shape: g.expand(x_shape)})
def row_sum(x: Array) -> Array:
    """The sum of a matrix's rows: the gradient of a bias."""
    return sum_rows(x)


@operator({"a": lambda gg, b: linear(cj(b), gg), "b": lambda gg, a: cj(a) @ gg}, method=False)
def outer_sum(a: Array, b: Array) -> Array:
    """``a.T @ b``: the sum over rows of outer products, the gradient of a linear layer's weight."""
    return sum_outer(a, b)


def _dims(name: str, *wanted: tuple[Any, int]) -> None:
    for i, (x, n) in enumerate(wanted, 1):
        if x.ndim != n:
            msg = f"{name}: argument {i} must have {n} dimensions, got shape {tuple(x.shape)}"
            raise RuntimeError(msg)


@composite()
def mm(a: Tensor, b: Tensor) -> Tensor:
    """The product of two matrices."""
    _dims("mm", (a, 2), (b, 2))
    return matmul(a, b)


@composite()
def bmm(a: Tensor, b: Tensor) -> Tensor:
    """The products of two batches of matrices."""
    _dims("bmm", (a, 3), (b, 3))
    return matmul(a, b)


@composite()
def mv(a: Tensor, b: Tensor) -> Tensor:
    """The product of a matrix and a vector."""
    _dims("mv", (a, 2), (b, 1))
    return matmul(a, b)


@composite()
def dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of two vectors."""
    _dims("dot", (a, 1), (b, 1))
    return matmul(a, b)


@composite()
def vdot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of two vectors, the first conjugated."""
    return dot(a.conj(), b)


@composite(aliases=["ger"])
def outer(a: Tensor, b: Tensor) -> Tensor:
    """All products of an element of one vector with one of the other."""
    _dims("outer", (a, 1), (b, 1))
    return a.unsqueeze(1) * b


ger = outer


@composite()
def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner products over the last dimensions."""
    if not a.ndim or not b.ndim:
        return a * b
    return tensordot(a, b, ([-1], [-1]))


@composite(method=False)
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sum of products over pairs of dimensions: the last of ``a`` with the first of ``b``, or those in two lists."""
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        left, right = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        left, right = (
            [d % x.ndim for d in (p.tolist() if isinstance(p, Tensor) else p)] for p, x in zip(dims, (a, b), strict=True)
        )
    keep_a, keep_b = [d for d in range(a.ndim) if d not in left], [d for d in range(b.ndim) if d not in right]
    for i, j in zip(left, right, strict=True):
        if a.shape[i] != b.shape[j]:  # a length of 1 is summed over the other's
            if 1 not in (a.shape[i], b.shape[j]):
                msg = f"tensordot: contracted dimensions need one length, got {a.shape[i]} and {b.shape[j]}"
                raise RuntimeError(msg)
            a, b = (a, b.sum(j, keepdim=True)) if a.shape[i] == 1 else (a.sum(i, keepdim=True), b)
    n = int(np.prod([a.shape[d] for d in left]))
    m, k = (int(np.prod([x.shape[d] for d in kept])) for x, kept in ((a, keep_a), (b, keep_b)))
    rows = (a.permute(*keep_a, *left) if a.ndim else a).reshape(m, n)
    columns = (b.permute(*right, *keep_b) if b.ndim else b).reshape(n, k)
    return (rows @ columns).reshape([*(a.shape[d] for d in keep_a), *(b.shape[d] for d in keep_b)])


def _scaled(x: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    if product._array.dtype.kind in "iu":  # integers stay, as in PyTorch
        beta, alpha = int(beta), int(alpha)
    if alpha != 1:
        product = product * alpha
    if beta == 0:
        return product + (x * 0 if x.requires_grad else 0)
    return (x * beta if beta != 1 else x) + product


@composite(inplace=True)
def addmm(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * x + alpha * (a @ b)`` of matrices."""
    return _scaled(x, mm(a, b), beta, alpha)


@composite(inplace=True)
def addmv(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * x + alpha * (a @ b)`` of a matrix and a vector."""
    return _scaled(x, mv(a, b), beta, alpha)


@composite(inplace=True)
def addr(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * x + alpha * outer(a, b)``."""
    if x._array.dtype.kind == "b":
        return x * bool(beta) | (outer(a, b) & bool(alpha))
    return _scaled(x, outer(a, b), beta, alpha)


@composite(inplace=True)
def baddbmm(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * x + alpha * (a @ b)`` of batches of matrices."""
    return _scaled(x, bmm(a, b), beta, alpha)


@composite(inplace=True)
def addbmm(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * x + alpha * sum(a @ b)`` over a batch of matrices."""
    return _scaled(x, bmm(a, b).sum(0), beta, alpha)


@composite(method=False)
def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of several matrices, from the left."""
    result = matrices[0]
    for m in matrices[1:]:
        result = mm(result, m)
    return result


@composite()
def trace(x: Tensor) -> Tensor:
    """The sum of a matrix's diagonal."""
    _dims("trace", (x, 2))
    return x.diagonal().sum()


@composite()
def kron(a: Tensor, b: Tensor) -> Tensor:
    """The Kronecker product."""
    n = max(a.ndim, b.ndim)
    a, b = a.reshape((1,) * (n - a.ndim) + tuple(a.shape)), b.reshape((1,) * (n - b.ndim) + tuple(b.shape))
    left, right = a.reshape([k for s in a.shape for k in (s, 1)]), b.reshape([k for s in b.shape for k in (1, s)])
    return (left * right).reshape([s * t for s, t in zip(a.shape, b.shape, strict=True)])


@composite()
def cross(a: Tensor, b: Tensor, dim: int | None = None) -> Tensor:
    """The vector product along a dimension of length 3 (the first such one)."""
    if dim is None:
        dim = next(i for i, n in enumerate(a.shape) if n == 3)
    a1, b1 = a.roll(-1, dim), b.roll(-1, dim)
    a2, b2 = a.roll(-2, dim), b.roll(-2, dim)
    return a1 * b2 - a2 * b1


@composite(method=False)
def einsum(equation: str, *operands: Any) -> Tensor:
    """Sums of products written in Einstein's notation; ``...`` broadcasts; repeated letters take diagonals."""
    xs = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else list(operands)
    equation = equation.replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(xs):
        msg = f"einsum: the equation {equation!r} has {len(terms)} terms, got {len(xs)} operands"
        raise RuntimeError(msg)
    # Give the broadcast dimensions letters of their own, aligned at the right.
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in equation]
    widths = [x.ndim - len(t.replace("...", "")) if "..." in t else 0 for t, x in zip(terms, xs, strict=True)]
    dots = spare[: max(widths, default=0)]
    terms = [t.replace("...", "".join(dots[len(dots) - w :])) for t, w in zip(terms, widths, strict=True)]
    sizes: dict[str, int] = {}
    for n, (t, x) in enumerate(zip(terms, xs, strict=True)):
        if len(t) != x.ndim:
            msg = f"einsum: the term {t!r} has {len(t)} letters, got operand {n} of shape {list(x.shape)}"
            raise RuntimeError(msg)
        for c, size in zip(t, x.shape, strict=True):
            if sizes.get(c, 1) == 1:
                sizes[c] = size
            elif size not in (1, sizes[c]):
                msg = f"einsum: expected one size for {c!r} of {equation!r}, got {sizes[c]} and, in operand {n}, {size}"
                raise RuntimeError(msg)
    if not arrow:
        letters = "".join(terms)
        output = "..." + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in dots))
    output = output.replace("...", "".join(dots))
    everything = list(output) + sorted({c for t in terms for c in t} - set(output))
    aligned = []
    for t, x in zip(terms, xs, strict=True):
        while len(set(t)) < len(t):
            c = next(c for c in t if t.count(c) > 1)
            i = t.index(c)
            j = t.index(c, i + 1)
            x = x.diagonal(0, i, j)
            t = "".join(k for n, k in enumerate(t) if n not in (i, j)) + c
        order = [t.index(c) for c in everything if c in t]
        x = x.permute(*order) if order else x
        aligned.append(x.reshape([x.shape[[c for c in everything if c in t].index(c)] if c in t else 1 for c in everything]))
    result: Tensor = aligned[0]
    for k, x in enumerate(aligned[1:], 1):
        later = {c for t in terms[k + 1 :] for c in t} | set(output)
        result = _contract(result, x, [i for i, c in enumerate(everything) if c not in later])
    gone = tuple(range(len(output), len(everything)))
    return (result.sum(gone) if gone else result).reshape([result.shape[i] for i in range(len(output))])


def _contract(a: Tensor, b: Tensor, gone: list[int]) -> Tensor:
    """Multiply aligned operands and sum (keeping length 1) the dimensions in ``gone``, as one matrix product."""
    n = a.ndim
    both = [i for i in gone if a.shape[i] == b.shape[i] and a.shape[i] != 1]
    batch = [i for i in range(n) if i not in both and a.shape[i] != 1 and b.shape[i] != 1]
    only_a = [i for i in range(n) if i not in both and i not in batch and a.shape[i] != 1]
    only_b = [i for i in range(n) if i not in both and i not in batch and b.shape[i] != 1]
    ones = [i for i in range(n) if i not in {*both, *batch, *only_a, *only_b}]

    def size(x: Tensor, dims: list[int]) -> int:
        return int(np.prod([x.shape[i] for i in dims]))

    left = a.permute(*batch, *only_a, *both, *only_b, *ones).reshape(
        [a.shape[i] for i in batch] + [size(a, only_a), size(a, both)]
    )
    right = b.permute(*batch, *both, *only_b, *only_a, *ones).reshape(
        [b.shape[i] for i in batch] + [size(b, both), size(b, only_b)]
    )
    order = [*batch, *only_a, *only_b, *both, *ones]
    shape = [a.shape[i] for i in [*batch, *only_a]] + [b.shape[i] for i in only_b] + [1] * (len(both) + len(ones))
    product = (left @ right).reshape(shape).permute(*[order.index(i) for i in range(n)])
    rest = [i for i in gone if i not in both]
    return product.sum(tuple(rest), keepdim=True) if rest else product


attach(__matmul__=matmul, __rmatmul__=lambda self, other: matmul(other, self))
