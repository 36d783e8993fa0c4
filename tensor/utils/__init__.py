"""Tools around the library: `checkpoint` trades time for memory; `data` is `tensor.data` under PyTorch's name."""

from tensor import data
from tensor.utils import checkpoint

__all__ = ["checkpoint", "data"]
