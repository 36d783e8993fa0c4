"""Linear algebra, by theme; the public names are those of `tensor.linalg`."""

from tensor.ops.linalg import common, determinant, factor, least, norms, older, orthogonal, products, solve, spectral

__all__ = ["common", "determinant", "factor", "least", "norms", "older", "orthogonal", "products", "solve", "spectral"]
