"""Parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from tensor.autograd.inplace import bump
from tensor.autograd.tensor import Tensor
from tensor.ops.join import cat

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of the parameters one after the other; differentiable.

    >>> import tensor as T
    >>> parameters_to_vector([T.ones(2), T.zeros(1, 1)])
    tensor([1., 1., 0.])
    """
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write the elements of a vector into the parameters, in place and unrecorded.

    Raises ValueError for a vector of another length than the parameters have together.
    """
    targets = list(parameters)
    total = sum(p._array.size for p in targets)
    if vec._array.shape != (total,):
        msg = f"vector_to_parameters: expected a vector of {total} elements, got shape {list(vec.shape)}"
        raise ValueError(msg)
    start = 0
    for p in targets:
        stop = start + p._array.size
        p._array[...] = vec._array[start:stop].reshape(p._array.shape)
        bump(p)
        start = stop
