"""Learning rates that change over time: PyTorch's schedules, with its values."""

from tensor.optim.lr_scheduler.base import LRScheduler
from tensor.optim.lr_scheduler.combined import ChainedScheduler, SequentialLR
from tensor.optim.lr_scheduler.cyclic import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from tensor.optim.lr_scheduler.functions import LambdaLR, MultiplicativeLR
from tensor.optim.lr_scheduler.plateau import ReduceLROnPlateau
from tensor.optim.lr_scheduler.shapes import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)

__all__ = [
    "ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR",
    "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "MultiplicativeLR", "OneCycleLR", "PolynomialLR", "ReduceLROnPlateau",
    "SequentialLR", "StepLR",
]  # fmt: skip
