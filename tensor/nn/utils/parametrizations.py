"""Ready-made parametrizations: weights of a given norm, and orthogonal ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensor.autograd.modes import no_grad
from tensor.autograd.tensor import Tensor
from tensor.naming import quoted
from tensor.nn.module import Module
from tensor.nn.utils.parametrize import register_parametrization
from tensor.ops.create import eye
from tensor.ops.join import cat
from tensor.ops.linalg.orthogonal import geqrf, householder_product
from tensor.ops.linalg.products import matrix_exp
from tensor.ops.linalg.solve import solve
from tensor.ops.normalization import normalize

__all__ = ["norm_except_dim", "orthogonal", "power_iteration", "spectral_norm", "weight_norm"]


# --- weight normalisation -------------------------------------------------------------------------------------------------


def norm_except_dim(v: Tensor, dim: int | None) -> Tensor:
    """The 2-norms of the slices at each index of ``dim``, that dimension kept; of all elements for None or -1.

    >>> import tensor as T
    >>> norm_except_dim(T.tensor([[3.0, 4.0], [0.0, 1.0]]), 0)
    tensor([[5.],
            [1.]])
    """
    if dim is None or dim == -1:
        return v.norm()
    others = tuple(d for d in range(v.ndim) if d != dim % v.ndim)
    return v.norm(2, dim=others, keepdim=True) if others else v.abs()


class _WeightNorm(Module):
    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        return v * (g / norm_except_dim(v, self.dim))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Learn a weight as a length ``original0`` and a direction ``original1`` (arXiv 1602.07868); returns ``module``.

    Each slice along ``dim`` has a length of its own, or the whole weight one (None).

    >>> import tensor as T
    >>> layer = weight_norm(T.nn.Linear(3, 2))
    >>> layer.parametrizations.weight.original0.shape
    tensor.Size([2, 1])
    """
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


# --- spectral normalisation -----------------------------------------------------------------------------------------------


def power_iteration(matrix: Tensor, u: Tensor, v: Tensor, iterations: int, eps: float) -> None:
    """Turn ``u`` and ``v``, in place, towards the first left and right singular vectors of a matrix."""
    with no_grad():
        for _ in range(iterations):
            u.copy_(normalize(matrix.mv(v), dim=0, eps=eps))
            v.copy_(normalize(matrix.T.mv(u), dim=0, eps=eps))


def as_matrix(weight: Tensor, dim: int) -> Tensor:
    """A weight with ``dim`` as its rows and everything else as its columns."""
    return weight.movedim(dim, 0).reshape(weight.shape[dim], -1)


def usual_dim(module: Module) -> int:
    """The dimension of a layer's outputs in its weight."""
    return 1 if type(module).__name__.startswith("ConvTranspose") else 0


class _SpectralNorm(Module):
    def __init__(self, weight: Tensor, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__()
        if n_power_iterations < 1:
            msg = f"spectral_norm: expected at least one power iteration, got {n_power_iterations}"
            raise ValueError(msg)
        if not -weight.ndim <= dim < weight.ndim:
            msg = f"spectral_norm: expected a dimension of a tensor of {weight.ndim}, got {dim}"
            raise IndexError(msg)
        self.dim, self.eps, self.n_power_iterations = dim % weight.ndim, eps, n_power_iterations
        if weight.ndim > 1:
            with no_grad():
                matrix = as_matrix(weight.detach(), self.dim)
                starts = [normalize(matrix.new_empty((n,)).normal_(), dim=0, eps=eps) for n in matrix.shape]
                self.register_buffer("_u", starts[0])
                self.register_buffer("_v", starts[1])
            power_iteration(matrix, self._u, self._v, 15, eps)

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            power_iteration(matrix.detach(), self._u, self._v, self.n_power_iterations, self.eps)
        u, v = self._u.clone(), self._v.clone()  # the next call writes into the buffers, perhaps before backward
        normalised: Tensor = weight / u.dot(matrix.mv(v))
        return normalised

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """Divide a weight by its largest singular value (arXiv 1802.05957); returns ``module``.

    The value is estimated by power iteration, at each use while training. ``dim`` are the outputs: 0, 1 for transposed
    convolutions.

    >>> import tensor as T
    >>> layer = spectral_norm(T.nn.Linear(4, 3), n_power_iterations=50)
    >>> bool(layer(T.zeros(4)).isclose(layer.bias).all()), list(layer.parametrizations.weight.state_dict())
    (True, ['original', '0._u', '0._v'])
    """
    weight: Any = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        msg = f"spectral_norm: expected the name of a tensor of {type(module).__name__}, got {name!r}"
        raise ValueError(msg)
    rule = _SpectralNorm(weight, n_power_iterations, usual_dim(module) if dim is None else dim, eps)
    return register_parametrization(module, name, rule)


# --- orthogonal matrices --------------------------------------------------------------------------------------------------


def _orthonormal(x: Tensor) -> Tensor:
    """The Q of a matrix's QR factorisation whose R has a positive diagonal."""
    reflections, tau = geqrf(x)
    signs: Tensor = reflections.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)
    return householder_product(reflections, tau) * signs


def _is_orthonormal(x: Tensor) -> bool:
    """Whether the columns of a matrix are orthonormal, up to rounding."""
    n = x.shape[-1]
    tolerance = 10 * n * float(np.finfo(x._array.dtype).eps)
    return bool((x.mT @ x).allclose(eye(n, dtype=x.dtype, device=x.device), atol=tolerance))


def _by_exponential(skew: Tensor) -> Tensor:
    return matrix_exp(skew)


def _by_cayley(skew: Tensor) -> Tensor:
    identity = eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    return solve(identity - 0.5 * skew, identity + 0.5 * skew)


#: From a skew-symmetric matrix to an orthogonal one.
_MAPS = {"matrix_exp": _by_exponential, "cayley": _by_cayley}


class _Orthogonal(Module):
    base: Tensor | None

    def __init__(self, weight: Tensor, map_name: str, use_trivialization: bool) -> None:
        super().__init__()
        self.map_name = map_name
        n = max(weight.shape[-2:])
        start = weight.detach().new_zeros((*weight.shape[:-2], n, n)) if use_trivialization else None
        self.register_buffer("base", start)

    def forward(self, x: Tensor) -> Tensor:
        wide = x.shape[-2] < x.shape[-1]
        x = x.mT if wide else x
        n, k = x.shape[-2:]
        if self.map_name == "householder":
            below = x.tril(-1)
            tau = 2 / (1 + (below * below).sum(-2))
            # The diagonal of x holds signs, which no gradient changes.
            signs = x.detach().diagonal(dim1=-2, dim2=-1).trunc().unsqueeze(-2)
            q = householder_product(below, tau) * signs
        else:
            below = x.tril()
            if n != k:
                below = cat([below, below.new_zeros((*below.shape[:-2], n, n - k))], -1)
            q = _MAPS[self.map_name](below - below.mT)[..., :k]
        if self.base is not None:
            q = self.base @ q
        return q.mT if wide else q

    def right_inverse(self, q: Tensor) -> Tensor:
        wide = q.shape[-2] < q.shape[-1]
        tall = q.mT if wide else q
        n, k = tall.shape[-2:]
        if self.base is None:
            if self.map_name != "householder":
                msg = f"orthogonal: a weight computed by {self.map_name} cannot be assigned with use_trivialization=False"
                raise NotImplementedError(msg)
            reflections, tau = geqrf(tall)
            diagonal = reflections.diagonal(dim1=-2, dim2=-1)
            diagonal.copy_(diagonal.sign() * (1 - 2 * (tau == 0).to(diagonal.dtype)))
            return reflections.mT if wide else reflections
        if n != k:
            tall = _orthonormal(cat([tall, tall.new_empty((*tall.shape[:-2], n, n - k)).normal_()], -1))
        elif not _is_orthonormal(tall):
            tall = _orthonormal(tall)
        self.base.copy_(tall)
        start = q.new_zeros(q.shape)
        start.diagonal(dim1=-2, dim2=-1).fill_(-1.0)  # the point that every map takes to the identity
        return start


def orthogonal(
    module: Module, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True
) -> Module:
    """Keep a matrix's columns (rows, if it has fewer of those) orthonormal while it learns; returns ``module``.

    ``orthogonal_map``: "matrix_exp" or "cayley" of a skew-symmetric matrix, or a product of "householder" reflections; the first
    for square matrices, else the last, when left out. ``use_trivialization`` learns relative to a base, which assignments set
    (arXiv 1909.09501). Raises ValueError for an unknown map, or a tensor that is no matrix (or batch of them).

    >>> import tensor as T
    >>> layer = orthogonal(T.nn.Linear(3, 2))
    >>> bool((layer.weight @ layer.weight.T).allclose(T.eye(2), atol=1e-6))
    True
    """
    weight: Any = getattr(module, name, None)
    if not isinstance(weight, Tensor) or weight.ndim < 2:
        got = f"{name!r} of shape {list(weight.shape)}" if isinstance(weight, Tensor) else repr(name)
        msg = f"orthogonal: expected the name of a matrix of {type(module).__name__}, got {got}"
        raise ValueError(msg)
    maps = (*_MAPS, "householder")
    chosen = orthogonal_map or ("matrix_exp" if weight.shape[-2] == weight.shape[-1] else "householder")
    if chosen not in maps:
        msg = f"orthogonal: expected orthogonal_map to be one of {quoted(maps)}, got {chosen!r}"
        raise ValueError(msg)
    return register_parametrization(module, name, _Orthogonal(weight, chosen, use_trivialization), unsafe=True)
