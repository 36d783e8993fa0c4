"""The named tuples of operators that give values and where they were."""

from __future__ import annotations

from typing import NamedTuple

from tensor.autograd.tensor import Tensor

__all__ = ["MinMax", "ValuesIndices"]


class ValuesIndices(NamedTuple):
    """What `max`, `sort`, `topk`, `median` and the like give along a dimension."""

    values: Tensor
    indices: Tensor


class MinMax(NamedTuple):
    """What `aminmax` gives."""

    min: Tensor
    max: Tensor
