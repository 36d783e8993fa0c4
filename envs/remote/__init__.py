"""Environments in another process, on another host, in another language.

>>> import threading
>>> import numpy as np
>>> from envs.remote import EnvServer, RemoteEnv
>>> server = EnvServer("CartPole-v1", "remote+tcp://127.0.0.1:0")
>>> thread = threading.Thread(target=server.run)
>>> thread.start()
>>> env = RemoteEnv(server.uri)
>>> observation, info = env.reset(seed=0)
>>> env.step(1)[1:4]
(1.0, False, False)
>>> env.close()
>>> server.stop(); thread.join(); server.close()
"""

from envs.remote.client import RemoteEnv, RemoteVectorEnv
from envs.remote.layout import describe_space, make_space
from envs.remote.server import EnvServer, serve_env

__all__ = ["EnvServer", "RemoteEnv", "RemoteVectorEnv", "describe_space", "make_space", "serve_env"]
