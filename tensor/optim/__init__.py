"""Optimizers, schedules of the learning rate, and averages of weights; PyTorch's names, formulas and state layout."""

from tensor.optim import lr_scheduler, swa_utils
from tensor.optim.adafactor import Adafactor
from tensor.optim.adagrad import Adadelta, Adagrad, RMSprop
from tensor.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam
from tensor.optim.lbfgs import LBFGS
from tensor.optim.muon import Muon
from tensor.optim.optimizer import Optimizer
from tensor.optim.rprop import Rprop
from tensor.optim.sgd import ASGD, SGD

__all__ = [
    "ASGD", "LBFGS", "SGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Muon", "NAdam", "Optimizer", "RAdam",
    "RMSprop", "Rprop", "lr_scheduler", "swa_utils",
]  # fmt: skip
