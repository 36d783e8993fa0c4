"""The networks that agents are built of, and such whose path depends on the input."""

from agents.networks.batching import DynamicBatch, Later
from agents.networks.early_exit import EarlyExit
from agents.networks.experts import MixtureOfExperts, load_balance
from agents.networks.halting import ACT, Pondered, PonderNet, geometric_divergence
from agents.networks.heads import ActionHead, GaussianHead, make_head
from agents.networks.memory import DNCCell, DNCState, NTMCell, NTMState, add_slots
from agents.networks.mlp import ACTIVATIONS, mlp
from agents.networks.programs import ProgramNetwork, parse
from agents.networks.sparse import sparse_mlp
from agents.networks.trees import BinaryTreeLSTM, ChildSumTreeLSTM

__all__ = [
    "ACT", "ACTIVATIONS", "ActionHead", "BinaryTreeLSTM", "ChildSumTreeLSTM", "DNCCell", "DNCState", "DynamicBatch", "EarlyExit",
    "GaussianHead", "Later", "MixtureOfExperts", "NTMCell", "NTMState", "PonderNet", "Pondered", "ProgramNetwork", "add_slots",
    "geometric_divergence", "load_balance", "make_head", "mlp", "parse", "sparse_mlp",
]  # fmt: skip
