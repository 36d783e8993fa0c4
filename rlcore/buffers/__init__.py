"""Memory for experience: `RolloutBuffer` for on-policy agents, `ReplayBuffer` for off-policy ones. Pure NumPy."""

from rlcore.buffers.fields import Fields
from rlcore.buffers.replay import ReplayBuffer
from rlcore.buffers.rollout import RolloutBuffer

__all__ = ["Fields", "ReplayBuffer", "RolloutBuffer"]
