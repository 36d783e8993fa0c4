"""Tools around the library: `checkpoint` trades time for memory; `data` is `tensor.data` under PyTorch's name."""

import sys

from tensor import data
from tensor.utils import checkpoint

__all__ = ["checkpoint", "data"]

sys.modules[f"{__name__}.data"] = data  # so that ``from tensor.utils.data import DataLoader`` finds it
