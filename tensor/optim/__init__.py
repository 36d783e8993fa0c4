"""Optimizers over flat buffers, and schedules of the learning rate; PyTorch's names, formulas and state layout."""

from tensor.optim import lr_scheduler
from tensor.optim.adam import Adam, AdamW
from tensor.optim.optimizer import Optimizer
from tensor.optim.rmsprop import RMSprop
from tensor.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "lr_scheduler"]
