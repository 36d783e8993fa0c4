"""Datasets, samplers, and the loader that makes batches of them, with PyTorch's names (its ``torch.utils.data``).

`tensor.data.readers` reads common datasets from local files, `tensor.data.transforms` changes their samples.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tensor.data import transforms
from tensor.data.collate import default_collate, default_convert
from tensor.data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from tensor.data.info import WorkerInfo, get_worker_info
from tensor.data.loader import DataLoader
from tensor.data.sampler import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

if TYPE_CHECKING:
    from tensor.data import readers

__all__ = [
    "BatchSampler", "ChainDataset", "ConcatDataset", "DataLoader", "Dataset", "DistributedSampler", "IterableDataset",
    "RandomSampler", "Sampler", "SequentialSampler", "StackDataset", "Subset", "SubsetRandomSampler", "TensorDataset",
    "WeightedRandomSampler", "WorkerInfo", "default_collate", "default_convert", "get_worker_info", "random_split", "readers",
    "transforms",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "readers":  # imported when it is asked for: each worker imports the rest too
        return importlib.import_module("tensor.data.readers")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
