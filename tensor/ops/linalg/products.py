"""Products, powers and the exponential of matrices."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tensor.autograd.tensor import Tensor
from tensor.ops.complex_numbers import cj
from tensor.ops.create import ones_like
from tensor.ops.join import cat
from tensor.ops.linalg.common import adjoint, identity_like, over_batch
from tensor.ops.linalg.solve import inv
from tensor.ops.matmul import cross as _cross_of
from tensor.ops.matmul import matmul
from tensor.ops.record import Array, attach, composite, operator
from tensor.ops.shape import broadcast_tensors

__all__ = ["cross", "diagonal", "matmul", "matrix_exp", "matrix_power", "multi_dot", "vander", "vecdot"]


@composite(method=False, name="linalg.cross")
def cross(a: Tensor, b: Tensor, *, dim: int = -1) -> Tensor:
    """The vector product along a dimension of length 3; the others broadcast.

    >>> import tensor as T
    >>> T.linalg.cross(T.tensor([1.0, 0.0, 0.0]), T.tensor([0.0, 1.0, 0.0]))
    tensor([0., 0., 1.])
    """
    if a.ndim != b.ndim or a.shape[dim] != 3 or b.shape[dim] != 3:
        msg = f"linalg.cross: expected vectors of 3 elements along dim {dim}, got shapes {tuple(a.shape)} and {tuple(b.shape)}"
        raise RuntimeError(msg)
    a, b = broadcast_tensors(a, b)
    return _cross_of(a, b, dim)


@composite(method=False, name="linalg.diagonal")
def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonals of matrices, a view: `diagonal` of the last two dimensions.

    >>> import tensor as T
    >>> T.linalg.diagonal(T.tensor([[1.0, 2.0], [3.0, 4.0]]), offset=1)
    tensor([2.])
    """
    view: Tensor = A.diagonal(offset, dim1, dim2)
    return view


@composite(method=False, name="linalg.vecdot")
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Inner products along a dimension, the first operand conjugated; the other dimensions broadcast.

    >>> import tensor as T
    >>> T.linalg.vecdot(T.tensor([[1.0, 2.0], [3.0, 4.0]]), T.ones(2))
    tensor([3., 7.])
    """
    if x.dtype is not y.dtype:
        msg = f"linalg.vecdot: expected operands of one dtype, got {x.dtype} and {y.dtype}"
        raise RuntimeError(msg)
    return (cj(x) * y).sum(dim)


@composite(method=False, name="linalg.vander")
def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """Rows of the powers 0 to N - 1 of each element: [..., n] to [..., n, N]. N is n if not given.

    >>> import tensor as T
    >>> T.linalg.vander(T.tensor([2, 3]), N=3)
    tensor([[1, 2, 4],
            [1, 3, 9]])
    """
    if N is not None and N < 2:
        msg = f"linalg.vander: expected N > 1, got {N}"
        raise RuntimeError(msg)
    x = x if x.ndim else x.reshape(1)
    n = x.shape[-1] if N is None else N
    factors = x.unsqueeze(-1).expand(*x.shape, max(n - 1, 0))
    return cat([ones_like(x).unsqueeze(-1), factors.cumprod(-1)], -1)[..., :n]


# --- several factors -------------------------------------------------------------------------------------------------


def _best_split(sizes: Sequence[int]) -> list[list[int]]:
    """Where to split each run i..j of a chain of matrices for the fewest multiplications (Cormen et al., section 15.2)."""
    n = len(sizes) - 1
    cost = [[0] * n for _ in range(n)]
    split = [[0] * n for _ in range(n)]
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            options = [cost[i][k] + cost[k + 1][j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j)]
            cost[i][j] = min(options)
            split[i][j] = i + options.index(cost[i][j])
    return split


@composite(method=False, name="linalg.multi_dot")
def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of two or more matrices, in the order of multiplications that needs the fewest; the first and last may be vectors.

    >>> import tensor as T
    >>> T.linalg.multi_dot([T.ones(2, 3), T.ones(3, 4), T.ones(4)])
    tensor([12., 12.])
    """
    who = "linalg.multi_dot"
    if len(tensors) < 2:
        msg = f"{who}: expected at least two tensors, got {len(tensors)}"
        raise RuntimeError(msg)
    shapes = [tuple(t.shape) for t in tensors]
    chain = list(tensors)
    if chain[0].ndim == 1:
        chain[0] = chain[0].unsqueeze(0)
    if chain[-1].ndim == 1:
        chain[-1] = chain[-1].unsqueeze(1)
    if any(t.ndim != 2 for t in chain) or any(a.shape[1] != b.shape[0] for a, b in pairwise(chain)):
        msg = f"{who}: expected matrices that can be multiplied, with vectors only first and last, got shapes {', '.join(map(str, shapes))}"
        raise RuntimeError(msg)
    split = _best_split([chain[0].shape[0], *(t.shape[1] for t in chain)])

    def product(i: int, j: int) -> Tensor:
        return chain[i] if i == j else product(i, split[i][j]) @ product(split[i][j] + 1, j)

    y = product(0, len(chain) - 1)
    outer = [*shapes[0][:-1], *shapes[-1][1:]]
    return y.reshape(outer) if len(outer) < 2 else y


@composite(method=False, name="linalg.matrix_power", aliases=["matrix_power"])
def matrix_power(A: Tensor, n: int) -> Tensor:
    """The n-th power of square matrices by repeated squaring, of the inverse for a negative n.

    >>> import tensor as T
    >>> T.linalg.matrix_power(T.tensor([[1.0, 1.0], [0.0, 1.0]]), 5)
    tensor([[1., 5.],
            [0., 1.]])
    """
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        msg = f"linalg.matrix_power: expected a square matrix or a batch of them, got shape {tuple(A.shape)}"
        raise RuntimeError(msg)
    if n == 0:
        return (
            A * 0 + identity_like(A, A.shape[-1]) if A.requires_grad else identity_like(A, A.shape[-1]).expand(*A.shape).clone()
        )
    square = inv(A) if n < 0 else A
    result = square
    for bit in bin(abs(n))[3:]:  # from the highest bit but the first
        result = result @ result
        if bit == "1":
            result = result @ square
    return result


def _matrix_exp_rule(g: Tensor, A: Tensor) -> Tensor:
    """The derivative is a block of the exponential of a matrix twice as large (Van Loan 1978)."""
    n = A.shape[-1]
    ah = adjoint(A)
    return matrix_exp(cat([cat([ah, g], -1), cat([ah * 0, ah], -1)], -2))[..., :n, n:]


@operator({"A": _matrix_exp_rule}, name="matrix_exp", aliases=["linalg.matrix_exp"], method=False)
def matrix_exp(A: Array) -> Array:
    """The exponential of square matrices [..., n, n]: ``1 + A + A @ A / 2 + ...``, by scaling and squaring of a Pade approximation.

    >>> import tensor as T
    >>> T.linalg.matrix_exp(T.zeros(2, 2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    if A.ndim < 2 or A.shape[-1] != A.shape[-2] or A.dtype.kind not in "fc":
        msg = (
            f"matrix_exp: expected square matrices of floating-point or complex numbers, got {A.dtype} of shape {tuple(A.shape)}"
        )
        raise RuntimeError(msg)
    if not A.size:
        return np.zeros_like(A)
    expm = importlib.import_module("scipy.linalg").expm
    wide = np.result_type(A.dtype, np.float64)  # single precision loses too much when the matrix is scaled and squared
    (y,) = over_batch(lambda a: [expm(a.astype(wide))], [A], [2], [(A.shape[-2:], A.dtype)])
    return y


attach(matrix_exp=matrix_exp, matrix_power=matrix_power)
