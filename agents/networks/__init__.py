"""The networks that agents are built of."""

from agents.networks.heads import ActionHead, make_head
from agents.networks.mlp import ACTIVATIONS, mlp
from agents.networks.sparse import sparse_mlp

__all__ = ["ACTIVATIONS", "ActionHead", "make_head", "mlp", "sparse_mlp"]
