"""Shapes: views where memory allows, copies where not; joining and splitting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensor import cuda, dtypes
from tensor.autograd.tensor import Tensor
from tensor.ops.record import Array, composite, operator
from tensor.ops.reduce import axes, check_axis, constant

__all__ = [
    "adjoint",
    "as_strided",
    "broadcast_tensors",
    "broadcast_to",
    "diag",
    "diag_embed",
    "diagflat",
    "diagonal",
    "expand_as",
    "flatten",
    "flip",
    "fliplr",
    "flipud",
    "meshgrid",
    "moveaxis",
    "movedim",
    "narrow",
    "permute",
    "ravel",
    "repeat_interleave",
    "reshape",
    "roll",
    "rot90",
    "select",
    "squeeze",
    "swapaxes",
    "swapdims",
    "t",
    "tile",
    "transpose",
    "tril",
    "triu",
    "unflatten",
    "unsqueeze",
]


def _inverse(dims: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argsort([d % len(dims) for d in dims]))


@operator({"x": lambda g, x_shape: g.reshape(x_shape)}, view=True, onnx="Reshape")
def reshape(x: Array, *shape: int) -> Array:
    """The same elements in another shape, a view where memory allows; one length may be -1."""
    return x.reshape(shape)


@operator({"x": lambda g, x_shape: g.reshape(x_shape)}, view=True, name="view")
def _view(x: Array, *shape: Any) -> Array:
    """The same memory in another shape (or, given a dtype, read as that dtype); an error when that needs a copy."""
    if len(shape) == 1 and isinstance(shape[0], dtypes.dtype):
        return x.view(shape[0].numpy)
    r = x.reshape(shape)
    if not (np.shares_memory(r, x) or r.base is x) and x.size:
        msg = "the shape is not compatible with the tensor's strides; use reshape"
        raise RuntimeError(msg)
    return r


@operator({"x": lambda g, x_shape: g.sum_to_size(x_shape)}, view=True, onnx="Expand")
def expand(x: Array, *shape: int) -> Array:
    """Broadcast to ``shape`` without copying; -1 keeps a length."""
    lead = len(shape) - x.ndim
    if lead < 0:
        msg = f"the number of sizes ({len(shape)}) must be at least the number of dimensions ({x.ndim})"
        raise RuntimeError(msg)
    return np.broadcast_to(x, tuple(x.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(shape)))


@operator({"x": lambda g, x_shape: g.expand(x_shape)}, name="sum_to_size")
def sum_to_size(x: Array, *shape: int) -> Array:
    """Sum over what broadcasting ``shape`` to this shape would repeat: the reverse of `expand`."""
    lead = x.ndim - len(shape)
    gone = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1)
    r = np.add.reduce(x, axis=gone, keepdims=True) if gone else x.copy()
    return r.reshape(shape)


@operator({"x": lambda g, dims: g.permute(_inverse(dims))}, view=True, onnx="Transpose")
def permute(x: Array, *dims: int) -> Array:
    """The dimensions in another order, a view."""
    if len(dims) != x.ndim:
        msg = f"expected {x.ndim} dimensions, got {len(dims)}"
        raise RuntimeError(msg)
    return x.transpose([check_axis(d, x.ndim) for d in dims])


@operator({"x": lambda g, dim0, dim1: g.transpose(dim0, dim1)}, view=True, aliases=["swapaxes", "swapdims"])
def transpose(x: Array, dim0: int, dim1: int) -> Array:
    """Two dimensions swapped, a view."""
    if not x.ndim:
        return x[...]
    return x.swapaxes(check_axis(dim0, x.ndim), check_axis(dim1, x.ndim))


swapaxes = swapdims = transpose


@composite()
def t(x: Tensor) -> Tensor:
    """The transpose of a matrix; vectors and scalars stay."""
    if x.ndim > 2:
        msg = f"t: expected a tensor of at most 2 dimensions, got {x.ndim}"
        raise RuntimeError(msg)
    return x.transpose(0, 1) if x.ndim == 2 else x


@composite(aliases=["moveaxis"])
def movedim(x: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Dimensions moved to other places, the rest in their order, a view."""
    n = x.ndim
    src = [check_axis(d, n) for d in ([source] if isinstance(source, int) else source)]
    dst = [check_axis(d, n) for d in ([destination] if isinstance(destination, int) else destination)]
    order = [d for d in range(n) if d not in src]
    for d, s in sorted(zip(dst, src, strict=True)):
        order.insert(d, s)
    return permute(x, *order) if n else x


moveaxis = movedim


@operator({"x": lambda g, x_shape: g.reshape(x_shape)}, view=True, onnx="Squeeze")
def squeeze(x: Array, dim: int | Sequence[int] | None = None) -> Array:
    """Without the dimensions of length 1 (those in ``dim``), a view."""
    if dim.__class__ is int and x.ndim:
        d, shape = check_axis(dim, x.ndim), x.shape
        return x.reshape((*shape[:d], *shape[d + 1 :]) if shape[d] == 1 else shape)
    gone = range(x.ndim) if dim is None else axes(dim, x.ndim) if not isinstance(dim, Sequence) or len(dim) else ()
    return x.reshape([n for i, n in enumerate(x.shape) if n != 1 or i not in gone])


@operator({"x": lambda g, x_shape: g.reshape(x_shape)}, view=True, onnx="Unsqueeze")
def unsqueeze(x: Array, dim: int) -> Array:
    """With a dimension of length 1 at ``dim``, a view."""
    d = check_axis(dim, x.ndim + 1)
    return x.reshape((*x.shape[:d], 1, *x.shape[d:]))


@composite()
def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions ``start_dim`` to ``end_dim`` as one."""
    if not x.ndim:
        return reshape(x, 1)
    a, b = check_axis(start_dim, x.ndim), check_axis(end_dim, x.ndim)
    if a > b:
        msg = "flatten: start_dim cannot come after end_dim"
        raise RuntimeError(msg)
    n = 1
    for s in x.shape[a : b + 1]:
        n *= s
    return x if a == b else reshape(x, *x.shape[:a], n, *x.shape[b + 1 :])


@composite()
def unflatten(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One dimension as several; one of the lengths may be -1."""
    d = check_axis(dim, x.ndim)
    sizes = list(sizes)
    if -1 in sizes:
        known = -int(np.prod(sizes))
        sizes[sizes.index(-1)] = x.shape[d] // known if known else 0
    return reshape(x, *x.shape[:d], *sizes, *x.shape[d + 1 :])


@composite()
def ravel(x: Tensor) -> Tensor:
    """All elements in one dimension."""
    return reshape(x, -1)


def several(xs: tuple[Any, ...]) -> list[Tensor]:
    return list(xs[0]) if len(xs) == 1 and isinstance(xs[0], (list, tuple)) else list(xs)


# --- broadcasting ----------------------------------------------------------------------------------------------------


@composite()
def broadcast_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """`expand` to a shape."""
    return x.expand(size)


@composite()
def expand_as(x: Tensor, other: Tensor) -> Tensor:
    """`expand` to another tensor's shape."""
    return x.expand(other.shape)


@composite(method=False)
def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """All expanded to their common shape."""
    xs = several(tensors)
    try:
        shape = np.broadcast_shapes(*(tuple(x.shape) for x in xs))
    except ValueError:
        msg = f"broadcast_tensors: shapes {[tuple(x.shape) for x in xs]} do not broadcast"
        raise RuntimeError(msg) from None
    return tuple(x.expand(shape) for x in xs)


@composite(method=False)
def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Grids of coordinates from vectors, rows first ("ij") or columns first ("xy")."""
    xs = [x.reshape(-1) for x in several(tensors)]
    swap = indexing == "xy" and len(xs) > 1
    if swap:
        xs[0], xs[1] = xs[1], xs[0]
    shape = [x.shape[0] for x in xs]
    grids = [x.reshape([-1 if i == k else 1 for k in range(len(xs))]).expand(shape) for i, x in enumerate(xs)]
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


# --- one part of a tensor --------------------------------------------------------------------------------------------


@operator({"x": lambda g, x_shape, dim, start: g.pad_back(x_shape, dim, start)}, view=True, onnx="Slice")
def narrow(x: Array, dim: int, start: int, length: int) -> Array:
    """``length`` elements from ``start`` along ``dim``, a view."""
    d = check_axis(dim, x.ndim)
    start = int(start) + (x.shape[d] if start < 0 else 0)
    if length < 0 or start + length > x.shape[d]:
        msg = f"start ({start}) + length ({length}) exceeds dimension size ({x.shape[d]})"
        raise RuntimeError(msg)
    return x[(slice(None),) * d + (slice(start, start + length),)]


@operator({"g": lambda gg, g_shape, dim, start: gg.narrow(dim, start, g_shape[dim])})
def pad_back(g: Array, shape: Sequence[int], dim: int, start: int) -> Array:
    """Zeros of ``shape`` with ``g`` from ``start`` along ``dim``: the gradient of `narrow`."""
    r = constant(g, tuple(shape), 0)
    d = dim % r.ndim
    start = start + (r.shape[d] if start < 0 else 0)
    r[(slice(None),) * d + (slice(start, start + g.shape[d]),)] = g
    return r


@composite()
def select(x: Tensor, dim: int, index: int) -> Tensor:
    """The part at ``index`` along ``dim``, without that dimension, a view."""
    if not x.ndim:
        msg = "select: a 0-d tensor has no dimension to select from"
        raise IndexError(msg)
    d = check_axis(dim, x.ndim)
    n = x.shape[d]
    if not -n <= index < n:
        msg = f"select: index {index} out of range for dimension {d} of size {n}"
        raise IndexError(msg)
    return x[(*[slice(None)] * d, int(index))] if d else x[int(index)]


@operator({"x": lambda g, x_shape, offset, dim1, dim2: g.diagonal_back(x_shape, offset, dim1, dim2)}, view=True)
def diagonal(x: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    """The diagonal of dimensions ``dim1`` and ``dim2``, last, a view."""
    r = np.diagonal(x, offset, check_axis(dim1, x.ndim), check_axis(dim2, x.ndim))
    if isinstance(r, np.ndarray) and x.flags.writeable:
        r.flags.writeable = True
    return r


@operator({"g": lambda gg, offset, dim1, dim2: gg.diagonal(offset, dim1, dim2)})
def diagonal_back(g: Array, shape: Sequence[int], offset: int, dim1: int, dim2: int) -> Array:
    """Zeros with ``g`` on a diagonal: the gradient of `diagonal`."""
    r = constant(g, tuple(shape), 0)
    d = np.diagonal(r, offset, dim1, dim2)
    d.flags.writeable = True
    d[...] = g
    return r


@composite()
def diag_embed(x: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The last dimension as the diagonal of two new ones."""
    n = x.shape[-1] + abs(offset)
    ndim = x.ndim + 1
    a, b = check_axis(dim1, ndim), check_axis(dim2, ndim)
    square = diagonal_back(x, (*x.shape[:-1], n, n), offset, ndim - 2, ndim - 1)
    return square.movedim((-2, -1), (a, b))


@composite()
def diag(x: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or the matrix with this vector as its diagonal."""
    return diag_embed(x, diagonal) if x.ndim == 1 else x.diagonal(diagonal).clone()


@composite()
def diagflat(x: Tensor, offset: int = 0) -> Tensor:
    """The square matrix with all elements on its diagonal."""
    return diag_embed(x.reshape(-1), offset)


@operator({"x": lambda g, diagonal: g.tril(diagonal)}, inplace=True)
def tril(x: Array, diagonal: int = 0) -> Array:
    """The lower triangle of the last two dimensions, zeros above."""
    return np.tril(x, diagonal)


@operator({"x": lambda g, diagonal: g.triu(diagonal)}, inplace=True)
def triu(x: Array, diagonal: int = 0) -> Array:
    """The upper triangle of the last two dimensions, zeros below."""
    return np.triu(x, diagonal)


def _as_strided_rule(g: Tensor, x_shape: Any, size: Any, stride: Any, storage_offset: Any) -> Tensor:
    """Every place of the memory gets the gradients of all elements that read it."""
    places = np.asarray(storage_offset or 0)
    for n, s in zip(size, stride, strict=True):
        places = places[..., None] + np.arange(n) * s
    flat = g.new_zeros(int(np.prod(x_shape)))
    return flat.index_add(0, Tensor(places.reshape(-1)), g.reshape(-1)).reshape(x_shape)


@operator({"x": _as_strided_rule}, view=True)
def as_strided(x: Array, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Array:
    """A view with any size, strides and offset (in elements) over the memory of a contiguous tensor."""
    flat = (x if x.flags.c_contiguous else x.copy(order="C")).reshape(-1)[storage_offset or 0 :]
    return cuda.array_module(x).lib.stride_tricks.as_strided(flat, tuple(size), tuple(s * x.itemsize for s in stride))


# --- flips, rolls, repeats ---------------------------------------------------------------------------------------------


@operator({"x": lambda g, dims: g.flip(dims)})
def flip(x: Array, *dims: int) -> Array:
    """The order of the elements along ``dims`` reversed, a copy."""
    return np.flip(x, tuple(dims)).copy() if x.ndim else x.copy()


@composite()
def fliplr(x: Tensor) -> Tensor:
    """Columns reversed."""
    return flip(x, 1)


@composite()
def flipud(x: Tensor) -> Tensor:
    """Rows reversed."""
    return flip(x, 0)


@operator({"x": lambda g, shifts, dims: g.roll([-s for s in ([shifts] if isinstance(shifts, int) else shifts)], dims)})
def roll(x: Array, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Array:
    """Elements shifted along ``dims``, what falls off the end coming back at the start."""
    shifts = [shifts] if isinstance(shifts, int) else list(shifts)
    if dims is None or (not isinstance(dims, int) and not len(dims)):
        return np.roll(x, shifts[0])
    if not x.ndim:
        return x.copy()
    return np.roll(x, shifts, [dims] if isinstance(dims, int) else tuple(dims))


@composite()
def rot90(x: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned by 90 degrees ``k`` times, from the first of ``dims`` towards the second."""
    a, b = dims
    k %= 4
    if k == 0:
        return x.clone()
    if k == 2:
        return flip(x, a, b)
    return flip(x.transpose(a, b), a) if k == 1 else flip(x, a).transpose(a, b)


@composite()
def repeat(x: Tensor, *sizes: Any) -> Tensor:
    """The whole tensor repeated ``sizes`` times along each dimension (new ones come first)."""
    counts = tuple(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
    lead = len(counts) - x.ndim
    if lead < 0:
        msg = f"repeat: expected at least {x.ndim} counts, one for each dimension, got {len(counts)}"
        raise RuntimeError(msg)
    shape = (1,) * lead + tuple(x.shape)
    wide = x.reshape([k for n in shape for k in (1, n)]).expand([k for c, n in zip(counts, shape, strict=True) for k in (c, n)])
    result = wide.reshape([c * n for c, n in zip(counts, shape, strict=True)])
    return result if result._view is None else result.clone()


@composite()
def tile(x: Tensor, *dims: Any) -> Tensor:
    """`repeat`, counts missing at the front being 1."""
    counts = tuple(dims[0]) if len(dims) == 1 and not isinstance(dims[0], int) else dims
    return repeat(x, *(1,) * (x.ndim - len(counts)), *counts)


@composite()
def repeat_interleave(x: Tensor, repeats: Any, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Each element repeated, next to itself."""
    if dim is None:
        x, dim = x.reshape(-1), 0
    elif not x.ndim:
        x = x.reshape(1)
    counts = repeats._array if isinstance(repeats, Tensor) else repeats
    index = np.repeat(np.arange(x.shape[dim], like=x._array), counts)
    return x.index_select(dim, Tensor(index))


@composite()
def adjoint(x: Tensor) -> Tensor:
    """The conjugate transpose of the last two dimensions."""
    return x.transpose(-2, -1).conj()
