"""Where a run's figures go: `metrics.jsonl` always, a progress line for people, TensorBoard when asked for."""

from rlcore.logging.base import Logger, Record
from rlcore.logging.jsonl import JsonlLogger
from rlcore.logging.progress import Progress, make_progress
from rlcore.logging.tensorboard import TensorBoardLogger

__all__ = ["JsonlLogger", "Logger", "Progress", "Record", "TensorBoardLogger", "make_progress"]
