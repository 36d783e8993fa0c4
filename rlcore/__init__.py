"""The seam between agents and worlds: configuration, the training loop, checkpoints, evaluation and `run-agent`.

Nothing is imported until it is used, so that ``run-agent --help`` answers at once:

>>> import rlcore
>>> "ppo" in rlcore.AGENTS
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlcore.config import RunConfig, Settings
    from rlcore.evaluation import Evaluation, evaluate
    from rlcore.registry import AGENTS, ENVS, Registry
    from rlcore.runs import LoadedRun, load, train
    from rlcore.worlds import make_world

__all__ = [
    "AGENTS",
    "ENVS",
    "Evaluation",
    "LoadedRun",
    "Registry",
    "RunConfig",
    "Settings",
    "evaluate",
    "load",
    "make_world",
    "train",
]

_HOME = {
    "AGENTS": "registry",
    "ENVS": "registry",
    "Evaluation": "evaluation",
    "LoadedRun": "runs",
    "Registry": "registry",
    "RunConfig": "config",
    "Settings": "config",
    "evaluate": "evaluation",
    "load": "runs",
    "make_world": "worlds",
    "train": "runs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        message = f"module 'rlcore' has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(importlib.import_module(f"rlcore.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
