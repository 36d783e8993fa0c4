"""Operators, one record each, by family. Importing this package attaches them to Tensor as methods."""

from tensor.ops import (
    activation,
    binary,
    conv,
    convert,
    create,
    elementwise,
    index,
    join,
    loss,
    matmul,
    normalization,
    random,
    reduce,
    shape,
    sort,
    special,
    statistics,
    unary,
)
from tensor.ops.record import OPERATORS, Operator

__all__ = [
    "OPERATORS", "Operator", "activation", "binary", "conv", "convert", "create", "elementwise", "index", "join", "loss", "matmul", "normalization", "random", "reduce",
    "shape", "sort", "special", "statistics", "unary",
]  # fmt: skip
