"""Our environments under Gymnasium's names: strings, imported when one is made."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium

__all__ = ["OURS", "REMOTE", "register"]

#: What an address such as ``remote+tcp://127.0.0.1:5700`` becomes.
REMOTE = "rlcore/Remote-v0"


class _Entry(NamedTuple):
    entry_point: str
    options: dict[str, Any]


#: Id to where it is, and what `gymnasium.register` is told.
OURS: dict[str, _Entry] = {
    "rlcore/Car-v0": _Entry("envs.games.car:CarEnv", {"max_episode_steps": 2000}),
    "rlcore/CarDiscrete-v0": _Entry("envs.games.car:CarEnv", {"max_episode_steps": 2000, "kwargs": {"controls": "discrete"}}),
    "rlcore/CarSensors-v0": _Entry(
        "envs.games.car:CarEnv", {"max_episode_steps": 2000, "kwargs": {"observation": "dict", "camera": True}}
    ),
    "rlcore/CarLive-v0": _Entry("envs.games.live:car_live", {"max_episode_steps": 2000, "nondeterministic": True}),
    REMOTE: _Entry("envs.remote.client:RemoteEnv", {"vector_entry_point": "envs.remote.client:RemoteVectorEnv"}),
}


def register() -> None:
    """Tell Gymnasium of all of them; what it knows already stays.

    >>> import gymnasium, envs
    >>> gymnasium.make("rlcore/Car-v0").action_space.shape
    (2,)
    """
    for name, entry in OURS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=entry.entry_point, **entry.options)
