"""The named tuples that decompositions return, with PyTorch's field names."""

from __future__ import annotations

from typing import NamedTuple

from tensor.autograd.tensor import Tensor

__all__ = [
    "LDL", "LU", "QR", "SVD", "CholeskyEx", "Eig", "InvEx", "LDLEx", "LUFactor", "LUFactorEx", "Lstsq", "OldSVD", "Reflectors",
    "SLogDet", "SolveEx", "TriangularSolution",
]  # fmt: skip


class CholeskyEx(NamedTuple):
    """A Cholesky factor, and 0 or the order of the leading minor that is not positive definite."""

    L: Tensor
    info: Tensor


class Eig(NamedTuple):
    """Eigenvalues and the eigenvectors, which are columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class InvEx(NamedTuple):
    """An inverse, and 0 or the number of the pivot that is 0."""

    inverse: Tensor
    info: Tensor


class SolveEx(NamedTuple):
    """A solution, and 0 or the number of the pivot that is 0."""

    result: Tensor
    info: Tensor


class LDL(NamedTuple):
    """L and D in one matrix, and LAPACK's pivots."""

    LD: Tensor
    pivots: Tensor


class LDLEx(NamedTuple):
    """L and D in one matrix, LAPACK's pivots, and 0 or the number of the block that is singular."""

    LD: Tensor
    pivots: Tensor
    info: Tensor


class LUFactor(NamedTuple):
    """L and U in one matrix, and the row that each was exchanged with, counted from 1."""

    LU: Tensor
    pivots: Tensor


class LUFactorEx(NamedTuple):
    """L and U in one matrix, the row that each was exchanged with, and 0 or the number of the pivot that is 0."""

    LU: Tensor
    pivots: Tensor
    info: Tensor


class LU(NamedTuple):
    """A permutation, a unit lower triangle and an upper triangle whose product is the matrix."""

    P: Tensor
    L: Tensor
    U: Tensor


class Lstsq(NamedTuple):
    """A least-squares solution and what the driver knows beside it; the rest is empty."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


class QR(NamedTuple):
    """Orthonormal columns and an upper triangle."""

    Q: Tensor
    R: Tensor


class Reflectors(NamedTuple):
    """R with Householder vectors below its diagonal, and the scales of these vectors."""

    a: Tensor
    tau: Tensor


class SLogDet(NamedTuple):
    """The sign (or phase) of a determinant and the logarithm of its absolute value."""

    sign: Tensor
    logabsdet: Tensor


class SVD(NamedTuple):
    """Left singular vectors, singular values, and the adjoint of the right singular vectors."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class OldSVD(NamedTuple):
    """Left singular vectors, singular values, and right singular vectors, all as columns."""

    U: Tensor
    S: Tensor
    V: Tensor


class TriangularSolution(NamedTuple):
    """A solution, and a copy of the triangle."""

    solution: Tensor
    cloned_coefficient: Tensor
