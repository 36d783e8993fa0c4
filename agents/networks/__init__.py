"""The networks that agents are built of."""

from agents.networks.heads import ActionHead, GaussianHead, make_head
from agents.networks.mlp import ACTIVATIONS, mlp

__all__ = ["ACTIVATIONS", "ActionHead", "GaussianHead", "make_head", "mlp"]
