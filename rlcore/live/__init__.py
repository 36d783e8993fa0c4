"""Learning while the world runs: act at a fixed rate in one thread, learn in another, never let the world wait.

`run_live` is what `run-agent live` does; `LiveRunner` is for those who bring an agent, a world or hooks of their own.
"""

from rlcore.live.clock import Clock
from rlcore.live.config import Hooks, LiveConfig, LiveResult
from rlcore.live.figures import Figures, Latencies
from rlcore.live.learner import Learner
from rlcore.live.runner import LiveRunner
from rlcore.live.session import run_live

__all__ = ["Clock", "Figures", "Hooks", "Latencies", "Learner", "LiveConfig", "LiveResult", "LiveRunner", "run_live"]
