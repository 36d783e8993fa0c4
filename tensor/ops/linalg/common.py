"""What the files of linear algebra share: checks, errors, adjoints, and LAPACK's routines over a batch.

NumPy's own `np.linalg` serves wherever it has the decomposition, since it dispatches to the array's backend and loops over batches itself.
What only SciPy wraps goes through `over_batch`, which is the one place that needs arrays in the host's memory.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensor import cuda
from tensor.autograd.tensor import Tensor
from tensor.ops.complex_numbers import cj
from tensor.ops.record import Array
from tensor.ops.whole import whole

__all__ = [
    "LinAlgError", "adjoint", "check_float", "check_matrix", "check_square", "check_triangular_pair", "diagonal_matrix", "identity_like", "lapack",
    "over_batch", "raise_for",
]  # fmt: skip


class LinAlgError(RuntimeError):
    """A matrix for which the asked-for result does not exist: singular, not positive definite, not finite."""


def check_float(who: str, x: Tensor) -> None:
    """LAPACK knows four dtypes."""
    if x._array.dtype.kind not in "fc" or x._array.dtype.itemsize < 4:
        msg = f"{who}: expected a tensor of float32, float64, complex64 or complex128, got {x.dtype}"
        raise RuntimeError(msg)


def check_matrix(who: str, x: Tensor) -> None:
    """A matrix or a batch of them, of a dtype that LAPACK knows."""
    if not isinstance(x, Tensor):
        msg = f"{who}: expected a tensor, got {type(x).__name__}"
        raise TypeError(msg)
    if x.ndim < 2:
        msg = f"{who}: expected a matrix or a batch of matrices [..., m, n], got shape {tuple(x.shape)}"
        raise RuntimeError(msg)
    check_float(who, x)


def check_square(who: str, x: Tensor) -> None:
    """A square matrix or a batch of them."""
    check_matrix(who, x)
    if x.shape[-1] != x.shape[-2]:
        msg = f"{who}: expected a square matrix or a batch of them, got shape {tuple(x.shape)}"
        raise RuntimeError(msg)


def check_triangular_pair(who: str, a: Tensor, b: Tensor, left: bool = True) -> None:
    """A square matrix and a right-hand side of matching size and dtype."""
    check_square(who, a)
    check_matrix(who, b)
    same_dtype(who, a, b)
    n = b.shape[-2 if left else -1]
    if a.shape[-1] != n:
        side = "rows" if left else "columns"
        msg = f"{who}: expected B with {a.shape[-1]} {side}, as A has, got shapes {tuple(a.shape)} and {tuple(b.shape)}"
        raise RuntimeError(msg)


def same_dtype(who: str, a: Tensor, b: Tensor) -> None:
    """LAPACK takes operands of one dtype."""
    if a.dtype is not b.dtype:
        msg = f"{who}: expected operands of one dtype, got {a.dtype} and {b.dtype}"
        raise RuntimeError(msg)


def adjoint(x: Tensor) -> Tensor:
    """The conjugate transpose; of real matrices a mere view."""
    y: Tensor = cj(x.mT)
    return y


def identity_like(x: Tensor, rows: int, columns: int | None = None) -> Tensor:
    """An identity matrix beside ``x``, of its dtype."""
    return Tensor(cuda.native(np.eye, x._array)(rows, columns, dtype=x._array.dtype))


def diagonal_matrix(x: Tensor, like: Tensor) -> Tensor:
    """Real or complex numbers as diagonal matrices of the dtype of ``like``."""
    matrix: Tensor = x.to(like.dtype).diag_embed()
    return matrix


def first_failure(info: Tensor) -> tuple[str, int] | None:
    """Where in the batch LAPACK's ``info`` is not 0, in words, and its value there."""
    codes = cuda.to_host(info._array)
    bad = np.argwhere(codes != 0)
    if not len(bad):
        return None
    where = tuple(int(i) for i in bad[0])
    element = f" (batch element {', '.join(map(str, where))})" if where else ""
    return element, int(codes[where])


def raise_for(who: str, info: Tensor, wrong: str) -> None:
    """Raise for the first matrix of the batch with an ``info`` that is not 0; ``wrong`` may use its number as ``{code}``."""
    failure = first_failure(info)
    if failure is not None:
        element, code = failure
        msg = f"{who}: {wrong.format(code=code)}{element}"
        raise LinAlgError(msg)


def check_finite(who: str, x: Tensor) -> None:
    """Iterations of LAPACK do not converge on infinities and nans; say so before."""
    finite = np.isfinite(x._array).all(axis=(-2, -1))
    raise_for(who, Tensor(np.logical_not(finite).astype(np.int32)), "expected finite elements, got infinities or nans")


def lapack(name: str, dtype: np.dtype[Any], module: str = "lapack") -> Any:
    """The routine of LAPACK (or BLAS) for a dtype."""
    letter = {"float32": "s", "float64": "d", "complex64": "c", "complex128": "z"}[dtype.name]
    return getattr(importlib.import_module(f"scipy.linalg.{module}"), letter + name)


@whole
def over_batch(
    function: Callable[..., Sequence[Any]],
    arrays: Sequence[Array],
    cores: Sequence[int],
    outputs: Sequence[tuple[tuple[int, ...], Any]],
) -> list[Array]:
    """Call ``function`` for every matrix of a batch: its results in new arrays.

    ``cores``: how many of each array's last dimensions the function takes; the others broadcast. ``outputs``: the shape and dtype of each result
    for one matrix.
    """
    device = cuda.device_of(arrays[0])
    hosts = [cuda.to_host(a) for a in arrays]
    batch = np.broadcast_shapes(*(a.shape[: a.ndim - n] for a, n in zip(hosts, cores, strict=True)))
    given = [np.broadcast_to(a, batch + a.shape[a.ndim - n :]) for a, n in zip(hosts, cores, strict=True)]
    results = [np.zeros(batch + tuple(shape), dtype) for shape, dtype in outputs]
    for where in np.ndindex(*batch):
        for result, value in zip(results, function(*(a[where] for a in given)), strict=True):
            result[where] = value
    return results if device is None else [cuda.to_device(r, device) for r in results]
