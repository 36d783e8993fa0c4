"""What the recorder has to know of NumPy's functions: which write, which look at shapes, which give shapes that values decide."""

from __future__ import annotations

import operator

import numpy as np

__all__ = ["DRAWS", "INTO", "LOOKS", "ROLES", "STATIC_SHAPE"]

INPLACE = {
    getattr(operator, f"__i{name}__")
    for name in ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift"]
}
#: Functions that write into their first argument.
WRITERS = {
    operator.setitem,
    np.ndarray.fill,
    np.ndarray.sort,
    np.copyto,
    np.put,
    np.place,
    np.putmask,
    np.fill_diagonal,
    np.put_along_axis,
}
#: Functions of shapes and dtypes only: their answer is part of the recording.
QUERIES = {
    np.shape,
    np.ndim,
    np.size,
    np.result_type,
    np.can_cast,
    np.iscomplexobj,
    np.isrealobj,
    np.common_type,
    np.min_scalar_type,
}
#: What functions do besides giving a result: they look at shapes and dtypes only, write into their first argument, or give it
#: back as well.
LOOKS, WRITES, INTO = "looks", "writes", "into"
ROLES = {**dict.fromkeys(QUERIES, LOOKS), **dict.fromkeys(WRITERS, WRITES), **dict.fromkeys(INPLACE, INTO)}
_METHODS = (
    "all", "any", "argmax", "argmin", "argsort", "astype", "clip", "conj", "conjugate", "copy", "cumprod", "cumsum", "diagonal",
    "dot", "flatten", "max", "mean", "min", "prod", "ravel", "reshape", "squeeze", "std", "sum", "swapaxes", "transpose", "var",
    "view",
)  # fmt: skip
_OPERATORS = (
    "abs", "add", "and_", "eq", "floordiv", "ge", "gt", "invert", "le", "lt", "matmul", "mod", "mul", "ne", "neg", "or_", "pos",
    "pow", "sub", "truediv", "xor",
)  # fmt: skip
#: Functions whose results' shapes follow from the shapes of their arguments; those of others are checked at every run.
STATIC_SHAPE = {
    np.concatenate, np.stack, np.where, np.take_along_axis, np.einsum,
    np.tensordot, np.dot, np.broadcast_to, np.moveaxis, np.swapaxes,
    np.transpose, np.reshape, np.ravel, np.sum, np.mean, np.var, np.std,
    np.prod, np.amax, np.amin, np.max, np.min, np.argmax, np.argmin,
    np.argsort, np.sort, np.cumsum, np.cumprod, np.clip,
    np.empty_like, np.zeros_like, np.ones_like, np.full_like, np.expand_dims, np.squeeze,
    np.take, np.put_along_axis, np.lib.stride_tricks.as_strided, np.lib.stride_tricks.sliding_window_view, np.ascontiguousarray,
    np.asarray, np.array, np.arange, np.empty, np.zeros, np.ones, np.full, np.eye, np.linspace, np.partition, np.argpartition,
    np.roll, np.flip, np.tril, np.triu, np.pad, np.copy, np.outer, np.diagonal, np.all, np.any, np.round, np.nan_to_num,
    *(getattr(np.ndarray, name) for name in _METHODS),
    *(getattr(operator, name) for name in _OPERATORS),
    *INPLACE,
}  # fmt: skip
#: What generators draw whose shape and meaning no array decides.
DRAWS = frozenset({
    "random", "standard_normal", "standard_exponential", "standard_cauchy",
    "standard_gamma", "integers", "permutation", "lognormal",
    "geometric", "normal", "uniform", "exponential", "choice", "poisson", "binomial",
})  # fmt: skip
