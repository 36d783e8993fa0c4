"""Networks that change while they run: edits of width as data, which optimizers and target networks follow."""

from tensor.structure.edit import Change, Edit, OutputChange
from tensor.structure.edits import INITS, add_inputs, add_outputs, grow, prune, reset_units
from tensor.structure.remap import remap
from tensor.structure.spec import build, describe
from tensor.structure.trace import Units, trace

__all__ = [
    "INITS", "Change", "Edit", "OutputChange", "Units", "add_inputs", "add_outputs", "build", "describe", "grow", "prune",
    "remap", "reset_units", "trace",
]  # fmt: skip
