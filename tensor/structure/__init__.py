"""Networks that change while they run: edits as data, which optimizers, target networks and traces follow."""

from tensor.structure.blocks import Injection, Residual
from tensor.structure.change import Change
from tensor.structure.depth import DEEPENINGS, deepen, inject, replace
from tensor.structure.draws import INITS
from tensor.structure.edit import Edit, OutputChange
from tensor.structure.edits import add_inputs, add_outputs, grow, prune, reset_units
from tensor.structure.remap import Slices, remap
from tensor.structure.spec import build, describe
from tensor.structure.trace import trace
from tensor.structure.units import Units

__all__ = [
    "DEEPENINGS", "INITS", "Change", "Edit", "Injection", "OutputChange", "Residual", "Slices", "Units", "add_inputs",
    "add_outputs", "build", "deepen", "describe", "grow", "inject", "prune", "remap", "replace", "reset_units", "trace",
]  # fmt: skip
