"""Environments as worlds: any Gymnasium environment behind `rlcore.types.World`.

>>> import numpy as np, envs
>>> world = envs.make_world("CartPole-v1", num_envs=4)
>>> observation = world.reset(seed=0)
>>> step = world.step(np.array([0, 1, 0, 1]))
>>> step.observation.shape, step.observation.dtype
((4, 4), dtype('float32'))
>>> world.close()
"""

from envs.make import Vectorization, list_environments, make_world
from envs.normalize import NormalizedWorld, RunningMeanStd
from envs.registration import register
from envs.world import VectorWorld, from_env, from_vector_env

__all__ = [
    "NormalizedWorld",
    "RunningMeanStd",
    "VectorWorld",
    "Vectorization",
    "from_env",
    "from_vector_env",
    "list_environments",
    "make_world",
]

register()
