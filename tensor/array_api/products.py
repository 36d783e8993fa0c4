"""Products of vectors and matrices that the main namespace has; the others are in `tensor.array_api.linalg`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tensor.array_api.array import promoted, standard
from tensor.array_api.axes import axis_of, each_axis
from tensor.array_api.elementwise import NUMERIC, check
from tensor.autograd.tensor import Tensor
from tensor.ops import matmul as products
from tensor.ops import reduce

__all__ = ["matmul", "matrix_transpose", "tensordot", "vecdot"]


@standard
def matmul(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The matrix product; vectors are rows on the left and columns on the right; leading dimensions broadcast."""
    check("matmul", NUMERIC, x1, x2)
    return products.matmul(*promoted("matmul", x1, x2))


@standard
def matrix_transpose(x: Tensor, /) -> Tensor:
    """The last two dimensions swapped, a view."""
    if x.ndim < 2:
        msg = f"matrix_transpose: expected at least two dimensions, got {x.ndim}"
        raise ValueError(msg)
    return x.transpose(-2, -1)


@standard
def tensordot(x1: Tensor, x2: Tensor, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """The sum of products over the last ``axes`` dimensions of x1 and the first of x2, or over pairs of dimensions."""
    check("tensordot", NUMERIC, x1, x2)
    a, b = promoted("tensordot", x1, x2)
    if isinstance(axes, int):
        if not 0 <= axes <= min(a.ndim, b.ndim):
            msg = f"tensordot: expected axes between 0 and {min(a.ndim, b.ndim)}, got {axes}"
            raise ValueError(msg)
        axes = (range(a.ndim - axes, a.ndim), range(axes))
    left, right = each_axis("tensordot", axes[0], a.ndim), each_axis("tensordot", axes[1], b.ndim)
    if [a.shape[i] for i in left] != [b.shape[i] for i in right]:
        msg = f"tensordot: shapes {tuple(a.shape)} and {tuple(b.shape)} do not match along axes {left} and {right}"
        raise ValueError(msg)
    free_a, free_b = ([i for i in range(x.ndim) if i not in summed] for x, summed in ((a, left), (b, right)))
    rows, columns = [a.shape[i] for i in free_a], [b.shape[i] for i in free_b]
    n = math.prod(a.shape[i] for i in left)
    product = products.matmul(
        a.permute(*free_a, *left).reshape(math.prod(rows), n), b.permute(*right, *free_b).reshape(n, math.prod(columns))
    )
    return product.reshape([*rows, *columns])


@standard
def vecdot(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """The dot products of vectors along an axis, of which complex ones on the left are conjugated; the rest broadcasts."""
    check("vecdot", NUMERIC, x1, x2)
    a, b = promoted("vecdot", x1, x2)
    if not min(a.ndim, b.ndim):
        msg = "vecdot: expected at least one dimension of each array, got a 0-d array"
        raise ValueError(msg)
    ndim = max(a.ndim, b.ndim)
    along = axis_of("vecdot", axis, ndim) - ndim
    if along < -min(a.ndim, b.ndim) or a.shape[along] != b.shape[along]:
        msg = f"vecdot: expected vectors of one length along axis {axis}, got shapes {tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(msg)
    return reduce.sum((a.conj() if a.is_complex() else a) * b, along).to(a.dtype)
