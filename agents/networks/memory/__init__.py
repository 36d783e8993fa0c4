"""Networks with a memory of their own: Neural Turing machines, differentiable neural computers, slots added while they run."""

from agents.networks.memory.dnc import DNCCell, DNCState
from agents.networks.memory.ntm import NTMCell, NTMState
from agents.networks.memory.slots import add_slots

__all__ = ["DNCCell", "DNCState", "NTMCell", "NTMState", "add_slots"]
